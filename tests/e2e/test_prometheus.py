"""A real Prometheus scrapes a running sweep, and what it read comes back through its API."""

import re
import time
from pathlib import Path

from grid.telemetry import TABLE
from tests.e2e.desk import ROOT, Desk
from tests.services.prometheus import asked, free_port, prometheus, value_of

DOCUMENT = ROOT / "docs" / "telemetry.md"


def test_series_of_a_running_sweep_are_read_back(desk: Desk, tmp_path: Path):
    desk.write_sweep(
        strategy="mine:Fussy",
        space={"fast": [5, 10, 15], "slow": {"range": [20, 899, 1]}},
        cluster={"price_per_cpu_hour": 3600.0},
    )
    port = free_port()
    metrics = ("--metrics-port", str(port))
    sweep = desk.start("run", "sweep.yaml", "--executor", "serial", *metrics, PAUSE="0.02", PYTHONPATH=str(ROOT))
    try:
        with prometheus(tmp_path, {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}) as url:
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
