"""Foreign files of bars, CSV or Parquet, read into tables of the store's schema.

What a file does not say - symbol, time zone, timeframe, unit of a number - is stated by the caller, never
guessed; what breaks a rule of the schema is an error that names the row, never repaired.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from storage.columns import Column, Floats, Source, adjusted, instants_of, numbers_of, plain
from storage.errors import BadData, NotFound
from storage.schema import NS, NUMBERS, OHLCV_SCHEMA, check_table, timestamps
from storage.timeframes import folder_of, nearest, seconds_of

REQUIRED = ("timestamp", *NUMBERS)
ASSUMED_ZONE = b"assumed_zone"
"""Metadata of a table whose times were taken as those of `ImportSpec.default_zone`."""
_ADJUSTED_CLOSE = "adjusted close"
_CSV = re.compile(r"\.(csv|tsv|txt)(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
_PARQUET = re.compile(r"\.(parquet|pq)$", re.IGNORECASE)
# A day in a zone with summer time has 23 hours once a year; half a bar would be another timeframe.
_SHORTEST_BAR = 0.9


@dataclass(frozen=True)
class ImportSpec:
    """What the caller states about a file.

    timeframe: of its bars.
    symbols: of its bars; exactly one for a file without symbol column, else those to take (default all).
    columns: from our names (timestamp, open, high, low, close, volume, symbol) to the file's. A column that
        bears our name, in any case, needs no entry. A file without header has columns 1, 2, 3, ...
    zone: of timestamps without one of their own: UTC, KST or a name of the tz database.
    default_zone: the same, where it is not known that there are such; a table that needed it says so (`ASSUMED_ZONE`).
    time_format: None for ISO 8601, a strptime format, or epoch-s, epoch-ms, epoch-us, epoch-ns for integers.
    adjust_by: the file's column of adjusted closes; prices become price x adjusted close / close, volume stays.
    header, delimiter: of a CSV file.
    sort: put the rows in order of time first; without it, rows out of order are an error.
    """

    timeframe: str
    symbols: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    zone: str | None = None
    default_zone: str | None = None
    time_format: str | None = None
    adjust_by: str | None = None
    header: bool = True
    delimiter: str = ","
    sort: bool = False


def read_file(path: Path, spec: ImportSpec) -> list[pa.Table]:
    """The bars of a CSV or Parquet file, told apart by its name; see `read_csv`, `read_parquet`."""
    if _CSV.search(path.name):
        return read_csv(path, spec)
    if _PARQUET.search(path.name):
        return read_parquet(path, spec)
    raise BadData(f"{path} is named neither .csv (or .csv.gz) nor .parquet; only these can be imported.")


def read_csv(path: Path, spec: ImportSpec) -> list[pa.Table]:
    """The bars of a CSV file (also .gz, .bz2, .zst), one table a symbol, sorted by symbol.

    Raises `BadData` for the first bad row, and for whatever the file leaves open and `spec` does not state;
    `NotFound` without the file.
    """
    with _readable(path):
        names = _csv_names(path, spec)
        chosen = _columns(names, spec, path)
        options = pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=[names[i] for i in chosen.values()]
        )
        with _opened(path) as stream:
            table = pacsv.read_csv(stream, _reading(spec), _parsing(spec), options)
    return _tables(table.rename_columns(list(chosen)), spec, path)


def read_parquet(path: Path, spec: ImportSpec) -> list[pa.Table]:
    """The bars of a Parquet file, one table a symbol, sorted by symbol. Raises as `read_csv`."""
    with _readable(path), path.open("rb") as file:
        source = pq.ParquetFile(file, page_checksum_verification=True)
        names = source.schema_arrow.names
        chosen = _columns(names, spec, path)
        table = source.read([names[i] for i in chosen.values()])
        table = table.select([names[i] for i in chosen.values()])
    return _tables(table.rename_columns(list(chosen)), spec, path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path} to import.") from error
    except (pa.ArrowException, OSError) as error:
        raise BadData(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}.") from error


def _opened(path: Path) -> Any:
    return pa.input_stream(str(path))  # decompresses by the name


def _reading(spec: ImportSpec) -> pacsv.ReadOptions:
    # One thread, because only then the parser's complaints name the row.
    return pacsv.ReadOptions(use_threads=False, autogenerate_column_names=not spec.header)


def _parsing(spec: ImportSpec) -> pacsv.ParseOptions:
    if len(spec.delimiter) != 1:
        raise BadData(f"Delimiter {spec.delimiter!r} is not one character.")
    return pacsv.ParseOptions(delimiter=spec.delimiter)


def _csv_names(path: Path, spec: ImportSpec) -> list[str]:
    with _opened(path) as stream, pacsv.open_csv(stream, _reading(spec), _parsing(spec)) as reader:
        return list(reader.schema.names)


def _columns(names: Sequence[str], spec: ImportSpec, path: Path) -> dict[str, int]:
    """Which column of the file plays which part, as positions; raises for parts that none plays."""
    called = names if spec.header else [str(i + 1) for i in range(len(names))]
    known = (*REQUIRED, "symbol")
    for name in spec.columns:
        if name not in known:
            raise BadData(f"Column {name!r} is not one of {', '.join(known)}{nearest(name, known)}")
    wanted = dict(spec.columns) | ({_ADJUSTED_CLOSE: spec.adjust_by} if spec.adjust_by else {})
    chosen = {name: _position(called, column, path) for name, column in wanted.items()}
    for name in known:
        same = [i for i, column in enumerate(called) if column.strip().lower() == name]
        if name not in chosen and same:
            chosen[name] = _position(called, called[same[0]], path)
    missing = [name for name in REQUIRED if name not in chosen]
    if missing:
        raise BadData(
            f"{path} has no column {', '.join(missing)}; map each to one of its columns "
            f"({', '.join(called)}), as in {missing[0]}={called[0]}."
        )
    return chosen


def _position(names: Sequence[str], column: str, path: Path) -> int:
    if names.count(column) == 1:
        return names.index(column)
    if column in names:
        raise BadData(f"{path} has {names.count(column)} columns named {column!r}; names must differ.")
    raise BadData(f"{path} has no column {column!r}{nearest(column, names)}")


def _tables(raw: pa.Table, spec: ImportSpec, path: Path) -> list[pa.Table]:
    seconds_of(spec.timeframe)
    if not raw.num_rows:
        raise BadData(f"{path} holds no rows; there is nothing to import.")
    return [_table(raw, source, spec) for source in _sources(raw, spec, path)]


def _sources(raw: pa.Table, spec: ImportSpec, path: Path) -> list[Source]:
    """The rows of each symbol to take, in order of symbols."""
    for symbol in spec.symbols:
        folder_of(symbol)
    if "symbol" not in raw.column_names:
        if len(spec.symbols) != 1:
            raise BadData(f"{path} has no symbol column; state exactly one symbol, or the column that holds it.")
        return [Source(str(path), spec.symbols[0], np.arange(1, raw.num_rows + 1))]
    column = plain(raw.column("symbol")).cast(pa.string())
    held = sorted(str(symbol) for symbol in column.drop_null().unique().to_pylist())
    for symbol in spec.symbols or held:
        if symbol not in held:
            raise BadData(f"{path} holds no rows of {symbol!r}{nearest(symbol, held)}")
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py() + 1
        raise BadData(f"{path}, row {row}: symbol is empty; every cell needs a value.")
    coded = column.dictionary_encode()
    codes, words = np.asarray(np.from_dlpack(coded.indices)), coded.dictionary.to_pylist()
    wanted = sorted(set(spec.symbols)) or held
    return [Source(str(path), s, np.flatnonzero(codes == words.index(s)) + 1) for s in wanted]


def _table(raw: pa.Table, source: Source, spec: ImportSpec) -> pa.Table:
    """One symbol's bars, checked before and after the adjustment."""
    folder_of(source.symbol)
    cells = {name: plain(raw.column(name)).take(source.rows - 1) for name in raw.column_names}
    times, assumed = instants_of(cells["timestamp"], spec.zone, spec.time_format, source, spec.default_zone)
    if spec.sort:
        order = np.argsort(np.from_dlpack(times.cast(pa.int64())), kind="stable")
        source = Source(source.where, source.symbol, source.rows[order])
        times, *ordered = (column.take(order) for column in (times, *cells.values()))
        cells = dict(zip(cells, ordered, strict=True))
    bars = {name: numbers_of(cells[name], name, source) for name in NUMBERS}
    table = _assembled(times, bars, source.symbol, spec.timeframe)
    check_table(table, source.where, source.rows)
    _refuse_crowded(table, source, spec.timeframe)
    if spec.adjust_by is not None:
        bars = adjusted(bars, numbers_of(cells[_ADJUSTED_CLOSE], _ADJUSTED_CLOSE, source), source)
        table = _assembled(times, bars, source.symbol, spec.timeframe)
    return table.replace_schema_metadata({ASSUMED_ZONE: assumed} if assumed else None)


def _assembled(times: Column, bars: Mapping[str, Floats], symbol: str, timeframe: str) -> pa.Table:
    names = [pa.repeat(pa.scalar(word), len(times)) for word in (symbol, timeframe)]
    numbers = [pa.array(bars[name]) for name in NUMBERS]
    return pa.Table.from_arrays([times, *names, *numbers], schema=OHLCV_SCHEMA)


def _refuse_crowded(table: pa.Table, source: Source, timeframe: str) -> None:
    """Bars closer than their length are bars of another timeframe."""
    steps = np.diff(timestamps(table)) / NS
    close = np.flatnonzero(steps < _SHORTEST_BAR * seconds_of(timeframe))
    if len(close):
        i = int(close[0])
        told = f"opens {steps[i]:g} s after the bar before, too soon for bars of {timeframe}"
        raise source.fault(i + 1, told)
