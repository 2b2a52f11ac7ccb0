"""What every search method promises: distinct valid points, in a sequence that belongs to the seed and the results."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from grid.halving import rungs
from grid.rounds import next_round
from grid.search import Asked, RandomSearch
from grid.searchspec import ADAPTIVE, HALVING, SearchSpec
from grid.space import SearchSpace

DESIGNS = ["sobol", "lhs"]
METHODS = [*DESIGNS, *ADAPTIVE]
LEARNING = [*ADAPTIVE, HALVING]
"""Those that are told results. Halving asks for no new point after its first rung; tests/grid/test_halving.py."""
SPACES = {
    "plain": SearchSpace({"a": range(40), "b": range(30)}),
    "tied": SearchSpace({"a": range(40), "b": range(40), "c": [0.1, 0.2]}, ["a < b", "a + b < 60"]),
    "mixed": SearchSpace(
        {"a": range(9), "kind": ["x", "y", "z"], "on": [True, False], "stop": [None, 0.1], "one": [1]}
    ),
    "vast": SearchSpace({"a": range(10**6), "b": range(10**9), "c": range(2)}, ["a != b"]),
    "narrow": SearchSpace({"a": range(60), "b": range(60)}, ["a == b"]),
}
Score = Callable[[dict[str, NDArray[np.float64]]], NDArray[np.float64]]


def near(columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Higher near the middle of `a`; the others count less, and text not at all."""
    a = columns["a"].astype(float)
    return -np.abs(a - 17.0) - 0.1 * np.abs(np.asarray(columns.get("b", a), float) - 11.0)


def learning(method: str, trials: int, seed: int = 0) -> SearchSpec:
    """Rounds of 12 where the method has rounds of a size."""
    return SearchSpec(method=method, trials=trials, seed=seed, **({"round": 12} if method in ADAPTIVE else {}))


def asked(space: SearchSpace, spec: SearchSpec) -> Asked:
    """None known yet; halving on four datasets of 16 blocks."""
    drawn = RandomSearch(space, spec.trials or 0, spec.seed)
    return Asked(drawn, spec, rungs(drawn.count().trials, 16, range(4)) if spec.method == HALVING else ())


def searched(space: SearchSpace, spec: SearchSpec, score: Score = near, stop: int | None = None) -> Asked:
    """The points of a whole search, or of its rounds that begin before `stop`."""
    points, scores = asked(space, spec), np.empty((0, 1))
    for first, last in points.spans:
        if stop is not None and first >= stop:
            break
        points.learn(first, next_round(spec, points, scores))
        scores = np.concatenate([scores, score(points.columns(np.arange(first, last)))[:, None]])
    return points


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPACES)
def test_points_are_distinct_and_valid_and_as_many_as_asked_for(method: str, name: str) -> None:
    space = SPACES[name]
    points = searched(space, SearchSpec(method=method, trials=80, seed=4))
    numbers = points.numbers(0, len(points))
    assert len(points) == min(80, space.count().trials)
    assert len(set(numbers.tolist())) == len(points)
    assert space.valid(numbers).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_search_for_more_than_there_is_tries_all(method: str) -> None:
    space = SearchSpace({"a": range(8), "b": range(8)}, ["a < b"])
    points = searched(space, SearchSpec(method=method, trials=50))
    assert sorted(points.numbers(0, 28).tolist()) == np.flatnonzero(space.valid(np.arange(64))).tolist()


@pytest.mark.parametrize("method", [*METHODS, HALVING])
def test_the_sequence_belongs_to_the_seed(method: str) -> None:
    one, same, other = (searched(SPACES["plain"], SearchSpec(method=method, trials=64, seed=s)) for s in (1, 1, 2))
    assert one.numbers(0, 64).tolist() == same.numbers(0, 64).tolist()
    assert one.numbers(0, 64).tolist() != other.numbers(0, 64).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_every_part_of_the_space_is_reached(method: str) -> None:
    columns = searched(SPACES["mixed"], SearchSpec(method=method, trials=60)).columns(np.arange(60))
    assert {len(set(columns[name].tolist())) for name in ("kind", "on", "stop")} == {3, 2}
    assert len(set(columns["a"].tolist())) >= 8


