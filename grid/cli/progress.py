"""Progress of a sweep: a bar with rate, ETA, failures and best so far on a terminal, a quiet line off one."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from numba.core.event import Listener, install_listener
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from grid import aggregate
from grid.account import Limits
from grid.cli.output import messages, tell
from grid.engine.kernel import simulate
from grid.logs import json_wanted
from grid.plan import Plan
from grid.sweep import Watch
from grid.telemetry import Telemetry

LINE_EVERY_S = 10.0
STOPPING = b"stopping: finishing the units in flight (again to stop at once)\n"
"""Written past the console, which the signal may have interrupted while it was printing."""


class _Compiling(Listener):
    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"] is simulate:
            tell("compiling the engine for this processor, once on this machine: some ten seconds")

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def compiling_told() -> Iterator[None]:
    """Within the block, who sits at a terminal is told where the engine must be compiled first."""
    with install_listener("numba:compile", _Compiling()) if messages.is_terminal else nullcontext():
        yield


class Meter:
    """Shows how far a session is, by the work and not by the trials, of which successive halving has cheap ones first.

    already: trial numbers that were done before, holes included.
    """

    def __init__(self, plan: Plan, already: int, minimise: bool, quiet: bool) -> None:
        self._plan, self._already = plan, already
        self._sign = -1.0 if minimise else 1.0
        self._quiet = quiet
        self._draws = messages.is_terminal and not json_wanted()
        self._began = self._printed = time.monotonic()
        self._bar = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[facts]}"),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=messages,
            disable=quiet or not self._draws,
        )
        self._task = self._bar.add_task("", total=1, facts="")
        self._bar.update(self._task, completed=plan.work_done(already))

    def update(self, progress: aggregate.Progress) -> None:
        """Take in the newest progress."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (progress.done - self._already) / seconds
        best = f", best {self._sign * progress.best[0]:.4g}" if progress.best else ""
        failed = f", {progress.failed:,} failed" if progress.failed else ""
        facts = f"{progress.ok + progress.failed:,} trials, {rate:,.0f}/s{failed}{best}"
        part = self._plan.work_done(progress.done)
        self._bar.update(self._task, completed=part, facts=facts)
        if not self._quiet and not self._draws and time.monotonic() - self._printed >= LINE_EVERY_S:
            self._printed = time.monotonic()
            gained = part - self._plan.work_done(self._already)
            left = f", {(1 - part) / gained * seconds:,.0f} s left" if gained > 0 else ""
            counts = {"done": progress.done, "total": self._plan.total, "ok": progress.ok, "failed": progress.failed}
            tell(f"{100 * part:.0f} %: {facts}{left}", None, **counts)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within the block the bar is on the terminal."""
        with self._bar:
            yield

    @contextmanager
    def watching(self, telemetry: Telemetry | None = None, limits: Limits | None = None) -> Iterator[Watch]:
        """A watch for an executor: the first SIGINT or SIGTERM asks to finish what is in flight, the second ends it."""
        asked = False

        def stop(_number: int, _frame: FrameType | None) -> None:
            nonlocal asked
            if asked:
                raise KeyboardInterrupt
            asked = True
            os.write(2, b"\n" + STOPPING if messages.is_terminal else STOPPING)

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with self._bar:
                yield Watch(self.update, lambda: asked, telemetry or Telemetry(), limits or Limits())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
