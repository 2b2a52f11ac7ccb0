"""The checkers of deploy/: wheels of requirements/deploy.txt, and programs of `make system-packages`."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
SYSTEM = {"promtool", "redis-server", "systemd-analyze"}
"""These come with `make system-packages`, all others with `make deploy-tools`."""


def tool(name: str) -> str:
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


def checked(name: str, *arguments: str | Path, **environment: str) -> str:
    """What a checker writes to stdout; its complaint is the test's failure."""
    environment = {**os.environ, **environment}
    words = [tool(name), *map(str, arguments)]
    ran = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join([name, *words[1:]])}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def _missing(name: str) -> None:
    required, target = (
        ("GRID_REQUIRE_SYSTEM_PACKAGES", "system-packages")
        if name in SYSTEM
        else ("GRID_REQUIRE_DEPLOY_TOOLS", "deploy-tools")
    )
    if os.environ.get(required):
        pytest.fail(f"{name} is required here and missing: make {target}")
    pytest.skip(f"needs {name}: make {target}")
