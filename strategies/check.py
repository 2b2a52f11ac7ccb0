"""Certification of a strategy: no look-ahead, deterministic, of the right shape, safe to send to a worker."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import ValidationError

from strategies.bars import COLUMNS, Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits
from strategies.errors import StrategyCheckError, StrategyError
from strategies.registry import BOUNDS

MASKS = ("entries", "exits", "short_entries", "short_exits")
SIZE = 1_500
CUTS_PER_MASK = 8
SPREAD_CUTS = 8
GLANCE_S = 0.2
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `rule`: build, bounds, frozen, raises, shape, silent, look-ahead, random, pickle."""

    rule: str
    text: str


def check_strategy(cls: type[Strategy], bars: Bars | None = None, **params: Any) -> None:
    """Certify `cls` with the parameters `params` (else its defaults) on `bars` (else on `sample_bars()`).

    Raises StrategyCheckError with every finding of `find_faults`; returns where there is none.
    """
    faults = find_faults(cls, bars, **params)
    if faults:
        lines = "".join(f"\n  {fault.rule}: {fault.text}" for fault in faults)
        raise StrategyCheckError(f"{cls.__module__}.{cls.__qualname__} is not fit for a sweep:{lines}")


def find_faults(cls: type[Strategy], bars: Bars | None = None, **params: Any) -> list[Finding]:
    """All that is wrong with a strategy, without raising for it.

    Look-ahead is looked for where there are signals: the data is cut after (and before) some of them, and what
    follows the cut is altered; the signals up to the cut have to stay. Bars on which it never trades prove
    nothing, which is a finding too.
    """
    faults = list(_faults_of_class(cls))
    try:
        strategy = cls(**params)
    except (ValidationError, TypeError) as error:
        return [*faults, Finding("build", f"{params or 'defaults'} refused: {_refusal(error)}")]
    return faults + list(_faults_of(strategy, sample_bars() if bars is None else bars))


def doubt(strategy: Strategy, bars: Bars) -> Finding | None:
    """A sign that results of the strategy mean nothing: it is not the same twice (random), or looks ahead.

    A glance at the last `SIZE` of its bars, which ends after `GLANCE_S`: `find_faults` looks at more. None where it
    finds neither, and where signals raise, are none, or take so long that a glance shows nothing.
    """
    began, some = time.monotonic(), bars.slice(max(len(bars) - SIZE, 0), len(bars))
    signals = _signals(strategy, some, "on the last bars")
    if isinstance(signals, Finding) or time.monotonic() - began > GLANCE_S / 2:
        return None
    for found in _faults_of_repetition(strategy, some, signals):
        if found.rule == "random":
            return found
    for cut in _cuts(signals, len(some)):
        for found in _look_aheads(strategy, some, signals, [cut]):
            if found.rule == "look-ahead":
                return found
        if time.monotonic() - began > GLANCE_S:
            break
    return None


def sample_bars(size: int = SIZE, seed: int = 7) -> Bars:
    """Daily bars of a random walk with trends, a flat stretch, jumps and bars without volume."""
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, 0.02, size) + 0.01 * np.sin(np.arange(size) / 25.0)
    steps[size // 3 : size // 3 + size // 50] = 0.0
    close = 100.0 * np.exp(np.cumsum(steps))
    open_ = np.concatenate([close[:1], close[:-1]]) * (1.0 + random.normal(0.0, 0.002, size))
    high = np.maximum(open_, close) * (1.0 + random.exponential(0.005, size))
    low = np.minimum(open_, close) * (1.0 - np.minimum(random.exponential(0.005, size), 0.5))
    volume = random.lognormal(5.0, 0.8, size) * (random.random(size) > 0.02)
    days = np.arange(size, dtype=np.int64) * DAY_NS
    return Bars("SAMPLE", "1D", "24/7", 365.0, days, open_, high, low, close, volume)


def _faults_of_class(cls: type[Strategy]) -> Iterator[Finding]:
    for name, field in cls.model_json_schema().get("properties", {}).items():
        for form in field.get("anyOf", [field]):
            if form.get("type") in ("integer", "number") and not any(bound in form for bound in BOUNDS):
                text = f"{name} has no bounds; declare them, as in {name}: int = Field(10, ge=1, le=500)"
                yield Finding("bounds", text)
    if not cls.model_config.get("frozen") or cls.model_config.get("extra") != "forbid":
        yield Finding("frozen", "model_config has to keep frozen=True and extra='forbid'")


def _refusal(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):  # an abstract class
        return str(error)
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())


def _faults_of(strategy: Strategy, bars: Bars) -> Iterator[Finding]:
    yield from _faults_on_odd_bars(strategy, bars)
    signals = _signals(strategy, bars, f"on {len(bars)} bars")
    if isinstance(signals, Finding):
        yield signals
        return
    if not any(mask.count() for mask in _masks(signals)):
        yield Finding("silent", "no signal on these bars, which proves nothing; pass bars or parameters that trade")
    random = list(_faults_of_repetition(strategy, bars, signals))
    yield from random
    if not random:
        yield from _look_aheads(strategy, bars, signals, _cuts(signals, len(bars)))
    yield from _faults_of_pickling(strategy, bars, None if random else signals)


