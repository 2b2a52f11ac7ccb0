"""A strategy that goes wrong in the way it is told."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Odd(BaseException):
    """Not even an Exception."""


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def _raise(error: BaseException) -> Any:
    raise error


def _recurse(n: int) -> int:
    return _recurse(n + 1) + 1


def _interrupted() -> Any:
    os.kill(os.getpid(), signal.SIGUSR1)
    return Signals()


WAYS: dict[str, Callable[[Bars], Any]] = {
    "raises": lambda _: 1 / 0,
    "in a library": lambda bars: bars.sma(-1),
    "path": lambda _: Path("/nowhere/at/all/x-1.csv").read_text(),
    "folder": lambda _: _raise(ValueError("see /srv/lib/a.py: 1/2, and/or https://x.org/a/b")),
    "address": lambda _: _raise(KeyError(object())),
    "long": lambda _: _raise(ValueError("x" * 10_000)),
    "surrogate": lambda _: _raise(ValueError("a\udc80b")),
    "unreadable": lambda _: _raise(UnreadableError()),
    "shape": lambda bars: Signals(entries=np.zeros(len(bars) + 1, np.bool_)),
    "type": lambda bars: Signals(entries=np.zeros(len(bars))),
    "none": lambda _: None,
    "exit": lambda _: sys.exit(3),
    "odd": lambda _: _raise(Odd("odd")),
    "memory": lambda _: _raise(MemoryError()),
    "recursion": lambda _: _recurse(0),
    "keyboard": lambda _: _raise(KeyboardInterrupt()),
    "signal": lambda _: _interrupted(),
}


class Wild(Strategy):
    """A cross of averages, or what `way` says; always wrong where `fast` is `bad`."""

    fast: int = Field(5, ge=1, le=500)
    slow: int = Field(20, ge=1, le=500)
    stop: float | None = Field(None, gt=0, lt=1)
    bad: int = Field(0, ge=0, le=500)
    way: str = ""

    def signals(self, bars: Bars) -> Signals:
        if self.way:
            given: Signals = WAYS[self.way](bars)
            return given
        if self.fast == self.bad:
            raise ValueError(f"{self.fast} is bad")
        up = cross(bars.sma(self.fast), bars.sma(self.slow))
        return Signals(up.entries, up.exits, stop_loss=self.stop)
