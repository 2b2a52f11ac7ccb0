"""Reaching a cluster, and whether its nodes are like this one."""

import logging
import os
import platform
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import ray
from ray._private import worker as ray_worker
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, without types
from ray.exceptions import AuthenticationError, RayError

from grid.addresses import check_cluster, explained
from grid.auth import MODE, the_token
from grid.budget import cpus_here
from grid.errors import BadInput, Unavailable
from grid.spec import ClusterSpec

log = logging.getLogger(__name__)

MOST_OF_RAYS_WORDS = 300
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NAMESPACE = "backtest-grid"
LONGEST_END_S = 10.0
SAME = ("python", "ray", "backtest-grid", "numpy", "numba")
"""What driver and workers must have in the same version."""


def running_versions() -> dict[str, str]:
    """The versions of SAME in this process."""
    return {"python": platform.python_version(), **{name: version(name) for name in SAME[1:]}}


def check_versions(here: Mapping[str, str], there: Mapping[str, str], host: str) -> None:
    """Raises BadInput where a worker's versions are not the driver's: its rows could differ."""
    differ = [
        f"{name} {there.get(name)} where the driver has {here[name]}" for name in SAME if here[name] != there.get(name)
    ]
    if differ:
        raise BadInput(
            f"the workers on {host} have {', '.join(differ)}: their rows could differ from those of other machines. "
            "Install the same versions on every node, or start the driver from the nodes' own image."
        )


def check_entrance(address: str) -> None:
    """Raises BadInput where nobody listens at `address` (host:port, auto, local) or where our token is not taken.

    `ray.init` would try for 20 s and then not say why. auto is whatever RAY_ADDRESS says, if it says anything.
    """
    if address == "auto":
        try:
            address = explained(os.environ.get("RAY_ADDRESS", address))
        except ValueError as error:
            raise BadInput(f"RAY_ADDRESS {os.environ['RAY_ADDRESS']!r}: {error}.") from None
    check_cluster(address)
    if address in ("auto", "local"):
        return
    if os.environ.get(MODE) == "token" and the_token() is None:  # Ray would abort the process
        raise BadInput(_refusal(address, had_token=False))
    try:
        with _mute():
            GcsClient(address=address)
    except AuthenticationError as error:
        raise BadInput(_refusal(address, the_token() is not None)) from error
    except (RayError, ConnectionError, RuntimeError) as error:
        raise BadInput(_no_cluster(address, error)) from error


def _refusal(address: str, had_token: bool) -> str:
    if had_token:
        return f"the cluster at {address} does not accept the token: take the one that its nodes have (--token-file)."
    return (
        f"the cluster at {address} asks for a token: name its file with --token-file, or set RAY_AUTH_TOKEN_PATH or "
        "RAY_AUTH_TOKEN."
    )


def _no_ray(error: Exception) -> str:
    return (
        f"no Ray starts on this machine ({_reason(error)}): it may be too busy, as a start has to be done in half a "
        "minute. Try again, or work without one: --executor serial."
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).split(". ")[0][:300].rstrip(".")


def _no_cluster(address: str, error: Exception) -> str:
    return (
        f"cluster.address {address!r} does not answer as a Ray cluster ({_reason(error)}); start one with "
        "`ray start --head`, or leave the address out to work on this machine."
    )


@contextmanager
def _mute() -> Iterator[None]:
    """Keep what Ray's C++ writes to stderr by itself, past every setting, off the terminal."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def connected(cluster: ClusterSpec) -> Iterator[None]:
    """A connection to Ray: the one there is, the one at `cluster.address`, or a local one that ends with the block."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address is None:
        options |= {"address": "local", "num_cpus": cluster.cpus or cpus_here(), "include_dashboard": False}
    else:
        check_entrance(cluster.address)
        options |= {"address": cluster.address}
    try:
        with _own_sigterm():
            ray.init(**options)
    except Exception as error:  # where a node does not come up in time Ray raises no narrower kind
        if cluster.address is None:
            raise Unavailable(_no_ray(error)) from error
        raise BadInput(_no_cluster(cluster.address, error)) from error
    try:
        if cluster.address is None:
            _end_helpers()
        with _logged():
            yield
    finally:
        ray.shutdown()


def _end_helpers() -> None:
    """End those processes of a Ray of our own that nobody asks for anything, but that never rest: what follows its logs
    for a driver that prints them, what would start nodes, and what the Dashboard is made of. Work goes on beside one
    that cannot be ended.
    """
    node: Any = ray_worker._global_node
    for name in ("log_monitor", "monitor", "dashboard"):
        try:
            processes = [started.process for started in node.all_processes.get(name, ())]
            getattr(node, f"kill_{name}")(check_alive=False)
            for process in processes:
                process.wait(LONGEST_END_S)  # Ray itself waits for a second, and leaves a zombie then
        except Exception as error:  # noqa: BLE001 - of a part of Ray that makes no promises
            log.info("Ray's %s stays: %s", name, error)


@contextmanager
def _logged() -> Iterator[None]:
    """Within the block what Ray has to say of each process that died, many lines long and in colours, is a line of the
    driver's log: Ray prints it, whatever it is told of logs, and on stdout, which is for data.
    """

    def log_it(data: Mapping[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001 - Ray's signature
        for told in data["lines"]:
            log.info("Ray says: %s", " ".join(_COLOURS.sub("", told).split())[:MOST_OF_RAYS_WORDS])

    before = ray_worker.print_to_stdstream
    ray_worker.print_to_stdstream = log_it
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = before


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler there is: Ray's ends the process at once, where ours commits what is in flight."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
