"""Bars at rest: `{SYMBOL}/{TIMEFRAME}/{YEAR}.parquet` in any provider, Arrow tables in and out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import pairwise

import numpy as np
import pyarrow as pa

from storage import parquet
from storage.errors import BadData, NotFound, StorageError
from storage.gaps import Gap, GapReport, find_gaps
from storage.parquet import FileFacts, decode, facts_of, of_arrow, read_facts, read_stated, to_arrow, to_parquet
from storage.providers import CachedProvider, ObjectTag, StorageProvider
from storage.schema import NS, OHLCV_SCHEMA, Problem, check_table, fingerprint, problems, timestamps, years_of
from storage.timeframes import calendar_of, folder_of, nearest, seconds_of, symbol_of

__all__ = [
    "ADJUSTED",
    "OHLCV_SCHEMA",
    "DatasetInfo",
    "DatasetKey",
    "Gap",
    "GapReport",
    "OhlcvStore",
    "check_table",
    "fingerprint",
]

ADJUSTED = ("yes", "no", "unknown")
STORE, CACHE = "store", "cache"
"""Where bars came from: the store itself, or the node's copy."""
_FILE = re.compile(r"([^/]+)/([^/]+)/(\d{4})\.parquet")


@dataclass(frozen=True, order=True)
class DatasetKey:
    """Names one dataset; ordered by (symbol, timeframe). Raises `BadData` for a name no store can hold."""

    symbol: str
    timeframe: str

    def __post_init__(self) -> None:
        folder_of(self.symbol)
        seconds_of(self.timeframe)

    @property
    def folder(self) -> str:
        """Where its files are: BTC_KRW/1D for KRW-BTC 1D."""
        return f"{folder_of(self.symbol)}/{self.timeframe}"

    def __str__(self) -> str:
        return f"{self.symbol} {self.timeframe}"


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset holds: `first` and `last` bar (UTC), `bytes` of its files, and what they state."""

    key: DatasetKey
    years: tuple[int, ...]
    rows: int
    first: datetime
    last: datetime
    bytes: int
    calendar: str | None
    adjusted: str | None


@dataclass(frozen=True)
class _File:
    year: int
    path: str
    tag: ObjectTag


class OhlcvStore:
    """Datasets of bars in a provider.

    Every read and write is checked by `check_table`; broken bars are a `BadData` and are never repaired.
    Files are whole or absent; years are written one after the other, so a writer that dies may leave the
    earlier ones.
    """

    def __init__(self, provider: StorageProvider) -> None:
        self.provider = provider
        self.served: Counter[str] = Counter()
        """Bytes of the files that were read through this object, by STORE or CACHE."""

    def datasets(self) -> list[DatasetKey]:
        """All datasets, sorted. Files outside the layout are passed over; see `strays`."""
        return sorted({key for path in self.provider.list() if (key := _key_of(path))})

    def datasets_of(self, symbol: str) -> list[DatasetKey]:
        """The datasets of one symbol, sorted; looks at no other symbol's files."""
        return sorted({key for path in self.provider.list(folder_of(symbol)) if (key := _key_of(path))})

    def strays(self) -> list[str]:
        """Parquet files of no dataset: their path is not `{SYMBOL}/{TIMEFRAME}/{YEAR}.parquet`."""
        return [path for path in self.provider.list() if path.endswith(".parquet") and not _key_of(path)]

    def describe(self, key: DatasetKey) -> DatasetInfo:
        """Counts and span, without reading prices. Raises `NotFound`, and `BadData` for a damaged file."""
        found = self._files(key)
        files = [self._facts(key, file) for file in found]
        stated = _agreed((file.stated for file in files), self._where(key.folder))
        return DatasetInfo(
            key=key,
            years=tuple(file.year for file in found),
            rows=sum(file.rows for file in files),
            first=files[0].first,
            last=files[-1].last,
            bytes=sum(file.tag.size for file in found),
            calendar=stated.get("calendar"),
            adjusted=stated.get("adjusted"),
        )

    def calendar(self, key: DatasetKey) -> str | None:
        """The calendar stated at import; None if the files state none, and the caller has to."""
        return self._stated(key, self._files(key)).get("calendar")

    def read(self, key: DatasetKey, start: date | None = None, end: date | None = None) -> pa.Table:
        """The bars of [start, end) UTC, checked, as one chunk a column; a span without bars gives no rows.

        Only the years of the span are opened. A `datetime` without zone is taken as UTC. The schema is
        `OHLCV_SCHEMA`, with what the files state of b"calendar" and b"adjusted" as metadata.
        Raises `NotFound` for an unknown dataset, `BadData` for a broken file, `StorageError` if start >= end.
        """
        tables = [self._table(key, file) for file in self._between(key, start, end)]
        stated = _agreed((table.schema.metadata for table in tables), self._where(key.folder))
        bare = [table.replace_schema_metadata(None) for table in tables]
        whole = pa.concat_tables(bare) if bare else OHLCV_SCHEMA.empty_table()
        return _within(whole, start, end).combine_chunks().replace_schema_metadata(stated or None)

    def bytes_of(self, key: DatasetKey, start: date | None = None, end: date | None = None) -> int:
        """Size of the files that a read of the span opens."""
        return sum(file.tag.size for file in self._between(key, start, end))

    def gaps(
        self, key: DatasetKey, start: date | None = None, end: date | None = None, calendar: str | None = None
    ) -> GapReport:
        """Missing bars of [start, end), by the stated calendar or else `calendar`; see `find_gaps`.

        Raises `BadData` if neither states a calendar, or if they disagree.
        """
        stated = self.calendar(key)
        if stated and calendar and stated != calendar:
            raise BadData(f"{self._where(key.folder)} states the calendar {stated}, not {calendar}.")
        known = stated or calendar
        if not known:
            raise BadData(f"{self._where(key.folder)} states no calendar; say which, 24/7 or XNYS.")
        return find_gaps(timestamps(self.read(key, start, end)), key.timeframe, known)

    def problems(self, key: DatasetKey, limit: int = 100) -> list[Problem]:
        """Every broken rule in the dataset's files, at most `limit` a file; empty for a good dataset."""
        files = self._files(key)
        found = [problem for file in files for problem in self._file_problems(key, file, limit)]
        if not found:
            try:
                self._stated(key, files)
            except BadData as error:
                found.append(Problem(self._where(key.folder), key.symbol, None, str(error).rstrip(".")))
        return found

    def write(self, table: pa.Table, calendar: str, adjusted: str, replace: bool = False) -> list[str]:
        """Store one dataset's bars, a file a year; the paths written. See `write_all`."""
        return self.write_all([table], calendar, adjusted, replace)

    def write_all(self, tables: Sequence[pa.Table], calendar: str, adjusted: str, replace: bool = False) -> list[str]:
        """Store several datasets; all is checked before the first file is written. The paths written.

        `calendar` is "24/7" or "XNYS"; `adjusted` is "yes", "no" or "unknown". Nothing is merged: a year that
        exists is a `StorageError` unless `replace`, which replaces the years given and leaves the others
        alone.
        """
        calendar_of(calendar)
        if adjusted not in ADJUSTED:
            raise BadData(f"adjusted {adjusted!r} is not one of {', '.join(ADJUSTED)}.")
        stated = {"calendar": calendar, "adjusted": adjusted}
        files: dict[str, bytes] = {}
        for table in tables:
            encoded = self._encoded(table, stated, replace)
            if files.keys() & encoded.keys():
                raise BadData(f"Two of the tables to write are of {_key_in(table)}; one call stores a dataset once.")
            files |= encoded
        for path, data in files.items():
            self._put(path, data, replace)
        return list(files)

    def _put(self, path: str, data: bytes, replace: bool) -> None:
        if replace:
            self.provider.write(path, data)
        elif not self.provider.create(path, data):
            raise StorageError(f"{self._where(path)} was meanwhile created by another writer; it stays as it is.")

    def _encoded(self, table: pa.Table, stated: Mapping[str, str], replace: bool) -> dict[str, bytes]:
        check_table(table, "table to write")
        if not table.num_rows:
            raise BadData("The table to write has no rows; a dataset needs at least one bar.")
        key = _key_in(table)
        years = years_of(table)
        new = [int(year) for year in np.unique(years)]
        self._refuse_clash(key, new, stated, replace)
        cut = [*np.searchsorted(years, new), len(years)]
        labelled = table.replace_schema_metadata(dict(stated))
        parts = [labelled.slice(first, stop - first) for first, stop in pairwise(cut)]
        return {f"{key.folder}/{year:04d}.parquet": to_parquet(part) for year, part in zip(new, parts, strict=True)}

    def _refuse_clash(self, key: DatasetKey, new: Sequence[int], stated: Mapping[str, str], replace: bool) -> None:
        present = self._present(key)
        taken = [] if replace else sorted(set(new) & {file.year for file in present})
        if taken:
            raise StorageError(
                f"{self._where(key.folder)} already holds {', '.join(map(str, taken))}; nothing was written, "
                "as their replacement was not asked for."
            )
        kept = self._stated(key, [file for file in present if file.year not in new])
        for name, value in kept.items():
            if value != stated[name]:
                raise BadData(
                    f"{self._where(key.folder)} states {name} {value} for the years it keeps, "
                    f"not {stated[name]}; a dataset has one."
                )

    def _present(self, key: DatasetKey) -> list[_File]:
        """Files by year, ascending."""
        found = [(_FILE.fullmatch(path), path, tag) for path, tag in self.provider.tags(key.folder).items()]
        return [_File(int(match[3]), path, tag) for match, path, tag in found if match]

    def _files(self, key: DatasetKey) -> list[_File]:
        present = self._present(key)
        if not present:
            raise NotFound(f"There is no dataset {key} in {self.provider.uri}{self._hint(key)}")
        return present

    def _hint(self, key: DatasetKey) -> str:
        known = self.datasets()
        same = [other.timeframe for other in known if other.symbol == key.symbol]
        if same:
            return f"; {key.symbol} has {' '.join(same)}."
        return nearest(key.symbol, sorted({other.symbol for other in known})) if known else ", which holds none."

    def _between(self, key: DatasetKey, start: date | None, end: date | None) -> list[_File]:
        if start is not None and end is not None and _instant(start) >= _instant(end):
            raise StorageError(f"The span [{start}, {end}) of {key} is empty; start must be before end.")
        first = _utc(start).year if start is not None else 0
        last = _utc(end).year if end is not None else 9_999
        return [file for file in self._files(key) if first <= file.year <= last]

    def _table(self, key: DatasetKey, file: _File) -> pa.Table:
        """The bars of a file; the node's cache keeps them checked and decoded."""
        if not isinstance(self.provider, CachedProvider):
            self.served[STORE] += file.tag.size
            return self._checked(key, file, self.provider.read(file.path))
        content, was_there = self.provider.derived(
            file.path, file.tag, lambda data: to_arrow(self._checked(key, file, data)), parquet.decoder()
        )
        self.served[CACHE if was_there else STORE] += file.tag.size
        return of_arrow(content)

    def _checked(self, key: DatasetKey, file: _File, data: bytes) -> pa.Table:
        table = decode(data, self._where(file.path))
        check_table(table, self._where(file.path))
        misplaced = _misplaced(table, key, file.year)
        if misplaced:
            raise BadData(f"{self._where(file.path)}: {misplaced}.")
        return table

    def _facts(self, key: DatasetKey, file: _File) -> FileFacts:
        if isinstance(self.provider, CachedProvider):  # a part of an object would be fetched as a whole, too
            return facts_of(self._table(key, file))
        return read_facts(self.provider, file.path)

    def _file_problems(self, key: DatasetKey, file: _File, limit: int) -> list[Problem]:
        where = self._where(file.path)
        try:
            table = decode(self.provider.read(file.path), where)
            found = problems(table, where, limit=limit)
            misplaced = None if found else _misplaced(table, key, file.year)
        except BadData as error:
            found, misplaced = [], str(error).rstrip(".")
        return [Problem(where, key.symbol, None, misplaced)] if misplaced else found

    def _stated(self, key: DatasetKey, files: Iterable[_File]) -> dict[str, str]:
        """What the files state of calendar and adjusted, without what none states."""
        if isinstance(self.provider, CachedProvider):
            return _agreed((self._facts(key, file).stated for file in files), self._where(key.folder))
        return _agreed((read_stated(self.provider, file.path) for file in files), self._where(key.folder))

    def _where(self, path: str) -> str:
        return f"{self.provider.uri}/{path}"


