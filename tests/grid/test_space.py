"""The search space is a sequence: it agrees with itertools.product and stores nothing."""

import itertools
import math
import pickle
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.dimensions import Dimension, axis_of
from grid.errors import BadInput
from grid.space import EXACT_LIMIT, SearchSpace, TrialCount, check_not_empty, scan

NUMBER = st.integers(-1000, 1000) | st.floats(-100, 100).map(lambda x: round(x, 3))
VALUES = (
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5, unique=True)
    | st.lists(NUMBER, min_size=1, max_size=5, unique_by=float)
    | st.lists(st.text(max_size=4).filter(lambda t: "\0" not in t), min_size=1, max_size=4, unique=True)
    | st.lists(st.booleans(), min_size=1, max_size=2, unique=True)
    | st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=3, unique=True)
    | st.builds(range, st.integers(-9, 9), st.integers(10, 20), st.integers(1, 7))
)
DIMENSIONS = st.lists(VALUES, min_size=1, max_size=4).map(lambda v: dict(zip("abcd", v, strict=False)))


@given(DIMENSIONS)
def test_len_index_and_iteration_agree_with_product(dimensions: dict[str, Any]) -> None:
    space = SearchSpace(dimensions)
    expected = [dict(zip(dimensions, point, strict=True)) for point in itertools.product(*dimensions.values())]
    assert len(space) == len(expected)
    assert list(space) == expected == [space[i] for i in range(len(space))]
    assert space.names == tuple(dimensions)


@given(DIMENSIONS)
def test_columns_agree_with_index_and_types_are_plain(dimensions: dict[str, Any]) -> None:
    space = SearchSpace(dimensions)
    columns = {name: column.tolist() for name, column in space.columns(np.arange(len(space))).items()}
    for i in range(len(space)):
        point = space[i]
        assert point == {name: column[i] for name, column in columns.items()}
        assert all(type(v) in (bool, int, float, str, type(None)) for v in point.values())
        assert all(type(v) is type(columns[name][i]) for name, v in point.items())


PROGRESSION = st.one_of(
    st.tuples(st.just("range"), NUMBER, st.integers(1, 30), NUMBER.filter(bool)).map(
        lambda t: {t[0]: [t[1], t[1] + t[2] * t[3], t[3]]}
    ),
    st.tuples(NUMBER, NUMBER, st.integers(2, 50)).filter(lambda t: t[0] != t[1]).map(lambda t: {"linspace": list(t)}),
    st.tuples(st.floats(1e-9, 1), st.floats(2, 1e9), st.integers(2, 50)).map(lambda t: {"logspace": list(t)}),
    st.tuples(st.floats(-1e9, 1e9), st.floats(1e-3, 1e3), st.integers(2, 50)).map(
        lambda t: {"linspace": [t[0], t[0] + t[1], t[2]]}
    ),
)


@given(PROGRESSION)
def test_progressions_are_monotone_within_their_ends_and_one_code_path(spec: dict[str, list[Any]]) -> None:
    ((form, (first, last, third)),) = spec.items()
    axis = Dimension.model_validate(spec).axis()
    values = list(axis)
    assert values == axis.take(np.arange(len(axis))).tolist()
    assert axis.take(np.array([len(axis) - 1, 0])).tolist() == [values[-1], values[0]]
    assert values == sorted(set(values), reverse=last < first)
    assert values[0] == first
    if form == "range":
        exact = np.arange(len(values)) * third + first
        assert np.allclose(values, exact, rtol=1e-12, atol=1e-12)
        assert min(first, last) - 1e-9 <= min(values) <= max(values) <= max(first, last) + 1e-9
    else:
        assert (len(values), values[-1]) == (third, last)
        twin = np.linspace(first, last, third) if form == "linspace" else np.geomspace(first, last, third)
        assert np.allclose(values, twin, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"range": [10, 50, 10]}, [10, 20, 30, 40, 50]),
        ({"range": [10, 55, 10]}, [10, 20, 30, 40, 50]),
        ({"range": [5, 5, 1]}, [5]),
        ({"range": [5, 1, -2]}, [5, 3, 1]),
        ({"range": [0.1, 0.5, 0.1]}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"range": [1, 2, 0.5]}, [1.0, 1.5, 2.0]),
        ({"linspace": [0.0, 0.02, 5]}, [0.0, 0.005, 0.01, 0.015, 0.02]),
        ({"linspace": [10, 40, 4]}, [10, 20, 30, 40]),
        ({"linspace": [0, 1, 3]}, [0.0, 0.5, 1.0]),
        ({"linspace": [1, 0, 3]}, [1.0, 0.5, 0.0]),
        ({"logspace": [0.001, 1, 4]}, [0.001, 0.01, 0.1, 1.0]),
        ({"logspace": [1000, 1, 4]}, [1000.0, 100.0, 10.0, 1.0]),
        ({"values": [3, 1]}, [3, 1]),
        ({"choice": ["a", "b"]}, ["a", "b"]),
        ([1, 2.5], [1.0, 2.5]),
        ((1, 2), [1, 2]),
        (range(3, 10, 3), [3, 6, 9]),
        (np.array([1, 2]), [1, 2]),
        (np.array([0.5]), [0.5]),
        ([None, 0.1], [None, 0.1]),
        (7, [7]),
        (True, [True]),
        ("a", ["a"]),
        (None, [None]),
        ({"range": [1, 3, 1], "when": "mode == 'a'"}, [1, 2, 3]),
    ],
)
def test_forms(given_: object, expected: list[object]) -> None:
    dimension = Dimension.model_validate(given_)
    values = list(dimension.axis())
    assert values == expected
    assert [type(v) for v in values] == [type(v) for v in expected]
    assert Dimension.model_validate(dimension.model_dump(mode="json")) == dimension


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([], "no values"),
        (range(0), "no values"),
        ([1, 1], "1 is given twice"),
        ([1, 1.0], "given twice"),
        ([None, None], "None is given twice"),
        ([1, "a"], "do not mix"),
        ([True, 2], "do not mix"),
        ([math.nan], "not a finite number"),
        ([math.inf], "not a finite number"),
        ([2**70], "too large"),
        ([[1]], "no number, boolean, text or null"),
    ],
)
def test_bad_values(values: Any, says: str) -> None:
    with pytest.raises(BadInput, match=rf"space\.fast: .*{says}"):
        SearchSpace({"fast": values})


