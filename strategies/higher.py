"""A coarser timeframe of the same bars, for a strategy that looks at days while it trades hours; without look-ahead."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from strategies.bits import Row, read_only
from strategies.errors import StrategyError

if TYPE_CHECKING:
    from strategies.bars import Bars

NS = 1_000_000_000
SECONDS = {"m": 60, "H": 3_600, "D": 86_400, "W": 7 * 86_400}
MONDAY_NS = 4 * 86_400 * NS  # 1970-01-05, the first Monday of the epoch


@dataclass(frozen=True, eq=False)
class HigherBars:
    """The bars of a coarser timeframe, and which of them is the last one complete at the close of each finer bar.

    bars: the coarser bars, of buckets aligned to the UTC calendar, weeks from Monday; a bucket without bars does not
    exist. Their `periods_per_year` is NaN. latest: int64[n] row number in `bars`, -1 where none is complete yet.
    """

    bars: Bars
    latest: NDArray[np.int64]

    def align(self, row: Row) -> Row:
        """A row over `bars` as a row over the finer ones: at each the value that was known at its close, else NaN.

        A coarser bar counts from the finer bar whose close ends its bucket, or the first one after, where that is
        missing. Raises StrategyError for a row of another length.
        """
        if np.shape(row) != (len(self.bars),):
            raise StrategyError(
                f"a row over {len(self.bars)} bars of {self.bars.timeframe} is aligned, got shape {list(np.shape(row))}"
            )
        padded = np.append(np.asarray(row, np.float64), np.nan)  # -1 takes the NaN
        return read_only(padded[self.latest])

    @property
    def nbytes(self) -> int:
        """For the cache: the columns of the coarser bars and the row numbers."""
        return 6 * self.bars.close.nbytes + self.latest.nbytes


def higher_bars(bars: Bars, timeframe: str) -> HigherBars:
    """See `Bars.at`."""
    step, length = _nanoseconds(bars.timeframe), _nanoseconds(timeframe)
    if length <= step or length % step:
        raise StrategyError(
            f"bars of {bars.timeframe} have no {timeframe}: it is no longer multiple of their own length"
        )
    offset = MONDAY_NS if length > SECONDS["D"] * NS else 0
    opens = (bars.timestamp - offset) // length * length + offset
    first = np.flatnonzero(np.diff(opens, prepend=opens[:1] - 1))
    ended = np.searchsorted(opens[first] + length, bars.timestamp + step, side="right") - 1
    whole = np.searchsorted(_last(first, len(bars)), np.arange(len(bars)), side="right") - 1  # where bars overlap
    known = np.minimum(ended, whole)
    known.setflags(write=False)
    return HigherBars(_joined(bars, timeframe, opens[first], first), known)


def _joined(bars: Bars, timeframe: str, opens: NDArray[np.int64], first: NDArray[np.int64]) -> Bars:
    """The coarser bars: first open, highest high, lowest low, last close, whole volume."""
    last = _last(first, len(bars))
    highs, lows, volumes = (
        join.reduceat(row, first) if len(first) else row
        for join, row in ((np.maximum, bars.high), (np.minimum, bars.low), (np.add, bars.volume))
    )
    return replace(
        bars,
        timeframe=timeframe,
        periods_per_year=np.nan,
        timestamp=opens,
        open=bars.open[first],
        high=highs,
        low=lows,
        close=bars.close[last],
        volume=volumes,
    )


def _last(first: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The last row of each bucket, of the first rows of all and the count of rows."""
    return np.append(first[1:], count)[: len(first)] - 1


def _nanoseconds(timeframe: str) -> int:
    """The length of a timeframe such as 15m, 1H, 1D, 1W."""
    match = re.fullmatch(r"([1-9][0-9]*)([mHDW])", timeframe)
    if match is None:
        raise StrategyError(f"no timeframe {timeframe!r}; write it as 15m, 4H, 1D or 1W")
    return int(match[1]) * SECONDS[match[2]] * NS