def _key_in(table: pa.Table) -> DatasetKey:
    return DatasetKey(table.column("symbol")[0].as_py(), table.column("timeframe")[0].as_py())


def _key_of(path: str) -> DatasetKey | None:
    match = _FILE.fullmatch(path)
    try:
        return DatasetKey(symbol_of(match[1]), match[2]) if match else None
    except BadData:
        return None


def _agreed(metadatas: Iterable[Mapping[bytes, bytes] | None], where: str) -> dict[str, str]:
    agreed: dict[str, str] = {}
    for metadata in metadatas:
        for name in ("calendar", "adjusted"):
            value = (metadata or {}).get(name.encode(), b"").decode()
            if value and agreed.setdefault(name, value) != value:
                raise BadData(f"{where}: the dataset's files disagree on {name}; a dataset has one.")
    return agreed


def _misplaced(table: pa.Table, key: DatasetKey, year: int) -> str | None:
    if not table.num_rows:
        return "the file holds no bars; a file of the store has at least one"
    if _key_in(table) != key:
        return f"the rows are of {_key_in(table)}, but the folder is that of {key}"
    ends = years_of(table.slice(0, 1))[0], years_of(table.slice(table.num_rows - 1))[0]
    if ends == (year, year):  # the rows are in order, as has been checked
        return None
    years = years_of(table)
    wrong = np.flatnonzero(years != year)
    return f"row {wrong[0] + 1} is of {years[wrong[0]]}, but the file is that of {year}" if len(wrong) else None


def _within(table: pa.Table, start: date | None, end: date | None) -> pa.Table:
    times = timestamps(table)
    first = 0 if start is None else int(np.searchsorted(times, _instant(start)))
    stop = len(times) if end is None else int(np.searchsorted(times, _instant(end)))
    return table.slice(first, max(stop - first, 0))


def _utc(day: date) -> datetime:
    moment = day if isinstance(day, datetime) else datetime.combine(day, time())
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _instant(day: date) -> int:
    """Nanoseconds since the epoch."""
    since = _utc(day) - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * (NS // 1_000_000)
