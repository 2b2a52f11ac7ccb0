"""Coarser bars out of finer ones; only ever on request."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.errors import BadData
from storage.schema import NS, OHLCV_SCHEMA, arrays_of, check_table, timestamps, when
from storage.timeframes import DAY_S, seconds_of

Instants = npt.NDArray[np.int64]
_MONDAY_NS = 4 * DAY_S * NS  # 1970-01-05, the first Monday of the epoch


def resample(table: pa.Table, timeframe: str) -> pa.Table:
    """The bars of one dataset as bars of the coarser `timeframe`, stamped with the start of their bucket.

    Buckets are aligned to the UTC calendar (1W starts on Monday 00:00). Open is the first, high the maximum, low the
    minimum, close the last, volume the sum; a bucket without source bars does not exist, and one that the data cover
    in part is built of what there is. Metadata (calendar, adjusted) is kept.
    Raises `BadData` if the target is not a longer multiple of the source, or a source bar lies in two buckets.
    """
    check_table(table, "table to resample")
    if not table.num_rows:
        seconds_of(timeframe)
        return table
    source = table.column("timeframe")[0].as_py()
    step, target = seconds_of(source) * NS, seconds_of(timeframe) * NS
    if target <= step or target % step:
        raise BadData(f"Bars of {source} cannot become {timeframe}: that is not a longer multiple of {source}.")
    columns = arrays_of(table)
    offset = _MONDAY_NS if target > DAY_S * NS else 0
    opens = (columns["timestamp"] - offset) // target * target + offset
    _refuse_straddling(columns["timestamp"], opens, step, target, f"{source} bar")
    first = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    last = np.append(first[1:], len(opens)) - 1
    bars = {
        "timestamp": pa.array(opens[first]).cast(OHLCV_SCHEMA.field("timestamp").type),
        "symbol": table.column("symbol").combine_chunks()[: len(first)],
        "timeframe": pa.repeat(pa.scalar(timeframe), len(first)),
        "open": columns["open"][first],
        "high": np.maximum.reduceat(columns["high"], first),
        "low": np.minimum.reduceat(columns["low"], first),
        "close": columns["close"][last],
        "volume": np.add.reduceat(columns["volume"], first),
    }
    return pa.table(bars, schema=OHLCV_SCHEMA.with_metadata(table.schema.metadata))


def cut_short(finer: pa.Table, coarser: pa.Table, closed_days: float = 0) -> list[int]:
    """The first and last bars of `coarser` (nanoseconds) that begin before the data of `finer`, or end after them.

    closed_days: at the end of a week, on which the market does not trade; of days it does, only whole ones are judged.
    """
    step, target = (seconds_of(table.column("timeframe")[0].as_py()) * NS for table in (finer, coarser))
    if closed_days and target <= DAY_S * NS:
        return []
    fine, coarse = timestamps(finer), timestamps(coarser)
    ends = [coarse[0]] if coarse[0] < fine[0] else []
    if coarse[-1] + target > fine[-1] + step + closed_days * DAY_S * NS:
        ends.append(coarse[-1])
    return sorted({int(bucket) for bucket in ends})


def _refuse_straddling(times: Instants, opens: Instants, step: int, target: int, told: str) -> None:
    """A bar that ends beyond its bucket would carry later trades into it."""
    beyond = np.flatnonzero(times + step > opens + target)
    if len(beyond):
        i = beyond[0]
        raise BadData(
            f"The {told} of {when(times[i])} reaches beyond its bucket, which ends at "
            f"{when(opens[i] + target)}; bars that are not aligned to the UTC calendar cannot be resampled so."
        )
