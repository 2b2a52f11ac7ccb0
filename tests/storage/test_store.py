"""The store of bars: what is written comes back, and nothing else is accepted."""

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from storage.errors import BadData, NotFound, StorageError
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.parquet import to_parquet
from storage.providers import LocalProvider, MemoryProvider
from storage.schema import OHLCV_SCHEMA, timestamps
from tests.services.counting import CountingProvider
from tests.storage.tables import NS, bars, changed, ns, table_of, tables

AAPL = DatasetKey("AAPL", "1D")
FILE = "AAPL/1D/2020.parquet"


@pytest.fixture
def store():
    return OhlcvStore(MemoryProvider("bars"))


@given(table=tables())
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(table):
    store = OhlcvStore(MemoryProvider())
    store.write(table, "XNYS", "yes")
    read = store.read(AAPL)
    assert read.equals(table)
    assert all(column.num_chunks == 1 for column in read.columns)
    info = store.describe(AAPL)
    assert info.rows == table.num_rows
    assert (info.calendar, info.adjusted) == ("XNYS", "yes")
    assert store.problems(AAPL) == []


@given(table=tables(), start=st.integers(0, 1500), days=st.integers(1, 1500))
@settings(max_examples=40, deadline=None)
def test_a_span_is_half_open(table, start, days):
    store = OhlcvStore(MemoryProvider())
    store.write(table, "XNYS", "yes")
    first = date(2019, 1, 1) + timedelta(days=start)
    last = first + timedelta(days=days)
    wanted = [ns(str(first)) <= t < ns(str(last)) for t in timestamps(table)]
    assert store.read(AAPL, first, last).equals(table.filter(pa.array(wanted)))


def test_the_edges_of_a_span(store):
    store.write(bars("2020-01-01", 10), "XNYS", "no")
    assert store.read(AAPL, date(2020, 1, 3), date(2020, 1, 5)).num_rows == 2
    assert store.read(AAPL, date(2020, 1, 10)).num_rows == 1
    assert store.read(AAPL, end=date(2020, 1, 1)).num_rows == 0
    noon = datetime(2020, 1, 3, 12)
    assert store.read(AAPL, noon, noon + timedelta(days=1)).num_rows == 1
    seoul = timezone(timedelta(hours=9))
    assert store.read(AAPL, datetime(2020, 1, 3, 9, tzinfo=seoul)).num_rows == 8
    assert store.read(AAPL, datetime(2020, 1, 3, 9, 0, 1, tzinfo=seoul)).num_rows == 7
    with pytest.raises(StorageError, match="start must be before end"):
        store.read(AAPL, date(2020, 1, 5), date(2020, 1, 5))


class Counting(MemoryProvider):
    """Remembers which objects were read."""

    def read(self, path: str) -> bytes:
        self.__dict__.setdefault("seen", []).append(path)
        return super().read(path)


def test_only_the_years_of_the_span_are_opened():
    provider = Counting()
    store = OhlcvStore(provider)
    store.write(bars("2018-06-01", 1400), "XNYS", "no")
    store.read(AAPL, date(2019, 5, 1), date(2020, 2, 1))
    assert provider.seen == ["AAPL/1D/2019.parquet", "AAPL/1D/2020.parquet"]
    sizes = [len(provider._objects[path][0]) for path in provider.seen]
    assert store.bytes_of(AAPL, date(2019, 5, 1), date(2020, 2, 1)) == sum(sizes)
    assert store.bytes_of(AAPL) == sum(len(data) for data, _ in provider._objects.values())


def test_the_layout_is_a_file_a_year(store):
    table = bars("2019-12-30", 4, "KRW-BTC")
    assert store.write(table, "24/7", "no") == ["BTC_KRW/1D/2019.parquet", "BTC_KRW/1D/2020.parquet"]
    file = pq.ParquetFile(pa.BufferReader(store.provider.read("BTC_KRW/1D/2019.parquet")))
    assert file.read().equals(table.slice(0, 2))
    assert file.schema_arrow.equals(OHLCV_SCHEMA)
    assert file.metadata.metadata[b"calendar"] == b"24/7"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_describe(store):
    store.write(bars("2019-12-30", 4, "KRW-BTC", "4H"), "24/7", "no")
    info = store.describe(DatasetKey("KRW-BTC", "4H"))
    assert (info.years, info.rows, info.calendar, info.adjusted) == ((2019,), 4, "24/7", "no")
    assert (info.first, info.last) == (datetime(2019, 12, 30, tzinfo=UTC), datetime(2019, 12, 30, 12, tzinfo=UTC))
    assert type(info.first) is datetime
    assert info.bytes == store.bytes_of(info.key)


