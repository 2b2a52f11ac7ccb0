"""The Ray executor on a real local Ray when something dies: the rows stay those of an undisturbed sweep."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import ray

from grid.aggregate import Progress
from grid.cluster import NAMESPACE
from grid.session import Session
from grid.sweep import Watch, resume, run
from storage.errors import StorageError
from tests.e2e.sweeps import AGGREGATOR, WORKER, actors, small
from tests.rows import digest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def slow(store: Path, **changes: Any) -> dict[str, Any]:
    """380 trial numbers; in units of 5 they give 76 receipts."""
    space = {"fast": {"range": [2, 20, 1]}, "slow": {"range": [5, 50, 5]}, "pause_ms": 15.0}
    return small(store, strategy="tests.e2e.sweeps:Slow", space=space, **changes)


@pytest.fixture(scope="module")
def slow_undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Session:
    sweep = slow(tmp_path_factory.mktemp("slow"))
    return run(sweep, "serial")


class Killer:
    """Told of each receipt of the sweep that runs, it kills an actor of a kind at the 5th, the 20th and the 35th, or
    with the next one that finds one alive.
    """

    def __init__(self, kind: str) -> None:
        self.kind, self.receipts, self.killed = kind, 0, 0

    def __call__(self, _: Progress) -> None:
        self.receipts += 1
        if self.killed < 3 and self.receipts >= 5 + 15 * self.killed:
            for pid in actors(self.kind)[:1]:
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


@pytest.mark.parametrize("kind", [WORKER, AGGREGATOR], ids=["worker", "aggregator"])
def test_killed_actors_change_nothing(tmp_path: Path, slow_undisturbed: Session, kind: str) -> None:
    killer = Killer(kind)
    session = run(slow(tmp_path), "ray", Watch(progress=killer), unit_size=5)
    assert killer.killed == 3
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
    receipts: list[Progress] = []
    watch = Watch(progress=receipts.append, stopping=lambda: len(receipts) >= 20)
    stopped = run(slow(tmp_path), "ray", watch, unit_size=5)
    assert stopped.status == "interrupted"
    assert 100 <= stopped.ledger.done.total() < 380
    assert watch.telemetry.prometheus.value("grid_queue_depth") == 0, "who said goodbye is not missed"
    assert digest(resume(stopped, "ray").trials()) == digest(slow_undisturbed.trials())


@pytest.fixture
def _aggregators_die() -> Iterator[None]:
    """Killed as soon as they are there."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for pid in actors(AGGREGATOR):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    over.set()
    killer.join()


@pytest.mark.usefixtures("_aggregators_die")
def test_an_aggregator_killed_again_and_again_pauses_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the aggregator was lost 5 times, and nothing was committed between"):
        run(slow(tmp_path), "ray", unit_size=5)
    assert Session.open("latest", str(tmp_path)).status == "interrupted"
