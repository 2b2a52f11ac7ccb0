"""Processes of a play, and what they leave."""

import re
import signal
from contextlib import suppress
from pathlib import Path

import psutil


def runs(process: psutil.Popen) -> bool:
    return process.poll() is None


def python_of(driver: psutil.Popen) -> list[psutil.Process]:
    """The driver itself, which what enters a namespace has as its child."""
    with suppress(psutil.Error):
        return [p for p in [*driver.children(recursive=True), driver] if "grid" in p.cmdline() and "-m" in p.cmdline()]
    return []


def listens(process: psutil.Process) -> bool:
    """Whether it has a handler for SIGTERM yet; before, the signal ends it as it ends any process that begins."""
    with suppress(OSError):
        caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def end(driver: psutil.Popen) -> None:
    with suppress(psutil.Error):
        for process in [*driver.children(recursive=True), driver]:
            process.kill()
    driver.wait(20)


SHARED = Path("/dev/shm")  # noqa: S108 - where Ray keeps its object store on Linux


def shared_memory() -> set[str]:
    """Objects in shared memory that no process has open: what is left of somebody."""
    names = {entry.name for entry in SHARED.iterdir()} if SHARED.is_dir() else set()
    opened = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = link.readlink()
            if target.parent == SHARED:
                opened.add(target.name)
    return names - opened
