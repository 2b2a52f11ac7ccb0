"""Cost of a trial in one process, through `Strategy.signals` and with all metrics: ns a bar and trial, CPU time."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from grid.engine import METRICS, Engine, Execution
from grid.resolve import load_bars
from strategies import Bars, Strategy
from strategies.bollinger_reversion import BollingerReversion
from strategies.donchian_breakout import DonchianBreakout
from strategies.macd_trend import MacdTrend
from strategies.narrow import WORTH
from strategies.rsi_reversion import RsiReversion
from strategies.sma_cross import SmaCross
from strategies.volume_long_candle import VolumeLongCandle
from strategies.volume_zone_breakout import VolumeZoneBreakout

from .made import store_bars

BLOCKS, ROUNDS = 16, 15
WARM = WORTH + 1
"""Rounds until indicators, and the float32 copies of those that are compared, are all there."""
COSTS: dict[str, Any] = {"fee": 0.0005, "slippage": 0.0002}
MODELS = {
    "long, all-in": Execution(**COSTS),
    "both sides, half": Execution(**COSTS, side="both", size=0.5),
    "stop 5 %, target 10 %": Execution(**COSTS, stop_loss=0.05, take_profit=0.1),
    "trailing stop 5 %": Execution(**COSTS, trailing_stop=0.05),
}


def strategies() -> dict[str, list[Strategy]]:
    """100 points of each shipped strategy."""
    return {
        "sma_cross": [SmaCross(fast=f, slow=s) for f in range(5, 15) for s in range(20, 220, 20)],
        "donchian_breakout": [
            DonchianBreakout(window=w, exit_window=x) for w in range(20, 120, 10) for x in range(5, 15)
        ],
        "rsi_reversion": [RsiReversion(window=w, lower=x) for w in range(5, 25, 2) for x in range(20, 40, 2)],
        "bollinger_reversion": [
            BollingerReversion(window=w, num_std=1 + k / 5) for w in range(10, 60, 5) for k in range(10)
        ],
        "macd_trend": [MacdTrend(fast=f, slow=s) for f in range(5, 15) for s in range(20, 40, 2)],
        "volume_long_candle": [
            VolumeLongCandle(vol_ma_window=w, body_pct=b / 1000) for w in range(5, 55, 5) for b in range(1, 11)
        ],
        "volume_zone_breakout": [
            VolumeZoneBreakout(breakout_buffer=b / 1000, hold_period_bars=h) for b in range(10) for h in range(1, 11)
        ],
    }


def cost(bars: Bars, points: list[Strategy], execution: Execution) -> tuple[float, float]:
    """Median ns per bar and trial over rounds, and closed trades a trial, in steady state."""
    engine = Engine(bars, execution, np.linspace(0, len(bars), BLOCKS + 1).astype(np.int64))
    row, blocks = np.empty(len(METRICS)), np.empty((3, BLOCKS))
    trades = 0.0

    def once() -> None:
        nonlocal trades
        trades = 0.0
        for point in points:
            engine.evaluate(point.signals(bars), row, blocks)
            trades += row[METRICS.index("total_trades")]

    for _ in range(WARM):
        once()
    rounds = [_cpu_seconds(once) for _ in range(ROUNDS)]
    return statistics.median(rounds) / len(points) / len(bars) * 1e9, trades / len(points)


def _cpu_seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def table(folder: Path) -> list[str]:
    """Markdown rows."""
    lines = ["| strategy | bars | execution | ns per bar and trial | trades a trial | us a trial |"]
    lines.append("|---|---|---|---|---|---|")
    hours, days, minutes = (made(folder, *kind) for kind in (("1H", 35_040), ("1D", 3_650), ("1m", 525_600)))
    for name, points in strategies().items():
        lines += [_line(name, hours, points, label) for label in MODELS]
    lines += [_line(name, days, points, "long, all-in") for name, points in strategies().items()]
    lines.append(_line("sma_cross", minutes, strategies()["sma_cross"][::10], "long, all-in"))
    return lines


def made(folder: Path, timeframe: str, count: int) -> Bars:
    store_bars(folder / "data", timeframe, count)
    return load_bars("MADE", timeframe, str(folder / "data"))


def _line(name: str, bars: Bars, points: list[Strategy], label: str) -> str:
    ns, trades = cost(bars, points, MODELS[label])
    return f"| {name} | {len(bars):,} | {label} | {ns:.2f} | {trades:.0f} | {ns * len(bars) / 1e3:,.1f} |"
