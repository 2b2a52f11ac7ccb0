"""Foreign columns made ours: numbers, instants in UTC and adjusted prices, each failure naming its row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.errors import BadData
from storage.schema import Problem

UTC_NS = pa.timestamp("ns", "UTC")
EPOCHS: dict[str, Any] = {"epoch-s": "s", "epoch-ms": "ms", "epoch-us": "us", "epoch-ns": "ns"}
_ZONES = {"KST": "Asia/Seoul"}
_ROUNDING = 1e-9  # relative; more than the last bits of one division and one product
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
Floats = npt.NDArray[np.float64]
Column = Any  # an Arrow array or scalar: pyarrow ships no types


@dataclass(frozen=True)
class Source:
    """The rows of one symbol in a file: `rows` are their numbers there, from 1, a header not counted."""

    where: str
    symbol: str
    rows: npt.NDArray[np.int64]

    def fault(self, index: int, rule: str) -> BadData:
        """The error that names the row at `index` of these."""
        return BadData(str(Problem(self.where, self.symbol, int(self.rows[index]), rule)))


def plain(column: Column) -> Column:
    """One array; dictionaries and large strings become strings, which lose outer blanks and are null if empty."""
    array = column.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if not any(is_text(array.type) for is_text in _TEXTS):
        return array
    trimmed: Any = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.is_in(trimmed, pa.array([""])), pa.scalar(None, pa.string()), trimmed)


def numbers_of(column: Column, name: str, source: Source) -> Floats:
    """`column` as float64. Raises `BadData` for the first cell that is empty or no number."""
    _refuse_empty(column, name, source)
    cast = _each(column, lambda part: part.cast(pa.float64()), name + " {} is no number", source)
    return np.asarray(np.from_dlpack(cast), dtype=np.float64)


def instants_of(
    column: Column, zone: str | None, time_format: str | None, source: Source, default_zone: str | None = None
) -> tuple[Column, str | None]:
    """`column` as timestamp[ns, UTC], and `default_zone` where that decided what the times mean.

    `time_format` is None for ISO 8601 text, a strptime format, or one of `EPOCHS` for integers. Times that
    carry no zone of their own are local times of `zone`, or else of `default_zone`; where they do, no `zone` may be
    stated, and the default does not matter.
    """
    _refuse_empty(column, "timestamp", source)
    parsed = _parsed(column, time_format, source)
    if parsed.type.tz is not None:
        if zone is not None:
            raise BadData(f"{source.where}: the timestamps carry their own zone; leave {zone} out.")
        return parsed.cast(UTC_NS), None
    stated = zone or default_zone
    if stated is None:
        raise BadData(f"{source.where}: the timestamps carry no zone, as in {column[0]}; state theirs (UTC, KST, ...).")
    name = zone_of(stated)
    rule = "timestamp {} does not exist or exists twice in " + name + ", where clocks change"
    instants = _each(parsed, lambda part: pc.assume_timezone(part, name), rule, source).cast(UTC_NS)
    return instants, None if zone else name


def zone_of(name: str) -> str:
    """The zone's name in the tz database; KST is Asia/Seoul. Raises `BadData` for an unknown one."""
    known = _ZONES.get(name, name)
    try:
        ZoneInfo(known)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadData(f"Time zone {name!r} is unknown; give UTC, KST or a name like Asia/Seoul.") from error
    return known


def adjusted(bars: Mapping[str, Floats], adjusted_close: Floats, source: Source) -> dict[str, Floats]:
    """Prices times adjusted close / close, volume as it is. `bars` must already keep the rules of the schema.

    Rounding may put a price past its bar's low or high in the last bits, and low and high give way then.
    """
    usable = np.isfinite(adjusted_close) & (adjusted_close > 0) & (bars["close"] > 0)
    if not usable.all():
        i = int(np.flatnonzero(~usable)[0])
        told = f"adjusted close {adjusted_close[i]} and close {bars['close'][i]} must both be positive"
        raise source.fault(i, told)
    factor = adjusted_close / bars["close"]
    scaled = {name: bars[name] * factor for name in ("open", "high", "low")} | {"close": adjusted_close}
    low = np.minimum.reduce([scaled["low"], scaled["open"], scaled["close"]])
    high = np.maximum.reduce([scaled["high"], scaled["open"], scaled["close"]])
    off = (scaled["low"] - low > _ROUNDING * low) | (high - scaled["high"] > _ROUNDING * high)
    if off.any():
        raise source.fault(int(np.flatnonzero(off)[0]), "adjusting breaks low <= open, close <= high")
    return {**bars, **scaled, "low": low, "high": high}


def _parsed(column: Column, time_format: str | None, source: Source) -> Column:
    """As timestamps in nanoseconds, with a zone if the file gives one."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        target = pa.timestamp("ns", getattr(kind, "tz", None))
        return _each(column, lambda part: part.cast(target), "timestamp {} is out of range", source)
    if time_format in EPOCHS:
        told = "timestamp {} is no whole number of " + time_format
        unit = pa.timestamp(EPOCHS[time_format], "UTC")
        return _each(column, lambda part: part.cast(pa.int64()).cast(unit).cast(UTC_NS), told, source)
    if not pa.types.is_string(kind):
        known = ", ".join(EPOCHS)
        raise BadData(f"{source.where}: timestamps of type {kind} need their unit stated, one of {known}.")
    if time_format is not None:
        told = "timestamp {} is not of the format " + time_format
        return _each(column, lambda part: pc.strptime(part, time_format, "ns"), told, source)
    told = "timestamp {} is not like the others, or no ISO 8601 time (2024-01-31 09:00:00, +09:00 for a zone)"
    iso: Any = UTC_NS if _castable(column[:1], UTC_NS) else pa.timestamp("ns")
    return _each(column, lambda part: part.cast(iso), told, source)


def _castable(column: Column, target: pa.DataType) -> bool:
    try:
        column.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def _refuse_empty(column: Column, name: str, source: Source) -> None:
    if column.null_count:
        first = pc.index(column.is_null(), True).as_py()
        raise source.fault(first, f"{name} is empty; every cell needs a value")


def _each(column: Column, convert: Callable[[Column], Column], rule: str, source: Source) -> Column:
    """`convert(column)`; Arrow does not say which cell it dislikes, so the first is searched for by halving."""
    try:
        return convert(column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        i = _first_bad(column, convert)
    raise source.fault(i, rule.replace("{}", repr(_shown(column[i]))))


def _first_bad(column: Column, convert: Callable[[Column], Column]) -> int:
    good, bad = 0, len(column)  # column[:good] converts, column[:bad] does not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(column[good:middle])
            good = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            bad = middle
    return good


def _shown(cell: Column) -> Any:
    return cell.as_py() if pa.types.is_string(cell.type) else str(cell)
