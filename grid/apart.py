"""Work in a child process, so that what kills it or never ends is an answer and not the end of this process.

The child is a fork: it has the bars and the compiled kernels of this process and costs milliseconds. It must not touch
a store, whose connections belong to the parent.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

SAID, ENDED, BROKEN = "said", "ended", "broken"
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG

Say = Callable[[Any], None]


class Fallen(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The child did not come to its end; `overdue` when it was silent for too long, and else it died."""

    def __init__(self, reason: str, overdue: bool) -> None:
        super().__init__(reason)
        self.overdue = overdue


def answers(work: Callable[[Say], None], silence_s: float) -> Iterator[Any]:
    """What `work` says (JSON), as it says it, from a child process that ends with the iteration.

    Raises Fallen when the child dies, or is silent for `silence_s` seconds. Where the system cannot fork, it is done
    in this process, unprotected.
    """
    if not hasattr(os, "fork"):
        said: list[Any] = []
        work(said.append)
        yield from said
        return
    reading, writing = os.pipe()
    pid = _fork(work, reading, writing)
    try:
        yield from _read(pid, reading, silence_s)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _fork(work: Callable[[Say], None], reading: int, writing: int) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python warns of locks that other threads hold; the child computes, and takes no lock of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_child(work, writing, parent)
    os.close(writing)
    return pid


def _be_the_child(work: Callable[[Say], None], writing: int, parent: int) -> NoReturn:
    """Never returns: nothing of the parent's is to be run twice, neither its handlers nor its exits."""

    def say(kind: str, value: Any = None) -> None:
        os.write(writing, (json.dumps([kind, value]) + "\n").encode())

    try:
        _go_first(parent)
        work(lambda value: say(SAID, value))
        say(ENDED)
    except BaseException:  # noqa: BLE001 - ours to mend; the parent raises it
        say(BROKEN, traceback.format_exc())
    finally:
        os._exit(0)


def _go_first(parent: int) -> None:
    """A crash leaves nothing behind; the child ends with its parent, and before it when memory runs out."""
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both, and it is the parent that decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    if os.getppid() != parent:
        os._exit(0)


def _read(pid: int, reading: int, silence_s: float) -> Iterator[Any]:
    buffer = b""
    until = time.monotonic() + silence_s
    while True:
        line, newline, rest = buffer.partition(b"\n")
        if newline:
            buffer, until = rest, time.monotonic() + silence_s
            kind, value = json.loads(line)
            if kind == ENDED:
                return
            if kind == BROKEN:
                raise RuntimeError(value)
            yield value
            continue
        ready, _, _ = select.select([reading], [], [], max(until - time.monotonic(), 0.0))
        if not ready:
            raise Fallen(f"it took longer than {silence_s:g} s", overdue=True)
        data = os.read(reading, 1 << 16)
        if not data:
            raise Fallen(_cause_of_death(pid), overdue=False)
        buffer += data


def _cause_of_death(pid: int) -> str:
    """Looked at, not buried: the pid stays the child's until it is killed and awaited above."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if ended is None or ended.si_code == os.CLD_EXITED:
        return f"it ended its process (exit code {ended.si_status if ended else 0})"
    return f"it killed its process ({signal.Signals(ended.si_status).name})"
