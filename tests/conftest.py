"""Fixtures every test may ask for."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; its files have no licence to be redistributed."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        if os.environ.get("GRID_REQUIRE_SHARED"):
            pytest.fail("the shared folder beside the checkout is required here and missing")
        pytest.skip("needs the reference data in ../shared, which may not be redistributed")
    return folder