def test_bad_spaces() -> None:
    with pytest.raises(BadInput, match="space is empty"):
        SearchSpace({})
    with pytest.raises(BadInput, match="thin it out"):
        SearchSpace({name: range(10**7) for name in "abc"})
    with pytest.raises(BadInput, match="did you mean 'fast'"):
        SearchSpace({"fast": [1]}, ["fats > 1"])
    with pytest.raises(BadInput, match="text with a number"):
        SearchSpace({"mode": ["a"]}, ["mode > 1"])
    space = SearchSpace({"fast": [1, 2]})
    for index in (2, -1):
        with pytest.raises(IndexError, match="a space of 2"):
            space[index]


@pytest.mark.parametrize("length", [10**3, 10**6])  # 10^9 and 10^18 points
def test_size_costs_neither_memory_nor_time(length: int) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    step = Dimension.model_validate({"linspace": [0.0, 1.0, length]}).axis()
    space = SearchSpace({"a": range(length), "b": step, "c": range(length)}, ["a != 3"])
    last = space[len(space) - 1]
    columns = space.columns(np.array([0, len(space) - 1]))
    assert len(space) == length**3
    assert last == {"a": length - 1, "b": 1.0, "c": length - 1}
    assert columns["c"].tolist() == [0, length - 1]
    assert next(iter(space)) == {"a": 0, "b": 0.0, "c": 0}
    assert time.perf_counter() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert len(pickle.dumps(space)) < 5_000


CONSTRAINTS = st.lists(
    st.sampled_from(["a < b", "a + b <= c", "c % 2 == 0", "not a == c", "a < 4 or b > 3", "b != 2", "a > 99"]),
    max_size=3,
)
SMALL = st.fixed_dictionaries({name: st.builds(range, st.integers(0, 3), st.integers(4, 9)) for name in "abc"})


@given(SMALL, CONSTRAINTS)
def test_valid_and_count_agree_with_brute_force(dimensions: dict[str, range], constraints: list[str]) -> None:
    space = SearchSpace(dimensions, constraints)
    expected = [all(eval(c, {}, dict(point)) for c in constraints) for point in space]  # noqa: S307 - the oracle
    assert space.valid(np.arange(len(space))).tolist() == expected
    assert space.count() == TrialCount(True, sum(expected))
    assert np.concatenate([v for _, v in scan(space)]).tolist() == expected


WHENS = st.dictionaries(
    st.sampled_from("abc"),
    st.sampled_from(["a > 2", "b % 2 == 0", "c < 4 or c > 5", "a < b", "not b == c"]),
    max_size=3,
)


def _circle(asks: dict[str, set[str]]) -> bool:
    """Whether somebody asks himself in the end."""
    reached = asks
    for _ in asks:
        reached = {name: hit.union(*(asks.get(other, set()) for other in hit)) for name, hit in reached.items()}
    return any(name in hit for name, hit in reached.items())


