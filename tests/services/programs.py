"""Programs and modules that some tests need: found, or else the test is skipped, or fails where they are required."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SYSTEM = {"prometheus", "promtool", "systemd-analyze", "valkey-cli", "valkey-server", "wget"}
"""These come with `make system-packages`, all others with `make deploy-tools`; CI must have them."""


def program(name: str) -> str:
    """The program of that name: from the environment of this Python, from that of `make sbom`, or from the system."""
    places = (Path(sys.executable).parent, REPOSITORY / ".venv-sbom" / "bin")
    found = next((str(place / name) for place in places if (place / name).is_file()), shutil.which(name))
    if found is None:
        _missing(name)
    return str(found)


def need(module: str) -> None:
    """For tests that import a checker."""
    if importlib.util.find_spec(module) is None:
        _missing(module)


def _missing(name: str) -> None:
    required, target = (
        ("GRID_REQUIRE_SYSTEM_PACKAGES", "system-packages")
        if name in SYSTEM
        else ("GRID_REQUIRE_DEPLOY_TOOLS", "deploy-tools")
    )
    if os.environ.get(required):
        pytest.fail(f"{name} is required here and missing: make {target}")
    pytest.skip(f"needs {name}: make {target}")
