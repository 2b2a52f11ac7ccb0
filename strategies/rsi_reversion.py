"""Reversion of the relative strength index."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits, above, below


class RsiReversion(Strategy):
    """Buy while the index is below `lower`, leave once it is above `exit_level`; short above `upper` likewise.

    Levels, not crosses: flat again while the index is still below `lower`, it buys again. A sweep wants the
    constraints `lower < exit_level` and `exit_level < upper`, else a position is left as soon as it is taken.
    """

    window: int = Field(14, ge=1, le=100_000, description="Window of the index, in bars.")
    lower: float = Field(30.0, ge=0.0, le=100.0, description="Buy below this level of the index.")
    upper: float = Field(70.0, ge=0.0, le=100.0, description="Sell short above this level of the index.")
    exit_level: float = Field(
        50.0, ge=0.0, le=100.0, description="Leave a long position above, and a short one below this level."
    )

    def signals(self, bars: Bars) -> Signals:
        return Signals(
            entries=_rsi_below(bars, self.window, self.lower),
            exits=_rsi_above(bars, self.window, self.exit_level),
            short_entries=_rsi_above(bars, self.window, self.upper),
            short_exits=_rsi_below(bars, self.window, self.exit_level),
        )


def _rsi_below(bars: Bars, window: int, level: float) -> Bits:
    return bars.cached(("rsi below", window, level), lambda: below(bars.rsi(window), level))


def _rsi_above(bars: Bars, window: int, level: float) -> Bits:
    return bars.cached(("rsi above", window, level), lambda: above(bars.rsi(window), level))
