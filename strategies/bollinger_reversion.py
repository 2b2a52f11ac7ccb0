"""Reversion from the Bollinger bands to their middle."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits, above, below


class BollingerReversion(Strategy):
    """Buy a close below the lower band, leave above the middle; short above the upper band, mirrored."""

    window: int = Field(20, ge=2, le=100_000, description="Window of the average and of the deviation, in bars.")
    num_std: float = Field(
        2.0, gt=0.0, le=100.0, description="Distance of the bands in population standard deviations."
    )

    def signals(self, bars: Bars) -> Signals:
        n, k = self.window, self.num_std
        entries, short_entries = bars.cached(("outside bands", n, k), lambda: _outside_bands(bars, n, k))
        exits, short_exits = bars.cached(("beside the average", n), lambda: _beside_average(bars, n))
        return Signals(entries, exits, short_entries, short_exits)


def _outside_bands(bars: Bars, n: int, k: float) -> tuple[Bits, Bits]:
    upper, _, lower = bars.bollinger(n, k)
    return below(bars.close, lower), above(bars.close, upper)


def _beside_average(bars: Bars, n: int) -> tuple[Bits, Bits]:
    middle = bars.sma(n)
    return above(bars.close, middle), below(bars.close, middle)
