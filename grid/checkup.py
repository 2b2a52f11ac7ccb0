"""What `grid doctor` asks a cluster's nodes, and what it makes of the answers. Imports no Ray.

`look` runs on a node and tells what it finds there; `judged` compares what all nodes told, without any of them.
"""

import os
import platform
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grid.partition import CLUSTER_SETTINGS, missing_settings
from grid.resolve import versions
from storage.errors import StorageError
from storage.ohlcv import OhlcvStore
from storage.providers import provider_for

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray keeps its object store on Linux
LEAST_STORE_BYTES = 500_000_000
MOST_SKEW_S = 5.0
ANSWER_S = 10.0
THREADS = "NUMBA_NUM_THREADS"
SENT = ("python", "ray", "backtest-grid")
"""What a sweep that is sent must have in common with the nodes."""


@dataclass(frozen=True)
class Check:
    """One thing looked at: `ok`, what was found, and what to do when it is not ok."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Node:
    """What a node says of itself. time: Unix seconds by its clock. shared_memory: bytes, None where there is none.

    data, results: what is wrong with that store there, empty where nothing is, None where it was not tried.
    The rest is what Ray says of it: id, head, cpus, object_store in bytes; skew_s is against the head.
    """

    host: str
    time: float
    versions: Mapping[str, str]
    missing_settings: Sequence[str]
    threads: str | None
    shared_memory: int | None
    data: str | None = None
    results: str | None = None
    head: bool = False
    cpus: float = 0.0
    object_store: float = 0.0
    skew_s: float = 0.0
    id: str = ""
    silent: Sequence[str] = field(default=())
    """On the head: nodes that did not answer."""


def look(data: str | None, results: str | None) -> Node:
    """This node; stores that are None are not tried."""
    there = SHARED_MEMORY.is_dir()
    return Node(
        host=platform.node(),
        time=time.time(),
        versions={"python": platform.python_version(), **versions()},
        missing_settings=missing_settings(os.environ),
        threads=os.environ.get(THREADS),
        shared_memory=shutil.disk_usage(SHARED_MEMORY).total if there else None,
        data=None if data is None else _wrong(lambda: _read_bars(data)),
        results=None if results is None else _wrong(lambda: _write_results(results)),
    )


def judged(nodes: Sequence[Node], here: Mapping[str, str]) -> list[Check]:
    """The checks of a cluster, given what its nodes told and the versions of this machine."""
    head, workers = [n for n in nodes if n.head], [n for n in nodes if not n.head]
    theirs = next((n.versions for n in (*head, *workers)), here)
    silent = [name for node in head for name in node.silent]
    return [
        Check(
            "nodes",
            bool(workers) and not silent,
            f"{len(workers)} besides the head, {sum(n.cpus for n in workers):g} CPUs"
            + (f"; no answer from {', '.join(silent)}" if silent else ""),
            "start workers, and look at those that do not answer with `ray status`",
        ),
        _each(
            "head",
            head,
            lambda n: f"{n.cpus:g} CPUs for work" if n.cpus else "",
            "no CPUs, as it should be",
            "start the head with --num-cpus=0: a driver beside it would die with it",
        ),
        _each(
            "versions",
            nodes,
            lambda n: _differ(n.versions, theirs, "on the head"),
            "the same on all nodes",
            "install the same versions on every node",
        ),
        _client(here, theirs),
        _each(
            "object store",
            workers,
            _store_fault,
            _sizes([n.object_store for n in workers]),
            "give nodes --object-store-memory=1000000000 or more, and as much /dev/shm (shm_size, a Memory volume)",
        ),
        _each(
            "threads",
            workers,
            lambda n: "" if n.threads == "1" or n.cpus <= 1 else f"{THREADS} is {n.threads or 'not set'}",
            "one a worker",
            f"set {THREADS}=1 in the environment of `ray start`: a worker is one CPU",
        ),
        _each(
            "cut links",
            nodes,
            lambda n: f"{len(n.missing_settings)} settings missing" if n.missing_settings else "",
            "Ray is set to notice them",
            "set " + " ".join(f"{k}={v}" for k, v in CLUSTER_SETTINGS.items()) + " on every node (docs/clusters.md)",
        ),
        _each(
            "clocks",
            nodes,
            lambda n: f"{n.skew_s:.0f} s off" if n.skew_s > MOST_SKEW_S else "",
            f"within {max([*(n.skew_s for n in nodes), 1.0]):.0f} s of the head's",
            "set the clocks by NTP: a session whose heartbeat looks old is taken for interrupted",
        ),
        *_stores(workers),
    ]


def called(nodes: Sequence[tuple[str, str]]) -> list[str]:
    """Nodes, given by host name and id, for people: by host, with the beginning of the id where hosts share a name."""
    hosts = [host for host, _ in nodes]
    return [host if hosts.count(host) == 1 or not name else f"{host} (node {name[:12]})" for host, name in nodes]


def authentication(address: str) -> Check:
    """Whether a cluster refuses who has no token."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_S):  # noqa: S310 - http or https
            pass
    except urllib.error.HTTPError as error:
        with error:
            refused = error.code in (401, 403)
        return Check(
            "authentication", refused, f"without a token it answers {error.code}", "ask for the Dashboard's port"
        )
    except OSError as error:
        return Check(
            "authentication", False, f"{address}: {error}", "give the address of the Dashboard, http://HOST:8265"
        )
    return Check(
        "authentication",
        False,
        "it asks for no token: whoever reaches it runs code on every node",
        "start every node with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (docs/security.md)",
    )