def test_datasets_are_sorted_and_foreign_files_are_strays(store):
    for symbol, timeframe in [("KRW-BTC", "1H"), ("AAPL", "1D"), ("KRW-BTC", "1D")]:
        store.write(bars("2020-01-01", 2, symbol, timeframe), "24/7", "no")
    for path in ["README.md", "AAPL/1D/notes.txt", "AAPL/1D/20.parquet", "x.parquet", "A-B/1D/2020.parquet"]:
        store.provider.write(path, b"")
    store.provider.write("AAPL/2D/2020.parquet", b"")
    assert store.datasets() == [AAPL, DatasetKey("KRW-BTC", "1D"), DatasetKey("KRW-BTC", "1H")]
    assert store.strays() == ["A-B/1D/2020.parquet", "AAPL/1D/20.parquet", "AAPL/2D/2020.parquet", "x.parquet"]


def test_unknown_datasets_are_told_with_a_hint(store):
    with pytest.raises(NotFound, match="There is no dataset AAPL 1D in memory://bars, which holds none"):
        store.read(AAPL)
    store.write(bars("2020-01-01", 2), "XNYS", "no")
    for read in (store.read, store.describe, store.calendar, store.bytes_of, store.gaps, store.problems):
        with pytest.raises(NotFound, match=r"no dataset AAPPL 1D .* did you mean 'AAPL'\?"):
            read(DatasetKey("AAPPL", "1D"))
    with pytest.raises(NotFound, match="AAPL has 1D"):
        store.read(DatasetKey("AAPL", "1H"))
    with pytest.raises(BadData, match="did you mean '1D'"):
        DatasetKey("AAPL", "1d")


def test_a_year_is_not_overwritten_unless_asked(store):
    store.write(bars("2019-12-30", 4), "XNYS", "no")
    other = changed(bars("2020-01-01", 400), 0, {"close": 100.5})
    with pytest.raises(StorageError, match="AAPL/1D already holds 2020; nothing was written"):
        store.write(other, "XNYS", "no")
    assert store.read(AAPL).num_rows == 4
    store.write(other, "XNYS", "no", replace=True)
    assert store.read(AAPL).equals(pa.concat_tables([bars("2019-12-30", 2), other]))


def test_a_dataset_has_one_calendar_and_one_adjustment(store):
    store.write(bars("2019-12-01", 3), "XNYS", "no")
    for calendar, adjusted, told in [("24/7", "no", "calendar XNYS"), ("XNYS", "yes", "adjusted no")]:
        with pytest.raises(BadData, match=told):
            store.write(bars("2020-01-01", 3), calendar, adjusted)
    store.write(bars("2019-01-01", 3), "24/7", "yes", replace=True)
    assert store.calendar(AAPL) == "24/7"
    store.provider.write(FILE, to_parquet(bars("2020-01-01", 3).replace_schema_metadata({"calendar": "XNYS"})))
    with pytest.raises(BadData, match="AAPL/1D: the dataset's files disagree on calendar"):
        store.read(AAPL)
    assert "disagree on calendar" in str(store.problems(AAPL)[0])


def test_files_that_state_nothing(store):
    store.provider.write(FILE, to_parquet(bars("2020-01-01", 3)))
    assert store.calendar(AAPL) is None
    assert store.describe(AAPL).adjusted is None
    assert store.read(AAPL).schema.metadata is None
    with pytest.raises(BadData, match="states no calendar"):
        store.gaps(AAPL)


