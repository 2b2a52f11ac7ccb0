"""Gaps: counted by the calendar, and equal to what is known of the reference data."""

from collections import defaultdict
from datetime import UTC, date, datetime

import numpy as np
import pytest

from storage.errors import BadData
from storage.gaps import Gap, find_gaps
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.providers import LocalProvider, MemoryProvider
from tests.storage.tables import NS, bars, ns, table_of


def _days(*days: str) -> np.ndarray:
    return np.array([ns(day) for day in days], dtype=np.int64)


def test_a_market_that_never_closes_misses_every_step():
    report = find_gaps(_days("2020-01-01", "2020-01-02", "2020-01-05", "2020-01-06", "2020-01-08"), "1D", "24/7")
    assert (report.rows, report.missing) == (5, 3)
    assert report.gaps == (Gap(datetime(2020, 1, 2, tzinfo=UTC), 2), Gap(datetime(2020, 1, 6, tzinfo=UTC), 1))
    assert report.rule == "steps of 1D without a bar"


def test_bars_off_the_grid_miss_only_whole_steps():
    times = np.array([0, 3600 + 1, 2 * 3600, 4 * 3600 + 1800], dtype=np.int64) * NS
    assert [gap.missing for gap in find_gaps(times, "1H", "24/7").gaps] == [1, 2]


def test_a_market_that_closes_misses_weekdays_after_more_than_a_long_weekend():
    report = find_gaps(_days("2001-09-06", "2001-09-07", "2001-09-10", "2001-09-17", "2001-09-21"), "1D", "XNYS")
    assert report.gaps == (Gap(datetime(2001, 9, 10, tzinfo=UTC), 4),)
    assert report.rule == "weekdays without a bar, where bars are over 4 days apart"


def test_weekly_bars_miss_weeks_in_any_market():
    weeks = _days("2020-01-06", "2020-01-13", "2020-02-03")
    assert [find_gaps(weeks, "1W", calendar).missing for calendar in ("24/7", "XNYS")] == [2, 2]


@pytest.mark.parametrize("times", [[], [1]])
def test_one_bar_or_none_has_no_gap(times):
    report = find_gaps(np.array(times, dtype=np.int64), "1D", "XNYS")
    assert (report.rows, report.missing, report.gaps) == (len(times), 0, ())


def test_the_store_uses_the_stated_calendar_and_refuses_another():
    store, key = OhlcvStore(MemoryProvider()), DatasetKey("AAPL", "1D")
    store.write(table_of(_days("2020-01-01", "2020-01-05", "2020-01-10")), "24/7", "no")
    assert store.gaps(key).missing == 7
    assert store.gaps(key, date(2020, 1, 2)).missing == 4
    assert store.gaps(key, end=date(2020, 1, 4)).missing == 0
    with pytest.raises(BadData, match="states the calendar 24/7, not XNYS"):
        store.gaps(key, calendar="XNYS")
    with pytest.raises(BadData, match="Calendar 'X' is unknown"):
        find_gaps(timestamps_of_two(), "1D", "X")


def timestamps_of_two() -> np.ndarray:
    return bars("2020-01-01", 2)["timestamp"].cast("int64").to_numpy()


@pytest.mark.shared
def test_the_gaps_of_every_reference_file_are_those_of_its_manifest(shared, manifest):
    store = OhlcvStore(LocalProvider(shared / "data"))
    keys = {key.folder: key for key in store.datasets()}
    for entry in manifest:
        folder, _, name = entry["file"].rpartition("/")
        year = int(name.removesuffix(".parquet"))
        report = store.gaps(keys[folder], date(year, 1, 1), date(year + 1, 1, 1), calendar="24/7")
        assert (report.missing, len(report.gaps)) == (entry["missing_bars"], entry["gap_count"])
        assert max((gap.missing for gap in report.gaps), default=0) == entry["largest_gap_bars"]
        listed = [(gap["after"], gap["missing"]) for gap in entry["gaps_after"]]  # the first 40
        assert [(gap.after.isoformat(), gap.missing) for gap in report.gaps[:40]] == listed


@pytest.mark.shared
def test_the_gaps_of_the_reference_datasets_are_the_known_ones(shared):
    store = OhlcvStore(LocalProvider(shared / "data"))
    known = {"BTC_KRW/1H": 66, "BTC_KRW/4H": 1, "BTC_KRW/1m": 2, "ETH_KRW/1H": 43, "ETH_KRW/4H": 1}
    known |= {"XRP_KRW/1H": 46, "DOGE_KRW/1m": 123}
    missing = defaultdict(int, known)
    for key in store.datasets():
        assert store.gaps(key, calendar="24/7").missing == missing[key.folder], key
    worst = store.gaps(DatasetKey("KRW-BTC", "1H"), calendar="24/7")
    assert len(worst.gaps) == 30
    assert Gap(datetime(2023, 12, 3, 15, tzinfo=UTC), 5) in worst.gaps
