"""A store that fails in the middle of a sweep: it pauses, says why, and is resumed with the same rows."""

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import grid
from grid import aggregate
from grid.cli import app
from grid.heartbeat import STALE_S
from storage.providers import s3_calls
from tests.e2e.sweeps import small
from tests.rows import digest
from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy

SECOND_COMMIT = r"/commits/0000000001\.json"
OF_SECONDS = {
    "strategy": "tests.e2e.sweeps:Slow",
    "constraints": [],
    "space": {"slow": {"range": [21, 80, 1]}, "pause_ms": [100.0]},
}
"""What makes `small` last for some commits of a Ray; no constraint excludes any."""


def undisturbed_of_seconds(folder: Path) -> str:
    """The rows of that sweep."""
    return digest(grid.run(small(folder / "undisturbed", **OF_SECONDS), executor="serial").trials())


@pytest.fixture
def undisturbed(tmp_path):
    return digest(grid.run(small(tmp_path / "undisturbed"), executor="serial").trials())


@pytest.fixture
def paused(monkeypatch, tmp_path):
    """Run `small` on a results store through the command line until it pauses; what it says."""
    monkeypatch.setattr(aggregate, "FLUSH_ROWS", 1)

    def run(store: str, executor: str = "serial", **changes: Any) -> str:
        sweep = tmp_path / "sweep.yaml"
        sweep.write_text(grid.Sweep(**small(Path("unused"), results={"store": store}, **changes)).model_dump_json())
        done = CliRunner().invoke(app, ["run", str(sweep), "--executor", executor, "--quiet"])
        assert done.exit_code == 130, done.output
        assert "Traceback" not in done.output
        assert "interrupted: " in done.stderr
        assert "Next: grid resume" in done.stderr
        return done.stderr

    return run


def resumed(store: str, executor: str = "serial") -> str:
    done = CliRunner().invoke(app, ["resume", "latest", "--store", store, "--executor", executor, "--quiet"])
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


@pytest.mark.ray
@pytest.mark.slow
def test_a_disk_that_is_full_on_ray(paused, small_disk, tmp_path):
    subprocess.run(["mount", "-o", "remount,size=64k", str(small_disk)], check=True)
    assert "No space left on device" in paused(str(small_disk / "results"), "ray", **OF_SECONDS)
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    time.sleep(STALE_S + 1)  # the driver had no room to write that it ends
    assert resumed(str(small_disk / "results"), "ray") == undisturbed_of_seconds(tmp_path)


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
def test_a_permission_that_is_lost_on_ray(paused, proxy, bucket, tmp_path):
    store = f"s3://{bucket}/denied-{uuid.uuid4().hex[:8]}?endpoint_url={proxy.url}"
    proxy.faults = [Fault("status", "PUT", SECOND_COMMIT, 403, "AccessDenied")]
    assert "the credentials have no right to do this" in paused(store, "ray", **OF_SECONDS)
    proxy.faults = []
    assert resumed(store, "ray") == undisturbed_of_seconds(tmp_path)


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
def test_an_outage_of_a_minute_is_sat_out_on_ray(proxy, bucket, tmp_path):
    store = f"s3://{bucket}/outage-{uuid.uuid4().hex[:8]}?endpoint_url={proxy.url}"
    with away_for_a_minute(proxy) as lost:
        session = grid.run({**small(tmp_path / "unused"), **OF_SECONDS, "results": {"store": store}}, executor="ray")
    assert session.status == "done"
    assert digest(session.trials()) == undisturbed_of_seconds(tmp_path)
    assert 5 < lost() <= 3 * 2 * s3_calls.ATTEMPTS  # aggregator, heartbeat, driver


@pytest.mark.s3
@pytest.mark.slow
def test_an_outage_of_a_minute_is_sat_out(proxy, bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(aggregate, "FLUSH_ROWS", 1)
    store = f"s3://{bucket}/outage-{uuid.uuid4().hex[:8]}?endpoint_url={proxy.url}"
    sweep = small(tmp_path / "undisturbed")
    with away_for_a_minute(proxy) as lost:
        session = grid.run({**sweep, "results": {"store": store}}, executor="serial", unit_size=10)
    assert session.status == "done"
    assert digest(session.trials()) == digest(grid.run(sweep, executor="serial").trials())
    assert 5 < lost() <= 2 * 2 * s3_calls.ATTEMPTS  # the sweep and its heartbeat; aiohttp doubles what a break stops


@contextmanager
def away_for_a_minute(proxy: FaultProxy) -> Iterator[Callable[[], int]]:
    """Nothing reaches the store for 60 s once a commit was asked of it; how many requests were lost."""
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
    yield lambda: sum(action == "reset" for _, _, action in proxy.seen)
    breaking.join()
    assert out.is_set()
