"""Breakouts of the price channel."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits, above, below


class DonchianBreakout(Strategy):
    """Buy a close above the highest high of the bars before, leave below the lowest low; short mirrored.

    A sweep usually wants the constraint `exit_window <= window`.
    """

    window: int = Field(20, ge=1, le=100_000, description="Bars before the current one that an entry breaks.")
    exit_window: int = Field(10, ge=1, le=100_000, description="Bars before the current one that an exit breaks.")

    def signals(self, bars: Bars) -> Signals:
        return Signals(
            entries=_above_channel(bars, self.window),
            exits=_below_channel(bars, self.exit_window),
            short_entries=_below_channel(bars, self.window),
            short_exits=_above_channel(bars, self.exit_window),
        )


def _above_channel(bars: Bars, n: int) -> Bits:
    return bars.cached(("above channel", n), lambda: above(bars.close, bars.previous_highest(n)))


def _below_channel(bars: Bars, n: int) -> Bits:
    return bars.cached(("below channel", n), lambda: below(bars.close, bars.previous_lowest(n)))
