import gc
import pickle
import sys
import weakref
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grid.engine import Engine, Execution
from strategies import Bars, above, at_least, at_most, below, crosses_above, crosses_below
from strategies.bits import read_only, words_of
from strategies.cache import ENTRY_BYTES
from strategies.comparing import (
    GREATER,
    GREATER_EQUAL,
    LESS,
    LESS_EQUAL,
    compare_narrow,
    compare_rows,
    cross_narrow,
    cross_rows,
)
from strategies.narrow import FEWEST_BARS, LARGEST_PART, WORTH, copies
from strategies.sma_cross import SmaCross
from tests.strategies.made_bars import bars_of

NEIGHBOURS = [1.0 + k * 2.0**-52 for k in range(-2, 3)] + [1.0 + k * 2.0**-24 for k in range(-3, 4)]
EDGES = [0.0, -0.0, 5e-324, 1e-46, -1e-46, 1.2e-38, 3.4028234e38, 3.4028236e38, 1e300, -1e300, np.nan, np.inf, -np.inf]
VALUES = st.sampled_from([*NEIGHBOURS, *(-value for value in NEIGHBOURS), *EDGES])
SIZES = st.one_of(st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129]), st.integers(0, 300))
PAIRS = SIZES.flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=VALUES)] * 2))
COMPARISONS = [above, below, at_least, at_most, crosses_above, crosses_below]


def narrow(row):
    with np.errstate(over="ignore"):
        copy = row.astype(np.float32)
    copy.setflags(write=False)
    return copy


def masks(n):
    return np.empty(words_of(n), np.uint64), np.empty(words_of(n), np.uint64)


@given(PAIRS, VALUES)
def test_copies_that_tie_change_no_comparison(pair, level):
    a, b = map(read_only, pair)
    for right, copy in ((b, narrow(b)), (level, level)):
        want, got = masks(a.size), masks(a.size)
        cross_rows(a, right, *want)
        cross_narrow(a, right, narrow(a), copy, *got)
        assert np.array_equal(got, want)
        for operator in (GREATER, LESS, GREATER_EQUAL, LESS_EQUAL):
            compare_rows(operator, a, right, want[0])
            compare_narrow(operator, a, right, narrow(a), copy, got[0])
            assert np.array_equal(got[0], want[0])


def tied(n: int = FEWEST_BARS + 40) -> Bars:
    """In a fifth of the bars prices move so little that averages differ by less than float32 can tell."""
    calm = np.arange(n) // 400 % 5 == 0
    moves = np.random.default_rng(3).normal(size=n) * np.where(calm, 2.0**-28, 2.0**-14)
    return bars_of(1.5 + moves.cumsum())


def test_trades_at_ties_are_those_of_the_rows_themselves():
    bars = tied()
    plain = replace(bars, narrow=False)
    points = [SmaCross(fast=f, slow=s) for f in (2, 3, 5) for s in (4, 8, 13, 40)]
    for _ in range(WORTH + 1):
        got = [Engine(bars, Execution()).backtest(point.signals(bars)).trade_rows for point in points]
    want = [Engine(plain, Execution()).backtest(point.signals(plain)).trade_rows for point in points]
    assert [rows.tobytes() for rows in got] == [rows.tobytes() for rows in want]
    assert min(len(rows) for rows in want) > 100
    assert copies(plain.sma(2), plain.sma(4)) is None
    same = narrow(bars.sma(5)) == narrow(bars.sma(8))
    assert same.mean() > 0.1, "else nothing was hunted"
    assert copies(bars.sma(5), bars.sma(8)) is not None


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_row_that_is_compared_again_and_again_gives_what_it_gave(compare):
    bars = tied()
    a, b = bars.sma(3), bars.ema(5)
    first = compare(a, b), compare(a, 1.5), compare(1.5, b), compare(a, bars.close)
    assert copies(bars.close, a) is None
    for _ in range(WORTH):
        assert (compare(a, b), compare(a, 1.5), compare(1.5, b), compare(a, bars.close)) == first
    assert copies(a, b) is not None


def test_a_copy_goes_with_its_row_and_counts_once_it_is_there():
    n = FEWEST_BARS
    bars = bars_of(np.linspace(1.0, 2.0, n), cache_bytes=LARGEST_PART * 8 * n)
    rows = [bars.ema(k) for k in range(2, 12)]
    without = bars.cache.bytes
    for _ in range(WORTH):
        both = copies(rows[0], rows[9])
    assert both[0].dtype == np.float32
    assert bars.cache.bytes == without + 2 * 4 * n
    for k in range(12, 20):
        bars.ema(k)
    assert bars.cache.bytes <= bars.cache.limit
    assert ("ema", 2, "close") not in bars.cache
    assert copies(rows[0], 1.0) is None
    assert copies(rows[9], 1.0) is not None
    for k in range(20, 40):
        bars.ema(k)
    assert bars.cache.bytes == sum(8 * n + ENTRY_BYTES for _ in range(len(bars.cache)))
    last = bars.ema(39)
    for _ in range(WORTH):
        copies(last, 1.0)
    assert copies(last, 1.0) is not None
    bars = None
    assert copies(last, 1.0) is None


