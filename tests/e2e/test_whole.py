"""All parts at once, as `deploy/` puts them together: S3, what speaks as Valkey does, Ray, Prometheus, the grid.

`make e2e` runs it. Prometheus has the configuration and rules of deploy/monitoring/, with the addresses of the test.
"""

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.partition import CLUSTER_SETTINGS
from grid.session import Session
from grid.sweep import run
from grid.telemetry import TABLE
from tests.deploy.test_monitoring import RAYS, expressions
from tests.deploy.tools import DEPLOY
from tests.e2e import cluster as cluster_of_tests
from tests.e2e.cluster import PATIENCE_S, Cluster, free_port
from tests.e2e.sweeps import small
from tests.e2e.test_cluster import HELPER, MODULE
from tests.rows import digest
from tests.services import prometheus
from tests.services.programs import program
from tests.services.prometheus import asked, value_of
from tests.services.seaweed import Seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.slow]

MONITORING = DEPLOY / "monitoring"
SPACE = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 100, 1]}}
PATIENT = {
    **dict.fromkeys(CLUSTER_SETTINGS, "60000"),
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "10",
}
"""The settings that nodes must have, at values that spare a node which gets no CPU for some seconds."""
NEED_AN_EVENT = {"autoscaler_pending_nodes", "autoscaler_failed_create_nodes_total"}
NEED_AN_EVENT |= {"ray_memory_manager_worker_eviction_total"}
"""An autoscaler that waits or is refused, a worker that was killed."""


@dataclass
class Whole(Cluster):
    """A cluster whose head keeps its state in `control`, with the settings that deploy/ gives to nodes."""

    control: str = ""
    password: str = ""
    metrics: int = 0

    def environment(self, token: Path | None) -> dict[str, str]:
        return {**super().environment(token), **PATIENT, "NUMBA_NUM_THREADS": "1"}

    def _start(self, *options: str) -> None:
        if "--head" not in options:
            # Nodes that share a folder unpack a job's modules over each other, below the feet of its driver.
            super()._start(*options, f"--temp-dir={self.folder / f'n{len(self.processes)}'}")
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self, "environment", self._of_the_head)
            super()._start(*options, f"--redis-password={self.password}", f"--metrics-export-port={self.metrics}")

    def _of_the_head(self, token: Path | None) -> dict[str, str]:
        mine = {"RAY_REDIS_ADDRESS": self.control, "RAY_external_storage_namespace": "whole"}
        return {**Whole.environment(self, token), **mine}


@contextlib.contextmanager
def control_plane(folder: Path, password: str) -> Iterator[str]:
    """A Valkey with a password that keeps what it is told; its address."""
    port, settings = free_port(), folder / "valkey.conf"
    settings.write_text(f"bind 127.0.0.1\nport {port}\ndir {folder}\nrequirepass {password}\nappendonly yes\n")
    server = subprocess.Popen([program("valkey-server"), settings], stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(10)


@contextlib.contextmanager
def watching(cluster: Whole, folder: Path) -> Iterator[str]:
    """A Prometheus with what deploy/monitoring/ gives it, but for addresses and patience; its own address."""
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "2s")
    config["rule_files"] = [str(MONITORING / "rules" / "grid.yml")]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    listed = jobs["ray"]["http_sd_configs"][0]
    listed |= {"url": listed["url"].replace("http://ray-head:8265", cluster.url), "refresh_interval": "1s"}
    listed["authorization"]["credentials_file"] = str(cluster.token)
    assert jobs["ray-head"]["static_configs"][0]["targets"] == ["ray-head:8080"]
    jobs["ray-head"]["static_configs"][0]["targets"] = [f"127.0.0.1:{cluster.metrics}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    options = [
        f"--web.listen-address=127.0.0.1:{port}",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'series'}",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program("prometheus"), *options], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def whole(s3: Seaweed) -> Iterator[Whole]:  # noqa: ARG001 - its environment is that of the nodes
    with tempfile.TemporaryDirectory(prefix="grid-", ignore_cleanup_errors=True) as name:  # sockets need short paths
        folder = Path(name)
        (folder / "token").write_text(secrets.token_hex(32))
        password = secrets.token_hex(16)
        with control_plane(folder, password) as address:
            there = Whole(folder, folder / "token", control=address, password=password, metrics=free_port())
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(cluster_of_tests, "PATIENCE_S", 300.0)
                    there.start()
                yield there
            finally:
                there.end()


