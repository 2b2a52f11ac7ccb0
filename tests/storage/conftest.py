"""Fixtures of the storage tests."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def manifest(shared: Path) -> list[dict[str, Any]]:
    """What is known of each file of the reference data."""
    entries: list[dict[str, Any]] = json.loads((shared / "data" / "MANIFEST.json").read_text())
    return entries
