"""Bars for tests: from prices given, or drawn by Hypothesis."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from strategies import Bars
from strategies.bars import CACHE_BYTES

Indicator = Callable[[Bars], Any]

# every indicator, with windows short enough for the few bars that Hypothesis draws
INDICATORS: dict[str, Indicator] = {
    "sma": lambda bars: bars.sma(3),
    "sma of volume": lambda bars: bars.sma(4, of="volume"),
    "wma": lambda bars: bars.wma(3),
    "ema": lambda bars: bars.ema(4),
    "std": lambda bars: bars.std(5),
    "zscore": lambda bars: bars.zscore(4),
    "vwap": lambda bars: bars.vwap(3),
    "bollinger": lambda bars: bars.bollinger(4, 1.5),
    "rsi": lambda bars: bars.rsi(3),
    "macd": lambda bars: bars.macd(2, 5, 3),
    "highest": lambda bars: bars.highest(3),
    "lowest": lambda bars: bars.lowest(3),
    "previous_highest": lambda bars: bars.previous_highest(4),
    "previous_lowest": lambda bars: bars.previous_lowest(4),
    "true_range": lambda bars: bars.true_range(),
    "atr": lambda bars: bars.atr(3),
    "adx": lambda bars: bars.adx(3),
    "plus_di": lambda bars: bars.plus_di(3),
    "minus_di": lambda bars: bars.minus_di(3),
    "stochastic": lambda bars: bars.stochastic(4, 2, 3),
    "obv": lambda bars: bars.obv(),
    "roc": lambda bars: bars.roc(3),
    "volume_profile": lambda bars: bars.volume_profile(5, 4),
    "volume_zone": lambda bars: bars.volume_zone(5, 0.3, 7),
    "volume_zone of bodies": lambda bars: bars.volume_zone(4, 0.5, 3, wicks=False),
}


def rows_of(value: Any) -> list[np.ndarray]:
    """The rows of an indicator that may give one or several."""
    return list(value) if isinstance(value, tuple) else [value]


def bars_of(
    close: ArrayLike,
    *,
    open: ArrayLike | None = None,  # noqa: A002 -- the column's name
    high: ArrayLike | None = None,
    low: ArrayLike | None = None,
    volume: ArrayLike | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Bars:
    """Hourly bars; what is not given is the close, volume 1."""
    c = np.array(close, dtype=np.float64)
    o, h, lo = (c if given is None else np.array(given, np.float64) for given in (open, high, low))
    v = np.ones(c.size) if volume is None else np.array(volume, np.float64)
    hours = np.arange(c.size, dtype=np.int64) * 3_600 * 10**9
    return Bars("TEST", "1H", "24/7", 8760.0, hours, o, h, lo, c, v, cache_bytes)


@st.composite
def random_bars(draw: st.DrawFn, max_size: int = 40) -> Bars:
    """Sound bars on a coarse price grid, so that flat bars, flat windows, ties and bars without volume occur."""
    size = draw(st.integers(0, max_size))
    coarse = draw(st.sampled_from([1.0, 0.25, 1e6]))
    quad = st.tuples(*[st.integers(1, draw(st.sampled_from([2, 8, 60])))] * 4)
    prices = np.array(draw(st.lists(quad, min_size=size, max_size=size)), np.float64).reshape(size, 4) * coarse
    volume = np.array(draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), np.float64)
    prices.sort(axis=1)
    order = draw(st.sampled_from([(1, 2), (2, 1), (0, 3), (3, 3)]))
    return bars_of(prices[:, order[1]], open=prices[:, order[0]], high=prices[:, 3], low=prices[:, 0], volume=volume)


@st.composite
def rows(draw: st.DrawFn, gaps: bool = True) -> np.ndarray:
    """A row of prices with NaN at its start, sometimes one later, flat stretches, down to no bar at all."""
    values = draw(st.lists(st.sampled_from([1.0, 2.0, 2.5, 1e8, 1e8 + 1, 0.1, 0.3, 7.7]), max_size=30))
    row = np.array(values, np.float64)
    row[: draw(st.integers(0, 5))] = np.nan
    if gaps and draw(st.booleans()) and row.size:
        row[draw(st.integers(0, row.size - 1))] = np.nan
    return row
