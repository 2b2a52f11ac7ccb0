"""deploy/monitoring/: rules by promtool, the dashboard's queries by a parser, every series one that exists."""

import importlib.util
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray
import yaml

from grid.telemetry import TABLE
from tests.deploy.tools import DEPLOY, checked
from tests.services.programs import need, program

MONITORING = DEPLOY / "monitoring"
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OURS = {f"ray_{m.name}{suffix}": set(m.labels) for m in TABLE for suffix in SUFFIXES[m.kind]}
RAYS = {  # without ray_cluster_failed_nodes, which with autoscaler v2 counts every node that ever ended, idle ones too,
    # and ray_cluster_pending_nodes, which leaves out nodes that were asked for and have no machine yet
    "autoscaler_failed_create_nodes_total": set(),
    "autoscaler_pending_nodes": {"NodeType"},
    "ray_memory_manager_worker_eviction_total": set(),
    "ray_node_cpu_count": {"RayNodeType"},
    "ray_node_cpu_utilization": set(),
    "ray_node_disk_free": set(),
    "ray_node_disk_usage": set(),
    "ray_node_mem_total": set(),
    "ray_node_mem_used": set(),
    "ray_object_store_memory": {"Location"},
    "ray_resources": {"Name"},
}
PROMETHEUS = {"up": {"job"}, "ALERTS": {"alertname", "alertstate", "severity"}}
KNOWN = OURS | RAYS | PROMETHEUS
EVERYWHERE = {"instance", "WorkerId", "le"}


def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", MONITORING / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules" / "grid.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "grafana" / "dashboards" / "grid.json").read_text())
    return found


def expressions() -> list[str]:
    targets = [t["expr"] for p in dashboard()["panels"] for t in p.get("targets", ())]
    filled = [e.replace("$__rate_interval", "1m").replace("$__range", "3h") for e in targets]
    return filled + [rule["expr"] for rule in rules()]


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Each series an expression names, with the labels it asks about."""
    import promql_parser

    found: list[tuple[str, set[str]]] = []

    def walk(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {m.name for m in node.matchers.matchers}))
        for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
            child = getattr(node, part, None)
            if child is not None and not isinstance(child, (str, int, float)):
                walk(child)
        args = getattr(node, "args", None)
        for child in args if isinstance(args, list) else ():
            walk(child)

    walk(promql_parser.parse(expression))
    return found


def test_rules_are_read_and_every_alert_fires_when_it_should():
    checked("promtool", "check", "rules", "--lint=all", "--lint-fatal", MONITORING / "rules" / "grid.yml")
    checked("promtool", "test", "rules", MONITORING / "tests" / "grid_test.yml")


MUTANTS = {
    "never fires": lambda expression: "vector(1) > 2",  # noqa: ARG005 - whatever it was
    "always fires": lambda expression: re.sub(r"(>=|==|>|<)", r"\1 bool", expression),
}
"""With `bool` a comparison gives 0 where it gave nothing, and an alert fires for a 0 too."""


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_an_alert_that_never_fires_or_always_does_fails_its_cases(alert: str, mutant: str, tmp_path: Path):
    """So each is fired by a case and kept silent by one."""
    spoilt = yaml.safe_load((MONITORING / "rules" / "grid.yml").read_text())
    (rule,) = [r for group in spoilt["groups"] for r in group["rules"] if r["alert"] == alert]
    rule["expr"] = MUTANTS[mutant](rule["expr"])
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rules" / "grid.yml").write_text(yaml.safe_dump(spoilt))
    cases = tmp_path / "tests" / "grid_test.yml"
    cases.write_text((MONITORING / "tests" / "grid_test.yml").read_text())
    checked("promtool", "check", "rules", tmp_path / "rules" / "grid.yml")
    ran = subprocess.run([program("promtool"), "test", "rules", cases], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f'alertname="{alert}"' in ran.stdout + ran.stderr


def test_every_alert_says_what_to_do():
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert all(text.endswith(".") for text in rule["annotations"].values()), rule["alert"]


def test_prometheus_reads_its_configuration(tmp_path: Path):
    """With the paths of the container made paths of this machine, as promtool looks for the files."""
    text = (MONITORING / "prometheus.yml").read_text()
    (tmp_path / "token").write_text("t")
    here = {"/etc/prometheus/rules": str(MONITORING / "rules"), "/run/secrets/ray_token": str(tmp_path / "token")}
    for there, path in here.items():
        assert there in text
        text = text.replace(there, path)
    (tmp_path / "prometheus.yml").write_text(text)
    checked("promtool", "check", "config", tmp_path / "prometheus.yml")


def test_every_expression_is_read_and_its_series_and_labels_exist():
    need("promql_parser")
    asked = [(expression, name, labels) for expression in expressions() for name, labels in selectors(expression)]
    assert len(asked) > 40
    unknown = [(e, name) for e, name, _ in asked if name not in KNOWN]
    assert unknown == []
    assert [(e, labels) for e, name, labels in asked if labels - KNOWN[name] - EVERYWHERE] == []


def test_a_series_that_does_not_exist_is_noticed():
    need("promql_parser")
    found = selectors(
        'max by (a) (rate(ray_grid_trails_total{state="ok"}[5m])) > 0.05 * sum(up) unless on () vector(1)'
    )
    assert found == [("ray_grid_trails_total", {"state"}), ("up", set())]
    assert "ray_grid_trails_total" not in KNOWN


def exported_by_ray(name: str) -> set[str] | None:
    """The labels of a series, as Ray's agent or autoscaler declares it or its dashboards ask for it; None for none."""
    from ray.autoscaler._private.prom_metrics import AutoscalerPrometheusMetrics
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    if name.startswith("autoscaler_"):
        own = AutoscalerPrometheusMetrics("s").registry._collector_to_names
        return next((set(series._labelnames) for series, names in own.items() if name in names), None)
    if gauge := METRICS_GAUGES.get(name.removeprefix("ray_")):
        return set(gauge.view.columns)
    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    text = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    asked = re.findall(rf"\b{name}\{{\{{(.*?)\}}\}}", text)
    return {label for matchers in asked for label in re.findall(r"(\w+)=", matchers)} if asked else None


