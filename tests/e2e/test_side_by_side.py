"""Two users of one cluster, each with a sweep at the same time: both get on, and neither sees the other."""

import contextlib
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.session import Session
from grid.sweep import run
from storage.providers import provider_for
from storage.sessions import SessionFolder
from tests.e2e.cluster import PATIENCE_S, Cluster, running
from tests.e2e.desk import Outcome
from tests.e2e.sweeps import small
from tests.rows import digest
from tests.services.seaweed import SECRET, Seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow, pytest.mark.timeout(900)]  # `make e2e` has it

USERS = ("alice", "benjamin")
KINDS = {"spot": 2, "on-demand": 1}
MEASURED_CPU_S = 10.0
SPACE = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 100, 1]}}
MODULE = '''
"""The strategy of one user."""

import os
import time

from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Busy(Strategy):
    """`sma_cross` that computes for 100 ms a trial until it is released."""

    fast: int = Field(10, ge=1, le=1000)
    slow: int = Field(30, ge=1, le=1000)

    def signals(self, bars: Bars) -> Signals:
        until = time.thread_time() + 0.1
        while not os.path.exists({released!r}) and time.thread_time() < until:
            pass
        return cross(bars.sma(self.fast), bars.sma(self.slow))
'''


@pytest.fixture(scope="module")
def cluster(s3: Seaweed) -> Iterator[Cluster]:  # noqa: ARG001 - its environment is that of the nodes
    nodes = (f"--num-cpus={cpus} --labels=ray.io/market-type={kind}" for kind, cpus in KINDS.items())
    with running(*nodes) as there:
        yield there


