"""Trends by the convergence and divergence of two averages."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy, cross


class MacdTrend(Strategy):
    """Long from a cross of the MACD line above its signal to the cross back; short the other way round.

    A sweep wants the constraint `fast < slow`: with `fast > slow` the line has the opposite sign, with equal
    windows it is 0 and nothing ever crosses.
    """

    fast: int = Field(12, ge=1, le=100_000, description="Window of the fast exponential average, in bars.")
    slow: int = Field(26, ge=1, le=100_000, description="Window of the slow exponential average, in bars.")
    signal: int = Field(9, ge=1, le=100_000, description="Window of the line's own average, in bars.")

    def signals(self, bars: Bars) -> Signals:
        histogram = bars.macd(self.fast, self.slow, self.signal)[2]
        return cross(histogram, 0.0)  # one row to read where line and signal are two
