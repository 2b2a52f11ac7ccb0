"""Bars that are not there: gaps are facts of the market, counted and never filled."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from storage.schema import NS, when
from storage.timeframes import DAY_S, calendar_of, seconds_of

_DAY_NS = DAY_S * NS
_QUIET_DAYS = 4  # a long weekend: Friday's bar to Tuesday's


@dataclass(frozen=True)
class Gap:
    """`missing` bars follow the bar that opens at `after` (UTC)."""

    after: datetime
    missing: int


@dataclass(frozen=True)
class GapReport:
    """Gaps between the first and the last of `rows` bars; `rule` says what was counted as missing."""

    rows: int
    missing: int
    gaps: tuple[Gap, ...]
    rule: str


def find_gaps(timestamps: npt.NDArray[np.int64], timeframe: str, calendar: str) -> GapReport:
    """Gaps between the bars of one dataset, whose timestamps come sorted, as int64 nanoseconds.

    Before the first bar and after the last there is no gap. A market that never closes (and any weekly bar)
    misses each bar of the timeframe's step. For one that closes, holidays and hours are not modelled: only
    steps of more than 4 days between bars are told, and `missing` counts the weekdays strictly between,
    whatever the timeframe.
    """
    seconds = seconds_of(timeframe)
    if calendar_of(calendar).days_per_week == 7 or seconds > DAY_S:
        missing = (np.diff(timestamps) - 1) // (seconds * NS)
        rule = f"steps of {timeframe} without a bar"
    else:
        missing = _weekdays_between(timestamps)
        rule = f"weekdays without a bar, where bars are over {_QUIET_DAYS} days apart"
    at = np.flatnonzero(missing > 0)
    gaps = tuple(Gap(when(timestamps[i]), int(missing[i])) for i in at)
    return GapReport(len(timestamps), sum(gap.missing for gap in gaps), gaps, rule)


def _weekdays_between(timestamps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    days = (timestamps // _DAY_NS).astype("datetime64[D]")
    weekdays: npt.NDArray[np.int64] = np.busday_count(days[:-1] + 1, days[1:])
    return np.where(np.diff(timestamps) > _QUIET_DAYS * _DAY_NS, weekdays, 0)
