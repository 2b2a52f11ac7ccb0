"""The plan: every trial once, whatever the sizes of units and whatever is done."""

import itertools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import BadInput
from grid.plan import Plan, WorkUnit
from grid.ranges import Ranges
from grid.search import RandomSearch
from grid.space import SearchSpace, TrialCount

SPACES = st.builds(
    lambda a, b, constraints: SearchSpace({"a": range(a), "b": range(b)}, constraints),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([[], ["a < b"], ["a + b == 7"]]),
)
POINTS = SPACES | st.builds(RandomSearch, SPACES, st.integers(1, 30), st.integers(0, 5))
PLANS = st.builds(lambda n, points: Plan([f"d{i}" for i in range(n)], points), st.integers(1, 4), POINTS)


@given(PLANS, st.data())
def test_units_and_done_cover_every_trial_exactly_once(plan: Plan, data: st.DataObject) -> None:
    edge = st.integers(-3, plan.total + 3)
    spans = data.draw(st.lists(st.tuples(edge, edge).map(sorted).map(tuple), max_size=5))
    sizes = data.draw(st.lists(st.integers(-1, 50), min_size=1, max_size=5))
    done, size = Ranges(spans), itertools.cycle(sizes)
    units = list(plan.units(lambda _: next(size), done))
    trials = [trial for unit in units for trial in range(unit.start, unit.stop)]
    assert trials == [trial for trial in range(plan.total) if trial not in done]
    for unit in units:
        assert unit.start < unit.stop
        assert {plan.locate(trial)[0] for trial in (unit.start, unit.stop - 1)} == {unit.dataset}
        assert unit.stop - unit.start <= max(1, *sizes)


def test_sizes_are_asked_for_at_each_cut_and_for_the_dataset() -> None:
    plan = Plan(["x", "y"], SearchSpace({"a": range(10)}))
    asked = []

    def size(dataset: int) -> int:
        asked.append(dataset)
        return 3 + len(asked)

    units = plan.units(size)
    assert asked == []
    assert next(units) == WorkUnit(0, 0, 4)
    assert asked == [0]
    assert list(units) == [WorkUnit(0, 4, 9), WorkUnit(0, 9, 10), WorkUnit(1, 10, 17), WorkUnit(1, 17, 20)]
    assert asked == [0, 0, 0, 1, 1]


def test_done_is_read_as_each_dataset_is_begun() -> None:
    plan, done = Plan(["x", "y"], SearchSpace({"a": range(10)})), Ranges()
    units = plan.units(lambda _: 10, done)
    assert next(units) == WorkUnit(0, 0, 10)
    done.add(10, 15)
    assert list(units) == [WorkUnit(1, 15, 20)]


@given(PLANS)
def test_locate_and_numbers(plan: Plan) -> None:
    pairs = list(itertools.product(range(len(plan.datasets)), range(len(plan.points))))
    assert [plan.locate(trial) for trial in range(plan.total)] == pairs
    assert plan.dataset_trials(0) == (0, len(plan.points))
    for outside in (-1, plan.total):
        with pytest.raises(IndexError, match="no trial"):
            plan.locate(outside)


@given(PLANS, st.integers(0, 400))
def test_count_and_first_trials_agree_with_brute_force(plan: Plan, n: int) -> None:
    valid = plan.points.valid(np.arange(len(plan.points)))
    expected = [trial for trial in range(plan.total) if valid[plan.locate(trial)[1]]]
    assert plan.count() == TrialCount(True, len(expected))
    assert plan.first_trials(n) == expected[:n]


def test_positions_of_a_random_search_are_the_same_on_every_dataset() -> None:
    space = SearchSpace({"a": range(100), "b": range(100)}, ["a < b"])
    plan = Plan(["x", "y"], RandomSearch(space, 50, seed=1))
    first, second = plan.first_trials(50), plan.first_trials(100)[50:]
    assert [plan.locate(t) for t in second] == [(1, plan.locate(t)[1]) for t in first]


def test_an_estimate_counts_every_dataset_and_its_error_grows_alike() -> None:
    space = SearchSpace({"a": range(3000), "b": range(3000)}, ["a < b"])
    one, seven = Plan(["x"], space).count(), Plan(list("abcdefg"), space).count()
    assert not one.exact
    assert seven == TrialCount(False, one.trials * 7, one.error * 7)
    assert abs(one.trials - 3000 * 2999 // 2) < 4 * one.error


def test_nothing_is_materialised() -> None:
    tracemalloc.start()
    began = time.perf_counter()
    space = SearchSpace({"a": range(10**6), "b": range(10**6), "c": range(10**5)}, ["a != 3"])
    plan = Plan(range(50), space)
    done = Ranges([(0, 10**17 + 5)])
    units = list(itertools.islice(plan.units(lambda _: 1000, done), 3))
    assert units[0] == WorkUnit(1, 10**17 + 5, 10**17 + 1005)
    assert plan.first_trials(3) == [0, 1, 2]
    assert plan.locate(plan.total - 1) == (49, 10**17 - 1)
    assert plan.count().exact
    assert tracemalloc.get_traced_memory()[1] < 100_000_000  # counting and scanning go slice by slice
    tracemalloc.stop()
    assert time.perf_counter() - began < 10


def test_refusals() -> None:
    with pytest.raises(BadInput, match="no dataset"):
        Plan([], SearchSpace({"a": [1]}))
    with pytest.raises(BadInput, match="more trials than can be numbered"):
        Plan(range(100), SearchSpace({name: range(10**6) for name in "abc"}))