def _each(name: str, nodes: Sequence[Node], fault: Callable[[Node], str], fine: str, remedy: str) -> Check:
    """One check of several nodes: the faults by host, or `fine`."""
    names = called([(node.host, node.id) for node in nodes])
    found = [f"{named}: {told}" for named, node in zip(names, nodes, strict=True) if (told := fault(node))]
    return Check(name, not found, "; ".join(found) or fine, remedy)


def _client(here: Mapping[str, str], theirs: Mapping[str, str]) -> Check:
    """Whether this machine can send sweeps there. Trials run on the nodes, so the rest of its versions is no matter."""
    wrong = _differ({name: _sent(name, v) for name, v in here.items()}, {n: _sent(n, theirs.get(n)) for n in SENT})
    return Check("this machine", not wrong, wrong or "fit to send sweeps there", "install here what the nodes have")


def _sent(name: str, version: str | None) -> str | None:
    """A version, of Python as far as it matters for sending: major and minor."""
    return ".".join(version.split(".")[:2]) if name == "python" and version else version


def _stores(workers: Sequence[Node]) -> list[Check]:
    remedies = {
        "data": "give the workers' role the right to read and list it (deploy/aws/iam/read-data.json), or the mount",
        "results": "give it the right to write, read and list (deploy/aws/iam/write-results.json), or the mount",
    }
    found = []
    for name, remedy in remedies.items():
        tried = [n for n in workers if getattr(n, name) is not None]
        fine = (
            f"reached from {len(tried)} nodes" if tried else f"not tried: name a store that nodes reach with --{name}"
        )
        found.append(_each(name, tried, lambda n, name=name: str(getattr(n, name)), fine, remedy))  # type: ignore[misc]
    return found


def _store_fault(node: Node) -> str:
    if node.shared_memory is not None and node.object_store > node.shared_memory:
        return f"{_gb(node.object_store)} of store in {_gb(node.shared_memory)} of /dev/shm, so it lies on disk"
    return f"only {_gb(node.object_store)}" if node.object_store < LEAST_STORE_BYTES else ""


def _differ(found: Mapping[str, str | None], wanted: Mapping[str, str | None], where: str = "on the nodes") -> str:
    return ", ".join(
        f"{name} {found.get(name)} and {where} {wanted[name]}" for name in wanted if found.get(name) != wanted[name]
    )


def _sizes(sizes: Sequence[float]) -> str:
    return f"{_gb(min(sizes))} to {_gb(max(sizes))}" if sizes else "no worker"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _read_bars(uri: str) -> None:
    if not OhlcvStore(provider_for(uri)).datasets():
        raise StorageError(f"{uri} holds no bars.")


def _write_results(uri: str) -> None:
    provider = provider_for(uri)
    provider.check_writable()
    provider.list("catalog")


def _wrong(attempt: Callable[[], None]) -> str:
    """What went wrong; nothing where all went well."""
    try:
        attempt()
    except StorageError as error:
        return str(error)
    return ""
