"""A strategy that takes its time where the environment says so, with the same rows as where it does not."""

import os
import time

from pydantic import Field

from strategies import Bars, Signals, Strategy, cross

PAUSE_VARIABLE = "CHAOS_PAUSE_MS"


class Paced(Strategy):
    """Long from a cross of the fast average above the slow one to the cross back."""

    fast: int = Field(10, ge=1, le=1000)
    slow: int = Field(30, ge=1, le=1000)

    def signals(self, bars: Bars) -> Signals:
        time.sleep(float(os.environ.get(PAUSE_VARIABLE, "0")) / 1000)
        return cross(bars.sma(self.fast), bars.sma(self.slow))
