"""Bars and results in every kind of store: run, stopped, listed, resumed and looked at, with the same rows."""

from pathlib import Path

import pytest

from grid.session import Session
from storage.providers import provider_for
from tests.e2e.desk import ROOT, SWEEP, Desk
from tests.rows import digest

PLACES = {
    "folder": "{folder}/{name}",
    "file": "file://{folder}/{name}",
    "nfs": "nfs://{folder}/mount/{name}?mount={folder}/mount&marker=export",
    "memory": "memory://{folder}/{name}",
}
"""S3 has test_s3_sweeps.py."""


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_sweep_from_its_start_to_its_leaders(desk: Desk, tmp_path: Path, place: str):
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "export").touch()
    undisturbed = digest(Session.open(desk.session()).trials())
    bars, results = (place.format(folder=tmp_path, name=name) for name in ("bars", "sessions"))
    for symbol in ("AAPL", "IBM"):
        for file in (ROOT / "data" / symbol).rglob("*.parquet"):
            provider_for(bars).write(str(file.relative_to(ROOT / "data")), file.read_bytes())
    desk.write_sweep(data={**SWEEP["data"], "store": bars}, results={"store": results})
    assert desk.run("--max-runtime", "0", "-q").code == 3
    at = ("--store", results, "--json")
    (listed,) = desk.grid("ls", *at).json()
    assert (listed["status"], listed["trials"]) == ("interrupted", 12)
    assert desk.grid("resume", "latest", "--executor", "serial", *at).code == 0
    (listed,) = desk.grid("ls", *at).json()
    assert listed["status"] == "done"
    assert desk.grid("show", listed["session_id"], *at).json()["committed"] == {"ok": 12, "failed": 0, "reused": {}}
    assert [row["trial_id"] for row in desk.grid("top", "latest", "-n", "3", *at).json()] == [4, 5, 2]
    assert digest(Session.open("latest", results).trials()) == undisturbed
