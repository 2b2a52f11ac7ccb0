"""Foreign files: what is stated is used, what is not stated is asked for, what is bad is named by its row."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import BadData, NotFound
from storage.importing import ImportSpec, read_file
from storage.schema import PRICES, check_table
from tests.storage.tables import NS, bars, tables

HEADER = "timestamp,open,high,low,close,volume"
DAYS = ["2020-01-01,10,12,9,11,100", "2020-01-02,11,13,10,12,200", "2020-01-03,12,14,11,13,300"]
DAILY = ImportSpec("1D", ("AAPL",), zone="UTC")


def csv(folder: Path, *lines: str, name: str = "bars.csv") -> Path:
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def spec(**given_: object) -> ImportSpec:
    return ImportSpec(**{"timeframe": "1D", "symbols": ("AAPL",), "zone": "UTC", **given_})


def times(table: pa.Table) -> list[str]:
    return [str(time.replace(tzinfo=None)) for time in table["timestamp"].to_pylist()]


def test_a_plain_csv(tmp_path):
    (table,) = read_file(csv(tmp_path, HEADER, *DAYS), DAILY)
    check_table(table, "imported")
    assert table.num_rows == 3
    assert table.slice(1, 1).to_pylist() == [
        {
            "timestamp": datetime(2020, 1, 2, tzinfo=UTC),
            "symbol": "AAPL",
            "timeframe": "1D",
            "open": 11.0,
            "high": 13.0,
            "low": 10.0,
            "close": 12.0,
            "volume": 200.0,
        }
    ]


def test_names_in_other_cases_and_spaces_and_a_byte_order_mark(tmp_path):
    file = csv(tmp_path, "\ufeffTimestamp, Open ,HIGH,Low,Close,Volume,Extra", *(f" {day} ,x" for day in DAYS))
    assert read_file(file, DAILY)[0].equals(read_file(csv(tmp_path, HEADER, *DAYS), DAILY)[0])


def test_odd_names_no_header_other_delimiters_and_compression_give_the_same_bars(tmp_path):
    (plain,) = read_file(csv(tmp_path, HEADER, *DAYS), DAILY)
    odd = csv(tmp_path, "v;c;l;h;o;Date", *(";".join(reversed(day.split(","))) for day in DAYS), name="odd.csv")
    mapping = {"timestamp": "Date", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    assert read_file(odd, spec(columns=mapping, delimiter=";"))[0].equals(plain)
    bare = csv(tmp_path, *DAYS, name="bare.csv")
    numbers = {name: str(i + 1) for i, name in enumerate(HEADER.split(","))}
    assert read_file(bare, spec(columns=numbers, header=False))[0].equals(plain)
    (tmp_path / "bars.csv.gz").write_bytes(gzip.compress((tmp_path / "bars.csv").read_bytes()))
    assert read_file(tmp_path / "bars.csv.gz", DAILY)[0].equals(plain)


@given(table=tables(step_ns=24 * 3600 * NS))
@settings(max_examples=25, deadline=None)
def test_bars_survive_csv_and_parquet_bit_for_bit(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("files")
    pacsv.write_csv(table, folder / "bars.csv")
    pq.write_table(table, folder / "bars.parquet")
    for name in ("bars.csv", "bars.parquet"):
        (read,) = read_file(folder / name, ImportSpec("1D"))
        assert read.equals(table)


ZONES = {
    "utc": ("2020-01-01 00:00", "UTC", "2020-01-01 00:00:00"),
    "an upbit day": ("2020-01-01T09:00:00", "KST", "2020-01-01 00:00:00"),
    "a date in seoul": ("2020-01-01", "Asia/Seoul", "2019-12-31 15:00:00"),
    "summer in new york": ("2020-07-01 09:30", "America/New_York", "2020-07-01 13:30:00"),
    "winter in new york": ("2020-01-02 09:30", "America/New_York", "2020-01-02 14:30:00"),
    "an offset": ("2020-01-01T09:00:00+09:00", None, "2020-01-01 00:00:00"),
    "zulu": ("2020-01-01T09:00:00Z", None, "2020-01-01 09:00:00"),
}


@pytest.mark.parametrize("name", ZONES)
def test_zones(tmp_path, name):
    text, zone, utc = ZONES[name]
    (table,) = read_file(csv(tmp_path, HEADER, f"{text},10,12,9,11,100"), spec(zone=zone))
    assert times(table) == [utc]


FORMATS = {
    "strptime": ("31/01/2020 09:00", "%d/%m/%Y %H:%M", "KST", "2020-01-31 00:00:00"),
    "strptime with zone": ("31/01/2020 +0900", "%d/%m/%Y %z", None, "2020-01-30 15:00:00"),
    "seconds": ("1577836800", "epoch-s", None, "2020-01-01 00:00:00"),
    "milliseconds": ("1577836800000", "epoch-ms", None, "2020-01-01 00:00:00"),
    "nanoseconds": ("1577836800000000000", "epoch-ns", None, "2020-01-01 00:00:00"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_time(tmp_path, name):
    text, time_format, zone, utc = FORMATS[name]
    file = csv(tmp_path, HEADER, f"{text},10,12,9,11,100")
    assert times(read_file(file, spec(zone=zone, time_format=time_format))[0]) == [utc]


def test_the_kst_year_is_the_utc_year(tmp_path):
    file = csv(tmp_path, HEADER, "2020-01-01 08:00,10,12,9,11,1", "2020-01-01 09:00,10,12,9,11,1")
    (table,) = read_file(file, ImportSpec("1H", ("KRW-BTC",), zone="KST"))
    assert times(table) == ["2019-12-31 23:00:00", "2020-01-01 00:00:00"]


BAD_ROWS = {
    "unsorted": ("2019-01-03,12,14,11,13,300", "row 3: comes after the bar of 2020-01-02"),
    "duplicated": ("2020-01-02,12,14,11,13,300", "row 3: repeats the timestamp of the row before"),
    "nan": ("2020-01-03,12,14,11,nan,300", "row 3: close is nan"),
    "low above open": ("2020-01-03,10,14,11,13,300", "row 3: low 11.0 is above open 10.0"),
    "negative volume": ("2020-01-03,12,14,11,13,-1", "row 3: volume -1.0 is negative"),
    "no number": ("2020-01-03,12,14,n/a,13,300", "row 3: low 'n/a' is no number"),
    "empty price": ("2020-01-03,12,,11,13,300", "row 3: high is empty"),
    "empty time": (",12,14,11,13,300", "row 3: timestamp is empty"),
    "no time": ("soon,12,14,11,13,300", "row 3: timestamp 'soon' is not like the others, or no ISO 8601 time"),
    "a zone in one row": (
        "2020-01-03T00:00:00Z,12,14,11,13,300",
        "row 3: timestamp '2020-01-03T00:00:00Z' is not like",
    ),
    "out of range": ("1066-01-03,12,14,11,13,300", "row 3: timestamp '1066-01-03' is not like"),
    "another timeframe": ("2020-01-02 04:00,12,14,11,13,300", "row 3: opens 14400 s after the bar before, too soon"),
    "ragged": ("2020-01-03,12,14", "Row #4: Expected 6 columns, got 3"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_one_sentence(tmp_path, name):
    row, told = BAD_ROWS[name]
    file = csv(tmp_path, HEADER, *DAYS[:2], row, "2020-01-09,10,12,9,11,100")
    with pytest.raises(BadData) as raised:
        read_file(file, DAILY)
    assert told in str(raised.value)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_sorting_is_done_only_if_asked(tmp_path):
    newest_first = csv(tmp_path, HEADER, *reversed(DAYS))
    with pytest.raises(BadData, match="rows must be sorted by time"):
        read_file(newest_first, DAILY)
    (table,) = read_file(newest_first, spec(sort=True))
    assert table.equals(read_file(csv(tmp_path, HEADER, *DAYS), DAILY)[0])
    bad = csv(tmp_path, HEADER, DAYS[2], DAYS[1].replace("200", "x"), DAYS[0])
    with pytest.raises(BadData, match="row 2: volume 'x' is no number"):
        read_file(bad, spec(sort=True))


UNSTATED = {
    "zone": ({"zone": None}, "timestamps carry no zone, as in 2020-01-01; state theirs"),
    "unknown zone": ({"zone": "Mars"}, "Time zone 'Mars' is unknown; give UTC, KST"),
    "symbol": ({"symbols": ()}, "has no symbol column; state exactly one symbol"),
    "two symbols": ({"symbols": ("A", "B")}, "has no symbol column; state exactly one symbol"),
    "bad symbol": ({"symbols": ("A/B",)}, "Symbol 'A/B' cannot be stored"),
    "timeframe": ({"timeframe": "1d"}, "did you mean '1D'?"),
    "column of ours": ({"columns": {"opn": "open"}}, "Column 'opn' is not one of timestamp, open.*did you mean 'open'"),
    "column of theirs": ({"columns": {"open": "opem"}}, "has no column 'opem'; did you mean 'open'"),
    "adjusted": ({"adjust_by": "Adj Close"}, "has no column 'Adj Close'"),
    "no header": ({"header": False}, "has no column timestamp, open.*columns .1, 2, 3, 4, 5, 6., as in timestamp=1"),
    "delimiter": ({"delimiter": ";"}, "has no column timestamp"),
    "delimiters": ({"delimiter": "::"}, "Delimiter '::' is not one character"),
    "format": ({"time_format": "%d/%m/%Y"}, "row 1: timestamp '2020-01-01' is not of the format %d/%m/%Y"),
    "epoch": ({"time_format": "epoch-s"}, "row 1: timestamp '2020-01-01' is no whole number of epoch-s"),
}


@pytest.mark.parametrize("name", UNSTATED)
def test_what_is_left_open_or_wrong_is_asked_for(tmp_path, name):
    stated, told = UNSTATED[name]
    with pytest.raises(BadData, match=told):
        read_file(csv(tmp_path, HEADER, *DAYS), spec(**stated))


def test_a_zone_is_not_stated_twice(tmp_path):
    file = csv(tmp_path, HEADER, "2020-01-01T09:00:00Z,10,12,9,11,100")
    with pytest.raises(BadData, match="carry their own zone; leave KST out"):
        read_file(file, spec(zone="KST"))


@pytest.mark.parametrize("time", ["2020-03-08 02:30", "2020-11-01 01:30"])
def test_hours_that_do_not_exist_or_exist_twice_are_refused(tmp_path, time):
    file = csv(tmp_path, HEADER, "2020-01-01,10,12,9,11,100", f"{time},10,12,9,11,100")
    with pytest.raises(BadData, match=r"row 2: .*does not exist or exists twice in America/New_York"):
        read_file(file, spec(zone="America/New_York"))


FILES = {
    "empty": b"",
    "only a header": HEADER.encode() + b"\n",
    "not text": HEADER.encode() + b"\n\xff\xfe,1,1,1,1,1\n",
    "two columns of one name": b"timestamp,open,open,high,low,close,volume\n2020-01-01,1,1,1,1,1,1\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_hold_no_bars(tmp_path, name):
    (tmp_path / "bars.csv").write_bytes(FILES[name])
    with pytest.raises(BadData, match=r"bars\.csv") as raised:
        read_file(tmp_path / "bars.csv", DAILY)
    assert "\n" not in str(raised.value)


def test_files_that_are_not_there_or_of_another_kind(tmp_path):
    with pytest.raises(NotFound, match=r"There is no file .*none\.csv to import"):
        read_file(tmp_path / "none.csv", DAILY)
    with pytest.raises(BadData, match="is named neither"):
        read_file(tmp_path / "bars.xlsx", DAILY)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no PAR1")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    (tmp_path / "folder.csv").mkdir()
    for name in ("bad.parquet", "bad.csv.gz", "folder.csv"):
        with pytest.raises(BadData, match="cannot be read: "):
            read_file(tmp_path / name, DAILY)


MANY = [
    "IBM,2020-01-01,1,1,1,1,1",
    "AAPL,2020-01-01,2,2,2,2,2",
    "IBM,2020-01-02,3,3,3,3,3",
    "AAPL,2020-01-02,4,4,4,4,x",
]


def test_a_file_of_many_symbols(tmp_path):
    file = csv(tmp_path, "Ticker," + HEADER, *MANY[:3])
    mapped = {"columns": {"symbol": "Ticker"}}
    both = read_file(file, spec(symbols=(), **mapped))
    assert [table["symbol"][0].as_py() for table in both] == ["AAPL", "IBM"]
    assert both[1]["open"].to_pylist() == [1.0, 3.0]
    assert read_file(file, spec(symbols=("IBM",), **mapped))[0].equals(both[1])
    with pytest.raises(BadData, match="holds no rows of 'IBN'; did you mean 'IBM'"):
        read_file(file, spec(symbols=("IBN",), **mapped))


def test_rows_of_many_symbols_are_named_as_the_file_counts_them(tmp_path):
    file = csv(tmp_path, "symbol," + HEADER, *MANY)
    with pytest.raises(BadData, match="AAPL, row 4: volume 'x' is no number"):
        read_file(file, spec(symbols=()))
    assert read_file(file, spec(symbols=("IBM",)))[0].num_rows == 2
    nameless = csv(tmp_path, "symbol," + HEADER, *MANY[:3], MANY[2].replace("IBM", ""))
    with pytest.raises(BadData, match="row 4: symbol is empty"):
        read_file(nameless, spec(symbols=()))


ADJUSTED = [
    "2020-01-01,100,110,90,105,1000,10.5",
    "2020-01-02,50,56,50,55,2000,5.5",
    "2020-01-03,11,11,11,11,10,3.3333333",
]


def test_adjusting_multiplies_prices_and_leaves_volume(tmp_path):
    file = csv(tmp_path, HEADER + ",Adj Close", *ADJUSTED)
    (table,) = read_file(file, spec(adjust_by="Adj Close"))
    assert table["close"].to_pylist() == [10.5, 5.5, 3.3333333]
    np.testing.assert_allclose(table["open"].to_numpy(), [10.0, 5.0, 3.3333333], rtol=1e-15)
    np.testing.assert_allclose(table["high"].to_numpy(), [11.0, 5.6, 3.3333333], rtol=1e-15)
    np.testing.assert_allclose(table["low"].to_numpy(), [9.0, 5.0, 3.3333333], rtol=1e-15)
    assert table["volume"].to_pylist() == [1000.0, 2000.0, 10.0]


@given(
    price=st.floats(1e-3, 1e6),
    spread=st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.3]), min_size=3, max_size=3),
    factor=st.floats(1e-4, 1e4),
)
@settings(max_examples=60, deadline=None)
def test_adjusting_keeps_the_rules_whatever_the_rounding(tmp_path_factory, price, spread, factor):
    low, open_, close, high = np.cumsum([price, *spread]).tolist()
    folder = tmp_path_factory.mktemp("adjusted")
    file = csv(folder, HEADER + ",adj", f"2020-01-01,{open_!r},{high!r},{low!r},{close!r},1,{close * factor!r}")
    (table,) = read_file(file, spec(adjust_by="adj"))
    check_table(table, "adjusted")
    for name, raw in zip(PRICES, (open_, high, low, close), strict=True):
        assert table[name][0].as_py() == pytest.approx(raw * factor, rel=1e-14)


@pytest.mark.parametrize(("close", "adjusted"), [(1.1, 2.7142857142857144), (1.1, 6.714285714285714)])
def test_rounding_moves_low_and_high_and_never_the_adjusted_close(tmp_path, close, adjusted):
    """1.1 x (2.71... / 1.1) is less than 2.71..., and 1.1 x (6.71... / 1.1) more than 6.71..., by the last bit."""
    assert close * (adjusted / close) != adjusted
    file = csv(tmp_path, HEADER + ",adj", f"2020-01-01,1.1,1.1,1.1,{close},1,{adjusted}")
    (table,) = read_file(file, spec(adjust_by="adj"))
    check_table(table, "adjusted")
    assert table["close"][0].as_py() == adjusted


@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan"])
def test_an_adjusted_close_that_cannot_be_one_is_refused(tmp_path, value):
    file = csv(tmp_path, HEADER + ",adj", f"2020-01-01,1,1,1,1,1,{value}")
    with pytest.raises(BadData, match=r"row 1: adjusted close .* must both be positive"):
        read_file(file, spec(adjust_by="adj"))


def test_bad_bars_are_refused_before_adjusting(tmp_path):
    file = csv(tmp_path, HEADER + ",adj", "2020-01-01,1,1,2,1,1,1")
    with pytest.raises(BadData, match=r"row 1: low 2\.0 is above open 1\.0"):
        read_file(file, spec(adjust_by="adj"))


TYPED = {
    "our own": (lambda t: t, None, None),
    "no zone": (lambda t: t.cast(pa.timestamp("us")), "UTC", None),
    "another zone": (lambda t: t.cast(pa.timestamp("ms", "Asia/Seoul")), None, None),
    "dates": (lambda t: t.cast(pa.timestamp("ns")).cast(pa.date32()), "UTC", None),
    "integers": (lambda t: t.cast(pa.timestamp("s", "UTC")).cast(pa.int64()), None, "epoch-s"),
    "text": (lambda t: pa.array([str(time)[:10] for time in t.to_pylist()], pa.large_string()), "UTC", None),
}


@pytest.mark.parametrize("name", TYPED)
def test_parquet_of_many_types(tmp_path, name):
    convert, zone, time_format = TYPED[name]
    table = bars("2020-01-01", 5)
    other = table.set_column(0, "timestamp", convert(table["timestamp"].combine_chunks()))
    other = other.set_column(1, "symbol", other["symbol"].dictionary_encode())
    other = other.set_column(7, "volume", other["volume"].cast(pa.int64()))
    pq.write_table(other, tmp_path / "bars.parquet")
    (read,) = read_file(tmp_path / "bars.parquet", spec(zone=zone, time_format=time_format))
    assert read.equals(table)


def test_integers_of_time_need_their_unit(tmp_path):
    table = bars("2020-01-01", 5)
    pq.write_table(table.set_column(0, "timestamp", table["timestamp"].cast(pa.int64())), tmp_path / "bars.parquet")
    with pytest.raises(BadData, match="need their unit stated, one of epoch-s"):
        read_file(tmp_path / "bars.parquet", spec())


def test_empty_cells_of_parquet_are_named(tmp_path):
    table = bars("2020-01-01", 3).set_column(3, "open", pa.array([100.0, None, 100.0]))
    pq.write_table(table, tmp_path / "bars.parquet")
    with pytest.raises(BadData, match="AAPL, row 2: open is empty"):
        read_file(tmp_path / "bars.parquet", ImportSpec("1D"))
