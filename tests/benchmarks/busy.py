"""How busy searches that ask round by round keep the cores: `python -m tests.benchmarks.busy` prints a table.

A trial takes so long here that evaluating a round takes more than 20 times as long as asking for it, for every method.
"""

import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import Field

from grid.aggregate import Progress
from grid.cluster.connect import connected
from grid.observe import KERNEL
from grid.searchspec import ADAPTIVE
from grid.spec import ClusterSpec
from grid.sweep import Watch, run
from grid.telemetry import Metric, Telemetry
from strategies import Bars, Signals, Strategy

from .made import store_bars
from .scale import CORES

BARS, SYMBOLS = 5_256_000, ("M1", "M2")
POINTS, ROUND = 120, 40


class Plain(Strategy):
    """A cross of two averages in calm times, in plain NumPy, which takes some 40 ns a bar."""

    fast: int = Field(10, ge=1, le=5000, description="Window of the fast average, in bars.")
    slow: int = Field(30, ge=1, le=9000, description="Window of the slow average, in bars.")

    def signals(self, bars: Bars) -> Signals:
        fast, slow = _average(bars.close, self.fast), _average(bars.close, self.slow)
        moves = np.diff(np.log(bars.close), prepend=np.nan)
        moves[0] = 0.0
        wild = np.sqrt(np.maximum(_average(moves**2, self.slow) - _average(moves, self.slow) ** 2, 0.0))
        calm = wild <= _average(np.nan_to_num(wild), self.slow)
        entries, exits = np.zeros(len(bars), bool), np.zeros(len(bars), bool)
        entries[1:] = (fast[1:] > slow[1:]) & (fast[:-1] <= slow[:-1]) & calm[1:]
        exits[1:] = (fast[1:] < slow[1:]) & (fast[:-1] >= slow[:-1])
        return Signals(entries, exits)


def _average(x: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    sums = np.cumsum(np.concatenate([[0.0], x]))
    return np.concatenate([np.full(n - 1, np.nan), (sums[n:] - sums[:-n]) / n])


class Moment(NamedTuple):
    """Of the clock, and of all the machine's cores' idle seconds."""

    at: float
    idle_s: float


def moment() -> Moment:
    spent = psutil.cpu_times()
    return Moment(time.monotonic(), spent.idle + spent.iowait)


@dataclass(eq=False)
class Clock(logging.Handler):
    """When rounds were asked for and units ended: a handler of the log of `grid.rounds`, and a sink of telemetry."""

    asked: list[tuple[Moment, float]] = field(default_factory=list)
    """The last commit before each round was asked for, and how long asking took."""
    units: list[tuple[float, float]] = field(default_factory=list)
    """When each unit was heard of, and its CPU seconds."""
    last: Moment = field(default_factory=moment)
    """Of the newest commit; in the end that of the search."""

    def __post_init__(self) -> None:
        super().__init__(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("round ") and isinstance(record.args, tuple):
            self.asked.append((self.last, float(str(record.args[-1]))))

    def record(self, metric: Metric, value: float, _labels: Mapping[str, str]) -> None:
        if metric.name == KERNEL:
            self.units.append((time.monotonic(), value))

    def progressed(self, _progress: Progress) -> None:
        self.last = moment()

    def row(self) -> str:
        """Of all rounds but the first, in which the workers start: from the last commit before them to the last one.

        Cells: seconds of asking and of evaluating a round, their ratio, the part of the cores' time that was
        CPU time in units, and the part that was not idle, whoever had it.
        """
        (began, idle), rounds = self.asked[1][0], len(self.asked) - 1
        asking, wall = sum(each for _, each in self.asked[1:]), self.last.at - began
        evaluating = wall - asking
        busy = 1.0 - (self.last.idle_s - idle) / wall / psutil.cpu_count()
        units = sum(seconds for when, seconds in self.units if when >= began) / wall / CORES
        ratio = evaluating / asking
        return f"{asking / rounds:.2f} | {evaluating / rounds:.1f} | {ratio:,.0f} | {units:.1%} | {busy:.1%}"


def searched(folder: Path, method: str) -> str:
    """One search on Ray, with the cells of its row."""
    clock, telemetry = Clock(), Telemetry()
    rounds = logging.getLogger("grid.rounds")
    rounds.setLevel(logging.INFO)
    rounds.addHandler(clock)
    sweep = {
        "name": method,
        "strategy": "tests.benchmarks.busy:Plain",
        "data": {"store": str(folder / "data"), "symbols": list(SYMBOLS), "timeframes": ["1m"]},
        "space": {"fast": {"range": [5, 4000, 1]}, "slow": {"range": [50, 9000, 1]}},
        "search": {"method": method, "trials": POINTS, "round": ROUND},
        "results": {"store": str(folder / "results"), "reuse": False},
    }
    try:
        with telemetry.also(clock):
            run(sweep, "ray", Watch(progress=clock.progressed, telemetry=telemetry))
    finally:
        rounds.removeHandler(clock)
    return clock.row()


def main() -> None:
    """One row a method."""
    with tempfile.TemporaryDirectory() as name, connected(ClusterSpec(cpus=CORES)):
        for symbol in SYMBOLS:
            store_bars(Path(name) / "data", "1m", BARS, symbol)
        print("| method | asking, s a round | evaluating | ratio | in units | not idle |\n|---|---|---|---|---|---|")
        for method in ADAPTIVE:
            print(f"| `{method}` | {searched(Path(name), method)} |", flush=True)


if __name__ == "__main__":
    main()
