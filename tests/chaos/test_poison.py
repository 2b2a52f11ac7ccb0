"""Trials that do their worst on a real Ray: each becomes a failed row with its cause, and the others are as ever."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from grid import dispatch, rehearse
from grid.aggregate import Progress
from grid.cluster import NAMESPACE, collect
from grid.session import Session
from grid.sweep import Watch, run
from grid.telemetry import Metric
from storage.errors import StorageError
from tests.e2e.sweeps import small
from tests.rows import digest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend

CAUSES = {
    "kill": "its worker died (ActorDiedError), 4 times",
    "loop": "it ran out of time, 4 times",
    "exit": "SystemExit: 3",
    "raise": "ZeroDivisionError: division by zero",
    "shape": "SignalError: ",
}
BAD = 8


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def poisoned(store: Path, ways: list[str], bad: int) -> dict[str, Any]:
    data = {**small(store)["data"], "symbols": ["IBM"]}
    space = {"fast": {"range": [2, 13, 1]}, "way": ways, "bad": bad}
    return small(store, strategy="tests.chaos.poison:Poison", space=space, constraints=[], data=data)


def good_rows(session: Session) -> str:
    """The rows without the poisoned points and the column that says which these are."""
    rows = session.trials()
    keep = [fast != BAD for fast in rows["fast"].to_pylist()]
    return digest(rows.filter(keep).drop_columns(["bad"]))


def test_each_becomes_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "SHORTEST_DEADLINE_S", 2.0)
    monkeypatch.setattr(rehearse, "SAMPLE", 20)  # the rehearsal is not what this is about
    undisturbed = run(poisoned(tmp_path / "good", list(CAUSES), 10_000), "serial")
    session = run(poisoned(tmp_path / "bad", list(CAUSES), BAD), "ray", unit_size=1)
    rows = session.trials().to_pylist()
    failed = {row["way"]: row for row in rows if row["status"] == "failed"}
    assert sum(row["status"] == "failed" for row in rows) == len(CAUSES)
    for way, told in CAUSES.items():
        assert failed[way]["fast"] == BAD
        assert told in failed[way]["error"]
    assert session.status == "done"
    assert good_rows(session) == good_rows(undisturbed)


def test_bars_that_cannot_be_loaded_pause_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor that reads them dies each time: it is tried five times, and no trial is condemned for it."""
    monkeypatch.setattr("grid.cluster.bars.Loader", Dying)
    with pytest.raises(StorageError, match=r"the bars of IBM 1D cannot be brought to the workers: .*, 5 times"):
        run(poisoned(tmp_path, ["raise"], 10_000), "ray")
    (session,) = [Session.open(folder.name, str(tmp_path)) for folder in tmp_path.glob("2*")]
    assert session.status == "interrupted"
    assert session.ledger.done.total() == 0


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class Dying:
    """In the place of the actor that reads bars."""

    def __init__(self, *_: object) -> None: ...

    def load(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Attempts:
    """A sink that keeps the causes of attempts."""

    def __init__(self) -> None:
        self.causes: Counter[str] = Counter()

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        if metric.name == "grid_attempts_total":
            self.causes[labels["cause"]] += int(value)


@pytest.mark.slow
def test_a_straggler_is_overtaken_by_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would sleep for ten minutes, and nothing else would end it: no deadline is in reach."""
    monkeypatch.setattr(dispatch, "SHORTEST_DEADLINE_S", 10_000.0)
    spec = poisoned(tmp_path / "results", ["raise"], 10_000)
    space = {"fast": {"range": [2, 41, 1]}, "late": 35, "folder": str(tmp_path)}
    watch, attempts = Watch(), Attempts()
    with watch.telemetry.also(attempts):
        session = run({**spec, "strategy": "tests.chaos.poison:Dawdler", "space": space}, "ray", watch, unit_size=5)
    assert (session.status, session.metadata["ok"], session.metadata["failed"]) == ("done", 40, 0)
    assert attempts.causes["copied"] == 1
    assert not attempts.causes["overdue"]


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(r"ray::(Worker|\S+ trials$)", id="worker"),
        pytest.param(r"ray::AggregatorActor", id="aggregator", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_falls_silent_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    """Stopped, as behind a link that is cut: it closes no socket, and answers nothing."""
    monkeypatch.setattr(dispatch, "SHORTEST_DEADLINE_S", 5.0)
    monkeypatch.setattr(collect, "ANSWER_S", 20.0)
    stopped: list[psutil.Process] = []

    def stop(progress: Progress) -> None:
        for process in [] if stopped or not progress.done else psutil.Process().children(recursive=True):
            with suppress(psutil.Error, IndexError):
                if re.match(title, process.cmdline()[0]):
                    process.suspend()
                    stopped.append(process)
                    return

    session = run(slow(tmp_path / "ray"), "ray", Watch(progress=stop), unit_size=5)
    assert stopped, "nothing was stopped, so nothing was shown"
    with suppress(psutil.Error):
        stopped[0].kill()
    assert (session.status, session.metadata["failed"]) == ("done", 0)
    assert digest(session.trials()) == digest(run(slow(tmp_path / "serial"), "serial").trials())


def slow(store: Path) -> dict[str, Any]:
    """Some hundred trials of 10 ms."""
    space = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 50, 5]}, "pause_ms": 10.0}
    data = {**small(store)["data"], "symbols": ["IBM"]}
    return small(store, strategy="tests.e2e.sweeps:Slow", space=space, data=data)
