"""One file of bars as Parquet bytes, whatever the provider it comes from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import BadData, printable
from storage.providers import StorageProvider
from storage.schema import NUMBERS, timestamps, when

# The encoding that decodes fastest at near the best size; page checksums make a flipped bit an error.
_SETTINGS: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "row_group_size": 65_536,
    "use_dictionary": ["symbol", "timeframe"],
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


def read_table(provider: StorageProvider, path: str) -> pa.Table:
    """All columns, page checksums verified, rules not yet. Raises `NotFound`, `BadData`.

    Read on this thread alone: Arrow's threads may let go of `data` last, and abort a Python that is shutting down.
    """
    data = provider.read(path)
    with _readable(provider, path):
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)
        return file.read(use_threads=False)


def read_footer(provider: StorageProvider, path: str) -> tuple[int, dict[bytes, bytes]]:
    """Number of rows, and the metadata stated by the writer. Raises `NotFound`, `BadData`."""
    with provider.open(path) as file, _readable(provider, path):
        footer = pq.read_metadata(file)
        return footer.num_rows, dict(footer.metadata or {})


@dataclass(frozen=True)
class FileFacts:
    """What a file of bars holds: times (UTC) of the first and last row, size in bytes, and what its writer stated."""

    rows: int
    first: datetime
    last: datetime
    size: int
    stated: dict[bytes, bytes]


def read_facts(provider: StorageProvider, path: str) -> FileFacts:
    """All from one opening, prices unread. Raises `NotFound`, `BadData`, also for a file without rows."""
    with provider.open(path) as file, _readable(provider, path):
        opened = pq.ParquetFile(file, page_checksum_verification=True)
        footer, size = opened.metadata, file.seek(0, 2)
        groups = sorted({0, footer.num_row_groups - 1}) if footer.num_rows else []
        times = [timestamps(opened.read_row_group(group, ["timestamp"])) for group in groups]
    if not times:
        raise BadData(f"{provider.uri}/{path} holds no bars; a file of the store has at least one.")
    return FileFacts(footer.num_rows, when(times[0][0]), when(times[-1][-1]), size, dict(footer.metadata or {}))


def size_of(provider: StorageProvider, path: str) -> int:
    """Bytes, without reading the content."""
    return provider.tag(path).size


@contextmanager
def _readable(provider: StorageProvider, path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadData(
            f"{provider.uri}/{path} is no readable Parquet file of bars, it may be damaged ({printable(first)})."
        ) from error
