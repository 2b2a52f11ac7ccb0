import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadData
from storage.timeframes import CALENDARS, TIMEFRAMES, bars_per_year, calendar_of, folder_of, seconds_of, symbol_of

PER_YEAR = {
    "24/7": {"1m": 525_600, "15m": 35_040, "1H": 8_760, "4H": 2_190, "1D": 365, "1W": 365 / 7},
    "XNYS": {"1m": 98_280, "15m": 6_552, "1H": 1_638, "4H": 409.5, "1D": 252, "1W": 365 / 7},
}
PARTS = st.from_regex(r"[A-Za-z0-9]{1,5}(\.[A-Za-z0-9]{1,3})?", fullmatch=True)


def test_the_timeframes_and_their_order():
    assert list(TIMEFRAMES) == ["1m", "3m", "5m", "15m", "30m", "1H", "4H", "1D", "1W"]
    assert list(TIMEFRAMES.values()) == sorted(TIMEFRAMES.values())


@pytest.mark.parametrize(("calendar", "timeframe"), [(c, t) for c in PER_YEAR for t in PER_YEAR[c]])
def test_bars_per_year(calendar, timeframe):
    assert bars_per_year(timeframe, calendar) == pytest.approx(PER_YEAR[calendar][timeframe], rel=1e-15)


def test_every_pair_of_timeframe_and_calendar_annualises():
    assert all(bars_per_year(timeframe, calendar) > 0 for timeframe in TIMEFRAMES for calendar in CALENDARS)


def test_unknown_names_are_told_with_what_would_be_right():
    with pytest.raises(BadData, match=r"Timeframe '1h' is not one of 1m 3m .*; did you mean '1H'\?"):
        seconds_of("1h")
    with pytest.raises(BadData, match="Calendar 'NYSE' is unknown; known: 24/7, XNYS"):
        calendar_of("NYSE")
    with pytest.raises(BadData, match="Calendar"):
        bars_per_year("1D", "")


@pytest.mark.parametrize(
    ("symbol", "folder"),
    [("KRW-BTC", "BTC_KRW"), ("AAPL", "AAPL"), ("005930", "005930"), ("BRK.B", "BRK.B"), ("BRK-B", "B_BRK")],
)
def test_symbols_and_folders(symbol, folder):
    assert folder_of(symbol) == folder
    assert symbol_of(folder) == symbol


@given(quote=PARTS, base=PARTS)
def test_a_folder_leads_back_to_its_symbol(quote, base):
    for symbol in (quote, f"{quote}-{base}"):
        assert symbol_of(folder_of(symbol)) == symbol


BAD_SYMBOLS = ["", ".", "..", "a/b", "a\\b", "/a", "A-B-C", "-A", "A-", "A_B", ".A", "A.", "A B", "A\n", "Å", "*"]


@pytest.mark.parametrize("symbol", BAD_SYMBOLS)
def test_symbols_that_cannot_name_a_folder_are_refused(symbol):
    with pytest.raises(BadData, match="cannot be stored"):
        folder_of(symbol)


@pytest.mark.parametrize("folder", ["", "..", "a/b", "A_B_C", "A-B", "_A", "A_"])
def test_folders_of_no_symbol_are_refused(folder):
    with pytest.raises(BadData, match="belongs to no symbol"):
        symbol_of(folder)