@pytest.fixture(scope="module")
def sweeps(cluster: Cluster, s3: Seaweed, bars: str) -> dict[str, dict[str, Any]]:
    """Of each user: minutes of trials until they are released, and a results store that only they name."""
    found = {}
    for user in USERS:
        text = MODULE.format(released=str(cluster.folder / f"released-{user}"))
        (cluster.folder / f"of_{user}.py").write_text(text)
        spec = small(Path("unused"), strategy=f"of_{user}:Busy", space=SPACE)
        spec["data"] = {**spec["data"], "store": f"s3://{bars}/bars?endpoint_url={s3.url}"}
        spec["results"] = {**spec["results"], "store": f"s3://{bars}/results-of-{user}?endpoint_url={s3.url}"}
        (cluster.folder / f"{user}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
        found[user] = spec
    return found


def send(cluster: Cluster, user: str) -> None:
    command = ("submit", f"{user}.yaml", "--address", cluster.url, "--session-id", f"session-{user}")
    sent = cluster.grid(*command, "--detach", "--json")
    assert sent.code == 0, sent.err


def awaited(cluster: Cluster, what: str, there: Callable[[], bool]) -> None:
    until = time.monotonic() + 3 * PATIENCE_S  # the first user's workers leave the start of the second's little CPU
    while not there():
        assert time.monotonic() < until, f"{what}\n{[followed(cluster, user, follow=False).out for user in USERS]}"
        time.sleep(0.5)


def drivers(cluster: Cluster) -> list[str]:
    """The kind of node on which each user's driver is."""
    kinds = {node["node_id"]: node["labels"].get("ray.io/market-type") for node in cluster.listed("nodes")}
    return [kinds[cluster.asked(f"/api/jobs/session-{user}")["driver_node_id"]] for user in USERS]


def followed(cluster: Cluster, user: str, follow: bool = True) -> Outcome:
    return cluster.grid("logs", f"session-{user}", *(["--follow"] if follow else []), "--address", cluster.url)


def workers(cluster: Cluster) -> dict[str, int]:
    """How many workers each user's sweep has that run."""
    alive = [actor["name"] or "" for actor in cluster.listed("actors") if actor["state"] == "ALIVE"]
    return {user: sum(name.startswith(f"session-{user} worker ") for name in alive) for user in USERS}


def kernel_seconds(cluster: Cluster) -> dict[str, float]:
    """CPU seconds in each user's strategy so far, as the metrics ports of Ray's nodes tell it."""
    text = ""
    for target in (t for group in cluster.asked("/api/prometheus/sd") for t in group["targets"]):
        with (
            contextlib.suppress(OSError),  # that of an autoscaler, which is not there
            urllib.request.urlopen(f"http://{target}/metrics", timeout=PATIENCE_S) as answer,
        ):
            text += answer.read().decode()
    line = r'^ray_grid_kernel_seconds_total{.*strategy="of_(\w+):Busy".*} (\S+)$'
    found = [(user, float(value)) for user, value in re.findall(line, text, re.MULTILINE)]
    return {user: sum(value for name, value in found if name == user) for user in USERS}


def test_the_second_gets_its_share_while_the_first_goes_on(cluster: Cluster, sweeps: dict[str, dict[str, Any]]):
    """All CPUs are the first one's, then half, by what is computed on them; and all again when the second is done."""
    send(cluster, "alice")
    awaited(cluster, "alice has all of it", lambda: workers(cluster) == {"alice": 2, "benjamin": 0})
    send(cluster, "benjamin")
    awaited(cluster, "each has half", lambda: workers(cluster) == {"alice": 1, "benjamin": 1})
    folders = {u: SessionFolder(provider_for(sweeps[u]["results"]["store"]), f"session-{u}") for u in USERS}
    assert drivers(cluster) == ["on-demand", "on-demand"]
    awaited(cluster, "benjamin has rows", lambda: folders["benjamin"].read_commit(0) is not None)
    awaited(cluster, "both are told of", lambda: min(kernel_seconds(cluster).values()) > 0)
    before, used = kernel_seconds(cluster), dict.fromkeys(USERS, 0.0)
    until = time.monotonic() + PATIENCE_S
    while sum(used.values()) < MEASURED_CPU_S:
        assert time.monotonic() < until, used
        time.sleep(1)
        used = {user: now - before[user] for user, now in kernel_seconds(cluster).items()}
    assert min(used.values()) > sum(used.values()) / 3, used
    for user in USERS:
        assert Session.open(f"session-{user}", sweeps[user]["results"]["store"]).status == "running"
    (cluster.folder / "released-benjamin").touch()
    assert followed(cluster, "benjamin").code == 0
    awaited(cluster, "alice has all again", lambda: workers(cluster) == {"alice": 2, "benjamin": 0})
    (cluster.folder / "released-alice").touch()
    assert followed(cluster, "alice").code == 0


def test_neither_sees_the_other_or_a_token(cluster: Cluster, sweeps: dict[str, dict[str, Any]]):
    """In what the driver wrote, in the log of each worker, and in every object of the results store."""
    written = {user: followed(cluster, user, follow=False).out for user in USERS}
    logs = [p.read_text() for p in (cluster.folder / "ray").glob("session_2*/logs/worker-*.err")]
    told = [log for log in logs if "session session-" in log]
    assert len(told) >= 3, "two workers of one and one of the other"
    assert all(len({user for user in USERS if f"session-{user}" in log}) == 1 for log in told)
    for user, other in (USERS, USERS[::-1]):
        assert f"session-{user}" in written[user]
        store = sweeps[user]["results"]["store"]
        provider = provider_for(store)
        stored = {path: provider.read(path).decode("latin-1") for path in provider.list()}
        assert f"session-{user}/driver.log" in stored
        for text in (written[user], *stored, *stored.values()):
            assert other not in text
        rows = cluster.grid("ls", "--store", store, "--json").json()
        assert [row["session_id"] for row in rows] == [f"session-{user}"]
        for text in (written[user], *stored.values()):
            assert not any(secret in text for secret in (cluster.token.read_text(), SECRET))
    assert not any(cluster.token.read_text() in log for log in logs)


def test_the_rows_are_those_of_one_process(
    cluster: Cluster, sweeps: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.syspath_prepend(str(cluster.folder))
    for user in USERS:
        results = {"store": str(tmp_path / user), "keep_best": 3}
        alone = run({**sweeps[user], "results": results}, "serial")
        session = Session.open(f"session-{user}", sweeps[user]["results"]["store"])
        assert digest(session.trials()) == digest(alone.trials())
