"""Small sweeps on the bundled data, and a strategy that misbehaves as it is told."""

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross

DATA = Path(__file__).parents[2] / "data"


def small(store: Path, **changes: Any) -> dict[str, Any]:
    """sma_cross on two symbols, 2 x 190 numbers of which some are holes."""
    sweep: dict[str, Any] = {
        "name": "small",
        "strategy": "sma_cross",
        "data": {"store": str(DATA), "symbols": ["AAPL", "IBM"], "timeframes": ["1D"]},
        "space": {"fast": {"range": [2, 20, 1]}, "slow": {"range": [5, 50, 5]}},
        "constraints": ["fast < slow"],
        "validation": {"blocks": 8, "holdout": 0.2},
        "results": {"store": str(store), "keep_best": 3},
    }
    return {**sweep, **changes}


WORKING = r"ray::\S+ trials$"
"""What a worker calls its process while it evaluates a unit: see `grid.cluster.names`. Else it is a `Worker`."""
WORKER, AGGREGATOR = rf"ray::Worker|{WORKING}", "ray::AggregatorActor"


def actors(title: str) -> list[int]:
    """Pids of the processes below this one that call themselves so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(re.match(title, name) for name in process.cmdline()[:1]):
                found.append(process.pid)
    return found


class Slow(Strategy):
    """`sma_cross` that takes its time, as long as the file `until` is not there."""

    fast: int = Field(10, ge=1, le=1000)
    slow: int = Field(30, ge=1, le=1000)
    pause_ms: float = Field(5.0, ge=0, le=1000)
    until: str = ""

    def signals(self, bars: Bars) -> Signals:
        if not (self.until and Path(self.until).exists()):
            time.sleep(self.pause_ms / 1000)
        return cross(bars.sma(self.fast), bars.sma(self.slow))


class Deadly(Strategy):
    """Kills its process at one parameter, the first `lives` times (counted by files in `folder`)."""

    fast: int = Field(10, ge=1, le=1000)
    deadly: int = Field(7, ge=0, le=1000)
    lives: int = Field(1, ge=0, le=100)
    folder: str = ""

    def signals(self, bars: Bars) -> Signals:
        if self.fast == self.deadly and self._another_life():
            os.kill(os.getpid(), signal.SIGKILL)
        return cross(bars.sma(self.fast), bars.sma(50))

    def _another_life(self) -> bool:
        if not Path("/proc/self/cmdline").read_bytes().startswith(b"ray::"):
            return False  # the driver rehearses the same trials and is not what this test is about
        used = Path(self.folder)
        if len(list(used.iterdir())) >= self.lives:
            return False
        (used / f"{time.time_ns()}").touch()
        return True
