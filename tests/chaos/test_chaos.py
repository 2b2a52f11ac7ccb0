"""A real sweep on a real cluster of three nodes while everything breaks: the rows are the undisturbed ones."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from grid.aggregate import Ledger
from storage.providers import LocalProvider
from storage.sessions import CommitRecord, SessionFolder
from tests.chaos.__main__ import rows_of
from tests.chaos.cluster import runs
from tests.chaos.play import Play, Report, Stage
from tests.chaos.processes import shared_memory
from tests.chaos.schedule import BOTH, FENCED, KINDS, Event, schedule
from tests.chaos.stage import stage
from tests.services.fault_proxy import FaultProxy
from tests.services.seaweed import Seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def theatre(s3: Seaweed, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    before = shared_memory()
    with stage(s3, bucket, tmp_path_factory.mktemp("chaos"), slow=36, pause_ms=90.0) as made:
        yield made
        nodes, trees = made.nodes, [p for place in made.nodes.running for p in made.nodes.tree(place)]
    assert not [process for process in trees if runs(process)], "processes of the cluster are left"
    assert not nodes.folder.exists()
    assert shared_memory() - before == set()


SHORT = [
    Event(0.03, "requests refused", 3.0, 0),
    Event(0.05, "worker killed", 0.0, 0),
    Event(0.10, "driver killed", 0.0, 0),
    Event(0.11, "node killed", 1.0, 0),
    Event(0.20, "link cut", 2.0, 1),
    Event(0.30, "aggregator killed", 0.0, 0),
]
"""The driver early: its successor has most of the sweep before it, in which the others find it."""


def test_a_short_schedule_changes_nothing(theatre: Stage) -> None:
    report = Play(theatre, 0, SHORT).run()
    assert report.clean, report
    assert len(report.faults) >= 4, report  # a commit that holds all the rest may overtake what was still to come


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_schedule_from_a_seed_changes_nothing(theatre: Stage, seed: int) -> None:
    report = Play(theatre, seed, schedule(seed, 6)).run()
    assert report.clean, report
    assert report.faults.total() >= 4


@pytest.mark.slow
def test_a_second_driver_gets_to_work(theatre: Stage) -> None:
    report = Play(theatre, 3, [Event(0.03, "second driver", 0.0, 0)]).run()
    assert report.clean, report
    assert report.faults[BOTH] + report.faults[FENCED] == 1, report


def test_a_seed_gives_one_schedule_and_all_kinds() -> None:
    assert schedule(5, 20) == schedule(5, 20)
    assert schedule(5, 20) != schedule(6, 20)
    assert {event.kind for event in schedule(5, len(KINDS))} == set(KINDS)


def unplayed(folder: Path) -> Play:
    """A play of which only the books are kept."""
    play = Play.__new__(Play)
    play.report, play.events, play.tries, play.later, play.unproved = Report(1), [], 0, [], []
    play.stage = SimpleNamespace(proxy=FaultProxy("http://nowhere"))  # type: ignore[assignment]
    play.folder = SessionFolder(LocalProvider(folder / "results"), "s")
    play.ledger, play.logs = Ledger(1), [folder / "first.log", folder / "second.log"]
    for log in play.logs:
        log.write_text(f"... commit records of writer {log.stem} are this driver's ...")
    return play


def counted(play: Play) -> tuple[Counter[str], Counter[str]]:
    play.prove()
    return play.report.faults, play.report.impossible


@pytest.mark.parametrize("struck", [0, 3])
def test_requests_that_nothing_was_done_to_are_no_fault(tmp_path: Path, struck: int) -> None:
    play = unplayed(tmp_path)
    play.events.append(Event(0.1, "requests reset", 1.0, 0))
    play._try(play.events[0])
    play.stage.proxy.faults[0].struck = struck
    one = Counter({"requests reset": 1})
    assert counted(play) == ((one, Counter()) if struck else (Counter(), one))


@pytest.mark.parametrize(
    ("writers", "worked", "became"),
    [
        ("first second", True, BOTH),
        ("second first", True, BOTH),
        ("first first", True, FENCED),
        ("first first", False, None),
        ("second second", True, None),
        ("", True, None),
    ],
)
def test_a_second_driver_counts_where_it_worked_beside_another(
    tmp_path: Path, writers: str, worked: bool, became: str | None
) -> None:
    play = unplayed(tmp_path)
    if not worked:
        play.logs[1].write_text("it began")
    for n, writer in enumerate(["first", "second", *writers.split()]):
        play.folder.commit(CommitRecord(n, writer, ()))
    play.unproved.append(("second driver", lambda: play._what_became_of(play.logs[1], 2)))
    faults, missed = counted(play)
    assert (faults, missed) == ((Counter([became]), Counter()) if became else (Counter(), Counter(["second driver"])))
    (line,) = [line for line in rows_of("second driver", faults, missed) if "1 |" in line]
    assert line.startswith(f"| {became or 'second driver, neither'} |")
