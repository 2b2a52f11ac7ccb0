"""Blocks and the hold-out: equal, gapless, the same everywhere."""

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.errors import BadInput
from grid.windows import bars_per_block, block_edges, nanoseconds

DAY = 86_400 * 10**9
START = date(2020, 1, 1)
TIMES = st.integers(0, 2 * 10**18)


@given(TIMES, st.integers(2_000, 10**18), st.integers(1, 1000), st.floats(0, 0.9))
def test_blocks_are_equal_and_cover_the_training_span(start: int, span: int, blocks: int, holdout: float) -> None:
    if span * (1 - holdout) < blocks + 1:
        return
    edges, cut = block_edges(start, start + span, blocks, holdout)
    assert edges.dtype == np.int64
    assert edges.shape == (blocks + 1,)
    assert (edges[0], edges[-1]) == (start, cut)
    lengths = np.diff(edges)
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1
    assert abs((start + span - cut) - span * Fraction(repr(holdout))) <= Fraction(1, 2)


def test_whole_days_stay_whole() -> None:
    edges, cut = block_edges(START, START + timedelta(days=1000), 16, 0.2)
    assert cut == nanoseconds(START + timedelta(days=800))
    assert (np.diff(edges) == 50 * DAY).all()
    _, none = block_edges(START, START + timedelta(days=1000), 16)
    assert none == nanoseconds(START + timedelta(days=1000))


def test_moments_mean_the_same() -> None:
    expected = 1_577_836_800 * 10**9
    seoul = timezone(timedelta(hours=9))
    same = [
        START,
        datetime(2020, 1, 1),
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, 9, tzinfo=seoul),
        np.datetime64("2020-01-01"),
        np.datetime64("2020-01-01", "ns"),
        expected,
        np.int64(expected),
    ]
    assert [nanoseconds(moment) for moment in same] == [expected] * len(same)
    assert nanoseconds(datetime(2020, 1, 1, 0, 0, 0, 1)) == expected + 1000


@given(st.lists(st.integers(0, 1000), unique=True).map(sorted), st.integers(1, 20), st.integers(0, 50))
def test_bars_fall_into_the_block_that_holds_their_open(times: list[int], blocks: int, start: int) -> None:
    timestamps = np.array(times, dtype=np.int64)
    edges, _ = block_edges(start, start + 700, blocks, 0.1)
    rows = bars_per_block(timestamps, edges)
    assert rows.shape == (blocks + 1,)
    for k in range(blocks):
        expected = [t for t in times if edges[k] <= t < edges[k + 1]]
        assert timestamps[rows[k] : rows[k + 1]].tolist() == expected


def test_a_bar_on_the_cut_belongs_to_the_hold_out() -> None:
    edges, cut = block_edges(0, 100, 4, 0.2)
    assert bars_per_block(np.array([cut - 1, cut]), edges)[-1] == 1


@pytest.mark.parametrize(
    ("start", "end", "blocks", "holdout", "says"),
    [
        (START, START, 4, 0.0, "is empty"),
        (START, date(2019, 1, 1), 4, 0.0, "2020-01-01"),
        (START, date(2021, 1, 1), 0, 0.0, "0 blocks"),
        (START, date(2021, 1, 1), 4, 0.95, "0.95"),
        (START, date(2021, 1, 1), 4, -0.1, "-0.1"),
        (0, 10, 16, 0.0, "too short for 16 blocks"),
    ],
)
def test_refusals(start: date | int, end: date | int, blocks: int, holdout: float, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        block_edges(start, end, blocks, holdout)
