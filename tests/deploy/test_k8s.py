"""deploy/k8s/: rendered by kubectl, checked against schemas, and against what the operator and the house ask for."""

import copy
import json
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.cli import app
from grid.jobs import STEADY
from tests.conftest import REPOSITORY
from tests.deploy.crds import complaints
from tests.deploy.custom import KUEUE, MONITORING
from tests.deploy.test_monitoring import rules
from tests.deploy.tools import DEPLOY, DRAIN_S, checked
from tests.services.programs import need

K8S = DEPLOY / "k8s"
OVERLAYS = sorted(path.parent.relative_to(K8S).as_posix() for path in K8S.glob("overlays/*/kustomization.yaml"))
FOLDERS = ["sweep", *OVERLAYS]
OTHERS = {MONITORING, KUEUE}  # tests/deploy/test_custom_kinds.py
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
Resource = dict[str, Any]


@cache
def rendered(folder: str) -> str:
    return checked("kubectl", "kustomize", K8S / folder)


def resources(folder: str, *kinds: str) -> list[Resource]:
    found = [r for r in yaml.safe_load_all(rendered(folder)) if r]
    return [r for r in found if not kinds or r["kind"] in kinds]


def clusters(folder: str) -> list[Resource]:
    """The specs of every Ray cluster in it."""
    return [r["spec"].get("rayClusterSpec", r["spec"]) for r in resources(folder, "RayCluster", "RayJob")]


def groups(folder: str) -> list[Resource]:
    """Heads and groups of workers."""
    return [g for spec in clusters(folder) for g in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def pods(folder: str) -> list[Resource]:
    """Every pod spec in it."""
    submitters = [r["spec"]["submitterPodTemplate"]["spec"] for r in resources(folder, "RayJob")]
    sets = [r["spec"]["template"]["spec"] for r in resources(folder, "StatefulSet")]
    return [*(g["template"]["spec"] for g in groups(folder)), *submitters, *sets]


def bytes_of(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w*)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS.get(unit, 1)


def test_built_in_kinds_are_valid():
    """And every pod of another kind's template, as a pod. Each once, whatever renders it."""
    need("kubernetes_validate")
    import kubernetes_validate

    found = [r for f in FOLDERS for r in resources(f) if r["apiVersion"] not in OTHERS | {"ray.io/v1"}]
    as_pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": pod} for f in FOLDERS for pod in pods(f)
    ]
    for text in sorted({json.dumps(r, sort_keys=True) for r in (*found, *as_pods)}):
        kubernetes_validate.validate(json.loads(text), "1.33", strict=True)


@pytest.mark.shared
@pytest.mark.parametrize("folder", FOLDERS)
def test_ray_kinds_fit_the_schemas_of_the_operator(folder: str, shared: Path):
    found = resources(folder, "RayCluster", "RayJob")
    assert found
    for resource in found:
        assert complaints(resource, shared / "kuberay-crds") == []


@pytest.mark.shared
def test_the_schemas_notice_what_is_wrong(shared: Path):
    good = resources("overlays/onprem", "RayCluster")[0]
    for path, value in {"rayVersoin": "2.60.0", "autoscalerOptions": {"version": "v3"}, "workerGroupSpecs": 3}.items():
        bad = copy.deepcopy(good)
        bad["spec"][path] = value
        assert complaints(bad, shared / "kuberay-crds") != [], path


@pytest.mark.parametrize("folder", FOLDERS)
def test_rules_of_the_operator_that_no_schema_holds(folder: str):
    for resource in resources(folder, "RayCluster", "RayJob"):
        assert len(resource["metadata"]["name"]) <= (47 if resource["kind"] == "RayJob" else 53)
    for spec in clusters(folder):
        assert spec["rayVersion"] == version("ray")
        assert spec["authOptions"]["mode"] == "token"
        if spec.get("enableInTreeAutoscaling"):
            assert spec["autoscalerOptions"]["version"] == "v2"
            assert all("restartPolicy" not in g["template"]["spec"] for g in spec["workerGroupSpecs"])
        if "gcsFaultToleranceOptions" in spec:
            for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
                names = {e["name"] for c in group["template"]["spec"]["containers"] for e in c.get("env", ())}
                assert not names & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"}
                assert "redis-password" not in group["rayStartParams"]
        assert not {"networkPolicy", "tlsOptions", "historyServerOptions"} & set(spec), "behind a gate that is off"
    for job in (r["spec"] for r in resources(folder, "RayJob")):
        assert job["shutdownAfterJobFinishes"]
        assert job["ttlSecondsAfterFinished"] > 0
        assert job["activeDeadlineSeconds"] > 0
        assert job["backoffLimit"] <= 1, "each is a new cluster, also for bad input, which comes out the same again"
        assert not job["rayClusterSpec"].get("enableInTreeAutoscaling"), "Kueue takes no cluster that grows"
        assert "clusterSelector" not in job
        submitter = job["submitterPodTemplate"]["spec"]
        assert submitter["restartPolicy"] in ("Never", "OnFailure")


