"""Resampling, against a naive twin and against reference data that others derived."""

import math
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import BadData
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.providers import LocalProvider
from storage.resample import cut_short, resample
from storage.schema import NUMBERS, OHLCV_SCHEMA, check_table, timestamps
from storage.timeframes import TIMEFRAMES
from tests.storage.tables import NS, bars, ns, table_of

PAIRS = [(a, b) for a, s in TIMEFRAMES.items() for b, t in TIMEFRAMES.items() if t > s and t % s == 0]
STEPS = st.lists(st.booleans(), min_size=1, max_size=60).filter(any)


def naive(table: pa.Table, timeframe: str) -> list[dict]:
    """Bucket by bucket, with the calendar of datetime and no arithmetic on epochs."""
    buckets: dict[datetime, list[dict]] = {}
    for row in table.to_pylist():
        buckets.setdefault(_bucket(row["timestamp"].to_pydatetime(), timeframe), []).append(row)
    return [
        {
            "timestamp": opens,
            "symbol": rows[0]["symbol"],
            "timeframe": timeframe,
            "open": rows[0]["open"],
            "high": max(row["high"] for row in rows),
            "low": min(row["low"] for row in rows),
            "close": rows[-1]["close"],
            "volume": pytest.approx(math.fsum(row["volume"] for row in rows), rel=1e-14),
        }
        for opens, rows in buckets.items()
    ]


def _bucket(time: datetime, timeframe: str) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    if timeframe == "1W":
        return midnight - timedelta(days=time.weekday())
    seconds = TIMEFRAMES[timeframe]
    return midnight + timedelta(seconds=(time - midnight).seconds // seconds * seconds)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@given(present=STEPS, start=st.integers(0, 3000), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_it_agrees_with_the_naive_twin(source, target, present, start, seed):
    step = TIMEFRAMES[source] * NS
    first = ns("2019-12-02") // step * step + start * step  # a Monday, so that weeks begin anywhere
    first -= 3 * TIMEFRAMES["1D"] * NS if source == "1W" else 0
    times = [first + i * step for i, there in enumerate(present) if there]
    random = np.random.default_rng(seed)
    values = np.sort(random.lognormal(size=(4, len(times))), axis=0)
    table = table_of(times, timeframe=source, low=values[0], open=values[1], close=values[2], high=values[3])
    result = resample(table, target)
    check_table(result, "resampled")
    assert result.to_pylist() == naive(table, target)


def test_gaps_make_no_bars_and_part_buckets_are_built_of_what_there_is():
    times = [ns("2020-01-01T03:00"), ns("2020-01-01T04:00"), ns("2020-01-01T16:00")]
    result = resample(table_of(times, timeframe="1H"), "4H")
    opens = [ns("2020-01-01T00:00"), ns("2020-01-01T04:00"), ns("2020-01-01T16:00")]
    assert timestamps(result).tolist() == opens


def test_weeks_start_on_monday():
    result = resample(bars("2020-01-01", 10), "1W")
    assert [str(time.date()) for time in result["timestamp"].to_pylist()] == ["2019-12-30", "2020-01-06"]
    assert all(time.weekday() == 0 for time in result["timestamp"].to_pylist())


def test_times_before_the_epoch_fall_into_their_buckets():
    result = resample(bars("1969-12-30", 4), "1W")
    assert [str(time.date()) for time in result["timestamp"].to_pylist()] == ["1969-12-29"]


def test_metadata_and_schema_are_kept():
    stated = {b"calendar": b"XNYS", b"adjusted": b"yes"}
    result = resample(bars("2020-01-01", 10).replace_schema_metadata(stated), "1W")
    assert result.schema.metadata == stated
    assert result.schema.equals(OHLCV_SCHEMA)


@pytest.mark.parametrize(("source", "target"), [("1H", "1H"), ("1H", "15m"), ("3m", "5m"), ("1W", "1D")])
def test_finer_equal_or_uneven_targets_are_refused(source, target):
    with pytest.raises(BadData, match=f"Bars of {source} cannot become {target}"):
        resample(bars("2020-01-06", 3, timeframe=source), target)


def test_an_unknown_target_is_refused():
    for table in (bars("2020-01-06", 3), OHLCV_SCHEMA.empty_table()):
        with pytest.raises(BadData, match="Timeframe '1M'"):
            resample(table, "1M")


def test_a_bar_that_reaches_into_the_next_bucket_is_refused():
    table = table_of([ns("2020-01-01T13:30"), ns("2020-01-01T14:30"), ns("2020-01-01T15:30")], timeframe="1H")
    with pytest.raises(BadData, match=r"1H bar of 2020-01-01 15:30:00.* reaches beyond its bucket"):
        resample(table, "4H")
    assert resample(table, "1D").num_rows == 1


def test_no_rows_give_no_rows():
    assert resample(OHLCV_SCHEMA.empty_table(), "1D").num_rows == 0


def test_bad_bars_are_not_resampled():
    with pytest.raises(BadData, match="table to resample"):
        resample(bars("2020-01-01", 3).drop_columns(["volume"]), "1W")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("symbol", "source", "target"),
    [("KRW-BTC", "1H", "4H"), ("KRW-ETH", "1H", "4H"), ("KRW-ETH", "1H", "1D"), ("KRW-BTC", "1m", "15m")],
)
def test_it_reproduces_the_derived_reference_data(shared, symbol, source, target):
    store = OhlcvStore(LocalProvider(shared / "data"))
    result = resample(store.read(DatasetKey(symbol, source)), target)
    known = store.read(DatasetKey(symbol, target)).slice(0, result.num_rows)
    assert timestamps(result).tolist() == timestamps(known).tolist()
    for name in NUMBERS[:-1]:
        assert result[name].equals(known[name]), name
    np.testing.assert_allclose(result["volume"].to_numpy(), known["volume"].to_numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("first", "last", "closed_days", "cut"),
    [
        ("2024-01-01", "2024-01-14", 0, []),  # Monday to Sunday
        ("2024-01-03", "2024-01-14", 0, ["2024-01-01"]),
        ("2024-01-01", "2024-01-12", 0, ["2024-01-08"]),
        ("2024-01-01", "2024-01-12", 2, []),  # a market that rests at the weekend has the whole week
        ("2024-01-03", "2024-01-11", 2, ["2024-01-01", "2024-01-08"]),
        ("2024-01-09", "2024-01-10", 0, ["2024-01-08"]),
    ],
)
def test_weeks_that_the_data_cover_in_part_are_named(first: str, last: str, closed_days: int, cut: list[str]) -> None:
    days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    daily = bars(first, len(days))
    found = cut_short(daily, resample(daily, "1W"), closed_days)
    assert [str(np.datetime64(at, "ns").astype("datetime64[D]")) for at in found] == cut
