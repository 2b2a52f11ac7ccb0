"""Small tables of bars for the tests of storage."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from storage.schema import OHLCV_SCHEMA
from storage.timeframes import TIMEFRAMES

NS = 1_000_000_000


def ns(text: str) -> int:
    """Nanoseconds of an ISO time, UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * NS


def table_of(times: Sequence[int], symbol: str = "AAPL", timeframe: str = "1D", **columns: Sequence[float]) -> pa.Table:
    """Good bars at `times` (ns), with the columns given in place of the made ones."""
    close = 100.0 + np.arange(len(times)) % 7
    made = {"open": close - 0.5, "high": close + 2, "low": close - 3, "close": close, "volume": close * 10}
    words = {"symbol": [symbol] * len(times), "timeframe": [timeframe] * len(times)}
    stamps = pa.array(np.asarray(times, dtype=np.int64)).cast(pa.timestamp("ns", "UTC"))
    return pa.table({"timestamp": stamps, **words, **made, **columns}, schema=OHLCV_SCHEMA)


def bars(start: str, count: int, symbol: str = "AAPL", timeframe: str = "1D") -> pa.Table:
    """Good bars without gaps."""
    return table_of([ns(start) + i * TIMEFRAMES[timeframe] * NS for i in range(count)], symbol, timeframe)


def changed(table: pa.Table, row: int, values: Mapping[str, object]) -> pa.Table:
    """`table` with other values in the row at index `row`."""
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=OHLCV_SCHEMA)


_PRICES = st.floats(min_value=1e-9, max_value=1e12, allow_nan=False)


@st.composite
def tables(
    draw: st.DrawFn,
    symbol: str = "AAPL",
    timeframe: str = "1D",
    years: tuple[int, int] = (2019, 2022),
    step_ns: int = 1,
) -> pa.Table:
    """Any good bars: irregular times over a few years, whole steps from each other, any finite prices."""
    first, last = ns(f"{years[0]}-01-01"), ns(f"{years[1]}-12-31")
    steps = st.integers(0, (last - first) // step_ns)
    times = sorted(first + step_ns * i for i in draw(st.sets(steps, min_size=1, max_size=30)))
    ordered = [sorted(draw(st.tuples(_PRICES, _PRICES, _PRICES, _PRICES))) for _ in times]
    low, open_, close, high = (list(column) for column in zip(*ordered, strict=True))
    if draw(st.booleans()):
        open_, close = close, open_
    volume = [draw(st.floats(min_value=0, max_value=1e15)) for _ in times]
    return table_of(times, symbol, timeframe, open=open_, high=high, low=low, close=close, volume=volume)
