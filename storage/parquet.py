"""One file of bars as Parquet bytes, whatever the provider it comes from."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import BadData, printable
from storage.providers import StorageProvider
from storage.schema import NUMBERS, timestamps, when

_DICTIONARIES = ("symbol", "timeframe")
# The encoding that decodes fastest at near the best size; page checksums make a flipped bit an error.
_SETTINGS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "row_group_size": 65_536,
    "use_dictionary": list(_DICTIONARIES),
    "column_encoding": {"timestamp": "DELTA_BINARY_PACKED", **dict.fromkeys(NUMBERS, "BYTE_STREAM_SPLIT")},
    "write_page_index": True,
    "write_page_checksum": True,
}


def to_parquet(table: pa.Table) -> bytes:
    """The file of a table; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **_SETTINGS)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(data: bytes, where: str) -> pa.Table:
    """All columns of a file, page checksums verified, rules not yet. Raises `BadData`, naming `where`.

    Decoded by several threads, from memory that is Arrow's own: one of its threads may let go of it last, and to let
    go of a Python object while Python is shutting down would abort the process.
    """
    with _readable(where):
        source = pa.BufferReader(_copied(data))
        file = pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, read_dictionary=list(_DICTIONARIES)
        )
        table = file.read()
        for index in range(table.num_columns):
            if pa.types.is_dictionary(table.schema.types[index]):
                field = table.schema.field(index).with_type(pa.string())
                table = table.set_column(index, field, _as_text(table.column(index)))
        return table


def _copied(data: bytes) -> pa.Buffer:
    own = pa.allocate_buffer(len(data))
    np.frombuffer(own, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return own


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary column as plain text; the same text in all rows is not looked up a row at a time."""
    words = {tuple(chunk.dictionary.to_pylist()) for chunk in column.chunks}
    if len(words) == 1 and len(only := words.pop()) == 1 and not column.null_count:
        return pa.chunked_array([pa.repeat(only[0], len(column))])
    return column.cast(pa.string())


@cache
def decoder() -> str:
    """Tells apart decoders that may pass other bars or lay them out otherwise: by their sources and that of Arrow."""
    names = ("parquet", "schema", "ohlcv", "timeframes")
    sources = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in names)
    return hashlib.sha256(sources + pa.__version__.encode()).hexdigest()


def to_arrow(table: pa.Table) -> bytes:
    """The table as it lies in memory: what `of_arrow` reads without copying. One chunk a column."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    data: bytes = sink.getvalue().to_pybytes()
    return data


def of_arrow(content: pa.Buffer) -> pa.Table:
    """The table in the memory of `content`."""
    return pa.ipc.open_file(pa.BufferReader(content)).read_all()


@dataclass(frozen=True)
class FileFacts:
    """What a file of bars holds: times (UTC) of the first and last row, and what its writer stated."""

    rows: int
    first: datetime
    last: datetime
    stated: dict[bytes, bytes]


def facts_of(table: pa.Table) -> FileFacts:
    """Of a table with at least one row."""
    times = timestamps(table)
    return FileFacts(table.num_rows, when(times[0]), when(times[-1]), dict(table.schema.metadata or {}))


def read_facts(provider: StorageProvider, path: str) -> FileFacts:
    """All from one opening, prices unread. Raises `NotFound`, `BadData`, also for a file without rows."""
    with provider.open(path) as file, _readable(f"{provider.uri}/{path}"):
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        footer = opened.metadata
        groups = sorted({0, footer.num_row_groups - 1}) if footer.num_rows else []
        times = [timestamps(opened.read_row_group(group, ["timestamp"])) for group in groups]
    if not times:
        raise BadData(f"{provider.uri}/{path} holds no bars; a file of the store has at least one.")
    return FileFacts(footer.num_rows, when(times[0][0]), when(times[-1][-1]), dict(footer.metadata or {}))


def read_stated(provider: StorageProvider, path: str) -> dict[bytes, bytes]:
    """The metadata stated by the writer. Raises `NotFound`, `BadData`."""
    with provider.open(path) as file, _readable(f"{provider.uri}/{path}"):
        return dict(pq.read_metadata(file).metadata or {})


@contextmanager
def _readable(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        first = printable((str(error).splitlines() or [type(error).__name__])[0].rstrip("."))
        raise BadData(f"{where} is no readable Parquet file of bars, it may be damaged ({first}).") from error
