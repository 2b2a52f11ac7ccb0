"""Shares of a cluster's CPUs: fair, whole, and the same for whoever works them out."""

from typing import Any

import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import GetTimeoutError

from grid.cluster.sharing import Share, kind, share, sweeps

ASKED = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.none() | st.integers(1, 20), min_size=1, max_size=8
)


@pytest.mark.parametrize(
    ("cpus", "asked", "given"),
    [
        (10, {"a": None}, {"a": 10}),
        (10, {"a": 3}, {"a": 3}),
        (10, {"a": None, "b": None}, {"a": 5, "b": 5}),
        (10, {"a": None, "b": None, "c": None}, {"a": 3, "b": 3, "c": 4}),
        (10, {"a": None, "b": 1}, {"a": 9, "b": 1}),
        (10, {"a": 2, "b": None, "c": 9}, {"a": 2, "b": 4, "c": 4}),
        (2, {"a": None, "b": None, "c": None}, {"a": 1, "b": 1, "c": 1}),
        (0, {"a": None}, {"a": 1}),
    ],
)
def test_shares_worked_out_by_hand(cpus: int, asked: dict[str, int | None], given: dict[str, int]):
    assert {each: share(cpus, asked, each) for each in asked} == given


@given(st.integers(8, 100), ASKED)
def test_all_is_given_and_nobody_could_have_more_without_another_having_less(cpus: int, asked: dict[str, int | None]):
    given = {each: share(cpus, asked, each) for each in asked}
    bounds = {each: cpus if most is None else most for each, most in asked.items()}
    assert sum(given.values()) == min(cpus, sum(bounds.values()))
    assert all(given[each] <= bounds[each] for each in asked)
    hungry = [given[each] for each in asked if given[each] < bounds[each]]
    assert all(max(given.values()) - number <= 1 for number in hungry)


def test_names_say_which_sweeps_there_are():
    names = [f"s.1 {kind(None)} 01ab", f"t_2 {kind(4)} 23cd", "s.1 loader 45ef", "somebody else's aggregator", ""]
    assert sweeps(names) == {"s.1": None, "t_2": 4}


def test_a_driver_counts_itself_once_and_keeps_what_it_knew_while_the_head_is_away(monkeypatch: pytest.MonkeyPatch):
    """Its own aggregator may be among the names, or not yet."""
    found: list[Any] = [[], [f"mine {kind(None)} 0"], [f"mine {kind(None)} 0", f"other {kind(None)} 1"]]
    monkeypatch.setattr(ray.util, "list_named_actors", lambda: found.pop(0))
    mine = Share("mine", None)
    assert [mine.of(8) for _ in range(3)] == [8, 8, 4]

    def away() -> list[str]:
        raise GetTimeoutError("no answer")

    monkeypatch.setattr(ray.util, "list_named_actors", away)
    assert mine.of(8) == 4
