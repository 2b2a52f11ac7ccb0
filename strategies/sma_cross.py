"""The classic: two simple moving averages."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy, cross


class SmaCross(Strategy):
    """Long from a cross of the fast average above the slow one to the cross back; short the other way round.

    A sweep wants the constraint `fast < slow`: with `fast > slow` the sides are exchanged, with equal windows
    nothing ever crosses.
    """

    fast: int = Field(10, ge=1, le=100_000, description="Window of the fast average, in bars.")
    slow: int = Field(30, ge=1, le=100_000, description="Window of the slow average, in bars.")

    def signals(self, bars: Bars) -> Signals:
        return cross(bars.sma(self.fast), bars.sma(self.slow))
