"""Reaching a cluster, and whether its nodes are like this one."""

import logging
import platform
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import ray

from grid.addresses import check_cluster
from grid.budget import cpus_here
from grid.errors import BadInput
from grid.spec import ClusterSpec

NAMESPACE = "backtest-grid"
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
        check_cluster(cluster.address)
        options |= {"address": cluster.address}
    try:
        with _own_sigterm():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0][:300]
        raise BadInput(
            f"cluster.address {cluster.address!r} does not answer as a Ray cluster ({reason}); start one with "
            "`ray start --head`, or leave the address out to work on this machine. A cluster that asks for a token "
            "needs --token-file, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, and answers a wrong one in the same way."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler there is: Ray's ends the process at once, where ours commits what is in flight."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)
