"""The one schema of bars, its rules, and the fingerprint of what a table holds."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import BadData, printable
from storage.timeframes import folder_of, seconds_of

PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume")
_TYPES: dict[str, pa.DataType] = {
    "timestamp": pa.timestamp("ns", "UTC"),
    "symbol": pa.string(),
    "timeframe": pa.string(),
    **dict.fromkeys(NUMBERS, pa.float64()),
}
OHLCV_SCHEMA = pa.schema(_TYPES)
NS = 1_000_000_000
Arrays = dict[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]
Rows = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """One broken rule: where (a file), symbol and row (from 1, a header not counted) if they are known."""

    where: str
    symbol: str | None
    row: int | None
    rule: str

    def __str__(self) -> str:
        symbol = f", {self.symbol}" if self.symbol else ""
        row = f", row {self.row}" if self.row is not None else ""
        return f"{self.where}{symbol}{row}: {self.rule}."


@dataclass(frozen=True)
class _Rule:
    broken: Callable[[Arrays], Mask]
    tell: Callable[[Arrays, int], str]


def when(ns: int) -> datetime:
    """The UTC time of an int64 nanosecond timestamp (cut to microseconds)."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(ns) // 1_000)


def timestamps(table: pa.Table) -> npt.NDArray[np.int64]:
    """The timestamp column as int64 nanoseconds since the epoch, shape (rows,), read-only."""
    return np.asarray(np.from_dlpack(table.column("timestamp").combine_chunks().cast(pa.int64())), dtype=np.int64)


