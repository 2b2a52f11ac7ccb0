"""Random search: a permutation that stores nothing, and its holes."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.errors import BadInput
from grid.search import Permutation, RandomSearch, points_of, space_of
from grid.space import SearchSpace, TrialCount
from grid.spec import Sweep

SPACE = SearchSpace({"fast": range(1, 41), "slow": range(1, 41), "k": [0.5, 1.0]}, ["fast < slow"])
VALID = 2 * (40 * 39 // 2)
GOLDEN = [9, 7, 0, 6, 1, 11, 4, 2, 5, 10, 8, 3]  # of size 12 and seed 0


def whole(size: int, seed: int) -> np.ndarray:
    return Permutation(size, seed)(np.arange(size))


@given(st.integers(1, 5000), st.integers(0, 2**64))
def test_every_number_once(size: int, seed: int) -> None:
    assert np.array_equal(np.sort(whole(size, seed)), np.arange(size))


@given(st.integers(1, 2**63 - 1), st.integers(0, 99), st.data())
def test_large_ones_stay_inside_and_distinct(size: int, seed: int, data: st.DataObject) -> None:
    position = st.integers(0, size - 1)
    positions = np.array(data.draw(st.lists(position, unique=True, max_size=20)), dtype=np.int64)
    numbers = Permutation(size, seed)(positions)
    assert ((numbers >= 0) & (numbers < size)).all()
    assert len(set(numbers.tolist())) == len(positions)
    one_by_one = [int(Permutation(size, seed)(np.array([p]))[0]) for p in positions]
    assert numbers.tolist() == one_by_one


def test_the_order_is_the_seeds_for_good() -> None:
    assert whole(12, 0).tolist() == GOLDEN
    assert not np.array_equal(whole(1000, 0), whole(1000, 1))
    assert len({tuple(whole(4, seed).tolist()) for seed in range(2000)}) == 24


def test_prefixes_are_spread_evenly() -> None:
    for size, seed in itertools.product((10**5, 10**9, 10**18), range(3)):
        prefix = Permutation(size, seed)(np.arange(20_000))
        cells = np.bincount((prefix / size * 100).astype(int), minlength=100)
        chi_squared = ((cells - 200) ** 2 / 200).sum()
        assert chi_squared < 160  # 99 degrees of freedom: a fair draw exceeds it once in 10,000
        steps = np.diff(prefix.astype(float)) / size
        assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1] + 0.5) < 0.05  # independent uniforms have -1/2


def test_neighbouring_positions_and_coordinates_do_not_move_together() -> None:
    space = SearchSpace({"a": range(100), "b": range(100), "c": range(100)})
    columns = RandomSearch(space, 5000, seed=3).columns(np.arange(5000))
    correlations = np.corrcoef([columns[name] for name in "abc"])
    assert np.abs(correlations - np.eye(3)).max() < 0.06


@pytest.mark.parametrize("trials", [1, 7, 500, VALID - 1])
def test_it_takes_the_positions_it_needs(trials: int) -> None:
    search = RandomSearch(SPACE, trials, seed=5)
    valid = search.valid(np.arange(len(search)))
    assert int(valid.sum()) == trials
    assert valid[-1]
    assert search.count() == TrialCount(True, trials)
    points = [tuple(search[k].values()) for k in range(len(search)) if valid[k]]
    assert len(set(points)) == trials
    assert all(fast < slow for fast, slow, _ in points)


@pytest.mark.parametrize("trials", [VALID, VALID + 1, 10**9])
def test_more_than_there_are_gives_all(trials: int) -> None:
    search = RandomSearch(SPACE, trials)
    assert len(search) == len(SPACE)
    assert search.count() == TrialCount(True, VALID)
    assert int(search.valid(np.arange(len(search))).sum()) == VALID


def test_more_trials_begin_like_fewer() -> None:
    few, many = RandomSearch(SPACE, 10, seed=1), RandomSearch(SPACE, 100, seed=1)
    assert [few[k] for k in range(len(few))] == [many[k] for k in range(len(few))]


def test_columns_valid_index_and_iteration_agree() -> None:
    search = RandomSearch(SPACE, 200, seed=2)
    columns = search.columns(np.arange(len(search)))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)]
    assert rows == list(search) == [search[k] for k in range(len(search))]
    assert search.valid(np.arange(len(search))).tolist() == [row["fast"] < row["slow"] for row in rows]
    assert search.names == SPACE.names
    with pytest.raises(IndexError):
        search[len(search)]


def test_a_huge_space_costs_nothing() -> None:
    tracemalloc.start()
    search = RandomSearch(SearchSpace({name: range(10**6) for name in "abc"}, ["a < b"]), 1000, seed=1)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000  # one slice of 65,536 positions at a time
    tracemalloc.stop()
    assert search[0] == {"a": search[0]["a"], "b": search[0]["b"], "c": search[0]["c"]}
    assert len(pickle.dumps(search)) < 5_000


def test_refusals() -> None:
    with pytest.raises(BadInput, match="ask for one or more"):
        RandomSearch(SPACE, 0)
    hopeless = SearchSpace({"a": range(10**6), "b": range(10**6)}, ["a + b < 3"])
    with pytest.raises(BadInput, match="ask for fewer"):
        RandomSearch(hopeless, 10)


def test_a_sampled_space_that_runs_out_gives_what_it_has() -> None:
    space = SearchSpace({"a": range(1500), "b": range(1400)}, ["a + b < 3"])
    search = RandomSearch(space, 20_000)
    assert (len(search), search.count()) == (len(space), TrialCount(True, 6))


@settings(max_examples=20)
@given(st.integers(1, 50), st.integers(0, 10))
def test_from_a_sweep(trials: int, seed: int) -> None:
    request = {
        "strategy": "sma_cross",
        "data": {"symbols": ["AAPL"], "timeframes": ["1D"]},
        "space": {"fast": range(1, 21), "slow": [10, 20]},
        "constraints": ["fast < slow"],
    }
    grid, random = Sweep(**request), Sweep(**request, search={"method": "random", "trials": trials, "seed": seed})
    assert isinstance(points_of(grid, 1), SearchSpace)
    points = points_of(random, 1)
    assert isinstance(points, RandomSearch)
    assert points.count().trials == min(trials, space_of(grid).count().trials)
    again = points_of(random, 1)
    assert [points[k] for k in range(len(points))] == [again[k] for k in range(len(again))]