def _faults_on_odd_bars(strategy: Strategy, bars: Bars) -> Iterator[Finding]:
    """Too few bars for any window, and prices that never move."""
    for size in (0, 1, 2):
        signals = _signals(strategy, bars.slice(0, size), f"on {size} bars")
        if isinstance(signals, Finding):
            yield signals
    flat = np.full(len(bars), 100.0)
    still = replace(bars, open=flat, high=flat, low=flat, close=flat, volume=flat)
    signals = _signals(strategy, still, "on bars whose prices never move")
    if isinstance(signals, Finding):
        yield signals


def _faults_of_repetition(strategy: Strategy, bars: Bars, signals: Signals) -> Iterator[Finding]:
    """The same again; on a fresh copy of the bars, after others; by a strategy built anew."""
    fresh = bars.slice(0, len(bars))
    _signals(strategy, bars.slice(0, len(bars) // 2), "on half the bars")
    twin = type(strategy)(**strategy.model_dump())
    cases = [(strategy, bars, "a second time"), (strategy, fresh, "on a copy"), (twin, fresh, "by a twin")]
    for which, data, how in cases:
        again = _signals(which, data, how)
        if isinstance(again, Finding):
            yield again
        elif (found := _difference(signals, again, len(bars))) is not None:
            yield Finding("random", f"computed {how}, {found[1]}; signals have to be a pure function")
            return


def _look_aheads(strategy: Strategy, bars: Bars, signals: Signals, cuts: list[int]) -> Iterator[Finding]:
    """The first finding of each field; what raises is one field more."""
    seen: set[str] = set()
    for cut in cuts:
        for data, what in ((bars.slice(0, cut), "ends"), (_altered(bars, cut), "changes")):
            field, finding = _look_ahead(strategy, data, signals, cut, f"where the data {what} after bar {cut - 1}")
            if finding is not None and field not in seen:
                seen.add(field)
                yield finding


def _look_ahead(strategy: Strategy, data: Bars, signals: Signals, cut: int, where: str) -> tuple[str, Finding | None]:
    known = _signals(strategy, data, where)
    if isinstance(known, Finding):
        return known.rule, known
    field, change = _difference(signals, known, cut) or ("", "")
    text = f"{where}, {change}; a signal may use no bar after its own"
    return field, Finding("look-ahead", text) if field else None


def _cuts(signals: Signals, n: int) -> list[int]:
    """Bars known: just after and just before some signals of each mask, and some places in between."""
    cuts = set(np.linspace(1, n - 1, SPREAD_CUTS, dtype=int).tolist()) if n > 1 else set()
    for mask in _masks(signals):
        bars = mask.indices()
        for bar in bars[np.linspace(0, len(bars) - 1, CUTS_PER_MASK, dtype=int)] if len(bars) else ():
            cuts |= {int(bar), int(bar) + 1}
    return sorted(cut for cut in cuts if 0 < cut < n)


def _altered(bars: Bars, cut: int) -> Bars:
    """The bars up to `cut`, and then others: the future backwards, at three times the price and volume."""
    columns: dict[str, Any] = {name: getattr(bars, name) for name in COLUMNS}
    columns = {name: np.append(row[:cut], 3.0 * row[cut:][::-1]) for name, row in columns.items()}
    return replace(bars, **columns)


def _faults_of_pickling(strategy: Strategy, bars: Bars, signals: Signals | None) -> Iterator[Finding]:
    """Whether it can be sent, and gives the `signals` after; None where they are no guide."""
    try:
        arrived = pickle.loads(pickle.dumps(strategy))  # noqa: S301 -- our own bytes
    except Exception as error:  # noqa: BLE001 -- pickling runs the author's code; whatever it raises is the finding
        yield Finding("pickle", f"cannot be sent to a worker: {type(error).__name__}: {error}")
        return
    if signals is None:
        return
    again = _signals(arrived, bars, "after the way to a worker")
    if isinstance(again, Finding):
        yield again
    elif (found := _difference(signals, again, len(bars))) is not None:
        yield Finding("pickle", f"after the way to a worker, {found[1]}")


def _signals(strategy: Strategy, bars: Bars, when: str) -> Signals | Finding:
    """The normalised signals, or what is wrong with them."""
    try:
        given = strategy.signals(bars)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- the author's code; what it raises is the finding
        return Finding("raises", f"{when}: {type(error).__name__}: {error}")
    if not isinstance(given, Signals):
        return Finding("shape", f"{when}: signals() has to return Signals, got {type(given).__name__}")
    try:
        return given.normalised(len(bars))
    except StrategyError as error:
        return Finding("shape", f"{when}: {error}")


def _difference(one: Signals, other: Signals, upto: int) -> tuple[str, str] | None:
    """The first field that differs in the bars before `upto`, and how."""
    for field in MASKS:
        a, b = (getattr(signals, field).unpack()[:upto] for signals in (one, other))
        if not np.array_equal(a, b):
            bar = int(np.flatnonzero(a != b)[0])
            change = "disappears" if a[bar] else "appears"
            return field, f"a signal of {field} at bar {bar} {change}"
    for field in ("hold", "stop_loss", "take_profit", "trailing_stop", "cooldown"):
        if getattr(one, field) != getattr(other, field):
            return field, f"{field} is {getattr(other, field)!r} and no longer {getattr(one, field)!r}"
    return None


def _masks(signals: Signals) -> list[Bits]:
    return [getattr(signals, field) for field in MASKS]
