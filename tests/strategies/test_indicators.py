"""Every indicator against its naive twin, and the promises that all of them keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import Bars, StrategyError
from tests.strategies import naive_indicators as naive
from tests.strategies.made_bars import INDICATORS, bars_of, random_bars, rows, rows_of

WINDOWS = st.integers(1, 8)


def close_to(got, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(got, np.array(expected, np.float64), rtol=rtol, atol=atol)


@given(rows(), WINDOWS)
def test_averages(row, n):
    bars, values = bars_of(row), row.tolist()
    close_to(bars.sma(n), naive.sma(values, n), rtol=0.0)
    close_to(bars.wma(n), naive.wma(values, n))
    close_to(bars.ema(n), naive.ema(values, n))


@given(rows(), WINDOWS)
def test_deviation(row, n):
    scale = np.nanmax(row, initial=0.0)
    bars, expected = bars_of(row), np.array(naive.std(row.tolist(), n))
    close_to(bars.std(n), expected, rtol=1e-9, atol=1e-15 * scale)
    upper, middle, lower = bars.bollinger(n, 2.5)
    close_to(upper, middle + 2.5 * expected, rtol=1e-9)
    close_to(lower, middle - 2.5 * expected, rtol=1e-9, atol=1e-9 * scale)


@given(rows(), WINDOWS)
def test_distance_in_deviations(row, n):
    expected = np.array(naive.zscore(row.tolist(), n))
    close_to(bars_of(row).zscore(n), expected, rtol=1e-6, atol=1e-9)


@given(random_bars(), WINDOWS)
def test_price_weighted_by_volume(bars, n):
    columns = [column.tolist() for column in (bars.high, bars.low, bars.close, bars.volume)]
    close_to(bars.vwap(n), naive.vwap(*columns, n))


@given(rows(), WINDOWS)
def test_extremes(row, n):
    bars, values = bars_of(row), row.tolist()
    top, bottom = naive.highest(values, n), naive.lowest(values, n)
    close_to(bars.highest(n), top, rtol=0.0)
    close_to(bars.lowest(n), bottom, rtol=0.0)
    close_to(bars.previous_highest(n), naive.previous(top), rtol=0.0)
    close_to(bars.previous_lowest(n), naive.previous(bottom), rtol=0.0)


@given(rows(), WINDOWS)
def test_momentum(row, n):
    bars, values = bars_of(row), row.tolist()
    close_to(bars.rsi(n), naive.rsi(values, n))
    close_to(bars.roc(n), naive.roc(values, n), rtol=1e-9, atol=1e-12)


@given(rows(), WINDOWS, WINDOWS, WINDOWS)
def test_macd(row, fast, slow, signal):
    scale = np.nanmax(row, initial=1.0)
    expected = naive.macd(row.tolist(), fast, slow, signal)
    for got, wanted in zip(bars_of(row).macd(fast, slow, signal), expected, strict=True):
        close_to(got, wanted, rtol=1e-9, atol=1e-12 * scale)


@given(random_bars(), WINDOWS)
def test_ranges_and_direction(bars, n):
    columns = [column.tolist() for column in (bars.high, bars.low, bars.close)]
    ranges = naive.true_range(*columns)
    close_to(bars.true_range(), ranges)
    close_to(bars.atr(n), naive.wilder(ranges, n))
    got = bars.plus_di(n), bars.minus_di(n), bars.adx(n)
    for row, expected in zip(got, naive.directional(*columns, n), strict=True):
        close_to(row, expected, rtol=1e-9, atol=1e-9)


@given(random_bars(), WINDOWS, st.integers(1, 4), st.integers(1, 4))
def test_stochastic(bars, n, smooth_k, smooth_d):
    columns = [column.tolist() for column in (bars.high, bars.low, bars.close)]
    expected = naive.stochastic(*columns, n, smooth_k, smooth_d)
    for got, wanted in zip(bars.stochastic(n, smooth_k, smooth_d), expected, strict=True):
        close_to(got, wanted, atol=1e-9)


@given(random_bars())
def test_on_balance_volume(bars):
    close_to(bars.obv(), naive.obv(bars.close.tolist(), bars.volume.tolist()))


@given(st.floats(1e-8, 1e12), st.integers(1, 100))
def test_a_flat_price_is_its_own_average(price, n):
    bars = bars_of(np.full(120, price))
    assert np.array_equal(bars.sma(n)[n - 1 :], np.full(121 - n, price))
    assert np.array_equal(bars.std(n)[n - 1 :], np.zeros(121 - n))


def test_an_average_remembers_nothing_of_what_left_its_window():
    row = np.concatenate([np.full(10, 1e12), np.full(10, 0.1)])
    assert bars_of(row).sma(5)[14:].tolist() == [0.1] * 6


@pytest.mark.parametrize("name", INDICATORS)
@given(random_bars(), st.data())
def test_the_future_changes_nothing(name, bars, data):
    cut = data.draw(st.integers(0, len(bars)))
    whole, part = INDICATORS[name](bars), INDICATORS[name](bars.slice(0, cut))
    for known, row in zip(rows_of(part), rows_of(whole), strict=True):
        assert known.tobytes() == row[:cut].tobytes()


@pytest.mark.parametrize(
    ("name", "memory"),
    [("sma", 2), ("std", 4), ("highest", 2), ("previous_lowest", 4), ("volume_profile", 5), ("volume_zone", 5)],
)
@given(random_bars(), st.data())
def test_what_lies_before_the_window_changes_nothing(name, memory, bars, data):
    start = data.draw(st.integers(0, len(bars)))
    whole, part = INDICATORS[name](bars), INDICATORS[name](bars.slice(start, len(bars)))
    for known, row in zip(rows_of(part), rows_of(whole), strict=True):
        assert known[memory:].tobytes() == row[start + memory :].tobytes()


@pytest.mark.parametrize("name", INDICATORS)
def test_indicators_are_shared_read_only_and_as_long_as_the_bars(name):
    for size in (0, 1, 2, 70):
        bars = bars_of(np.linspace(1.0, 2.0, size))
        for row, again in zip(rows_of(INDICATORS[name](bars)), rows_of(INDICATORS[name](bars)), strict=True):
            assert row is again
            assert len(row) == size
            assert row.dtype == np.float64
            assert not row.flags.writeable


@pytest.mark.parametrize("window", [0, -1, 2.5, True, "3"])
@pytest.mark.parametrize("name", ["sma", "wma", "ema", "std", "rsi", "highest", "previous_lowest", "atr", "adx", "roc"])
def test_a_window_is_a_positive_whole_number(name, window):
    with pytest.raises(StrategyError, match=r"whole number of at least 1"):
        getattr(bars_of(np.ones(5)), name)(window)


def test_unknown_columns_and_shares_are_refused():
    bars = bars_of(np.ones(5))
    with pytest.raises(StrategyError, match="no column 'clsoe'; there are open, high, low, close, volume"):
        bars.sma(3, of="clsoe")
    for share in (0.0, 1.5, np.nan):
        with pytest.raises(StrategyError, match="above 0 and at most 1"):
            bars.volume_zone(3, share)


def test_columns_have_to_agree():
    with pytest.raises(StrategyError, match=r"TEST 1H: volume has shape \[2\], timestamp \[3\]"):
        bars_of(np.ones(3), volume=np.ones(2))
    with pytest.raises(StrategyError, match=r"open has shape \[2, 2\]"):
        Bars("TEST", "1H", "24/7", 1.0, np.zeros(2, int), *[np.ones((2, 2))] * 5)