def test_designs_are_spread_more_evenly_than_chance() -> None:
    """A hypercube has a point in each of 64 slices of each dimension; a Sobol sequence two in each of 32 too."""
    space = SearchSpace({"a": range(6400), "b": range(6400)})
    for method in DESIGNS:
        columns = searched(space, SearchSpec(method=method, trials=64, seed=5)).columns(np.arange(64))
        assert all(len(set((values // 100).tolist())) == 64 for values in columns.values()), method
    columns = searched(space, SearchSpec(method="sobol", trials=64, seed=5)).columns(np.arange(64))
    cells = columns["a"] // 800 * 8 + columns["b"] // 800
    assert len(set(cells.tolist())) == 64
    chance = RandomSearch(space, 64, 5).columns(np.arange(64))
    assert len(set((chance["a"] // 100).tolist())) < 50


@pytest.mark.parametrize("method", LEARNING)
def test_a_round_depends_on_the_rounds_before_and_on_nothing_else(method: str) -> None:
    """Asked for by somebody who knows nothing but the points and scores before it, and asked for twice."""
    space, spec = SPACES["tied"], learning(method, 80, seed=9)
    whole = searched(space, spec)
    assert len(whole.spans) > 2
    for first, last in whole.spans:
        told = asked(space, spec)
        told.learn(0, whole.numbers(0, first))
        scores = near(whole.columns(np.arange(first)))[:, None]
        assert next_round(spec, told, scores).tolist() == whole.numbers(first, last).tolist()
        assert next_round(spec, told, scores).tolist() == whole.numbers(first, last).tolist()


@pytest.mark.parametrize("method", LEARNING)
def test_results_decide_what_comes_next(method: str) -> None:
    up, down = (searched(SPACES["plain"], learning(method, 60, 9), score) for score in (near, lambda c: -near(c)))
    first = up.spans[0][1]
    assert up.numbers(0, first).tolist() == down.numbers(0, first).tolist()
    assert up.numbers(first, len(up)).tolist() != down.numbers(first, len(up)).tolist()


@pytest.mark.parametrize("method", ADAPTIVE)
def test_points_without_a_score_are_kept_away_from(method: str) -> None:
    """NaN, as of a failed trial, is as bad as can be; also where no point has a score."""

    def half(columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        return np.where(columns["a"] < 20, np.nan, 1.0 + columns["b"] % 3)

    points = searched(SPACES["plain"], SearchSpec(method=method, trials=160, round=20, seed=2), half)
    last = points.columns(np.arange(100, 160))
    assert (last["a"] >= 20).mean() > 0.6
    nothing = searched(SPACES["plain"], SearchSpec(method=method, trials=40, round=10), lambda c: c["a"] * np.nan)
    assert nothing.valid(np.arange(40)).all()


BUDGET = {"nsga2": 240}
SHARE_OF_CHANCE = {"tpe": 0.1, "cmaes": 0.1, "nsga2": 0.5, "local": 0.01}


@pytest.mark.parametrize("method", ADAPTIVE)
def test_more_is_found_than_by_chance(method: str) -> None:
    """How many points of a smooth hill are better than the best found, in the median of 5 seeds, against chance."""
    space = SearchSpace({"a": range(400), "b": range(400)})

    def hill(columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        a, b = columns["a"] - 270.0, columns["b"] - 120.0
        return -(a * a + b * b + 0.8 * a * b)

    trials = BUDGET.get(method, 96)

    def best(seed: int) -> float:
        points = searched(space, SearchSpec(method=method, trials=trials, round=12, seed=seed), hill)
        return float(hill(points.columns(np.arange(trials))).max())

    every = hill(space.columns(np.arange(len(space))))
    better = np.median([(every > best(seed)).sum() for seed in range(5)])
    by_chance = np.log(2) / trials * len(space)  # the median of the best of so many independent draws
    assert better < SHARE_OF_CHANCE[method] * by_chance


@pytest.mark.parametrize("method", ADAPTIVE)
def test_several_goals(method: str) -> None:
    """Two hills: nsga2 and tpe go on between them, the others up the first; the sequence is as pure as with one."""
    space = SearchSpace({"a": range(200), "b": range(200)})
    spec = SearchSpec(method=method, trials=120, round=20, seed=3)

    def hills(columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        a, b = columns["a"].astype(float), columns["b"].astype(float)
        return np.stack([-((a - 40) ** 2) - (b - 100) ** 2, -((a - 160) ** 2) - (b - 100) ** 2], axis=1)

    points, scores = Asked(RandomSearch(space, 120, 3), spec), np.empty((0, 2))
    for first, last in points.spans:
        numbers = next_round(spec, points, scores)
        assert numbers.tolist() == next_round(spec, points, scores).tolist()
        points.learn(first, numbers)
        scores = np.concatenate([scores, hills(points.columns(np.arange(first, last)))])
    off = np.abs(points.columns(np.arange(120))["b"] - 100)
    assert np.median(off[60:]) < 0.6 * np.median(off[:20])
    a = points.columns(np.arange(60, 120))["a"]
    if method in ("nsga2", "tpe"):
        assert np.ptp(a) > 60
    else:
        assert (a < 100).mean() > 0.8  # the first hill's half