BAD_TABLES = {
    "unsorted": changed(bars("2020-01-01", 3), 2, {"timestamp": ns("2019-01-01")}),
    "duplicated": changed(bars("2020-01-01", 3), 2, {"timestamp": ns("2020-01-02")}),
    "nan": changed(bars("2020-01-01", 3), 2, {"close": float("nan")}),
    "low above open": changed(bars("2020-01-01", 3), 2, {"low": 101.8}),
    "empty": OHLCV_SCHEMA.empty_table(),
    "other schema": bars("2020-01-01", 3).drop_columns(["volume"]),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused_and_nothing_is_written(store, name):
    with pytest.raises(BadData) as raised:
        store.write_all([bars("2020-01-01", 3, "GOOD"), BAD_TABLES[name]], "XNYS", "no")
    assert "\n" not in str(raised.value)
    assert store.provider.list() == []


def test_one_dataset_is_not_written_twice_at_once(store):
    with pytest.raises(BadData, match="Two of the tables to write are of AAPL 1D"):
        store.write_all([bars("2020-01-01", 3), bars("2020-02-01", 3)], "XNYS", "no")
    assert store.provider.list() == []


@pytest.mark.parametrize(("calendar", "adjusted"), [("NYSE", "no"), ("XNYS", "maybe")])
def test_unknown_statements_are_refused(store, calendar, adjusted):
    with pytest.raises(BadData):
        store.write(bars("2020-01-01", 3), calendar, adjusted)
    assert store.provider.list() == []


@pytest.mark.parametrize("name", [name for name in BAD_TABLES if name != "empty"])
def test_bad_files_are_refused_on_read_and_told_by_check(store, name):
    store.provider.write(FILE, to_parquet_of(BAD_TABLES[name]))
    with pytest.raises(BadData, match=r"memory://bars/AAPL/1D/2020\.parquet"):
        store.read(AAPL)
    assert len(store.problems(AAPL)) == 1
    assert store.problems(AAPL)[0].where == "memory://bars/AAPL/1D/2020.parquet"


def to_parquet_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


MISPLACED = {
    "year": (bars("2021-01-01", 3), "row 1 is of 2021, but the file is that of 2020"),
    "later year": (bars("2020-12-30", 3), "row 3 is of 2021"),
    "symbol": (bars("2020-01-01", 3, "IBM"), "the rows are of IBM 1D, but the folder is that of AAPL 1D"),
    "timeframe": (bars("2020-01-01", 3, timeframe="1H"), "the rows are of AAPL 1H"),
    "nothing": (OHLCV_SCHEMA.empty_table(), "holds no bars"),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_files_in_the_wrong_place_are_refused(store, name):
    table, told = MISPLACED[name]
    store.provider.write(FILE, to_parquet(table))
    with pytest.raises(BadData, match=told):
        store.read(AAPL)
    assert told in str(store.problems(AAPL)[0])


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("damage", ["truncated", "emptied", "text", "flipped bit"])
def test_a_damaged_file_is_named(tmp_path, damage):
    store = OhlcvStore(LocalProvider(tmp_path))
    store.write(bars("2020-01-01", 300), "XNYS", "no")
    data = store.provider.read(FILE)
    bad = {"truncated": data[:-100], "emptied": b"", "text": b"timestamp,open\n", "flipped bit": _flipped(data, 500)}
    store.provider.write(FILE, bad[damage])
    reads = [store.read] if damage == "flipped bit" else [store.read, store.describe, store.calendar]
    for read in reads:
        with pytest.raises(BadData, match=rf"{tmp_path}/{FILE} is no readable Parquet file") as raised:
            read(AAPL)
        assert "\n" not in str(raised.value)
    assert [problem.where for problem in store.problems(AAPL)] == [f"{tmp_path}/{FILE}"]


def test_a_writer_that_loses_a_race_for_a_year_says_so(store, monkeypatch):
    monkeypatch.setattr(MemoryProvider, "create", lambda *_: False)
    with pytest.raises(StorageError, match="meanwhile created by another writer"):
        store.write(bars("2020-01-01", 3), "XNYS", "no")


class StoreAgainstADict(RuleBasedStateMachine):
    """Random writes, replacements and reads on a store and on a dict of rows agree."""

    keys = st.sampled_from(
        [DatasetKey(symbol, timeframe) for symbol in ("AAPL", "KRW-BTC") for timeframe in ("1D", "1H")]
    )

    def __init__(self) -> None:
        super().__init__()
        self.store = OhlcvStore(MemoryProvider())
        self.model: dict[DatasetKey, dict[int, dict[int, dict]]] = {}

    @rule(key=keys, data=st.data(), replace=st.booleans())
    def write(self, key: DatasetKey, data: st.DataObject, replace: bool) -> None:
        first = data.draw(st.integers(2018, 2021))
        table = data.draw(tables(key.symbol, key.timeframe, (first, first + 1)))
        rows: dict[int, dict[int, dict]] = {}
        for at, row in zip(timestamps(table).tolist(), table.to_pylist(), strict=True):
            rows.setdefault(row["timestamp"].year, {})[at] = row
        held = self.model.get(key, {})
        if not replace and set(rows) & set(held):
            with pytest.raises(StorageError, match="already holds"):
                self.store.write(table, "24/7", "no", replace)
            return
        assert len(self.store.write(table, "24/7", "no", replace)) == len(rows)
        self.model[key] = held | rows

    @precondition(lambda self: self.model)
    @rule(data=st.data(), first=st.integers(2017, 2023), days=st.integers(1, 800))
    def read(self, data: st.DataObject, first: int, days: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.model)))
        start, end = date(first, 1, 1), date(first, 1, 1) + timedelta(days=days)
        rows = {at: row for year in self.model[key].values() for at, row in year.items()}
        span = range(ns(str(start)), ns(str(end)))
        assert self.store.read(key).to_pylist() == [rows[at] for at in sorted(rows)]
        assert self.store.read(key, start, end).to_pylist() == [rows[at] for at in sorted(rows) if at in span]

    @invariant()
    def lists_what_was_written(self) -> None:
        assert self.store.datasets() == sorted(self.model)
        for key, years in self.model.items():
            assert self.store.describe(key).years == tuple(sorted(years))


