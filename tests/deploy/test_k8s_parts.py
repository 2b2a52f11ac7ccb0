"""deploy/k8s/, part by part: what a standing cluster has beyond being valid, and that its parts find each other."""

import json
import re
import shutil
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.jobs import STEADY
from tests.deploy.policies import listed, statements
from tests.deploy.test_k8s import FOLDERS, Resource, clusters, resources
from tests.deploy.test_readme import commands
from tests.deploy.tools import DEPLOY, checked

STANDING = ["overlays/aws", "overlays/dev", "overlays/onprem"]
GROWING = ["overlays/aws", "overlays/onprem"]


def named(folder: str, kind: str, name: str) -> Resource:
    return next(r for r in resources(folder, kind) if r["metadata"]["name"] == name)


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def selects(selector: Resource, labels: dict[str, str]) -> bool:
    """A label selector as Kubernetes reads it, as far as deploy/ goes."""
    expressions = selector.get("matchExpressions", ())
    assert all(e["operator"] == "In" for e in expressions)
    wanted = all(labels.get(e["key"]) in e["values"] for e in expressions)
    return wanted and matches(selector.get("matchLabels", {}), labels)


def reaches(folder: str, source: dict[str, str], target: dict[str, str], port: int) -> bool:
    """Whether policies let pods with the labels `source` out to those with labels `target`, and these let them in."""
    policies = [p["spec"] for p in resources(folder, "NetworkPolicy")]

    def let(direction: str, peer: str, here: dict[str, str], there: dict[str, str]) -> bool:
        rules = [r for p in policies if selects(p["podSelector"], here) for r in p.get(direction, ())]
        ports = [r for r in rules if "ports" not in r or port in [p["port"] for p in r["ports"]]]
        pods = [peer_of["podSelector"] for r in ports for peer_of in r[peer] if set(peer_of) == {"podSelector"}]
        return any(selects(pod, there) for pod in pods)

    return let("egress", "to", source, target) and let("ingress", "from", target, source)


REFERENCES = {
    "secretName": "Secret",
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
    "configMap": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "claimName": "PersistentVolumeClaim",
    "serviceAccountName": "ServiceAccount",
}
"""Fields of pods and of Ray clusters that name something else."""


def referred(node: Any) -> set[tuple[str, str]]:
    """Kind and name of all that a resource takes for granted."""
    if isinstance(node, list):
        return {thing for item in node for thing in referred(item)}
    if not isinstance(node, dict):
        return set()
    found = {thing for value in node.values() for thing in referred(value)}
    here = {kind: node[field] for field, kind in REFERENCES.items() if field in node}
    return found | {(kind, name if isinstance(name, str) else name["name"]) for kind, name in here.items()}


