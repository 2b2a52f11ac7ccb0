"""Bars: the OHLCV columns of one dataset as a strategy sees them, with indicators computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from strategies import kernels, profile
from strategies.bits import Row, read_only
from strategies.cache import RowCache, frozen
from strategies.errors import StrategyError
from strategies.higher import HigherBars, higher_bars

T = TypeVar("T")

COLUMNS = ("open", "high", "low", "close", "volume")
CACHE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, eq=False, repr=False)
class Bars:
    """One dataset: immutable columns of n bars, and indicators over them.

    timestamp: int64[n], the open of each bar in nanoseconds since 1970 UTC.
    open, high, low, close, volume: float64[n], read-only, contiguous.
    periods_per_year: bars in a year of the calendar, for annualising.
    cache_bytes: how much of computed indicators is kept, the least recently used going first.
    narrow: whether comparisons may go by float32 copies of them; the masks are the same to the bit.

    An indicator is a read-only float64[n], NaN while it warms up; its value at bar i depends on the bars up
    to and including i alone. `of` names the column it is computed from. A window is a whole number of at
    least 1, else StrategyError; one longer than the data gives NaN throughout.
    """

    symbol: str
    timeframe: str
    calendar: str
    periods_per_year: float
    timestamp: NDArray[np.int64]
    open: Row
    high: Row
    low: Row
    close: Row
    volume: Row
    cache_bytes: int = CACHE_BYTES
    narrow: bool = True
    cache: RowCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises StrategyError where the columns differ in length or are not one-dimensional."""
        timestamp = np.ascontiguousarray(self.timestamp, dtype=np.int64).view()
        timestamp.setflags(write=False)
        object.__setattr__(self, "timestamp", timestamp)
        for name in COLUMNS:
            column = read_only(getattr(self, name))
            if column.shape != timestamp.shape or np.ndim(getattr(self, name)) != 1:
                raise StrategyError(
                    f"bars of {self.symbol} {self.timeframe}: {name} has shape {list(column.shape)}, "
                    f"timestamp {list(timestamp.shape)}; both must be one-dimensional and equally long"
                )
            object.__setattr__(self, name, column)
        object.__setattr__(self, "cache", RowCache(self.cache_bytes, self.narrow))

    def __len__(self) -> int:
        return self.timestamp.size

    @property
    def rows_kept(self) -> int:
        """How many rows of indicators the cache holds, without copies; 0 where one is larger than all of it."""
        return self.cache_bytes // max(8 * len(self), 1)

    def __repr__(self) -> str:
        return f"Bars({self.symbol} {self.timeframe}, {len(self):,} bars, {self.calendar})"

    def __reduce__(self) -> tuple[Callable[..., Bars], tuple[object, ...]]:
        """Travels without its cache."""
        columns = (self.timestamp, self.open, self.high, self.low, self.close, self.volume)
        labels = (self.symbol, self.timeframe, self.calendar, self.periods_per_year)
        return Bars, (*labels, *columns, self.cache_bytes, self.narrow)

    def slice(self, start: int, stop: int) -> Bars:
        """Bars [start, stop) by row number, sharing the columns and nothing of the cache."""
        rows = {name: getattr(self, name)[start:stop] for name in ("timestamp", *COLUMNS)}
        return replace(self, **rows)

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()`, once for each `key` while it stays in the cache; its arrays become read-only.

        For your own indicators: begin the key with a name of your own and hold every parameter in it. The
        value is an array that nobody writes to any more, a Bits, or a tuple of them. What is larger than the
        whole cache is computed each time.
        """
        return self.cache.get(key, compute)

    def column(self, name: str) -> Row:
        """The column of that name. Raises StrategyError for any but open, high, low, close, volume."""
        if name not in COLUMNS:
            raise StrategyError(f"bars have no column {name!r}; there are {', '.join(COLUMNS)}")
        row: Row = getattr(self, name)
        return row

    def sma(self, n: int, of: str = "close") -> Row:
        """Simple moving average of the last n bars, the current one included; from bar n - 1."""
        return self.cache.get(("sma", n, of), lambda: kernels.moving_mean(*self._prefix(of), window(n)))

    def wma(self, n: int, of: str = "close") -> Row:
        """Moving average with weights 1 (oldest) to n (current); from bar n - 1."""
        return self.cache.get(("wma", n, of), lambda: kernels.weighted_mean(self.column(of), window(n)))

    def ema(self, n: int, of: str = "close") -> Row:
        """Exponential average, weight 2 / (n + 1), started from the mean of the first n; from bar n - 1."""
        return self.cache.get(("ema", n, of), lambda: kernels.ema(self.column(of), window(n), window(n) - 1))

    def std(self, n: int, of: str = "close") -> Row:
        """Population standard deviation (ddof=0) of the last n bars, two passes a window; from bar n - 1."""
        key = ("std", n, of)
        return self.cache.get(key, lambda: kernels.moving_std(self.column(of), self.sma(n, of), window(n)))

    def zscore(self, n: int, of: str = "close") -> Row:
        """Distance from the average in population standard deviations; from bar n - 1, NaN where there is none."""
        return self.cache.get(
            ("zscore", n, of), lambda: kernels.zscore(self.column(of), self.sma(n, of), self.std(n, of))
        )

    def vwap(self, n: int) -> Row:
        """Average of (high + low + close) / 3 over the last n bars, weighted by volume; from bar n - 1.

        NaN where nothing was traded.
        """
        return self.cache.get(("vwap", n), lambda: self._vwap(window(n)))

    def bollinger(self, n: int, k: float, of: str = "close") -> tuple[Row, Row, Row]:
        """`(upper, middle, lower)`: the average, and k population standard deviations to either side."""
        return self.cache.get(("bollinger", n, k, of), lambda: self._bollinger(n, k, of))

    def rsi(self, n: int, of: str = "close") -> Row:
        """Wilder's relative strength index, 0 to 100, from bar n; 0 where nothing has ever moved."""
        return self.cache.get(("rsi", n, of), lambda: kernels.rsi(self.column(of), window(n)))

    def macd(self, fast: int, slow: int, signal: int, of: str = "close") -> tuple[Row, Row, Row]:
        """`(line, signal, histogram)`, all from bar max(fast, slow) + signal - 2.

        line: EMA(fast) - EMA(slow), both started at bar max(fast, slow) - 1; signal: EMA of the line, started
        from its first mean; histogram: line - signal.
        """
        return self.cache.get(("macd", fast, slow, signal, of), lambda: self._macd(fast, slow, signal, of))

    def highest(self, n: int, of: str = "high") -> Row:
        """Largest of the last n bars, the current one included; from bar n - 1."""
        return self.cache.get(("highest", n, of), lambda: kernels.extreme(self.column(of), window(n), 1.0, 0))

    def lowest(self, n: int, of: str = "low") -> Row:
        """Smallest of the last n bars, the current one included; from bar n - 1."""
        return self.cache.get(("lowest", n, of), lambda: kernels.extreme(self.column(of), window(n), -1.0, 0))

    def previous_highest(self, n: int, of: str = "high") -> Row:
        """Largest of the n bars before the current one; from bar n."""
        key = ("previous_highest", n, of)
        return self.cache.get(key, lambda: kernels.extreme(self.column(of), window(n), 1.0, 1))

    def previous_lowest(self, n: int, of: str = "low") -> Row:
        """Smallest of the n bars before the current one; from bar n."""
        key = ("previous_lowest", n, of)
        return self.cache.get(key, lambda: kernels.extreme(self.column(of), window(n), -1.0, 1))

    def true_range(self) -> Row:
        """Range of the bar, stretched to the close before it; from bar 1."""
        return self.cache.get("true_range", lambda: kernels.true_range(self.high, self.low, self.close))

    def atr(self, n: int) -> Row:
        """Average true range: the mean of the first n true ranges at bar n, Wilder's smoothing from there."""
        return self.cache.get(("atr", n), lambda: kernels.wilder(self.true_range(), window(n)))

    def adx(self, n: int) -> Row:
        """Wilder's average directional index, 0 to 100; from bar 2n - 1."""
        return self._directional(n)[2]

    def plus_di(self, n: int) -> Row:
        """Wilder's upward directional indicator, 0 to 100; from bar n."""
        return self._directional(n)[0]

    def minus_di(self, n: int) -> Row:
        """Wilder's downward directional indicator, 0 to 100; from bar n."""
        return self._directional(n)[1]

    def stochastic(self, n: int, smooth_k: int = 3, smooth_d: int = 3) -> tuple[Row, Row]:
        """`(K, D)`, 0 to 100, both from bar n + smooth_k + smooth_d - 3.

        K: the close's place in the range of the last n bars (0 where that range is nothing), averaged over
        smooth_k bars; D: K averaged over smooth_d bars.
        """
        key = ("stochastic", n, smooth_k, smooth_d)
        return self.cache.get(key, lambda: self._stochastic(n, smooth_k, smooth_d))

    def obv(self) -> Row:
        """On-balance volume, from the first bar's volume: plus the volume of a rise, minus that of a fall."""
        return self.cache.get("obv", lambda: kernels.obv(self.close, self.volume))

    def roc(self, n: int, of: str = "close") -> Row:
        """Change over n bars in per cent; from bar n; NaN where the earlier value is 0."""
        return self.cache.get(("roc", n, of), lambda: kernels.rate_of_change(self.column(of), window(n)))

    def volume_profile(self, n: int, bins: int = 20, wicks: bool = True) -> tuple[Row, Row, Row]:
        """`(above, low, width)`: where the volume of the n bars before the current one lies; from bar n.

        The range of the window (highs and lows, or bodies where `wicks` is false) is cut into `bins` equal
        bins, and the volume of each bar spread evenly over its own range. above: float64[len, bins], the
        volume at or above the lower edge of each bin, so that above[:, 0] is the whole; low: the lowest edge;
        width: of one bin. NaN where the window has no range. Sums are exact, but for a rounding of each bar's
        share to about n x 2^-62 of the window's largest volume.
        """
        key = ("volume_profile", n, bins, wicks)
        return self.cache.get(key, lambda: self._volume_profile(window(n), window(bins), wicks))

    def volume_zone(self, n: int, percentile: float, bins: int = 20, wicks: bool = True) -> Row:
        """Resistance: lower edge of the highest bin at or above which `percentile` of the volume was traded.

        percentile: fraction in (0, 1] of the volume of the n bars before the current one. NaN where that
        window has no range or no volume. See `volume_profile`.
        """
        key = ("volume_zone", n, percentile, bins, wicks)
        return self.cache.get(key, lambda: self._volume_zone(n, fraction(percentile), bins, wicks))

    def at(self, timeframe: str) -> HigherBars:
        """The same bars in a coarser timeframe, such as 1D, and how to bring a row of it back without look-ahead.

        `day = bars.at("1D")`; `above(bars.close, day.align(day.bars.sma(20)))`. Raises StrategyError unless the
        timeframe is a longer multiple of the bars' own.
        """
        return self.cache.get(("at", timeframe), lambda: higher_bars(self, timeframe))

    def _prefix(self, of: str) -> tuple[Row, Row, NDArray[np.int64]]:
        sums: tuple[Row, Row, NDArray[np.int64]]
        sums = self.cache.get(("prefix", of), lambda: kernels.prefix_sums(self.column(of)))
        return sums

    def _vwap(self, n: int) -> Row:
        traded = (self.high + self.low + self.close) / 3.0 * self.volume
        mean, volume = _mean(traded, n), self.sma(n, of="volume")
        average: Row = np.divide(mean, volume, out=np.full(len(self), np.nan), where=volume > 0.0)
        return average

    def _bollinger(self, n: int, k: float, of: str) -> tuple[Row, Row, Row]:
        middle, spread = self.sma(n, of), k * self.std(n, of)
        return middle + spread, middle, middle - spread

    def _macd(self, fast: int, slow: int, signal: int, of: str) -> tuple[Row, Row, Row]:
        key = ("macd_line", window(fast), window(slow), of)
        line = self.cache.get(key, lambda: self._macd_line(fast, slow, of))
        smooth = kernels.ema(line, window(signal), signal - 1)
        return np.where(np.isnan(smooth), np.nan, line), smooth, line - smooth

    def _macd_line(self, fast: int, slow: int, of: str) -> Row:
        row, start = self.column(of), max(fast, slow) - 1
        line: Row = kernels.ema(row, fast, start) - kernels.ema(row, slow, start)
        return line

    def _directional(self, n: int) -> tuple[Row, Row, Row]:
        rows: tuple[Row, Row, Row]
        ranges = self.high, self.low, self.close
        rows = self.cache.get(("directional", n), lambda: kernels.directional(*ranges, window(n)))
        return rows

    def _stochastic(self, n: int, smooth_k: int, smooth_d: int) -> tuple[Row, Row]:
        raw = kernels.place_in_range(self.close, self.highest(n), self.lowest(n))
        k = _mean(raw, window(smooth_k))
        d = _mean(k, window(smooth_d))
        return np.where(np.isnan(d), np.nan, k), d

    def _volume_profile(self, n: int, bins: int, wicks: bool) -> tuple[Row, Row, Row]:
        low, width = self._profile_range(n, bins, wicks)
        return self._profile_rows(n, bins, wicks, (0, len(self))), low, width

    def _volume_zone(self, n: int, share: float, bins: int, wicks: bool) -> Row:
        """From the profile that several shares have in common, or chunk by chunk where it would be a large one."""
        resistance = np.empty(len(self))
        if 8 * len(self) * window(bins) <= self.cache_bytes // 4:
            profile.zone(*self.volume_profile(n, bins, wicks), share, resistance)
            return resistance
        low, width = self._profile_range(window(n), bins, wicks)
        for start in range(0, len(self), profile.CHUNK):
            part = slice(start, min(start + profile.CHUNK, len(self)))
            above = self._profile_rows(n, bins, wicks, (part.start, part.stop))
            profile.zone(above, low[part], width[part], share, resistance[part])
        return resistance

    def _profile_range(self, n: int, bins: int, wicks: bool) -> tuple[Row, Row]:
        """The lowest edge and the width of a bin; NaN where there is no range."""
        high, low = self._profile_extremes(n, wicks)
        width = (high - low) / bins
        return low, read_only(np.where((high > low) & np.isfinite(width), width, np.nan))

    def _profile_rows(self, n: int, bins: int, wicks: bool, span: tuple[int, int]) -> Row:
        """float64[stop - start, bins] of the bars of `span` = (start, stop), which need not begin at bar 0."""
        above = np.empty((span[1] - span[0], bins))
        top, bottom = (self.high, self.low) if wicks else self._bodies()
        columns = (top, bottom, self.volume)
        extremes = (*self._profile_extremes(n, wicks), self.previous_highest(n, of="volume"))
        unit = 2.0 ** (62 - (n - 1).bit_length())
        profile.volume_profile(columns, extremes, n, unit, span, above)
        return read_only(above)

    def _profile_extremes(self, n: int, wicks: bool) -> tuple[Row, Row]:
        if wicks:
            return self.previous_highest(n), self.previous_lowest(n)
        top, bottom = self._bodies()
        key = ("previous bodies", n)
        return self.cache.get(key, lambda: (kernels.extreme(top, n, 1.0, 1), kernels.extreme(bottom, n, -1.0, 1)))

    def _bodies(self) -> tuple[Row, Row]:
        both = self.open, self.close
        return self.cache.get("bodies", lambda: (np.maximum(*both), np.minimum(*both)))


def _mean(row: Row, n: int) -> Row:
    high, low, gaps = frozen(kernels.prefix_sums(read_only(row)))
    mean: Row = kernels.moving_mean(high, low, gaps, n)
    return mean


def window(n: int, least: int = 1) -> int:
    """`n` as a plain int. Raises StrategyError unless it is a whole number of at least `least`."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise StrategyError(f"an indicator's window is a whole number of at least {least}, got {n!r}")
    return int(n)


def fraction(value: float) -> float:
    """`value` as a float. Raises StrategyError unless it is above 0 and at most 1."""
    if not 0.0 < value <= 1.0:
        raise StrategyError(f"a fraction of the volume is above 0 and at most 1, got {value!r}")
    return float(value)
