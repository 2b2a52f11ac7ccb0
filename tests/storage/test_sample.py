"""The bundled sample is what its README says."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from storage.gaps import Gap
from storage.ohlcv import DatasetKey, OhlcvStore, fingerprint
from storage.providers import LocalProvider

DATA = Path(__file__).parents[2] / "data"
ROW = re.compile(r"^\| (\w+) \| (\d+) \| (\S+) \| (\S+) \| `(\w+)` \|$", re.MULTILINE)
STATED = {row[0]: row[1:] for row in ROW.findall((DATA / "README.md").read_text())}
STORE = OhlcvStore(LocalProvider(DATA))


def test_it_holds_the_stated_symbols_and_no_other_file():
    assert STORE.datasets() == [DatasetKey(symbol, "1D") for symbol in ("AAPL", "GOOG", "IBM", "MSFT")]
    assert sorted(STATED) == [key.symbol for key in STORE.datasets()]
    assert [path for path in STORE.provider.list() if not path.endswith(".parquet")] == ["README.md"]


@pytest.mark.parametrize("symbol", STATED)
def test_a_dataset_is_as_stated(symbol):
    info, key = STORE.describe(DatasetKey(symbol, "1D")), DatasetKey(symbol, "1D")
    span = (str(info.rows), str(info.first.date()), str(info.last.date()))
    assert (*span, fingerprint(STORE.read(key), "XNYS")) == STATED[symbol]
    assert (info.calendar, info.adjusted) == ("XNYS", "yes")
    assert STORE.problems(key) == []


def test_the_longer_gaps_are_the_known_closures():
    gaps = STORE.gaps(DatasetKey("AAPL", "1D")).gaps
    days = [(2001, 9, 10), (2006, 12, 29), (2012, 10, 26)]
    assert gaps == tuple(Gap(datetime(*day, tzinfo=UTC), n) for day, n in zip(days, (4, 2, 2), strict=True))


def test_prices_are_adjusted():
    """Without adjustment AAPL would halve on its split of 2005-02-28."""
    table = STORE.read(DatasetKey("AAPL", "1D"), datetime(2005, 2, 25), datetime(2005, 3, 1))
    before, after = table["close"].to_pylist()
    assert after / before == pytest.approx(1, abs=0.02)