def rendered_names(folder: str) -> set[tuple[str, str]]:
    return {(r["kind"], r["metadata"]["name"]) for r in resources(folder)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_that_pods_name_is_there(folder: str):
    """Rendered beside them, made by hand as README.md says, or, for a sweep, of any overlay that was applied before."""
    asked = referred(resources(folder, "RayCluster", "RayJob", "StatefulSet"))
    assert {("ServiceAccount", "ray-worker"), ("Secret", "ray-token")} <= asked
    there = rendered_names(folder) | {("Secret", words[5]) for words in commands("kubectl") if "secret" in words}
    if folder not in STANDING:
        there |= set.intersection(*(rendered_names(each) for each in STANDING))
    assert asked - there == set()


@pytest.mark.parametrize("folder", STANDING)
def test_it_grows_by_the_second_autoscaler_and_shrinks_when_idle(folder: str):
    (spec,) = clusters(folder)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert 0 < spec["autoscalerOptions"]["idleTimeoutSeconds"] <= 600
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= 1, "what stays when nobody works costs money"
        assert group["maxReplicas"] > 0


@pytest.mark.parametrize("folder", [*GROWING, "sweep"])
def test_one_group_stays_and_the_other_may_be_taken_away(folder: str):
    (spec,) = clusters(folder)
    by_kind = {group["labels"]["ray.io/market-type"]: group for group in spec["workerGroupSpecs"]}
    assert set(by_kind) == {"on-demand", "spot"}
    assert by_kind["on-demand"]["labels"] == STEADY
    assert by_kind["on-demand"]["minReplicas"] >= 1
    selectors = [group["template"]["spec"]["nodeSelector"] for group in by_kind.values()]
    assert selectors[0] != selectors[1]
    (toleration,) = by_kind["spot"]["template"]["spec"]["tolerations"]
    assert toleration["effect"] == "NoSchedule"


@pytest.mark.parametrize("folder", STANDING)
def test_the_state_of_the_head_is_in_a_valkey_that_is_there_and_keeps_it_on_disk(folder: str):
    (spec,) = clusters(folder)
    options = spec["gcsFaultToleranceOptions"]
    host, port = options["redisAddress"].split(":")
    service = named(folder, "Service", host)["spec"]
    assert [p["port"] for p in service["ports"]] == [int(port)]
    valkey = named(folder, "StatefulSet", "valkey")["spec"]
    pod = valkey["template"]
    assert matches(service["selector"], pod["metadata"]["labels"])
    assert service["ports"][0]["targetPort"] in [p["name"] for p in pod["spec"]["containers"][0]["ports"]]
    secret = options["redisPassword"]["valueFrom"]["secretKeyRef"]["name"]
    assert secret in [v["secret"]["secretName"] for v in pod["spec"]["volumes"] if "secret" in v]
    assert "appendonly yes" in pod["spec"]["containers"][0]["command"][-1]
    assert [c["metadata"]["name"] for c in valkey["volumeClaimTemplates"]] == ["data"]
    waits = [e for g in spec["workerGroupSpecs"] for c in g["template"]["spec"]["containers"] for e in c["env"]]
    waiting = [int(e["value"]) for e in waits if e["name"] == "RAY_gcs_rpc_server_reconnect_timeout_s"]
    assert len(waiting) == len(spec["workerGroupSpecs"])
    assert min(waiting) >= 300, "workers wait until a head is scheduled anew"


@pytest.mark.parametrize("folder", STANDING)
def test_valkey_is_reached_by_heads_and_by_what_cleans_up_after_them_alone(folder: str):
    """KubeRay labels the pod of the job that forgets a deleted cluster `redis-cleanup`, and else as the head."""
    valkey = named(folder, "StatefulSet", "valkey")["spec"]["template"]["metadata"]["labels"]
    kinds = ("head", "redis-cleanup", "worker")
    nodes = {kind: {"ray.io/node-type": kind, "ray.io/is-ray-node": "yes"} for kind in kinds}
    assert [kind for kind in kinds if reaches(folder, nodes[kind], valkey, 6379)] == ["head", "redis-cleanup"]
    assert reaches(folder, {"backtest-grid/client": "yes"}, nodes["head"], 8265)
    assert not reaches(folder, {}, nodes["head"], 8265)
    assert not reaches(folder, {}, valkey, 6379)


@pytest.mark.parametrize("folder", GROWING)
def test_budgets_of_disruption_are_of_the_head_and_of_the_drivers_nodes(folder: str):
    (cluster,) = resources(folder, "RayCluster")
    places = [("head", "headgroup"), *(("worker", g["groupName"]) for g in clusters(folder)[0]["workerGroupSpecs"])]
    own = {"ray.io/cluster": cluster["metadata"]["name"]}
    found = {}
    for budget in resources(folder, "PodDisruptionBudget"):
        assert budget["spec"]["minAvailable"] == 1
        selector = budget["spec"]["selector"]["matchLabels"]
        hit = [p for p in places if matches(selector, {**own, "ray.io/node-type": p[0], "ray.io/group": p[1]})]
        found[budget["metadata"]["name"]] = hit
    assert found == {"ray-head": [("head", "headgroup")], "drivers": [("worker", "on-demand")]}


@pytest.mark.parametrize("folder", STANDING)
def test_grafanas_sidecar_finds_the_dashboard(folder: str):
    config = named(folder, "ConfigMap", "grafana-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["metadata"]["namespace"] == "backtest-grid"
    (name,) = config["data"]
    assert config["data"][name] == (DEPLOY / "monitoring" / "grafana" / "dashboards" / name).read_text()


def mounted(pod: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """Claims by the path at which a pod has them, and whether it may only read."""
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
    }
    mounts = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] in claims]
    return {m["mountPath"]: (claims[m["name"]], m.get("readOnly", False)) for m in mounts}


ON_NFS = {"/mnt/grid/data": ("grid-data", True), "/mnt/grid/results": ("grid-results", False)}


def changed(tmp_path: Path, file: str, change: Callable[[str], str], folder: str) -> list[Resource]:
    """What `folder` of deploy/k8s renders to when the text of one file of it is another."""
    shutil.copytree(DEPLOY / "k8s", tmp_path / "k8s")
    shutil.copytree(DEPLOY / "monitoring", tmp_path / "monitoring")
    path = tmp_path / "k8s" / file
    path.write_text(change(path.read_text()))
    return [r for r in yaml.safe_load_all(checked("kubectl", "kustomize", tmp_path / "k8s" / folder)) if r]


