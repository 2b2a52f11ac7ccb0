"""A coarser timeframe: its bars by hand and by a twin, and that a bar is known only when it is over."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import StrategyError
from tests.strategies.made_bars import bars_of, random_bars

HOUR = 3_600 * 10**9


def test_by_hand():
    """Ten hours from midnight, the third and the eighth missing: days of four hours."""
    hours = np.array([0, 1, 3, 4, 5, 6, 8, 9], np.int64)
    bars = dataclasses.replace(bars_of(hours + 10.0, volume=np.ones(8)), timestamp=hours * HOUR)
    coarse = bars.at("4H")
    assert (coarse.bars.timestamp // HOUR).tolist() == [0, 4, 8]
    assert coarse.bars.close.tolist() == [13.0, 16.0, 19.0]
    assert coarse.bars.open.tolist() == [10.0, 14.0, 18.0]
    assert coarse.bars.volume.tolist() == [3.0, 3.0, 2.0]
    known = coarse.align(coarse.bars.close)
    assert np.isnan(known[:2]).all()
    assert known[2:].tolist() == [13.0, 13.0, 13.0, 13.0, 16.0, 16.0]  # hour 7 is missing: known an hour later
    assert bars.at("4H") is coarse


@given(random_bars(), st.lists(st.booleans(), min_size=40, max_size=40), st.sampled_from(["2H", "4H", "1D", "1W"]))
def test_a_coarse_bar_is_known_once_its_bucket_is_over(bars, kept, timeframe):
    keep = np.array(kept[: len(bars)], bool)
    names = ("timestamp", "open", "high", "low", "close", "volume")
    thin = dataclasses.replace(bars, **{name: getattr(bars, name)[keep] for name in names})
    coarse = thin.at(timeframe)
    length = {"2H": 2, "4H": 4, "1D": 24, "1W": 168}[timeframe] * HOUR
    known = coarse.align(coarse.bars.high)
    for i, opened in enumerate(thin.timestamp.tolist()):
        over = [k for k, start in enumerate(coarse.bars.timestamp.tolist()) if start + length <= opened + HOUR]
        if not over:
            assert np.isnan(known[i])
            continue
        start = coarse.bars.timestamp[over[-1]]
        inside = (thin.timestamp >= start) & (thin.timestamp < start + length)
        assert known[i] == thin.high[inside].max()


@given(random_bars(), st.data())
def test_the_future_changes_nothing(bars, data):
    cut = data.draw(st.integers(0, len(bars)))
    whole, part = bars.at("4H"), bars.slice(0, cut).at("4H")
    known, row = part.align(part.bars.sma(2)), whole.align(whole.bars.sma(2))
    assert known.tobytes() == row[:cut].tobytes()


@pytest.mark.parametrize("timeframe", ["1H", "90m", "30m", "1h", "day", ""])
def test_what_is_no_coarser_timeframe_is_refused(timeframe):
    with pytest.raises(StrategyError, match=r"longer multiple|write it as 15m, 4H, 1D or 1W"):
        bars_of(np.ones(5)).at(timeframe)


def test_a_row_of_another_length_is_refused():
    bars = bars_of(np.ones(9))
    with pytest.raises(StrategyError, match=r"row over 3 bars of 4H is aligned, got shape \[9\]"):
        bars.at("4H").align(bars.close)


def test_bars_closer_than_their_timeframe_know_no_later_ones():
    """Three bars of one hour, all within it: none is the last of its bucket before the last of them."""
    minutes = np.array([120, 150, 174, 240], np.int64)
    bars = dataclasses.replace(bars_of(np.array([1.0, 2.0, 3.0, 4.0])), timestamp=minutes * (HOUR // 60))
    coarse = bars.at("3H")
    known = coarse.align(coarse.bars.close)
    assert np.isnan(known[:2]).all()
    assert known[2:].tolist() == [3.0, 3.0]