def test_ray_exports_the_series_that_are_taken_for_its_own():
    unknown = {"ray_resuorces": {"Name"}, "ray_resources": {"Type"}, "ray_node_cpu_count": {"Name"}}
    for name, labels in RAYS.items():
        exported = exported_by_ray(name)
        assert exported is not None, name
        assert labels <= exported, name
    assert not any(labels <= (exported_by_ray(name) or set()) for name, labels in unknown.items())


def test_our_own_series_are_all_on_the_dashboard():
    need("promql_parser")
    targets = [
        t["expr"].replace("$__rate_interval", "1m").replace("$__range", "3h")
        for p in dashboard()["panels"]
        for t in p.get("targets", ())
    ]
    shown = {re.sub("_bucket$", "", name) for expression in targets for name, _ in selectors(expression)}
    assert {f"ray_{m.name}" for m in TABLE} <= shown


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in build().texts()])
def test_derived_files_are_up_to_date(path: Path):
    assert path.read_text() == build().texts()[path], "python deploy/monitoring/build.py writes it again"


def test_panels_and_provisioning_fit_together():
    panels = dashboard()["panels"]
    assert max(Counter(p["id"] for p in panels).values()) == 1
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    cells = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(cells)) == len(cells)
    sources = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert dashboard()["templating"]["list"][0]["current"]["value"] == sources[0]["uid"]
    provider = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/grid.yml").read_text())["providers"][0]
    assert provider["allowUiUpdates"] is False
    grafana = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["grafana"]
    mounts = {there: here for here, there, _ in (volume.split(":") for volume in grafana["volumes"] if ":ro" in volume)}
    assert mounts[provider["options"]["path"]] == "../monitoring/grafana/dashboards"
    assert mounts["/etc/grafana/provisioning"] == "../monitoring/grafana/provisioning"
    assert sources[0]["url"] == "http://prometheus:9090"