def test_a_sweep_with_a_cluster_of_its_own_has_nfs_by_two_lines(tmp_path: Path):
    """Those that its kustomization.yaml has as comments."""

    def taken_in(text: str) -> str:
        return re.sub(r"^# (components|images):", r"\1:", text, flags=re.MULTILINE)

    found = changed(tmp_path, "sweep/kustomization.yaml", taken_in, "sweep")
    (job,) = [r["spec"] for r in found if r["kind"] == "RayJob"]
    for group in job["rayClusterSpec"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert mounted(pod) == ON_NFS, group["groupName"]
        assert pod["containers"][0]["image"].startswith("registry.example.com/backtest-grid:")
    assert ("PersistentVolumeClaim", "grid-data") in rendered_names("overlays/onprem")


@pytest.mark.parametrize("folder", STANDING)
def test_what_only_the_operator_knows_is_in_settings_and_arrives(folder: str, tmp_path: Path):
    names = yaml.safe_load((DEPLOY / "k8s" / folder / "settings.yaml").read_text())["data"]
    told = {name: "198.51.100.7/32" if name.endswith("CIDR") else f"x-{n}" for n, name in enumerate(names)}

    def other(text: str) -> str:
        return text[: text.index("\ndata:")] + "\ndata: " + json.dumps(told)

    found = changed(tmp_path, f"{folder}/settings.yaml", other, folder)
    there = json.dumps([r for r in found if r["metadata"]["name"] != "settings"])
    missing = {name for name, value in told.items() if f'"{value}"' not in there}
    assert missing == ({"PROMETHEUS_RELEASE"} if folder == "overlays/dev" else set()), "kind has no Prometheus operator"
    released = [r["metadata"]["labels"]["release"] for r in found if r["apiVersion"].startswith("monitoring.")]
    assert set(released) == (set() if folder == "overlays/dev" else {told["PROMETHEUS_RELEASE"]})


@pytest.mark.parametrize("folder", STANDING)
def test_disks_name_their_class_and_the_operator_its_namespace(folder: str):
    """Many clusters have no default class, and anybody may call a pod kuberay-operator."""
    claims = [c for s in resources(folder, "StatefulSet") for c in s["spec"]["volumeClaimTemplates"]]
    assert all(claim["spec"]["storageClassName"] for claim in claims)
    sources = named(folder, "NetworkPolicy", "ray-head")["spec"]["ingress"][0]["from"]
    assert all(source.get("namespaceSelector") != {} for source in sources)


@pytest.mark.parametrize("folder", STANDING)
def test_names_are_also_asked_of_a_cache_on_the_node_and_never_its_credentials(folder: str):
    rules = named(folder, "NetworkPolicy", "names")["spec"]["egress"]
    (block,) = [to["ipBlock"] for rule in rules for to in rule["to"] if "ipBlock" in to]
    within = [ip_address(each) in ip_network(block["cidr"]) for each in ("169.254.20.10", "169.254.25.10")]
    assert within == [True, True], "of NodeLocal DNSCache and of kubespray"
    assert block["except"] == ["169.254.169.254/32"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {53}


def test_workers_of_ones_own_machines_read_data_and_write_results_on_nfs():
    folder = "overlays/onprem"
    (spec,) = clusters(folder)
    for group in spec["workerGroupSpecs"]:
        assert mounted(group["template"]["spec"]) == ON_NFS, group["groupName"]
    assert mounted(spec["headGroupSpec"]["template"]["spec"]) == {}
    for claim in resources(folder, "PersistentVolumeClaim"):
        volume = named(folder, "PersistentVolume", claim["spec"]["volumeName"])
        assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"]
        assert claim["spec"]["storageClassName"] == "", "no other volume is made for it"
        assert volume["spec"]["nfs"]["path"].startswith("/")
        assert {"hard", "nfsvers=4.1"} <= set(volume["spec"]["mountOptions"])
        assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
        reads = volume["spec"]["accessModes"] == ["ReadOnlyMany"]
        assert reads is (volume["metadata"]["name"] == "grid-data") is volume["spec"]["nfs"].get("readOnly", False)


def test_on_aws_workers_have_the_role_of_their_account_and_no_keys():
    folder = "overlays/aws"
    account = named(folder, "ServiceAccount", "ray-worker")["metadata"]
    role = account["annotations"]["eks.amazonaws.com/role-arn"]
    assert role == "arn:aws:iam::111122223333:role/backtest-grid-worker"
    (trust,) = statements(DEPLOY / "aws" / "iam" / "worker-trust-eks.json")
    subject = f"system:serviceaccount:{account['namespace']}:{account['name']}"
    assert subject in trust["Condition"]["StringEquals"].values(), "nobody else takes the role"
    assert listed(trust["Action"]) == ["sts:AssumeRoleWithWebIdentity"]
    for group in clusters(folder)[0]["workerGroupSpecs"]:
        assert group["template"]["spec"]["serviceAccountName"] == account["name"]
    assert "serviceAccountName" not in clusters(folder)[0]["headGroupSpec"]["template"]["spec"], "KubeRay's own"
    assert "AWS_" not in json.dumps(resources(folder))
