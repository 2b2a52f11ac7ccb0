"""The Ray executor on a real local Ray when something dies: the rows stay those of an undisturbed sweep."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from grid.cluster import NAMESPACE
from grid.session import Session
from grid.sweep import Watch, resume, run
from tests.e2e.sweeps import small
from tests.rows import digest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def slow(store: Path, **changes: Any) -> dict[str, Any]:
    space = {"fast": {"range": [2, 20, 1]}, "slow": {"range": [5, 50, 5]}, "pause_ms": 15.0}
    return small(store, strategy="tests.e2e.sweeps:Slow", space=space, **changes)


@pytest.fixture(scope="module")
def slow_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Session:
    sweep = slow(tmp_path_factory.mktemp("slow"))
    return run(sweep, "serial")


def pids_of(kind: str) -> list[int]:
    """Actors of a kind among the processes of this test's own Ray; a method's name follows while one runs."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[0].startswith(f"ray::{kind}"):
                found.append(process.pid)
    return found


@pytest.mark.parametrize("kind", ["Worker", "AggregatorActor"])
def test_killed_actors_change_nothing(tmp_path: Path, slow_undisturbed: Session, kind: str) -> None:
    """SIGKILL one actor of a kind every half second while the sweep runs, three times."""
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 3 and not finished.is_set():
            time.sleep(0.5)
            for pid in pids_of(kind)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    finished = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    session = run(slow(tmp_path), "ray", unit_size=5)
    finished.set()
    killer.join()
    assert killed, "nothing was killed, so nothing was shown"
    assert session.status == "done"
    assert digest(session.trials()) == digest(slow_undisturbed.trials())


def deadly(store: Path, folder: Path, lives: int) -> dict[str, Any]:
    folder.mkdir()
    space = {"fast": {"range": [2, 41, 1]}, "deadly": 30, "lives": lives, "folder": str(folder)}
    return small(store, strategy="tests.e2e.sweeps:Deadly", space=space, constraints=[])


def test_a_worker_that_dies_once_loses_nothing(tmp_path: Path) -> None:
    session = run(deadly(tmp_path / "r", tmp_path / "lives", 1), "ray", unit_size=8)
    assert session.metadata["ok"] == 80
    assert session.metadata["failed"] == 0


def test_a_trial_that_always_kills_its_worker_becomes_a_failed_row(tmp_path: Path) -> None:
    session = run(deadly(tmp_path / "r", tmp_path / "lives", 100), "ray", unit_size=8)
    rows = session.trials().to_pandas()
    bad = rows[rows.status == "failed"]
    assert bad.fast.tolist() == [30, 30]
    assert bad.error.str.contains("worker died").all()
    assert len(rows) == 80
    assert rows.trial_id.is_unique


def test_stopping_commits_what_was_begun_and_resume_does_the_rest(tmp_path: Path, slow_undisturbed: Session) -> None:
    began = time.monotonic()
    stopped = run(slow(tmp_path), "ray", Watch(stopping=lambda: time.monotonic() - began > 4), unit_size=5)
    if stopped.status != "done":
        assert stopped.status == "interrupted"
        stopped = resume(stopped, "ray")
    assert digest(stopped.trials()) == digest(slow_undisturbed.trials())