TestStoreAgainstADict = StoreAgainstADict.TestCase
TestStoreAgainstADict.settings = settings(max_examples=15, stateful_step_count=10, deadline=None)


@pytest.mark.shared
def test_the_reference_data_are_what_their_manifest_says(shared, manifest):
    store = OhlcvStore(LocalProvider(shared / "data"))
    assert store.strays() == []
    rows: dict[DatasetKey, int] = {}
    for entry in manifest:
        folder, timeframe, year = entry["file"].removesuffix(".parquet").split("/")
        key = next(k for k in store.datasets() if k.folder == f"{folder}/{timeframe}")
        rows[key] = rows.get(key, 0) + entry["rows"]
        table = store.read(key, date(int(year), 1, 1), date(int(year) + 1, 1, 1))
        first, last = (int(timestamps(table)[i]) for i in (0, -1))
        spans = [int(datetime.fromisoformat(entry[name]).timestamp()) * NS for name in ("first", "last")]
        assert [table.num_rows, first, last] == [entry["rows"], *spans]
        assert store.provider.stat(entry["file"]).checksum == entry["sha256"]
    assert sorted(rows) == store.datasets()
    assert all(store.describe(key).rows == count for key, count in rows.items())
    assert all(store.problems(key) == [] for key in rows)


def test_irregular_times_are_kept(store):
    table = table_of([ns("2020-01-01") + 7, ns("2020-01-01") + NS])
    store.write(table, "24/7", "no")
    assert store.read(AAPL).equals(table)


def test_what_a_dataset_costs_in_requests():
    counting = CountingProvider(MemoryProvider())
    store = OhlcvStore(counting)
    store.write(bars("2020-01-01", 800), "XNYS", "no")
    for work, calls in (
        (lambda: store.describe(AAPL), {"LIST": 1, "GET": 3}),
        (lambda: store.read(AAPL, date(2021, 1, 1), date(2021, 6, 1)), {"LIST": 1, "GET": 1}),
        (lambda: store.read(AAPL, date(2020, 12, 1), date(2021, 3, 11)), {"LIST": 1, "GET": 2}),  # 100 bars
        (lambda: store.bytes_of(AAPL), {"LIST": 1}),
        (lambda: store.datasets_of("AAPL"), {"LIST": 1}),
    ):
        counting.calls.clear()
        work()
        assert counting.calls == calls
    assert store.bytes_of(AAPL) < 1_000_000


def test_datasets_of_a_symbol():
    store = OhlcvStore(MemoryProvider())
    store.write(bars("2020-01-01", 3), "XNYS", "no")
    assert store.datasets_of("AAPL") == [AAPL]
    assert store.datasets_of("AAP") == store.datasets_of("KRW-BTC") == []
