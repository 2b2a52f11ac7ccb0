"""Strategies that are each wrong in one way, for the checks that have to notice."""

from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from strategies import Bars, Signals, Strategy, above, cross


class _Bad(Strategy):
    n: int = Field(5, ge=1, le=100)


class SeesTomorrow(_Bad):
    def signals(self, bars: Bars) -> Signals:
        tomorrow = np.append(bars.close[1:], bars.close[-1:])
        return Signals(entries=above(tomorrow, bars.close))


class SeesTomorrowInItsExits(_Bad):
    def signals(self, bars: Bars) -> Signals:
        right = cross(bars.close, bars.sma(self.n))
        return Signals(entries=right.entries, exits=np.roll(right.exits.unpack(), -1))


class KnowsTheMean(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(entries=above(bars.close, float(bars.close.mean()) if len(bars) else 0.0))


class KnowsTheNumberOfBars(_Bad):
    def signals(self, bars: Bars) -> Signals:
        entries = np.zeros(len(bars), np.bool_)
        entries[-3:] = True
        return Signals(entries=entries)


class SetsItsStopByTheFuture(_Bad):
    def signals(self, bars: Bars) -> Signals:
        right = cross(bars.close, bars.sma(self.n))
        volatility = float(np.std(bars.close) / 1e6) if len(bars) else 0.01
        return Signals(right.entries, right.exits, stop_loss=min(max(volatility, 1e-9), 0.5))


class Random(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(entries=np.random.random(len(bars)) > 0.5)


class RemembersItsCalls(_Bad):
    def signals(self, bars: Bars) -> Signals:
        calls = bars.cached("calls", list)
        calls.append(1)
        return Signals(entries=above(bars.close, 100.0), hold=len(calls))


class OneBarShort(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(entries=bars.close[1:] > bars.close[:-1])


class SaysItInFloats(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(exits=(bars.close > 1.0).astype(float))


class ReturnsAMask(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return above(bars.close, 1.0)  # type: ignore[return-value]


class HoldsForNothing(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(entries=above(bars.close, 1.0), hold=0)


class NeedsTwoBars(_Bad):
    def signals(self, bars: Bars) -> Signals:
        if len(bars) == 1:
            raise IndexError("no bar before the first")
        return cross(bars.close, bars.sma(self.n))


class DividesByTheRange(_Bad):
    def signals(self, bars: Bars) -> Signals:
        if len(bars) and bars.close.max() == bars.close.min():
            raise ZeroDivisionError("a range of nothing")
        return cross(bars.close, bars.sma(self.n))


class LeavesPython(_Bad):
    """Not on common bars: where prices jump threefold, as they do in a future that was altered, and where none move."""

    def signals(self, bars: Bars) -> Signals:
        if len(bars) and (
            bars.close.max() == bars.close.min() or np.max(bars.close[1:] / bars.close[:-1], initial=1.0) > 2.5
        ):
            raise SystemExit(3)
        return cross(bars.close, bars.sma(self.n))


class WritesOnTheBars(_Bad):
    def signals(self, bars: Bars) -> Signals:
        bars.close[:] = 0.0
        return Signals()


class NeverTrades(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return Signals(entries=above(bars.close, 1e18))


class HasNoBounds(Strategy):
    n: int = 5
    level: float | None = None
    wicks: bool = True

    def signals(self, bars: Bars) -> Signals:
        return cross(bars.close, bars.sma(self.n))


class CannotTravel(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return cross(bars.close, bars.sma(self.n))

    def __getstate__(self) -> dict[Any, Any]:
        raise TypeError("holds an open socket")


class ForgetsOnTheWay(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return cross(bars.close, bars.sma(self.n))

    def __reduce__(self) -> tuple[Any, ...]:
        return ForgetsOnTheWay, ()


class CanBeChanged(_Bad):
    model_config = ConfigDict(frozen=False)

    def signals(self, bars: Bars) -> Signals:
        return cross(bars.close, bars.sma(self.n))


class HasNoSignals(Strategy):
    n: int = Field(5, ge=1)


class Good(_Bad):
    def signals(self, bars: Bars) -> Signals:
        return cross(bars.close, bars.sma(self.n))


class BoolArraysWillDo(_Bad):
    """A strategy in plain numpy, without anything of ours but the columns."""

    def signals(self, bars: Bars) -> Signals:
        risen = np.zeros(len(bars), np.bool_)
        risen[self.n :] = bars.close[self.n :] > bars.close[: max(len(bars) - self.n, 0)]
        return Signals(entries=risen, exits=~risen, stop_loss=0.1, take_profit=2.5, trailing_stop=0.2, cooldown=3)
