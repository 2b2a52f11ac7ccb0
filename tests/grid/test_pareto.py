"""The Pareto front, against every pair."""

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from grid.pareto import front

VALUES = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, math.nan, math.inf])


def dominates(one: list[float], other: list[float]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


@given(st.integers(1, 3).flatmap(lambda m: st.lists(st.lists(VALUES, min_size=m, max_size=m), max_size=25)))
def test_nobody_dominates_a_row_of_the_front(rows: list[list[float]]) -> None:
    ranked = [i for i, row in enumerate(rows) if all(map(math.isfinite, row))]
    expected = [i for i in ranked if not any(dominates(rows[j], rows[i]) for j in ranked)]
    found = front(np.array(rows, dtype=float).reshape(len(rows), -1)).tolist() if rows else []
    assert sorted(found) == expected
    assert [rows[i][0] for i in found] == sorted((rows[i][0] for i in expected), reverse=True)
    assert all(i < j for i, j in pairwise(found) if rows[i] == rows[j])


def test_many_rows_are_quick() -> None:
    scores = np.random.default_rng(0).normal(size=(200_000, 2))
    assert front(scores)[0] == scores[:, 0].argmax()
