"""Writes what is derived: Grafana's dashboard from the panels below, and the PrometheusRule from rules/grid.yml.

`python deploy/monitoring/build.py` after a change; a test compares the files with what this would write.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

HERE = Path(__file__).parent
RULES = HERE / "rules" / "grid.yml"
DASHBOARD = HERE / "grafana" / "dashboards" / "grid.json"
PROMETHEUS_RULE = HERE.parent / "k8s" / "base" / "prometheusrule.yaml"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, HEIGHT = 24, 8


class Panel(NamedTuple):
    """One chart: queries are pairs of an expression and a legend. `width` of 24 columns."""

    title: str
    description: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    kind: str = "timeseries"


SWEEPS = (
    Panel(
        "Trials a second",
        "Trials committed, by strategy and state.",
        "ops",
        (
            (
                "sum by (strategy, state) (rate(ray_grid_trials_total[$__rate_interval]))",
                "{{strategy}} {{state}}",
            ),
        ),
    ),
    Panel(
        "Failed trials",
        "Share of the trials that failed. Above 5 % GridManyTrialsFail fires.",
        "percentunit",
        (
            (
                'sum by (strategy) (rate(ray_grid_trials_total{state="failed"}[$__rate_interval]))'
                " / sum by (strategy) (rate(ray_grid_trials_total[$__rate_interval]))",
                "{{strategy}}",
            ),
        ),
    ),
    Panel(
        "Units",
        "Where the units of all sweeps are now.",
        "short",
        (
            ("sum by (state) (ray_grid_units)", "{{state}}"),
            ("sum(ray_grid_queue_depth)", "not finished"),
        ),
    ),
    Panel(
        "Units that ended, an hour",
        "Done, or given up after too many attempts.",
        "short",
        (("sum by (state) (rate(ray_grid_units_finished_total[$__rate_interval])) * 3600", "{{state}}"),),
    ),
    Panel(
        "Attempts beyond the first, an hour",
        "Why units were tried again.",
        "short",
        (('sum by (cause) (rate(ray_grid_attempts_total{cause!="first"}[$__rate_interval])) * 3600', "{{cause}}"),),
    ),
    Panel(
        "Since the last heartbeat",
        "Of each driver. Above a minute, with work left, GridDriverSilent fires.",
        "s",
        (("time() - max by (instance, WorkerId) (ray_grid_heartbeat_timestamp_seconds)", "{{instance}} {{WorkerId}}"),),
    ),
    Panel(
        "CPUs held",
        "By sweeps, of those that workers have.",
        "short",
        (
            ("sum(ray_grid_cpus)", "held"),
            ('sum(ray_node_cpu_count{RayNodeType="worker"})', "of workers"),
        ),
    ),
    Panel(
        "Efficiency",
        "Seconds in kernels over seconds of CPU held: since the driver started, and now.",
        "percentunit",
        (
            ("max by (instance, WorkerId) (ray_grid_efficiency_ratio)", "{{instance}} {{WorkerId}}"),
            (
                "sum(rate(ray_grid_kernel_seconds_total[$__rate_interval]))"
                " / sum(rate(ray_grid_cpu_seconds_total[$__rate_interval]))",
                "all, now",
            ),
        ),
    ),
    Panel(
        "Cost in the time shown",
        "In the currency of cluster.price_per_cpu_hour.",
        "short",
        (("sum(increase(ray_grid_cost_total[$__range]))", "cost"),),
        kind="stat",
    ),
)
STORES = (
    Panel(
        "Time of a commit",
        "Parts and record.",
        "s",
        (
            (
                "histogram_quantile(0.5, sum by (le) (rate(ray_grid_commit_seconds_bucket[$__rate_interval])))",
                "half are faster",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(ray_grid_commit_seconds_bucket[$__rate_interval])))",
                "99 of 100 are faster",
            ),
        ),
    ),
    Panel(
        "Storage operations tried again, an hour",
        "Above 20 in ten minutes GridStorageRetries fires.",
        "short",
        (("sum(rate(ray_grid_storage_retries_total[$__rate_interval])) * 3600", "tried again"),),
    ),
    Panel(
        "Bars read",
        "From the store, by all nodes.",
        "Bps",
        (("sum by (tier) (rate(ray_grid_read_bytes_total[$__rate_interval]))", "{{tier}}"),),
    ),
)
CLUSTER = (
    Panel(
        "Nodes",
        "As Ray counts them; pending ones with an autoscaler only.",
        "short",
        (
            ("count by (RayNodeType) (ray_node_cpu_count)", "{{RayNodeType}}"),
            ("sum(autoscaler_pending_nodes)", "pending"),
        ),
    ),
    Panel(
        "CPU",
        "Utilisation of each node.",
        "percent",
        (("max by (instance) (ray_node_cpu_utilization)", "{{instance}}"),),
    ),
    Panel(
        "Memory",
        "At 95 % Ray kills workers.",
        "percentunit",
        (("max by (instance) (ray_node_mem_used) / max by (instance) (ray_node_mem_total)", "{{instance}}"),),
    ),
    Panel(
        "Object store",
        "What is in memory, of what there is. Bars lie there.",
        "percentunit",
        (
            (
                'sum by (instance) (ray_object_store_memory{Location=~"MMAP_SHM|MMAP_DISK"})'
                ' / sum by (instance) (ray_resources{Name="object_store_memory"})',
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        "Spilled to disk",
        "Objects that did not fit. A sweep becomes slow.",
        "bytes",
        (('sum by (instance) (ray_object_store_memory{Location="SPILLED"})', "{{instance}}"),),
    ),
    Panel(
        "Disk",
        "At 95 % Ray creates no more objects.",
        "percentunit",
        (
            (
                "max by (instance) (ray_node_disk_usage)"
                " / (max by (instance) (ray_node_disk_usage) + max by (instance) (ray_node_disk_free))",
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        "Alerts",
        "What fires now.",
        "short",
        (('sum by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} ({{severity}})"),),
        width=24,
    ),
)
ROWS = (("Sweeps", SWEEPS), ("Stores", STORES), ("Cluster", CLUSTER))


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for title, content in ROWS:
        panels.append(_row(title, y, len(panels) + 1))
        x, y = 0, y + 1
        for panel in content:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            panels.append(_panel(panel, x, y, len(panels) + 1))
            x += panel.width
        y += HEIGHT
    return {
        "uid": "backtest-grid",
        "title": "Backtest grid",
        "tags": ["backtest-grid", "ray"],
        "timezone": "utc",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "editable": False,
        "templating": {"list": [_datasource()]},
        "panels": panels,
    }


def prometheus_rule() -> dict[str, Any]:
    """The rules as the Prometheus operator reads them."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "grid", "labels": {"release": "prometheus"}},
        "spec": yaml.safe_load(RULES.read_text()),
    }


def texts() -> dict[Path, str]:
    """Every derived file with its content."""
    rule = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120)
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        PROMETHEUS_RULE: "# Written by deploy/monitoring/build.py from deploy/monitoring/rules/grid.yml.\n" + rule,
    }


def _datasource() -> dict[str, Any]:
    current = {"text": "Prometheus", "value": "prometheus"}
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "current": current}


def _row(title: str, y: int, number: int) -> dict[str, Any]:
    where = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": where, "panels": []}


def _panel(panel: Panel, x: int, y: int, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for n, (expression, legend) in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
