"""Tens of thousands of random histories of a sweep: whatever happens, each trial is committed once."""

from collections import Counter
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from grid import aggregate
from grid.dispatch import Dispatcher
from storage import sessions
from storage.sessions import CommitRecord, SessionFolder
from tests.grid import histories
from tests.grid.histories import History


@pytest.fixture(autouse=True)
def _rows_without_parquet() -> Iterator[None]:
    with (
        patch.object(aggregate, "without", histories.without),
        patch.object(aggregate, "join_small", histories.join_small),
        patch.object(aggregate, "FLUSH_ROWS", 12),
        patch.object(sessions, "ONE_BY_ONE", 1000),  # threads would not repeat a seed
    ):
        yield


def play(seeds: range) -> Counter[str]:
    events: Counter[str] = Counter()
    for seed in seeds:
        history = History(seed)
        history.run()
        history.check()
        events += history.events
    return events


KINDS = {"worker", "node", "bars", "batch", "silence", "aggregator", "driver", "race"}


def test_each_trial_is_committed_once_whatever_happens() -> None:
    assert play(range(2_000)).keys() == KINDS


@pytest.mark.slow
def test_it_is_so_in_tens_of_thousands() -> None:
    assert play(range(2_000, 32_000)).keys() == KINDS


def test_a_seed_repeats_its_history() -> None:
    first, second = History(7), History(7)
    for history in (first, second):
        history.run()
    spans = [[r for part in record.parts for r in part.ranges] for record in _log(first)]
    assert spans == [[r for part in record.parts for r in part.ranges] for record in _log(second)]
    assert first.events == second.events


def _log(history: History) -> list[CommitRecord]:
    return list(SessionFolder(history.world, "s").commits())


def test_nodes_that_are_charged_are_noticed() -> None:
    """The check can fail: where a lost node counts like a dead worker, innocent trials are given up."""
    lost = Dispatcher.lost

    def charged(dispatcher: Dispatcher, worker: str, reason: str, _cause: str = "") -> None:
        lost(dispatcher, worker, reason)

    with patch.object(Dispatcher, "lost", charged), pytest.raises(AssertionError):
        play(range(2_000))


def test_a_store_that_lets_two_win_a_number_is_noticed() -> None:
    """The check can fail: where `create` replaces what is there, commits are lost."""

    def replace(world: histories.World, path: str, data: bytes) -> bool:
        world.write(path, data)
        return True

    with patch.object(histories.World, "create", replace), pytest.raises(AssertionError):
        play(range(200))
