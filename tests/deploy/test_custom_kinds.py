"""Queues, monitors and rules of deploy/k8s: kinds that neither Kubernetes nor KubeRay brings."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.custom import KUEUE, MONITORING, complaints
from tests.deploy.test_k8s import FOLDERS, Resource, resources
from tests.deploy.tools import DEPLOY, checked


def of_kind(kind: str, name: str = "") -> Resource:
    folder = "overlays/kueue" if kind.endswith(("Queue", "Flavor")) else "overlays/onprem"
    return next(r for r in resources(folder, kind) if name in ("", r["metadata"]["name"]))


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_fits_what_its_api_takes(folder: str):
    found = [r for r in resources(folder) if r["apiVersion"] in (KUEUE, MONITORING)]
    kinds = {resource["kind"] for resource in found}
    expected = {
        "overlays/kueue": {"ClusterQueue", "LocalQueue", "ResourceFlavor"},
        "overlays/aws": {"PodMonitor", "PrometheusRule"},
        "overlays/onprem": {"PodMonitor", "PrometheusRule"},
    }
    assert kinds == expected.get(folder, set())
    assert [(r["metadata"]["name"], told) for r in found for told in complaints(r)] == []


SPOILT: list[tuple[str, str, Any]] = [
    ("ClusterQueue", "apiVersion", "kueue.x-k8s.io/v1beta1"),
    ("ClusterQueue", "metadata.namespace", "backtest-grid"),
    ("ClusterQueue", "spec.queueingStrategy", "FIFO"),
    ("ClusterQueue", "spec.cohort", "all"),
    ("ClusterQueue", "spec.resourceGroups.0.coveredResources", ["memory", "cpu"]),
    ("ClusterQueue", "spec.resourceGroups.0.flavors.0.resources.0.nominalQuota", "many"),
    ("ClusterQueue", "spec.resourceGroups.0.flavors.0.name", "Grid_1"),
    ("LocalQueue", "spec.clusterqueue", "grid"),
    ("ResourceFlavor", "spec", {"nodeLabels": {"a": 1}}),
    ("PodMonitor", "spec.podMetricsEndpoint", []),
    ("PodMonitor", "spec.podMetricsEndpoints.0.interval", "15 seconds"),
    ("PodMonitor", "spec.podMetricsEndpoints.0.relabelings.0.target_label", "job"),
    ("PodMonitor", "spec.selector", None),
    ("PrometheusRule", "spec.groups.0.name", ""),
    ("PrometheusRule", "spec.groups.0.rules.0.fro", "5m"),
    ("PrometheusRule", "spec.groups.0.rules.0.for", "five minutes"),
    ("PrometheusRule", "spec.groups.0.rules.0.labels.severity", 1),
]


@pytest.mark.parametrize(("kind", "where", "value"), SPOILT, ids=[f"{kind} {where}" for kind, where, _ in SPOILT])
def test_what_it_does_not_take_is_noticed(kind: str, where: str, value: Any):
    spoilt = copy.deepcopy(of_kind(kind, "ray-head" if kind == "PodMonitor" else ""))
    *path, last = where.split(".")
    inside: Any = spoilt
    for step in path:
        inside = inside[int(step)] if step.isdigit() else inside.setdefault(step, {})
    inside[last] = value
    assert complaints(spoilt) != []


def test_queue_flavor_and_namespace_are_there():
    """A ClusterQueue whose flavors are not there admits nothing, nor does one that takes no queue of the namespace."""
    queue, spec = of_kind("LocalQueue"), of_kind("ClusterQueue")["spec"]
    assert queue["spec"]["clusterQueue"] == of_kind("ClusterQueue")["metadata"]["name"]
    flavors = {flavor["name"] for group in spec["resourceGroups"] for flavor in group["flavors"]}
    assert flavors == {r["metadata"]["name"] for r in resources("overlays/kueue", "ResourceFlavor")}
    assert spec["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": queue["metadata"]["namespace"]}
    job = resources("overlays/kueue", "RayJob")[0]["metadata"]
    assert job["namespace"] == queue["metadata"]["namespace"]


@pytest.mark.parametrize("folder", ["overlays/aws", "overlays/onprem"])
def test_promtool_reads_the_rules_that_the_operator_would_give_to_prometheus(folder: str, tmp_path: Path):
    """Out of the rendered PrometheusRule; then every alert's own cases on them."""
    rules = tmp_path / "rules" / "grid.yml"
    rules.parent.mkdir()
    rules.write_text(yaml.safe_dump(resources(folder, "PrometheusRule")[0]["spec"]))
    checked("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules)
    cases = tmp_path / "tests" / "grid_test.yml"
    cases.parent.mkdir()
    cases.write_text((DEPLOY / "monitoring" / "tests" / "grid_test.yml").read_text())
    assert "../rules/grid.yml" in cases.read_text()
    checked("promtool", "test", "rules", cases)
