"""A strategy that does its worst at one parameter."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


def _loop() -> None:
    while True:
        pass


def _eat() -> None:
    """More memory than anything has a right to; whoever watches over it kills the process."""
    held = []
    while True:
        held.append(np.ones(25_000_000))


WORST: dict[str, Callable[[], Any]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": os.abort,
    "leave": lambda: os._exit(0),
    "loop": _loop,
    "sleep": lambda: time.sleep(1e6),
    "eat": _eat,
    "exit": lambda: sys.exit(3),
    "raise": lambda: 1 / 0,
    "shape": lambda: Signals(entries=np.zeros(3, np.bool_)),
}


class Poison(Strategy):
    """A cross of averages, and at `fast == bad` what `way` says; `bad` 0 is everywhere."""

    fast: int = Field(10, ge=1, le=10_000)
    bad: int = Field(7, ge=0, le=10_000)
    way: Literal["kill", "abort", "leave", "loop", "sleep", "eat", "exit", "raise", "shape"] = "raise"

    def signals(self, bars: Bars) -> Signals:
        if self.bad in (0, self.fast):
            given: Signals = WORST[self.way]()
            return given
        return cross(bars.sma(self.fast), bars.sma(50))


class Dawdler(Strategy):
    """A cross of averages; the first that comes to `fast == late` sleeps for ten minutes, told by a file."""

    fast: int = Field(10, ge=1, le=10_000)
    late: int = Field(7, ge=0, le=10_000)
    folder: str = ""

    def signals(self, bars: Bars) -> Signals:
        first = Path(self.folder) / "first"
        if self.fast == self.late and Path("/proc/self/cmdline").read_bytes().startswith(b"ray::"):
            with suppress(FileExistsError):
                first.touch(exist_ok=False)
                time.sleep(600)
        return cross(bars.sma(self.fast), bars.sma(50))
