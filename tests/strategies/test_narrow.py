import gc
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grid.engine import Engine, Execution
from strategies import Bars, above, at_least, at_most, below, crosses_above, crosses_below
from strategies.bits import read_only, words_of
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
    """Prices that move by so little that averages of them differ by less than float32 can tell, or not at all."""
    steps = np.random.default_rng(3).integers(-2, 3, n).cumsum()
    return bars_of(1.0 + (steps - steps.min()) * 2.0**-27)


def test_trades_at_ties_are_those_of_the_rows_themselves():
    bars = tied()
    fast = Engine(bars, Execution())
    plain = Engine(bars, Execution(fast_path=False))
    points = [SmaCross(fast=f, slow=s) for f in (2, 3, 5) for s in (4, 8, 13, 40)]
    for _ in range(WORTH + 1):
        got = [fast.backtest(point.signals(fast.bars)).trade_rows for point in points]
    want = [plain.backtest(point.signals(plain.bars)).trade_rows for point in points]
    assert [rows.tobytes() for rows in got] == [rows.tobytes() for rows in want]
    assert min(len(rows) for rows in want) > 100
    assert copies(fast.bars.sma(2), fast.bars.sma(4)) is not None
    assert copies(plain.bars.sma(2), plain.bars.sma(4)) is None
    same = narrow(fast.bars.sma(2)) == narrow(fast.bars.sma(4))
    assert same.mean() > 0.5, "else nothing was hunted"


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_row_that_is_compared_again_and_again_gives_what_it_gave(compare):
    bars = tied()
    a, b = bars.sma(3), bars.ema(5)
    first = compare(a, b), compare(a, 1.0 + 2.0**-22), compare(1.0 + 2.0**-22, b), compare(a, bars.close)
    assert copies(bars.close, a) is None
    for _ in range(WORTH):
        assert (compare(a, b), compare(a, 1.0 + 2.0**-22), compare(1.0 + 2.0**-22, b), compare(a, bars.close)) == first
    assert copies(a, b) is not None


def test_a_copy_goes_with_its_row_and_its_room_counts_from_the_beginning():
    n = FEWEST_BARS
    bars = bars_of(np.linspace(1.0, 2.0, n), cache_bytes=LARGEST_PART * 8 * n)
    rows = [bars.ema(k) for k in range(2, 12)]
    assert 12 * n * 10 < bars.cache.bytes < bars.cache.limit
    assert bars.rows_kept == LARGEST_PART * 2 // 3
    for _ in range(WORTH):
        both = copies(rows[0], rows[9])
    assert both[0].dtype == np.float32
    for k in range(12, 20):
        bars.ema(k)
    assert ("ema", 2, "close") not in bars.cache
    assert copies(rows[0], 1.0) is None
    assert copies(rows[9], 1.0) is not None
    del bars
    gc.collect()
    assert copies(rows[9], 1.0) is None


@pytest.mark.parametrize("size", [FEWEST_BARS - 1, 2 * FEWEST_BARS + 1])
def test_short_rows_and_those_of_which_few_are_kept_have_no_copy(size):
    bars = bars_of(np.linspace(1.0, 2.0, size), cache_bytes=LARGEST_PART * 8 * 2 * FEWEST_BARS)
    for _ in range(WORTH):
        assert copies(bars.ema(3), 1.0) is None
    assert bars.rows_kept == bars.cache_bytes // (8 * size)


def test_threads_that_meet_a_row_together_see_a_whole_copy():
    wrong = []
    for _ in range(20):
        bars = tied()
        row, want = bars.ema(4), crosses_above(np.array(bars.ema(4)), 1.0 + 2.0**-22)

        def work(row=row, want=want):
            wrong.extend(1 for _ in range(2 * WORTH) if crosses_above(row, 1.0 + 2.0**-22) != want)

        threads = [Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
