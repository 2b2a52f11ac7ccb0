"""A store that fails in the middle of a sweep: it pauses, says why, and is resumed with the same rows."""

import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

import grid
from grid import aggregate
from grid.cli import app
from storage.providers import s3_calls
from tests.e2e.sweeps import small
from tests.rows import digest
from tests.services.fault_proxy import Fault, fault_proxy

SECOND_COMMIT = r"/commits/0000000001\.json"


@pytest.fixture
def undisturbed(tmp_path):
    return digest(grid.run(small(tmp_path / "undisturbed"), executor="serial").trials())


@pytest.fixture
def paused(monkeypatch, tmp_path):
    """Run `small` on a results store through the command line until it pauses; what it says."""
    monkeypatch.setattr(aggregate, "FLUSH_ROWS", 1)

    def run(store: str) -> str:
        sweep = tmp_path / "sweep.yaml"
        sweep.write_text(grid.Sweep(**small(Path("unused"), results={"store": store})).model_dump_json())
        done = CliRunner().invoke(app, ["run", str(sweep), "--executor", "serial", "--quiet"])
        assert done.exit_code == 130, done.output
        assert "Traceback" not in done.output
        assert "interrupted: " in done.stderr
        assert "Next: grid resume" in done.stderr
        return done.stderr

    return run


def resumed(store: str) -> str:
    done = CliRunner().invoke(app, ["resume", "latest", "--store", store, "--executor", "serial", "--quiet"])
    assert done.exit_code == 0, done.output
    session = grid.Session.open("latest", store)
    assert session.status == "done"
    return digest(session.trials())


@pytest.fixture
def proxy(s3):
    with fault_proxy(s3.url) as proxy:
        yield proxy


@pytest.mark.ray
def test_what_fails_in_another_process_is_told_in_one_sentence(tmp_path):
    """A file is where the folder of the parts belongs, which the aggregator and it alone meets."""
    (tmp_path / "results" / "x").mkdir(parents=True)
    (tmp_path / "results" / "x" / "trials").touch()
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(grid.Sweep(**small(tmp_path / "results", cluster={"cpus": 1})).model_dump_json())
    command = ["run", str(sweep), "--executor", "ray", "--session-id", "x", "--quiet"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 130, done.output
    (said,) = [line for line in done.stderr.splitlines() if "interrupted" in line]
    assert "trials" in said
    for unwanted in ("Traceback", "\x1b", "ray::", "pid="):
        assert unwanted not in done.stderr


@pytest.mark.s3
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("status", "PUT", SECOND_COMMIT, 403, "AccessDenied"), "the credentials have no right to do this"),
        (Fault("status", "PUT", "/trials/"), r"the store answers 503 SlowDown (6 attempts)"),
        (Fault("reset", "PUT", SECOND_COMMIT), "nothing answers there"),
    ],
    ids=["permission lost", "busy for ever", "cut off"],
)
def test_a_bucket_that_fails(paused, proxy, bucket, undisturbed, monkeypatch, fault, why):
    monkeypatch.setattr(s3_calls, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(s3_calls, "ATTEMPTS", 6)
    store = f"s3://{bucket}/failing-{uuid.uuid4().hex[:8]}?endpoint_url={proxy.url}"
    proxy.faults = [fault]
    assert why in paused(store)
    proxy.faults = []
    assert resumed(store) == undisturbed


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(paused, small_disk, undisturbed):
    assert "No space left on device" in paused(str(small_disk / "results"))
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert resumed(str(small_disk / "results")) == undisturbed


@pytest.mark.s3
@pytest.mark.slow
def test_an_outage_of_a_minute_is_sat_out(proxy, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(aggregate, "FLUSH_ROWS", 1)
    store = f"s3://{bucket}/outage-{uuid.uuid4().hex[:8]}?endpoint_url={proxy.url}"
    out = threading.Event()

    def outage() -> None:
        while not proxy.verbs(r"/commits/")["PUT"]:
            time.sleep(0.01)
        proxy.faults = [Fault("reset")]
        out.set()
        time.sleep(60)
        proxy.faults = []

    breaking = threading.Thread(target=outage)
    breaking.start()
    sweep = small(tmp_path / "undisturbed")
    session = grid.run({**sweep, "results": {"store": store}}, executor="serial", unit_size=10)
    breaking.join()
    assert out.is_set()
    assert session.status == "done"
    assert digest(session.trials()) == digest(grid.run(sweep, executor="serial").trials())
    lost = sum(action == "reset" for _, _, action in proxy.seen)
    assert 5 < lost <= 2 * 2 * s3_calls.ATTEMPTS  # the sweep and its heartbeat; aiohttp doubles what a break stops
