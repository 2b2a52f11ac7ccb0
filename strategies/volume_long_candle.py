"""Long candles on high volume."""

import numpy as np
from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits, Row, at_least


class VolumeLongCandle(Strategy):
    """Buy after a long rising candle on far more than the usual volume; leave after a fixed time; long only."""

    vol_ma_window: int = Field(
        20, ge=1, le=100_000, description="Bars in the average volume, the current one included."
    )
    vol_multiplier: float = Field(
        1.5, ge=0.0, le=1_000.0, description="Least volume, as a multiple of the average volume."
    )
    body_pct: float = Field(
        0.02, ge=0.0, le=10.0, description="Least (close - open) / open of the candle, as a fraction."
    )
    hold_period_bars: int = Field(1, ge=1, le=1_000_000, description="Bars from the entry to the exit.")

    def signals(self, bars: Bars) -> Signals:
        window, multiplier, body = self.vol_ma_window, self.vol_multiplier, self.body_pct
        heavy = bars.cached(
            ("volume at least", window, multiplier),
            lambda: at_least(bars.volume, bars.sma(window, of="volume") * multiplier),
        )
        return Signals(entries=heavy & _long_candles(bars, body), hold=self.hold_period_bars)


def _long_candles(bars: Bars, least: float) -> Bits:
    return bars.cached(("body at least", least), lambda: at_least(_bodies(bars), least))


def _bodies(bars: Bars) -> Row:
    """(close - open) / open of each bar, NaN where the open is 0."""
    return bars.cached(
        "body",
        lambda: np.divide(bars.close - bars.open, bars.open, out=np.full(len(bars), np.nan), where=bars.open != 0.0),
    )