def test_a_cache_and_its_rows_go_as_soon_as_nobody_has_the_bars():
    bars = bars_of(np.linspace(1.0, 2.0, FEWEST_BARS))
    for _ in range(WORTH):
        copies(bars.ema(3), 1.0)
    row = weakref.ref(bars.ema(3))
    gc.disable()
    try:
        del bars
        assert row() is None
    finally:
        gc.enable()


def test_rows_that_mostly_tie_lose_their_copies():
    bars = bars_of(np.linspace(1.0, 2.0, FEWEST_BARS))
    a, b = bars.highest(20), bars.highest(30)
    without = bars.cache.bytes
    for _ in range(2 * WORTH):
        assert at_least(a, b).count() == len(bars) - 29
    assert copies(a, b) is None
    assert bars.cache.bytes == without
    c = bars.ema(20)
    for _ in range(WORTH):
        assert below(c, 1.5).count() > 0
    assert copies(c, 1.5) is not None


def test_a_row_of_several_entries_keeps_the_copy_of_the_first():
    bars = tied()
    row, n = bars.sma(20), len(bars)
    bars.std(20)
    for _ in range(WORTH):
        copies(row, 1.0)
    with_one = bars.cache.bytes
    assert bars.bollinger(20, 2.0)[1] is row
    for _ in range(WORTH):
        assert copies(row, 1.0) is not None
    assert bars.cache.bytes == with_one + 3 * 8 * n + ENTRY_BYTES


def test_a_view_of_what_may_still_change_has_no_copy():
    bars, mine = tied(), np.linspace(1.0, 2.0, FEWEST_BARS + 40)
    row = bars.cached("mine", lambda: mine[:])
    for _ in range(WORTH):
        assert copies(row, 1.0) is None


def test_bars_travel_and_are_cut_with_their_manner():
    bars = replace(tied(), narrow=False)
    others = pickle.loads(pickle.dumps(bars)), bars.slice(3, 90), bars.at("1D").bars  # noqa: S301 -- our own bytes
    assert [each.narrow for each in others] == [False] * 3
    assert [each.cache.narrow for each in others] == [False] * 3
    assert tied().cache.narrow


@pytest.mark.parametrize("size", [FEWEST_BARS - 1, 2 * FEWEST_BARS + 1])
def test_short_rows_and_those_of_which_few_are_kept_have_no_copy(size):
    bars = bars_of(np.linspace(1.0, 2.0, size), cache_bytes=LARGEST_PART * 8 * 2 * FEWEST_BARS)
    for _ in range(WORTH):
        assert copies(bars.ema(3), 1.0) is None
    assert bars.rows_kept == bars.cache_bytes // (8 * size)


def together(work, threads=4):
    """Run `work` in threads that begin at once and take turns as often as they can."""
    barrier, before = Barrier(threads), sys.getswitchinterval()

    def begin():
        barrier.wait()
        work()

    sys.setswitchinterval(1e-6)
    try:
        running = [Thread(target=begin) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(before)


def test_threads_that_meet_a_row_together_see_one_whole_copy():
    wrong = []
    for _ in range(20):
        bars = tied()
        row, want = bars.ema(4), crosses_above(np.array(bars.ema(4)), 1.5)
        without = bars.cache.bytes

        def work(row=row, want=want):
            wrong.extend(1 for _ in range(2 * WORTH) if crosses_above(row, 1.5) != want)

        together(work)
        assert bars.cache.bytes == without + 4 * len(bars)
    assert not wrong


def test_threads_that_give_up_together_leave_nothing_behind():
    for _ in range(50):
        bars = bars_of(np.linspace(1.0, 2.0, FEWEST_BARS))
        a, b = bars.highest(20), bars.highest(30)
        without, wrong = bars.cache.bytes, []

        def work(a=a, b=b, wrong=wrong):
            wrong.extend(1 for _ in range(2 * WORTH) if at_least(a, b).count() != len(a) - 29)

        together(work)
        assert (bars.cache.bytes, wrong) == (without, [])
        assert copies(a, b) is None


def test_warming_up_is_no_tie():
    bars = tied()
    a, b = bars.sma(3), bars.sma(6_000)
    for _ in range(2 * WORTH):
        above(a, b)
    assert copies(a, b) is not None


def test_what_a_copy_cannot_hold_raises_nothing():
    bars = bars_of(np.linspace(1.0, 2.0, FEWEST_BARS))
    row = bars.cached("tiny", lambda: np.array([1e-46, 1e300] * (FEWEST_BARS // 2)))
    with np.errstate(all="raise"):
        for _ in range(WORTH + 1):
            assert above(row, 0.0).count() == len(bars)