def numbers(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A price or volume column as float64, shape (rows,), read-only."""
    # DLPack shares the memory as `to_numpy` does, but without importing pandas.
    return np.asarray(np.from_dlpack(table.column(name).combine_chunks()), dtype=np.float64)


def years_of(table: pa.Table) -> npt.NDArray[np.int64]:
    """The UTC year of each row."""
    return timestamps(table).astype("datetime64[ns]").astype("datetime64[Y]").astype(np.int64) + 1970


def arrays_of(table: pa.Table) -> Arrays:
    """The numeric columns as arrays of shape (rows,), timestamps as int64 nanoseconds; all read-only."""
    return {"timestamp": timestamps(table)} | {name: numbers(table, name) for name in NUMBERS}


def check_table(table: pa.Table, where: str, rows: Rows | None = None) -> None:
    """Raise `BadData` for the first broken rule, naming `where`, symbol, row and rule.

    The rules: exactly `OHLCV_SCHEMA`, no empty cells, one symbol and one timeframe, timestamps strictly
    increasing, finite numbers, low <= open, close <= high, volume >= 0. A table without rows passes.
    `rows` are the row numbers to name, where the table is part of a larger file; default 1, 2, ...
    """
    found = problems(table, where, rows, limit=1)
    if found:
        raise BadData(str(found[0]))


def problems(table: pa.Table, where: str, rows: Rows | None = None, limit: int = 100) -> list[Problem]:
    """The broken rules in order of rows, at most `limit`; empty for a good table. See `check_table`."""
    told = _schema_problem(table) or _empty_cell(table, rows) or _mixed_names(table)
    if told:
        return [Problem(where, None, told[0], told[1])]
    if not table.num_rows:
        return []
    columns = arrays_of(table)
    if no_rule_broken(columns):
        return []
    symbol = table.column("symbol")[0].as_py()
    times = columns["timestamp"]
    broken = [(int(i), rule) for rule in _RULES for i in np.flatnonzero(rule.broken(columns))[:limit]]
    return [
        Problem(where, symbol, _row(i, rows), f"{rule.tell(columns, i)} (bar of {when(times[i])})")
        for i, rule in sorted(broken, key=lambda found: found[0])[:limit]
    ]


def no_rule_broken(columns: Arrays) -> bool:
    """Whether all rows are good, in few passes; the same answer as from the rules one by one.

    A comparison with NaN is false. What lies between a finite lowest and a finite highest is finite.
    """
    times, low, high, volume = (columns[name] for name in ("timestamp", "low", "high", "volume"))
    inside = (columns["open"], columns["close"])
    return bool(
        (times[1:] > times[:-1]).all()
        and all((low <= price).all() and (price <= high).all() for price in inside)
        and -np.inf < low.min()
        and high.max() < np.inf
        and volume.min() >= 0
        and volume.max() < np.inf
    )


def _row(index: int, rows: Rows | None) -> int:
    return index + 1 if rows is None else int(rows[index])


def _schema_problem(table: pa.Table) -> tuple[None, str] | None:
    if table.schema.equals(OHLCV_SCHEMA):
        return None
    if table.column_names != OHLCV_SCHEMA.names:
        given, wanted = printable(", ".join(table.column_names)), ", ".join(OHLCV_SCHEMA.names)
        return None, f"the columns are {given or 'none'}; they must be {wanted}, in this order"
    wrong = [f for f in OHLCV_SCHEMA if not table.schema.field(f.name).type.equals(f.type)]
    told = ", ".join(f"{f.name} is {table.schema.field(f.name).type} and must be {f.type}" for f in wrong)
    return None, told or "a column is marked not nullable; the schema's columns are all nullable"


def _empty_cell(table: pa.Table, rows: Rows | None) -> tuple[int, str] | None:
    for name in table.column_names:
        if table.column(name).null_count:
            index = pc.index(table.column(name).is_null(), True).as_py()
            return _row(index, rows), f"{name} is empty; every cell needs a value"
    return None


def _mixed_names(table: pa.Table) -> tuple[None, str] | None:
    for name in ("symbol", "timeframe"):
        column = table.column(name)
        if not table.num_rows or pc.all(pc.equal(column, column[0])).as_py():
            continue
        values = column.unique().to_pylist()
        if len(values) > 1:
            return (
                None,
                f"holds more than one {name} ({', '.join(map(repr, values[:3]))})",
            )
    if table.num_rows:
        folder_of(table.column("symbol")[0].as_py())
        seconds_of(table.column("timeframe")[0].as_py())
    return None


def _not_increasing(columns: Arrays) -> Mask:
    broken = np.zeros(len(columns["timestamp"]), dtype=bool)
    broken[1:] = np.diff(columns["timestamp"]) <= 0
    return broken


def _tell_order(columns: Arrays, i: int) -> str:
    before, now = columns["timestamp"][i - 1], columns["timestamp"][i]
    if before == now:
        return "repeats the timestamp of the row before; each bar may stand there once"
    return f"comes after the bar of {when(before)}; rows must be sorted by time"


def _finite(columns: Arrays) -> Mask:
    finite: Mask = np.logical_and.reduce([np.isfinite(columns[name]) for name in NUMBERS])
    return finite


def _tell_not_finite(columns: Arrays, i: int) -> str:
    name = next(name for name in NUMBERS if not np.isfinite(columns[name][i]))
    return f"{name} is {columns[name][i]}; every number must be finite"


def _outside(columns: Arrays) -> Mask:
    low, high = columns["low"], columns["high"]
    inside: Mask = (low <= columns["open"]) & (low <= columns["close"])
    inside &= (columns["open"] <= high) & (columns["close"] <= high)
    return _finite(columns) & ~inside


def _tell_outside(columns: Arrays, i: int) -> str:
    values = {name: float(columns[name][i]) for name in PRICES}
    name = next(n for n in ("open", "close") if not values["low"] <= values[n] <= values["high"])
    if values[name] < values["low"]:
        return f"low {values['low']} is above {name} {values[name]}; low <= open, close <= high must hold"
    return f"high {values['high']} is below {name} {values[name]}; low <= open, close <= high must hold"


def _negative_volume(columns: Arrays) -> Mask:
    broken: Mask = columns["volume"] < 0
    return broken


_RULES = (
    _Rule(_not_increasing, _tell_order),
    _Rule(lambda columns: ~_finite(columns), _tell_not_finite),
    _Rule(_outside, _tell_outside),
    _Rule(
        _negative_volume,
        lambda columns, i: f"volume {columns['volume'][i]} is negative; it must be >= 0",
    ),
)


def fingerprint(table: pa.Table, calendar: str) -> str:
    """sha256 (hex) of the bars and their calendar, independent of how they were stored or chunked.

    Hashed in this order: timestamps as int64 nanoseconds, then open, high, low, close, volume as float64,
    each column little-endian and whole, then the calendar's name. Symbol and timeframe are not part of it.
    """
    digest = hashlib.sha256(timestamps(table).astype("<i8").tobytes())
    for name in NUMBERS:
        digest.update(numbers(table, name).astype("<f8").tobytes())
    digest.update(calendar.encode())
    return digest.hexdigest()
