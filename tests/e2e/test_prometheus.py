"""A real Prometheus scrapes a running sweep, and what it read comes back through its API."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grid.telemetry import TABLE
from tests.e2e.desk import ROOT, Desk

PATIENCE_S = 30.0
DOCUMENT = ROOT / "docs" / "telemetry.md"


@pytest.fixture
def program() -> str:
    """Debian's prometheus; `make system-packages` installs it, and CI must have it."""
    found = shutil.which("prometheus")
    if found is None:
        if os.environ.get("GRID_REQUIRE_SYSTEM_PACKAGES"):
            pytest.fail("prometheus is required here and missing: make system-packages")
        pytest.skip("needs the program prometheus: make system-packages")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def prometheus(program: str, folder: Path, target: int) -> Iterator[str]:
    """A Prometheus that scrapes that port four times a second."""
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 250ms, scrape_timeout: 250ms}\n"
        f"scrape_configs: [{{job_name: sweep, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    )
    port = free_port()
    storage = f"--storage.tsdb.path={folder / 'tsdb'}"
    process = subprocess.Popen(
        [program, f"--config.file={config}", storage, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def asked(url: str, expression: str) -> list[dict[str, Any]]:
    """The result of an instant query; nothing while Prometheus is starting."""
    query = urllib.parse.urlencode({"query": expression})
    with contextlib.suppress(ConnectionError, urllib.error.URLError):
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=5) as answer:  # noqa: S310
            content = json.loads(answer.read())
        assert content["status"] == "success"
        result: list[dict[str, Any]] = content["data"]["result"]
        return result
    return []


def value_of(url: str, expression: str) -> float:
    """The one value that an expression comes to, as soon as there is one above 0."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = asked(url, expression)
        if found and float(found[0]["value"][1]) > 0:
            return float(found[0]["value"][1])
        assert time.monotonic() < until, f"{expression} is {found}"
        time.sleep(0.2)


def test_series_of_a_running_sweep_are_read_back(desk: Desk, tmp_path: Path, program: str):
    desk.write_sweep(
        strategy="mine:Fussy",
        space={"fast": [5, 10, 15], "slow": {"range": [20, 150, 1]}},
        cluster={"price_per_cpu_hour": 3600.0},
    )
    port = free_port()
    metrics = ("--metrics-port", str(port))
    sweep = desk.start("run", "sweep.yaml", "--executor", "serial", *metrics, PAUSE="0.02", PYTHONPATH=str(ROOT))
    try:
        with prometheus(program, tmp_path, port) as url:
            assert value_of(url, 'grid_trials_total{state="ok", strategy="mine:Fussy"}') > 0
            assert value_of(url, 'grid_trials_total{state="failed"}') > 0
            assert abs(value_of(url, "grid_heartbeat_timestamp_seconds") - time.time()) < 30
            assert value_of(url, "grid_cost_total") > 0.1  # a unit of money a second
            assert 0 < value_of(url, "grid_efficiency_ratio") <= 1
            assert value_of(url, 'grid_attempts_total{cause="first"}') >= 1
            assert value_of(url, "grid_commit_seconds_count") >= 1
            names = {row["metric"]["__name__"] for row in asked(url, '{__name__=~"grid_.*", job="sweep"}')}
            known = {metric.name for metric in TABLE}
            assert {re.sub("_(bucket|count|sum|created)$", "", n) for n in names} <= known | {
                name.removesuffix("_total") for name in known
            }
            for expression in re.findall(r"\| `([^`]*(?:>|<)[^`]*)` \|", DOCUMENT.read_text()):
                asked(url, expression)  # it is read without complaint
        assert sweep.poll() is None, "it ended before it was looked at"
    finally:
        sweep.kill()
        sweep.communicate()