@pytest.fixture(scope="module")
def sweep(whole: Whole, s3: Seaweed, bars: str) -> dict[str, Any]:
    """Sent, and at it until it is released."""
    (whole.folder / "mine_alone.py").write_text(MODULE)
    (whole.folder / "helper_of_mine.py").write_text(HELPER.format(released=str(whole.folder / "released")))
    spec = small(Path("unused"), strategy="mine_alone:Mine", space=SPACE, cluster={"price_per_cpu_hour": 3600.0})
    spec["data"] = {**spec["data"], "store": f"s3://{bars}/bars?endpoint_url={s3.url}"}
    spec["results"] = {**spec["results"], "store": f"s3://{bars}/whole?endpoint_url={s3.url}"}
    (whole.folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    sent = whole.grid("submit", "sweep.yaml", "--address", whole.url, "--session-id", "whole", "--detach", "--json")
    assert sent.code == 0, sent.err
    return spec


def until_there(url: str, names: set[str]) -> None:
    """Wait until Prometheus has read every one of these series."""
    until = time.monotonic() + PATIENCE_S
    while missing := {name for name in names if not asked(url, name)}:
        assert time.monotonic() < until, f"never read: {sorted(missing)}"
        time.sleep(1)


def test_a_doctor_finds_nothing_but_the_small_object_store(whole: Whole, sweep: dict[str, Any]):
    stores = ("--data", sweep["data"]["store"], "--results", sweep["results"]["store"])
    seen = whole.grid("doctor", "--address", whole.url, *stores, "--json")
    assert {check["name"] for check in seen.json() if not check["ok"]} == {"object store"}, seen.out


@pytest.mark.usefixtures("sweep")
def test_prometheus_reads_what_rules_and_dashboard_ask_for(whole: Whole, tmp_path: Path):
    with watching(whole, tmp_path) as url:
        assert value_of(url, 'ray_grid_trials_total{state="ok", strategy="mine_alone:Mine"}') > 0
        assert value_of(url, 'up{job="ray-head"}') == 1
        until_there(url, set(RAYS) - NEED_AN_EVENT)
        never = {"grid_storage_retries_total", "grid_attempts_total", "grid_commit_seconds"}
        until_there(url, {f"ray_{metric.name}" for metric in TABLE if metric.name not in never})
        until_there(url, {'ray_grid_attempts_total{cause="first"}', "ray_grid_commit_seconds_bucket"})
        answered = [expression for expression in expressions() if asked(url, expression)]
        assert len(answered) > 15, "too few of the dashboard's charts have a line"
        until = time.monotonic() + prometheus.PATIENCE_S
        while len(asked(url, 'ray_node_cpu_count{RayNodeType="worker"}')) != 2:
            assert time.monotonic() < until, asked(url, "ray_node_cpu_count")
            time.sleep(1)
        with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=5) as answer:  # noqa: S310
            groups = json.loads(answer.read())["data"]["groups"]
        rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
        assert len(rules) > 10
        assert {name: rule["lastError"] for name, rule in rules.items() if rule.get("lastError")} == {}
        firing = {alert["labels"]["alertname"] for rule in rules.values() for alert in rule["alerts"]}
        assert not firing & {"RayHeadDown", "GridDriverSilent", "GridManyTrialsFail"}


@pytest.mark.parametrize("service", ["ray-head", "seaweedfs", "valkey", "prometheus"])
def test_what_compose_asks_for_health_is_answered(whole: Whole, s3: Seaweed, tmp_path: Path, service: str):
    """With its own words, but for addresses and the place of the password; and not where nobody is."""
    (tmp_path / "password").write_text(whole.password)
    with watching(whole, tmp_path) as prometheus:
        places = {
            "http://127.0.0.1:52365": f"http://127.0.0.1:{whole.agents[0]}",
            "http://127.0.0.1:8333": s3.url,
            "http://127.0.0.1:9090": prometheus,
            "valkey-cli": f"{program('valkey-cli')} -p {whole.control.rpartition(':')[2]}",
            "/run/secrets/valkey_password": str(tmp_path / "password"),
        }
        nobody = {place: at.replace(at.rpartition(":")[2], str(free_port())) for place, at in places.items()}
        nobody |= {name: places[name] for name in ("valkey-cli", "/run/secrets/valkey_password")}
        until = time.monotonic() + PATIENCE_S
        while not healthy(service, places):
            assert time.monotonic() < until, f"{service} never answers"
            time.sleep(1)
        (tmp_path / "password").write_text("another")
        assert not healthy(service, nobody)


def healthy(service: str, places: dict[str, str]) -> bool:
    """Whether the health check of a service of the compose stack passes, other things standing at these places."""
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    kind, *words = compose["services"][service]["healthcheck"]["test"]
    for place, instead in places.items():
        words = [word.replace("$$", "$").replace(place, instead) for word in words]
    if kind == "CMD":
        words[0] = sys.executable if words[0] == "python" else program(words[0])
    return (
        subprocess.run(["sh", "-c", *words] if kind == "CMD-SHELL" else words, check=False, timeout=60).returncode == 0
    )


def test_the_rows_are_those_of_one_process(
    whole: Whole, sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with watching(whole, tmp_path) as url:
        until_there(url, {"ray_grid_queue_depth > 0"})
        (whole.folder / "released").touch()
        followed = whole.grid("logs", "whole", "--follow", "--address", whole.url, "--json")
        assert followed.code == 0, followed.err
        until_there(url, {"last_over_time(ray_grid_queue_depth[15m]) == 0"})  # else GridDriverSilent would miss it
    session = Session.open("whole", sweep["results"]["store"])
    assert session.status == "done"
    monkeypatch.syspath_prepend(str(whole.folder))
    alone = run({**sweep, "results": {"store": str(tmp_path / "alone"), "keep_best": 3}}, "serial")
    assert digest(session.trials()) == digest(alone.trials())
    assert whole.token.read_text() not in followed.out + followed.err
    assert whole.password not in followed.out + followed.err
