"""A real sweep on a real cluster of three nodes while everything breaks: the rows are the undisturbed ones."""

from collections.abc import Iterator

import pytest

from tests.chaos.cluster import runs
from tests.chaos.play import Play, Stage, shared_memory
from tests.chaos.schedule import KINDS, Event, schedule
from tests.chaos.stage import stage
from tests.services.seaweed import Seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def theatre(s3: Seaweed, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    before = shared_memory()
    with stage(s3, bucket, tmp_path_factory.mktemp("chaos"), slow=36, pause_ms=30.0) as made:
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


def test_a_seed_gives_one_schedule_and_all_kinds() -> None:
    assert schedule(5, 20) == schedule(5, 20)
    assert schedule(5, 20) != schedule(6, 20)
    assert {event.kind for event in schedule(5, len(KINDS))} == set(KINDS)