@pytest.mark.parametrize("folder", FOLDERS)
def test_shared_memory_holds_the_object_store_and_the_pod_holds_both(folder: str):
    for group in groups(folder):
        pod = group["template"]["spec"]
        container, volumes = pod["containers"][0], {v["name"]: v for v in pod["volumes"]}
        shm = volumes["shared-memory"]["emptyDir"]
        assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]  # noqa: S108 - Ray's
        assert shm["medium"] == "Memory"
        store, size = int(group["rayStartParams"]["object-store-memory"]), bytes_of(shm["sizeLimit"])
        assert store <= size <= bytes_of(container["resources"]["limits"]["memory"]) / 2
        assert container["resources"]["limits"] == container["resources"]["requests"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_work_on_the_head_and_workers_offer_what_they_have(folder: str):
    for spec in clusters(folder):
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
        for group in spec["workerGroupSpecs"]:
            limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert group["rayStartParams"]["num-cpus"] == limits["cpu"]
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] <= 50


@pytest.mark.parametrize("folder", FOLDERS)
def test_driver_and_aggregator_have_a_node_that_stays(folder: str):
    for spec in clusters(folder):
        steady = [g for g in spec["workerGroupSpecs"] if STEADY.items() <= g["labels"].items()]
        assert steady[0]["minReplicas"] >= 1
        assert "tolerations" not in steady[0]["template"]["spec"]
        assert "on_demand" in json.loads(json.loads(steady[0]["rayStartParams"]["resources"]))
        for group in spec["workerGroupSpecs"]:
            pod = group["template"]["spec"]
            if group["labels"]["ray.io/market-type"] == "spot":
                assert pod["tolerations"]
                assert "resources" not in group["rayStartParams"]
    for job in (r["spec"] for r in resources(folder, "RayJob")):
        assert json.loads(job["entrypointResources"]) == {"on_demand": 1}
        assert job["entrypointNumCpus"] >= 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_nodes_have_time_for_rays_own_draining_and_nothing_before_it(folder: str):
    """`ray start --block` drains its node at SIGTERM. A hook before would put that off, and use up the time."""
    for group in groups(folder):
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] >= DRAIN_S + 15
        assert all("lifecycle" not in container for container in pod["containers"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_locked_and_only_the_autoscaler_asks_the_api(folder: str):
    for pod in pods(folder):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert not container["image"].endswith(":latest")
    for spec in clusters(folder):
        head = spec["headGroupSpec"]["template"]["spec"]
        grows = spec.get("enableInTreeAutoscaling", False)
        assert head.get("automountServiceAccountToken", True) == grows
        workers = [g["template"]["spec"] for g in spec["workerGroupSpecs"]]
        assert all(w["automountServiceAccountToken"] is False for w in workers)
    submitters = [r["spec"]["submitterPodTemplate"]["spec"] for r in resources(folder, "RayJob")]
    assert all(s["automountServiceAccountToken"] is False for s in submitters)
    assert all(a["automountServiceAccountToken"] is False for a in resources(folder, "ServiceAccount"))
    assert resources(folder, "Secret") == []


@pytest.mark.parametrize("folder", [o for o in OVERLAYS if o != "overlays/kueue"])
def test_the_network_allows_only_what_is_named(folder: str):
    policies = {p["metadata"]["name"]: p["spec"] for p in resources(folder, "NetworkPolicy")}
    assert policies["nothing-else"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    api = policies["ray-head"]["egress"][0]["to"][0]["ipBlock"]["cidr"]
    assert api not in ("0.0.0.0/0", "192.0.2.1/32"), "settings.yaml has not arrived"
    sources = [s for p in policies.values() for rule in p.get("ingress", ()) for s in rule["from"]]
    assert all("ipBlock" not in source for source in sources)
    metrics = {port["port"] for port in policies["metrics"]["ingress"][0]["ports"]}
    assert metrics == {8080, 44217, 44227}
    dashboards = [
        p
        for p in policies.values()
        for r in p.get("ingress", ())
        if {"protocol": "TCP", "port": 8265} in r.get("ports", ())
    ]
    assert len(dashboards) == 1
    services = resources(folder, "Service")
    assert all(s["spec"].get("type", "ClusterIP") == "ClusterIP" for s in services)


def test_selectors_and_ports_of_monitors_find_something():
    found = resources("overlays/onprem")
    head = next(r for r in found if r["kind"] == "RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]
    ports = {p["name"] for p in head["containers"][0]["ports"]}
    monitors = {r["metadata"]["name"]: r["spec"] for r in found if r["kind"] == "PodMonitor"}
    assert {e["port"] for e in monitors["ray-head"]["podMetricsEndpoints"]} <= ports
    by_cluster = [rule["expr"] for rule in rules() if "ray_io_cluster" in rule["expr"]]
    assert len(by_cluster) >= 3
    assert all("ray.io/cluster" in monitor["podTargetLabels"] for monitor in monitors.values()), by_cluster
    jobs = {r["replacement"] for m in monitors.values() for e in m["podMetricsEndpoints"] for r in e["relabelings"]}
    scraped = yaml.safe_load((DEPLOY / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs <= {job["job_name"] for job in scraped}, "the rules know jobs by the names that Prometheus gives"
    budgets = [r["spec"] for r in found if r["kind"] == "PodDisruptionBudget"]
    assert all(isinstance(b["minAvailable"], int) for b in budgets)


def test_the_quota_holds_the_largest_cluster():
    quota = resources("overlays/aws", "ResourceQuota")[0]["spec"]["hard"]
    spec = clusters("overlays/aws")[0]
    most = [(spec["headGroupSpec"], 1), *((g, g["maxReplicas"]) for g in spec["workerGroupSpecs"])]
    asked = [(g["template"]["spec"]["containers"][0]["resources"]["limits"], n) for g, n in most]
    assert sum(int(limits["cpu"]) * n for limits, n in asked) < int(quota["limits.cpu"])
    assert sum(bytes_of(limits["memory"]) * n for limits, n in asked) < bytes_of(quota["limits.memory"])
    assert sum(n for _, n in asked) < int(quota["pods"])


def test_a_queue_admits_the_sweep():
    job = resources("overlays/kueue", "RayJob")[0]
    queue = resources("overlays/kueue", "LocalQueue")[0]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    assert job["spec"]["suspend"] is True
    room = resources("overlays/kueue", "ClusterQueue")[0]["spec"]["resourceGroups"][0]["flavors"][0]["resources"]
    most = {r["name"]: r["nominalQuota"] for r in room}
    spec = job["spec"]["rayClusterSpec"]
    asked = [(spec["headGroupSpec"], 1), *((g, g["replicas"]) for g in spec["workerGroupSpecs"])]
    limits = [(g["template"]["spec"]["containers"][0]["resources"]["limits"], n) for g, n in asked]
    assert sum(int(each["cpu"]) * n for each, n in limits) < most["cpu"]
    assert sum(bytes_of(each["memory"]) * n for each, n in limits) < bytes_of(most["memory"])


def test_the_sweep_it_runs_is_one_and_so_is_the_command():
    import shlex

    import typer

    from grid.spec import Sweep

    Sweep.model_validate(yaml.safe_load((K8S / "sweep" / "sweep.yaml").read_text()))
    program, role, *words = shlex.split(resources("sweep", "RayJob")[0]["spec"]["entrypoint"])
    assert (program, role) == ("entrypoint", "sweep")
    run = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    parsed = run.make_context("run", words, resilient_parsing=True)
    assert parsed.params["address"] == "auto"
    mounts = groups("sweep")[1]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert any(str(parsed.params["file"]).startswith(f"{m['mountPath']}/") for m in mounts)


def test_the_version_of_the_image_is_that_of_the_package():
    for folder in FOLDERS:
        images = {c["image"] for pod in pods(folder) for c in pod["containers"] if "backtest-grid" in c["image"]}
        assert {image.rpartition(":")[2] for image in images} == {version("backtest-grid")}, folder
    assert (REPOSITORY / "deploy/docker/Dockerfile").is_file()
