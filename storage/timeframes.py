"""The words a dataset is named with: timeframes, calendars, symbols and their folders."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from storage.errors import BadData

DAY_S = 86_400
TIMEFRAMES: dict[str, int] = {
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1_800,
    "1H": 3_600,
    "4H": 14_400,
    "1D": DAY_S,
    "1W": 7 * DAY_S,
}


@dataclass(frozen=True)
class Calendar:
    """How much a market trades: days a year and a week, hours a day. Holidays are not modelled."""

    days_per_year: float
    days_per_week: float
    hours_per_day: float


CALENDARS: dict[str, Calendar] = {"24/7": Calendar(365, 7, 24), "XNYS": Calendar(252, 5, 6.5)}

# One dash separates quote and base (KRW-BTC); folders use an underscore, so a symbol may not hold one.
_PART = r"[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*"
_SYMBOL = re.compile(rf"({_PART})(?:-({_PART}))?")
_FOLDER = re.compile(rf"({_PART})(?:_({_PART}))?")


def nearest(word: str, known: Iterable[str]) -> str:
    """A closing hint: the nearest known word, or all of them; empty when nothing is known."""
    words = list(known)
    by_lower = {w.lower(): w for w in reversed(words)}
    match = get_close_matches(word.lower(), by_lower, n=1)
    if match:
        return f"; did you mean {by_lower[match[0]]!r}?"
    return f"; known: {', '.join(words[:12])}{', ...' if len(words) > 12 else ''}." if words else "."


def seconds_of(timeframe: str) -> int:
    """Length of one bar in seconds. Raises `BadData` for an unknown timeframe."""
    if timeframe not in TIMEFRAMES:
        raise BadData(f"Timeframe {timeframe!r} is not one of {' '.join(TIMEFRAMES)}{nearest(timeframe, TIMEFRAMES)}")
    return TIMEFRAMES[timeframe]


def calendar_of(name: str) -> Calendar:
    """The named calendar. Raises `BadData` for an unknown one, listing the known."""
    if name not in CALENDARS:
        raise BadData(f"Calendar {name!r} is unknown; known: {', '.join(CALENDARS)}.")
    return CALENDARS[name]


def bars_per_year(timeframe: str, calendar: str) -> float:
    """Bars of `timeframe` in a year of `calendar`, for annualising (24/7 1H: 8760; XNYS 1D: 252)."""
    seconds, market = seconds_of(timeframe), calendar_of(calendar)
    if seconds > DAY_S:
        return 365 * DAY_S / seconds  # a year has as many weeks whatever the holidays
    if seconds == DAY_S:
        return float(market.days_per_year)
    return market.days_per_year * market.hours_per_day * 3_600 / seconds


def folder_of(symbol: str) -> str:
    """Folder of a symbol: KRW-BTC -> BTC_KRW, AAPL -> AAPL. Raises `BadData` for a symbol that cannot."""
    match = _SYMBOL.fullmatch(symbol)
    if not match:
        raise BadData(
            f"Symbol {symbol!r} cannot be stored: it may hold ASCII letters, digits, inner dots and one dash "
            "(AAPL, BRK.B, KRW-BTC)."
        )
    quote, base = match.groups()
    return f"{base}_{quote}" if base else quote


def symbol_of(folder: str) -> str:
    """Symbol of a folder, the inverse of `folder_of`. Raises `BadData` for a folder no symbol has."""
    match = _FOLDER.fullmatch(folder)
    if not match:
        raise BadData(f"Folder {folder!r} belongs to no symbol; expected a name like AAPL or BTC_KRW.")
    base, quote = match.groups()
    return f"{quote}-{base}" if quote else base