@given(SMALL, CONSTRAINTS, WHENS)
def test_what_has_no_part_stands_at_its_first_value(
    dimensions: dict[str, range], constraints: list[str], whens: dict[str, str]
) -> None:
    whens = {name: when for name, when in whens.items() if name not in when}
    if _circle({name: set("abc") & set(when) for name, when in whens.items()}):
        with pytest.raises(BadInput, match="go in a circle"):
            SearchSpace(dimensions, constraints, whens)
        return
    space = SearchSpace(dimensions, constraints, whens)

    def stands(point: dict[str, Any]) -> bool:
        idle = {name for name, when in whens.items() if not eval(when, {}, dict(point))}  # noqa: S307 - the oracle
        return all(point[name] == dimensions[name][0] for name in idle)

    fits = [all(eval(c, {}, dict(point)) for c in constraints) for point in space]  # noqa: S307 - the oracle
    expected = [fit and stands(point) for fit, point in zip(fits, space, strict=True)]
    everything = np.arange(len(space))
    assert space.valid(everything).tolist() == expected
    assert space.count() == TrialCount(True, sum(expected))
    settled = space.settled(everything)
    assert all(stands(space[int(i)]) for i in settled)
    standing = [stands(point) for point in space]
    assert settled[standing].tolist() == everything[standing].tolist()


def test_a_condition_may_hang_on_what_has_no_part_itself() -> None:
    dimensions = {"mode": ["plain", "stop"], "stop": [None, 0.1, 0.2], "tries": [1, 2, 3]}
    space = SearchSpace(dimensions, [], {"stop": "mode == 'stop'", "tries": "stop > 0"})
    points = [tuple(space[i].values()) for i in np.flatnonzero(space.valid(np.arange(len(space))))]
    two = [("stop", s, t) for s in (0.1, 0.2) for t in (1, 2, 3)]
    assert points == [("plain", None, 1), ("stop", None, 1), *two]


def test_bad_conditions() -> None:
    with pytest.raises(BadInput, match=r"space\.x\.when: constraint 'x > 1': 'x' at character 1 is no known name"):
        SearchSpace({"mode": [1, 2], "x": [1, 2]}, [], {"x": "x > 1"})
    with pytest.raises(BadInput, match=r"`when` go in a circle \(x <- y <- x\): take one of them out"):
        SearchSpace({"x": [1, 2], "y": [1, 2]}, [], {"x": "y > 1", "y": "x > 1"})
    with pytest.raises(BadInput, match="compares text with a number"):
        SearchSpace({"mode": ["a", "b"], "x": [1, 2]}, [], {"x": "mode > 1"})
    with pytest.raises(ValueError, match="one form is needed and none is given"):
        Dimension.model_validate({"when": "a > 1"})


def test_count_is_exact_where_constraints_tie_few_parameters() -> None:
    space = SearchSpace({name: range(1000) for name in "abcdef"}, ["a < b", "c < 10"])
    assert space.count() == TrialCount(True, (1000 * 999 // 2) * 10 * 1000**3)


def test_estimates_are_honest() -> None:
    """The true count lies within two standard errors about as often as it should."""
    side = 1450
    assert side**2 > EXACT_LIMIT
    within = 0
    bounds = range(200, 2800, 100)
    for bound in bounds:
        count = SearchSpace({"a": range(side), "b": range(side)}, [f"a + b < {bound}"]).count()
        low = np.arange(side)
        true = int(np.clip(bound - low, 0, side).sum())
        assert not count.exact
        assert 0 < count.error < 0.002 * side**2
        assert abs(count.trials - true) < 4.5 * count.error
        within += abs(count.trials - true) <= 2 * count.error
    assert within >= 0.85 * len(bounds)


def test_a_sample_without_a_hit_has_an_error_bar() -> None:
    count = SearchSpace({"a": range(2000), "b": range(2000)}, ["a + b < 1"]).count()
    assert count.trials == 0
    assert count.error >= 1


def test_no_doubt_is_left_where_one_group_is_empty() -> None:
    space = SearchSpace({"a": range(2000), "b": range(2000), "c": [1, 2]}, ["a < b", "c > 5"])
    assert space.count() == TrialCount(True, 0)


def test_empty_after_constraints() -> None:
    with pytest.raises(BadInput, match="all were tried"):
        check_not_empty(SearchSpace({"a": range(9), "b": range(9)}, ["a < b", "b < a"]))
    with pytest.raises(BadInput, match="none of 200,000 drawn at random"):
        check_not_empty(SearchSpace({"a": range(9999), "b": range(9999)}, ["a < b", "b < a"]))
    check_not_empty(SearchSpace({"a": [1]}))


def test_axes_are_taken_as_they_are() -> None:
    axis = axis_of([1, 2])
    assert axis_of(axis) is axis
    with pytest.raises(IndexError):
        axis[2]
    with pytest.raises(IndexError):
        axis_of(range(2))[2]
