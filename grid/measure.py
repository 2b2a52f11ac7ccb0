"""How fast this machine, or a cluster, backtests: one process alone, and all CPUs at once."""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from grid.budget import cpus_here
from grid.engine import METRICS, Engine, Execution
from strategies import Strategy
from strategies.check import sample_bars
from strategies.donchian_breakout import DonchianBreakout
from strategies.sma_cross import SmaCross
from strategies.volume_zone_breakout import VolumeZoneBreakout

BARS, BLOCKS = 35_040, 16
COSTS: dict[str, Any] = {"fee": 0.0005, "slippage": 0.0002}
WARM_S = 0.1


@dataclass(frozen=True)
class Speed:
    """One kind of trial: CPU time, indicators warm, all metrics and 16 blocks."""

    what: str
    ns_per_bar: float
    trials_per_second: float


@dataclass(frozen=True)
class Measured:
    """speeds: of one process. rate_alone, rate_together: trials a wall second of the first kind, in one process, and in
    one a CPU; efficiency: rate_together / (cpus x rate_alone), at most about 1.
    """

    cpus: int
    bars: int
    speeds: list[Speed]
    rate_alone: float
    rate_together: float
    efficiency: float


def measure(seconds: float = 1.0) -> Measured:
    """Measure for about `seconds` a figure. Starts as many processes as there are CPUs."""
    cpus = cpus_here()
    with ProcessPoolExecutor(cpus, mp_context=get_context("spawn")) as pool:
        list(pool.map(rate, [WARM_S] * cpus))  # started and compiled before it counts
        alone = pool.submit(rate, seconds).result()
        together = sum(pool.map(rate, [seconds] * cpus))
    return measured(cpus, speeds(seconds), alone, together)


def measured(cpus: int, found: list[Speed], alone: float, together: float) -> Measured:
    return Measured(cpus, BARS, found, alone, together, together / (cpus * alone))


def speeds(seconds: float) -> list[Speed]:
    """Of this process, `seconds` for each kind of trial."""
    return [_speed(what, points, execution, seconds) for what, points, execution in _kinds()]


def _kinds() -> list[tuple[str, list[Strategy], Execution]]:
    crosses: list[Strategy] = [SmaCross(fast=f, slow=s) for f in range(5, 15) for s in range(20, 220, 20)]
    channels: list[Strategy] = [DonchianBreakout(window=w, exit_window=w // 2) for w in range(20, 120, 2)]
    zones: list[Strategy] = [VolumeZoneBreakout.model_validate({"hold_period_bars": h}) for h in range(1, 51)]
    plain, stops = Execution(**COSTS), Execution(**COSTS, stop_loss=0.05, take_profit=0.1)
    return [
        ("sma_cross, long", crosses, plain),
        ("sma_cross, both sides, half the cash", crosses, Execution(**COSTS, side="both", size=0.5)),
        ("sma_cross, stop and target", crosses, stops),
        ("donchian_breakout, long", channels, plain),
        ("volume_zone_breakout, long", zones, plain),
    ]


def _speed(what: str, points: list[Strategy], execution: Execution, seconds: float) -> Speed:
    run = _Rounds(points, execution)
    run.once()
    costs: list[float] = []
    while not costs or sum(costs) * len(points) < seconds:
        began = time.process_time()
        run.once()
        costs.append((time.process_time() - began) / len(points))
    cost = float(np.median(costs))
    return Speed(what, cost / BARS * 1e9, 1.0 / cost)


def rate(seconds: float) -> float:
    """Trials a wall second of the first kind; in a process of its own."""
    _, points, execution = _kinds()[0]
    run, done = _Rounds(points, execution), 0
    run.once()
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        run.once()
        done += len(points)
    return done / (time.perf_counter() - began)


class _Rounds:
    """Trials on made bars, again and again."""

    def __init__(self, points: list[Strategy], execution: Execution) -> None:
        self.points = points
        self.engine = Engine(sample_bars(BARS), execution, np.linspace(0, BARS, BLOCKS + 1).astype(np.int64))
        self.row, self.blocks = np.empty(len(METRICS)), np.empty((3, BLOCKS))

    def once(self) -> None:
        for point in self.points:
            self.engine.evaluate(point.signals(self.engine.bars), self.row, self.blocks)
