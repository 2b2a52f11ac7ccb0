"""`grid doctor`: whether this machine can run sweeps, and what to do where it cannot."""

import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid.cli.output import emit
from grid.resolve import versions
from storage.errors import StorageError
from storage.ohlcv import OhlcvStore
from storage.providers import provider_for


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`, what was found, and what to do when it is not ok."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def doctor(
    data: Annotated[str, typer.Option(help="The store of bars.", metavar="PATH")] = "data",
    results: Annotated[str, typer.Option(help="The results store.", metavar="PATH")] = "results",
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Check Python, packages, memory, disk and stores; each fault comes with its remedy."""
    checks = [_python(), *_packages(), _shared_memory(), _disk(), _data(data), _results(results)]
    emit([asdict(c) for c in checks], as_json, lambda console: _render(console, checks))
    if not all(c.ok for c in checks):
        raise typer.Exit(2)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _packages() -> list[Check]:
    return [Check(name, True, found) for name, found in versions().items()]


def _shared_memory() -> Check:
    folder = Path("/dev/shm")  # noqa: S108 - where Ray keeps its object store on Linux
    if not folder.is_dir():
        return Check("shared memory", True, "this system has no /dev/shm")
    free = shutil.disk_usage(folder).free
    return Check("shared memory", free > 1e9, f"{free / 1e9:.1f} GB free", "give /dev/shm more, Ray shares bars there")


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return Check("disk", free > 2e9, f"{free / 1e9:.1f} GB free, {os.cpu_count()} CPUs", "free some disk space")


def _data(uri: str) -> Check:
    try:
        found = OhlcvStore(provider_for(uri)).datasets()
    except StorageError as error:
        return Check("data", False, str(error), "name a store that can be read with --data")
    return Check("data", bool(found), f"{len(found)} datasets in {uri}", "bring some in with `grid data import`")


def _results(uri: str) -> Check:
    provider = provider_for(uri)
    probe = f".probe-{os.getpid()}"
    try:
        fresh = provider.create(probe, b"") and not provider.create(probe, b"")
        provider.delete(probe)
    except StorageError as error:
        return Check("results", False, str(error), "name a store that can be written with --results")
    return Check("results", fresh, f"{uri} can be written", "this store does not keep create-if-absent")


def _render(console: Console, checks: list[Check]) -> None:
    for check in checks:
        console.print(f"{'ok ' if check.ok else 'BAD'} {check.name:>14}  {check.found}", soft_wrap=True)
        if not check.ok:
            console.print(f"{'':>19}{check.remedy}", soft_wrap=True)
