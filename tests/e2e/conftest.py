"""Fixtures of the tests that type commands."""

from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.sweeps import DATA
from tests.services.seaweed import Seaweed


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A fresh working directory; the terminal is 100 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "PAUSE"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def bars(s3: Seaweed, bucket: str) -> str:
    """A bucket with the bundled bars of two symbols below `bars`."""
    client = s3.client()
    for file in [f for symbol in ("AAPL", "IBM") for f in (DATA / symbol).rglob("*.parquet")]:
        client.put_object(Bucket=bucket, Key=f"bars/{file.relative_to(DATA)}", Body=file.read_bytes())
    return bucket
