"""Points that are asked for: what becomes of suggestions, and how points are found again in rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import rounds
from grid.dimensions import Dimension
from grid.errors import Refused
from grid.methods.base import Cells, Lattice, Told
from grid.plan import Plan, WorkUnit
from grid.ranges import Ranges
from grid.rounds import next_round
from grid.search import Asked, RandomSearch
from grid.searchspec import SearchSpec
from grid.space import SearchSpace

MIXED = {"a": range(3, 33, 3), "b": [0.5, 0.1, None], "kind": ["x", "y"], "one": [7], "on": [True, False]}
LATTICE = [[3, 0, 1, 0], [9, 2, 0, 1], [0, 1, 1, 1]]


def asked(space: SearchSpace, trials: int, method: str = "sobol", seed: int = 0) -> Asked:
    return Asked(RandomSearch(space, trials, seed), SearchSpec(method=method, trials=trials, seed=seed))


class Scripted:
    """Suggests the numbers it is given, in blocks."""

    def __init__(self, blocks: list[list[int]]) -> None:
        self.blocks, self.read = blocks, 0

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:  # noqa: ARG002
        for block in self.blocks:
            self.read += 1
            yield told.lattice.cells(np.array(block, dtype=np.int64))


def scripted(monkeypatch: pytest.MonkeyPatch, blocks: list[list[int]]) -> Scripted:
    method = Scripted(blocks)
    monkeypatch.setattr(rounds, "method_of", lambda _: method)
    return method


def test_the_first_new_and_valid_ones_are_taken_and_no_more_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    method = scripted(monkeypatch, [[5, 3, 5, 20], [3, 8, 1, 6], [9]])
    points = asked(SearchSpace({"a": range(100)}, ["a != 8"]), 5)
    taken = next_round(SearchSpec(method="sobol", trials=5), points, np.empty((0, 1)))
    assert taken.tolist() == [5, 3, 20, 1, 6]
    assert method.read == 2


def test_chance_fills_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [[5, 3]])
    space = SearchSpace({"a": range(10)}, ["a != 8"])
    points = asked(space, 100)
    taken = next_round(SearchSpec(method="sobol", trials=100), points, np.empty((0, 1)))
    assert len(points) == 9
    assert taken[:2].tolist() == [5, 3]
    order = [i for i in RandomSearch(space, 100).spots(np.arange(10)).tolist() if i not in (5, 3, 8)]
    assert taken[2:].tolist() == order


@pytest.mark.parametrize("method", ["sobol", "lhs", "tpe", "local"])
def test_what_is_suggested_of_a_parameter_without_part_is_the_point_without_it(method: str) -> None:
    """Also where few of the suggestions happen to have that parameter at its first value: those of mode 1 in y."""
    space = SearchSpace({"mode": range(3), "x": range(100), "y": range(100)}, [], {"x": "mode > 0", "y": "mode == 2"})
    search = SearchSpec(method=method, trials=40, round=20 if method in ("tpe", "local") else None)
    points = Asked(RandomSearch(space, 40), search)
    for first, stop in points.spans:
        points.learn(first, next_round(search, points, np.arange(first, dtype=float)[:, None]))
        assert stop > first
    taken = points.numbers(0, 40)
    assert space.valid(taken).all()
    assert len(set(taken.tolist())) == 40
    if method in ("sobol", "lhs"):
        modes = space.columns(taken)["mode"]
        assert (modes == 0).sum() == 1, "its one point"
        assert (modes == 1).sum() >= 10


def test_a_space_of_one_point_needs_no_method() -> None:
    points = asked(SearchSpace({"a": [1], "b": ["x"]}), 3)
    assert next_round(SearchSpec(method="sobol", trials=3), points, np.empty((0, 1))).tolist() == [0]


def test_a_lattice_leaves_out_what_does_not_vary() -> None:
    space = SearchSpace(MIXED)
    lattice = Lattice(space)
    assert (lattice.sizes, lattice.ordered) == ((10, 3, 2, 2), (True, False, False, False))
    numbers = np.arange(len(space))
    assert lattice.numbers(lattice.cells(numbers)).tolist() == numbers.tolist()
    where = lattice.numbers(np.array(LATTICE))
    values = [[list(space.axes[n])[c] for n, c in zip(["a", "b", "kind", "on"], cell, strict=True)] for cell in LATTICE]
    assert [[space[i][name] for name in ("a", "b", "kind", "on")] for i in where.tolist()] == values


def test_the_unit_cube_is_cut_into_equal_cells() -> None:
    lattice = Lattice(SearchSpace({"a": range(4), "b": range(10**12)}))
    unit = np.array([[0.0, 0.0], [0.2499, 0.5], [0.25, 1 - 2**-53], [1.0, 1.0]])
    assert lattice.scaled(unit).tolist() == [[0, 0], [0, 5 * 10**11], [1, 10**12 - 1], [3, 10**12 - 1]]


AXES = st.one_of(
    st.builds(
        lambda a, n, s: {"range": [a, a + n * s, s]}, st.integers(-50, 50), st.integers(0, 40), st.integers(1, 9)
    ),
    st.builds(lambda a, n: {"linspace": [a, 0.3, n]}, st.sampled_from([-1.0, 0.7]), st.integers(2, 40)),
    st.builds(lambda a, n: {"logspace": [a, 1.0, n]}, st.sampled_from([0.001, 70]), st.integers(2, 40)),
    st.just({"values": [0.5, None, 3]}),
    st.just({"values": ["x", None, "y"]}),
    st.just({"values": [True, False]}),
    st.just({"range": [0, 10**15, 1]}),
    st.just({"range": [10**15, 1, -1]}),
)


@given(AXES, st.data())
def test_each_value_is_found_where_it_stands_and_others_nowhere(given: dict[str, Any], data: st.DataObject) -> None:
    axis = Dimension.model_validate(given).axis()
    places = data.draw(st.lists(st.integers(0, len(axis) - 1), max_size=20))
    assert axis.find([axis[i] for i in places]).tolist() == places
    if "values" not in given:
        low, high = sorted([axis[0], axis[len(axis) - 1]])
        assert axis.find([low - 1, high + 1, low + 1e-9]).tolist() == [-1, -1, -1]
    else:
        assert axis.find(["none of them"]).tolist() == [-1]


def test_points_are_found_again_in_rows() -> None:
    space = SearchSpace(MIXED)
    first, second = asked(space, 40), asked(space, 40)
    numbers = next_round(SearchSpec(method="sobol", trials=40), first, np.empty((0, 1)))
    first.learn(0, numbers)
    rows = np.arange(5, 25)
    columns = {name: values.tolist() for name, values in first.columns(rows).items()}
    second.recall(rows + 3 * len(second), columns)
    assert second.numbers(0, 40).tolist() == [-1] * 5 + numbers[5:25].tolist() + [-1] * 15
    assert second.valid(np.arange(40)).tolist() == [5 <= i < 25 for i in range(40)]
    assert second[7] == first[7]
    with pytest.raises(IndexError, match="no point 3 is known"):
        second[3]
    second.learn(0, numbers)
    assert list(map(second.__getitem__, range(40))) == list(map(first.__getitem__, range(40)))


def test_another_point_under_a_known_number_is_refused() -> None:
    points = asked(SearchSpace({"a": range(10)}), 4)
    points.learn(0, np.array([4, 2]))
    points.learn(0, np.array([4, 2, 9]))
    with pytest.raises(Refused, match="does not go on as it began"):
        points.learn(1, np.array([3, 9, 1]))
    assert points.numbers(0, 4).tolist() == [4, 2, 9, -1]


def test_a_worker_is_told_the_points_of_a_unit_and_no_others() -> None:
    space = SearchSpace({"a": range(10)})
    here, there = Plan(["x", "y"], asked(space, 6)), Plan(["x", "y"], asked(space, 6))
    assert isinstance(here.points, Asked)
    here.points.learn(0, np.array([9, 8, 7, 6, 5, 4]))
    unit = WorkUnit(1, 8, 11)
    there.learn(unit, here.asked(unit))
    assert there.points.valid(np.arange(6)).tolist() == [False, False, True, True, True, False]
    assert [there.points[i]["a"] for i in (2, 3, 4)] == [7, 6, 5]
    grid = Plan(["x"], space)
    assert grid.asked(WorkUnit(0, 0, 3)) is None
    grid.learn(unit, None)


def test_spans_of_points_cover_the_plan_round_by_round() -> None:
    plan = Plan(["x", "y"], SearchSpace({"a": range(10)}))
    units = [unit for span in [(0, 4), (4, 10)] for unit in plan.units(lambda _: 3, None, span)]
    first, second = [(0, 3), (3, 4), (10, 13), (13, 14)], [(4, 7), (7, 10), (14, 17), (17, 20)]
    assert [(u.start, u.stop) for u in units] == first + second
    done = Ranges([(0, 4), (11, 12)])
    assert [plan.missing(span, done) for span in [(0, 4), (4, 10)]] == [3, 12]
