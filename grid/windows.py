"""Where a sweep's span is cut: equal slices of calendar time, and a hold-out at its end that no sweep evaluates."""

from datetime import UTC, date, datetime
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from grid.errors import BadInput

Times = NDArray[np.int64]
"""Nanoseconds since 1970 in UTC, as int64."""

Moment = int | np.datetime64 | date
"""Nanoseconds since 1970, a datetime64, a date (its midnight), or a datetime (UTC unless it says otherwise)."""


def nanoseconds(moment: Moment) -> int:
    """`moment` as nanoseconds since 1970-01-01 00:00 UTC."""
    if isinstance(moment, (int, np.integer)):
        return int(moment)
    if isinstance(moment, np.datetime64):
        return int(moment.astype("datetime64[ns]").astype(np.int64))
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def block_edges(start: Moment, end: Moment, blocks: int, holdout: float = 0.0) -> tuple[Times, int]:
    """Cut the span [start, end) of a whole sweep into `blocks` equal slices of time before a hold-out.

    `end` is exclusive: where a sweep states none, it is the last bar's open plus one timeframe. The
    hold-out is the last fraction `holdout` (in [0, 0.9]) of the span. Returns `(edges, cut)`: int64
    nanoseconds of shape (blocks + 1,), from `start` to `cut`, and `cut`, where the hold-out starts (`end`
    without one). Block k is [edges[k], edges[k + 1]). The fraction is taken as the decimal that was written
    and the cuts are whole nanoseconds, so every machine gets the same ones. Raises BadInput for a span that
    is empty or too short.
    """
    first, last = nanoseconds(start), nanoseconds(end)
    if first >= last:
        raise BadInput(f"the span [{_day(first)}, {_day(last)}) is empty: it must end after it starts.")
    if blocks < 1 or not 0 <= holdout <= 0.9:
        raise BadInput(f"validation asks for {blocks} blocks (1 or more) and a hold-out of {holdout} (0-0.9).")
    cut = last - round((last - first) * Fraction(repr(float(holdout))))
    if cut - first < blocks:
        raise BadInput(f"the span [{_day(first)}, {_day(cut)}) is too short for {blocks} blocks.")
    edges = [first + (cut - first) * k // blocks for k in range(blocks + 1)]
    return np.array(edges, dtype=np.int64), cut


def bars_per_block(timestamps: Times, edges: Times) -> Times:
    """Row positions of the blocks: block k holds rows [result[k], result[k + 1]), by the open time of a bar.

    `timestamps` is sorted int64 nanoseconds of shape (n,); the result is int64 of shape (blocks + 1,). Rows
    before the first edge and from the last edge on belong to no block; a block without bars has two equal
    positions.
    """
    return np.searchsorted(timestamps, edges, side="left").astype(np.int64)


def _day(at: int) -> str:
    return str(np.datetime64(at, "ns").astype("datetime64[s]"))
