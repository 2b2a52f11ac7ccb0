"""The head of a cluster is lost: with Valkey behind it a sweep goes on, without it the session is resumed elsewhere."""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from grid.aggregate import read_ledger
from grid.session import Session
from grid.sweep import run
from storage.providers import provider_for
from storage.sessions import SessionFolder
from tests.chaos.cluster import Nodes, free_port, nodes
from tests.chaos.network import Network, network
from tests.chaos.paced import PAUSE_VARIABLE
from tests.chaos.processes import end
from tests.chaos.stage import sweep_of
from tests.conftest import REPOSITORY
from tests.e2e.sweeps import DATA
from tests.rows import digest
from tests.services.programs import program

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]

PATIENCE_S = 240.0
PASSWORD = uuid.uuid4().hex
ON_A_WORKER = 1


@contextmanager
def valkey(net: Network, folder: Path) -> Iterator[str]:
    """A server with a password, where the head can reach it; its address."""
    port = free_port()
    options = ["--bind", net.host, "--port", str(port), "--dir", str(folder), "--save", "", "--requirepass", PASSWORD]
    server = subprocess.Popen([program("valkey-server"), *options], stdout=subprocess.DEVNULL)
    try:
        yield f"{net.host}:{port}"
    finally:
        server.kill()
        server.wait(10)


IMPATIENT = {"RAY_gcs_rpc_server_reconnect_timeout_s": "25"}
"""After so long nodes and drivers give a lost head up; 60 s by default."""


class Sweep:
    """A sweep whose driver is on a worker node, its bars and results in folders that all nodes see."""

    def __init__(self, cluster: Nodes, folder: Path) -> None:
        self.cluster, self.id = cluster, "head"
        self.spec: dict[str, Any] = sweep_of(str(DATA), str(folder / "results"), 40)
        self.log = folder / "driver.log"
        (folder / "sweep.json").write_text(json.dumps(self.spec))
        self.words = ("run", str(folder / "sweep.json"), "--session-id", self.id)

    @contextmanager
    def driver(self) -> Iterator[psutil.Popen]:
        """A driver on a worker node; gone when the block ends."""
        words = (sys.executable, "-m", "grid", *self.words, "--address", self.cluster.address, "--executor", "ray")
        with self.log.open("ab") as log:
            started = psutil.Popen(
                self.cluster.command(ON_A_WORKER, *words, "--quiet"),
                cwd=REPOSITORY,
                env=self.cluster.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield started
        finally:
            end(started)

    def wait(self, driver: psutil.Popen, numbers: int) -> None:
        """Until so many trial numbers are committed."""
        folder = SessionFolder(provider_for(self.spec["results"]["store"]), self.id)
        until = time.monotonic() + PATIENCE_S
        while read_ledger(folder, 1).done.total() < numbers:
            assert driver.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.2)

    def session(self) -> Session:
        return Session.open(self.id, self.spec["results"]["store"])


def environment(folder: Path) -> dict[str, str]:
    return {
        PAUSE_VARIABLE: "60",
        "GRID_CACHE_DIR": str(folder / "cache"),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    }


def undisturbed(folder: Path) -> Session:
    return run(sweep_of(str(DATA), str(folder / "undisturbed"), 40), "serial")


def test_with_valkey_a_sweep_outlives_the_head(tmp_path: Path) -> None:
    with network(3) as net, valkey(net, tmp_path) as address:
        behind = {"RAY_REDIS_ADDRESS": address, "RAY_external_storage_namespace": f"n{uuid.uuid4().hex[:8]}"}
        own = environment(tmp_path)
        with nodes(net, 0, {**own, **behind}, tmp_path, head_options=(f"--redis-password={PASSWORD}",)) as cluster:
            cluster.environment = {k: v for k, v in cluster.environment.items() if k not in behind}
            for place in (1, 2):
                cluster.start(place)
                cluster.wait_for_node(place)
            sweep = Sweep(cluster, tmp_path)
            with sweep.driver() as driver:
                sweep.wait(driver, 100)
                cluster.kill(0)
                time.sleep(3)
                before = sweep.session().ledger.done.total()
                cluster.environment |= behind
                cluster.start(0)
                cluster.wait_for_head()
                assert driver.wait(PATIENCE_S) == 0, sweep.log.read_text()
    session = sweep.session()
    assert session.ledger.done.total() > before
    assert digest(session.trials()) == digest(undisturbed(tmp_path).trials())


def test_a_driver_whose_head_alone_is_lost_says_so_and_ends_and_its_session_is_resumed(tmp_path: Path) -> None:
    with network(3) as net:
        with nodes(net, 2, environment(tmp_path) | IMPATIENT, tmp_path) as cluster:
            sweep = Sweep(cluster, tmp_path)
            with sweep.driver() as driver:
                sweep.wait(driver, 100)
                cluster.kill(0)
                assert driver.wait(PATIENCE_S) == 130, sweep.log.read_text()
        said = sweep.log.read_text()
        assert "does not answer; where it is not back within 15 s this driver ends" in said
        assert f"Next, on a cluster that runs: grid resume {sweep.id}" in said
        assert "terminate" not in said, "Ray was faster"
        with nodes(net, 2, environment(tmp_path), tmp_path) as cluster:
            sweep.cluster = cluster
            with sweep.driver() as driver:
                assert driver.wait(PATIENCE_S) == 0, sweep.log.read_text()
    assert digest(sweep.session().trials()) == digest(undisturbed(tmp_path).trials())


def test_without_it_the_session_is_resumed_on_another_cluster(tmp_path: Path) -> None:
    with network(3) as net:
        with nodes(net, 2, environment(tmp_path), tmp_path) as cluster:
            sweep = Sweep(cluster, tmp_path)
            with sweep.driver() as driver:
                sweep.wait(driver, 100)
                for place in (0, 1, 2):
                    cluster.kill(place)
        until = time.monotonic() + PATIENCE_S
        while sweep.session().status != "interrupted":  # once the driver has been silent for long enough
            assert time.monotonic() < until
            time.sleep(0.5)
        with nodes(net, 2, environment(tmp_path), tmp_path) as cluster:
            sweep.cluster = cluster
            with sweep.driver() as driver:
                assert driver.wait(PATIENCE_S) == 0, sweep.log.read_text()
    assert digest(sweep.session().trials()) == digest(undisturbed(tmp_path).trials())
