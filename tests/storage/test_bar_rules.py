"""The schema's rules: each broken one is one clear sentence, and the fingerprint."""

import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import schema
from storage.errors import BadData
from storage.schema import NUMBERS, OHLCV_SCHEMA, check_table, fingerprint, no_rule_broken, problems
from tests.storage.tables import bars, changed, ns, table_of, tables

GOOD = bars("2020-01-01", 5)
INF, NAN = float("inf"), float("nan")

BROKEN = {
    "unsorted": (2, {"timestamp": ns("2019-12-31")}, "comes after the bar of 2020-01-02"),
    "duplicated": (2, {"timestamp": ns("2020-01-02")}, "repeats the timestamp of the row before"),
    "nan": (2, {"close": NAN}, "close is nan; every number must be finite"),
    "infinite": (2, {"volume": INF}, "volume is inf; every number must be finite"),
    "infinite high": (2, {"high": INF}, "high is inf; every number must be finite"),
    "low above open": (2, {"open": 90.0}, "low 99.0 is above open 90.0; low <= open, close <= high must hold"),
    "low above close": (2, {"close": 98.0}, "low 99.0 is above close 98.0"),
    "high below open": (2, {"open": 200.0}, "high 104.0 is below open 200.0"),
    "high below close": (2, {"close": 104.5}, "high 104.0 is below close 104.5"),
    "high below low": (2, {"high": 98.0}, "high 98.0 is below open 101.5"),
    "negative volume": (2, {"volume": -1.0}, "volume -1.0 is negative; it must be >= 0"),
    "empty": (2, {"high": None}, "high is empty; every cell needs a value"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_one_sentence_with_symbol_file_row_and_rule(name):
    row, values, rule = BROKEN[name]
    with pytest.raises(BadData) as raised:
        check_table(changed(GOOD, row, values), "store/AAPL/1D/2020.parquet")
    told = str(raised.value)
    assert told.startswith("store/AAPL/1D/2020.parquet")
    assert "row 3: " in told
    assert rule in told
    assert told.endswith(".")
    assert "\n" not in told
    assert "AAPL" in told


ANY = st.one_of(st.sampled_from([0.0, -1.0, 1.0, 2.0, 3.0, INF, -INF, NAN]), st.floats(width=64))


@given(st.lists(st.tuples(st.integers(0, 3), ANY, ANY, ANY, ANY, ANY), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_the_quick_look_agrees_with_the_rules_one_by_one(rows):
    steps, *numbers = (np.array(column) for column in zip(*rows, strict=True))
    columns = {"timestamp": np.cumsum(steps), **dict(zip(NUMBERS, numbers, strict=True))}
    assert no_rule_broken(columns) == (not any(rule.broken(columns).any() for rule in schema._RULES))


def test_rows_are_named_as_the_source_counts_them():
    with pytest.raises(BadData, match="row 70"):
        check_table(changed(GOOD, 2, {"close": NAN}), "f", rows=[50, 60, 70, 80, 90])


def test_all_problems_are_found_in_order_up_to_a_limit():
    broken = changed(changed(GOOD, 4, {"close": NAN}), 1, {"volume": -1.0, "open": 1.0})
    assert [problem.row for problem in problems(broken, "f")] == [2, 2, 5]
    assert [problem.row for problem in problems(broken, "f", limit=1)] == [2]
    assert problems(GOOD, "f") == []


SCHEMAS = {
    "missing column": (GOOD.drop_columns(["volume"]), "the columns are"),
    "extra column": (GOOD.append_column("x", pa.array([1] * 5)), "the columns are"),
    "other order": (GOOD.select(OHLCV_SCHEMA.names[::-1]), "in this order"),
    "no columns": (pa.table({}), "the columns are none"),
    "wrong type": (GOOD.set_column(3, "open", GOOD["open"].cast(pa.float32())), "open is float and must be double"),
    "no zone": (
        GOOD.set_column(0, "timestamp", GOOD["timestamp"].cast(pa.timestamp("ns"))),
        r"timestamp is timestamp\[ns\] and must be timestamp\[ns, tz=UTC\]",
    ),
    "two symbols": (pa.concat_tables([GOOD, bars("2021-01-01", 2, "IBM")]), "more than one symbol"),
    "two timeframes": (pa.concat_tables([GOOD, bars("2021-01-01", 2, timeframe="1H")]), "more than one timeframe"),
    "bad symbol": (bars("2021-01-01", 2, "../x"), "cannot be stored"),
    "bad timeframe": (table_of([0, 1], timeframe="2H"), "is not one of"),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_another_schema_is_refused(name):
    table, told = SCHEMAS[name]
    with pytest.raises(BadData, match=told):
        check_table(table, "f")


def test_no_rows_and_flat_bars_and_no_trades_are_good():
    check_table(OHLCV_SCHEMA.empty_table(), "f")
    flat = [5.0, 5.0]
    check_table(table_of([1, 2], open=flat, high=flat, low=flat, close=flat, volume=[0.0, 0.0]), "f")


@given(tables())
@settings(max_examples=30, deadline=None)
def test_good_bars_pass(table):
    check_table(table, "f")


def test_the_fingerprint_is_the_hash_that_is_written_down():
    table = table_of([1, 2**40], open=[1.5, 2.0], high=[3.0, 3.0], low=[1.0, 1.0], close=[2.0, 2.5], volume=[0.0, 9.0])
    packed = struct.pack("<2q", 1, 2**40)
    packed += b"".join(struct.pack("<2d", *table[name].to_pylist()) for name in NUMBERS)
    assert fingerprint(table, "24/7") == hashlib.sha256(packed + b"24/7").hexdigest()


def test_the_fingerprint_depends_on_bars_and_calendar_and_not_on_chunks():
    chunked = pa.concat_tables([GOOD.slice(0, 2), GOOD.slice(2)]).replace_schema_metadata({"a": "b"})
    assert fingerprint(chunked, "XNYS") == fingerprint(GOOD, "XNYS")
    others = [fingerprint(GOOD, "24/7"), fingerprint(GOOD.slice(1), "XNYS")]
    others += [fingerprint(changed(GOOD, 1, {name: 100.6}), "XNYS") for name in NUMBERS]
    others += [fingerprint(changed(GOOD, 4, {"timestamp": ns("2020-01-06")}), "XNYS")]
    assert len({fingerprint(GOOD, "XNYS"), *others}) == len(others) + 1
