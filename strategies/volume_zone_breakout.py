"""Breakouts above the zone in which the volume was traded."""

from pydantic import Field

from strategies.bars import Bars
from strategies.base import Signals, Strategy
from strategies.bits import Bits, above


class VolumeZoneBreakout(Strategy):
    """Buy a close above the top volume zone of the bars before, and leave after a fixed time; long only.

    The range of the last `volume_window` bars, the current one excluded, is cut into `num_bins` equal bins, and
    the volume of each bar spread evenly over its own range. Cumulated from the top bin down, the bin that
    reaches `top_percentile` of the volume has the resistance as its lower edge.
    """

    volume_window: int = Field(60, ge=1, le=100_000, description="Bars in the volume profile.")
    top_percentile: float = Field(
        0.2, gt=0.0, le=1.0, description="Fraction of the window's volume that lies above the resistance."
    )
    breakout_buffer: float = Field(
        0.01, ge=0.0, le=1.0, description="How far above the resistance the close has to be, as a fraction."
    )
    hold_period_bars: int = Field(1, ge=1, le=1_000_000, description="Bars from the entry to the exit.")
    num_bins: int = Field(20, ge=1, le=1_000, description="Price bins of the volume profile.")
    include_wicks: bool = Field(True, description="Spread volume over high to low, not over the body alone.")

    def signals(self, bars: Bars) -> Signals:
        point = self.volume_window, self.top_percentile, self.num_bins, self.include_wicks
        key = ("volume_zone_breakout", *point, self.breakout_buffer)
        return Signals(entries=bars.cached(key, lambda: self._breakouts(bars)), hold=self.hold_period_bars)

    def _breakouts(self, bars: Bars) -> Bits:
        point = self.volume_window, self.top_percentile, self.num_bins, self.include_wicks
        return above(bars.close, bars.volume_zone(*point) * (1.0 + self.breakout_buffer))
