"""`grid doctor`: whether this machine can run sweeps, and what to do where it cannot."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid.addresses import jobs_address
from grid.auth import use_token
from grid.checkup import SHARED_MEMORY, Check, authentication, judged
from grid.cli.options import TokenFile
from grid.cli.output import emit, print_wrapped
from grid.partition import missing_settings
from grid.resolve import versions
from storage.errors import StorageError
from storage.ohlcv import OhlcvStore
from storage.providers import provider_for
from strategies.compiling import VARIABLE, in_temporary_folder

CURRENT_CLUSTER = Path("/tmp/ray/ray_current_cluster")  # noqa: S108 - Ray's own name for it
"""Where `ray start` says that this machine belongs to a cluster."""


def doctor(
    data: Annotated[str, typer.Option(help="The store of bars.", metavar="PATH", envvar="DATA_ROOT")] = "data",
    results: Annotated[str, typer.Option(help="The results store.", metavar="PATH")] = "results",
    address: Annotated[
        str | None, typer.Option(help="Check a cluster instead, by its Dashboard (http://HOST:8265).", metavar="URL")
    ] = None,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Check this machine and its stores, or a cluster.

    Python, packages, memory, disk, bars and results; each fault comes with its remedy. Of a cluster every node is
    asked: tokens, versions, object stores, threads, cut links, clocks, and the stores that are named, if nodes can
    reach them.
    """
    checks = _here(data, results) if address is None else _there(jobs_address(address), data, results)
    payload = [{**asdict(c), "remedy": None if c.ok else c.remedy} for c in checks]
    emit(payload, as_json, lambda console: _render(console, checks))
    if not all(c.ok for c in checks):
        raise typer.Exit(2)


def _here(data: str, results: str) -> list[Check]:
    return [
        _python(),
        *_packages(),
        _kernels(),
        _shared_memory(),
        _disk(),
        _partition(os.environ),
        _data(data),
        _results(results),
    ]


def _there(address: str, data: str, results: str) -> list[Check]:
    """Of a cluster. A store in a folder of this machine is none that its nodes reach."""
    tokens = authentication(address)
    use_token()
    from grid.cluster.checkup import ask

    found = ask(address, *(uri if "://" in uri or uri.startswith("/") else None for uri in (data, results)))
    return [tokens, *judged(found, {"python": platform.python_version(), **versions()})]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "python", sys.version_info >= (3, 11), f"{found} on {os.cpu_count()} CPUs", "install Python 3.11 or newer"
    )


def _packages() -> list[Check]:
    return [Check(name, True, found) for name, found in versions().items()]


def _kernels() -> Check:
    """Advice and no fault: a temporary folder works as well until it is emptied."""
    folder = in_temporary_folder()
    if folder is None:
        return Check("kernel cache", True, "compiled kernels can be kept")
    return Check("kernel cache", True, f"kept in {folder} for want of another: set {VARIABLE} to a folder of yours")


def _shared_memory() -> Check:
    folder = SHARED_MEMORY
    if not folder.is_dir():
        return Check("shared memory", True, "this system has no /dev/shm")
    free = shutil.disk_usage(folder).free
    return Check("shared memory", free > 1e9, f"{free / 1e9:.1f} GB free", "give /dev/shm more, Ray shares bars there")


def _disk() -> Check:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return Check("disk", free > 2e9, f"{free / 1e9:.1f} GB free", "free some disk space")


def _partition(environment: Mapping[str, str]) -> Check:
    """Advice and no fault: that this machine belongs to a cluster does not say that sweeps are to run on it."""
    missing = missing_settings(environment)
    if not missing:
        return Check("cut links", True, "Ray is set to notice them")
    if not environment.get("RAY_ADDRESS") and not CURRENT_CLUSTER.exists():
        return Check("cut links", True, "this machine belongs to no cluster")
    return Check("cut links", True, f"Ray takes a minute to notice one: set {', '.join(missing)} (docs/clusters.md)")


def _data(uri: str) -> Check:
    try:
        found = OhlcvStore(provider_for(uri)).datasets()
    except StorageError as error:
        return Check("data", False, str(error), "name a store that can be read with --data")
    return Check("data", bool(found), f"{len(found)} datasets in {uri}", "bring some in with `grid data import`")


def _results(uri: str) -> Check:
    try:
        provider_for(uri).check_writable()
    except StorageError as error:
        return Check("results", False, str(error), "name a store that can be written with --results")
    return Check("results", True, f"{uri} can be written")


def _render(console: Console, checks: list[Check]) -> None:
    for check in checks:
        style = None if check.ok else "red"
        print_wrapped(console, f"{'ok ' if check.ok else 'BAD'} {check.name:>14}  {check.found}", 20, style)
        if not check.ok:
            print_wrapped(console, f"{'':>18}  {check.remedy}", 20)
