"""A cluster with an autoscaler: it has no CPU until a sweep asks for some, and none again when the sweep is over."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from tests.e2e.cluster import PATIENCE_S, Cluster, running
from tests.e2e.sweeps import DATA, small

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]

MOST = 3
"""Nodes of one CPU that there may be; the sweep names one CPU less."""
EMPTY = (
    *("setup_commands", "initialization_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "rsync_exclude", "rsync_filter", "cluster_synced_files"),
)
"""What has no default with a provider of this kind, and is needed."""
VARIABLES = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}


class Growing(Cluster):
    """With Ray's own autoscaler, which starts processes of this machine where it would start machines."""

    nodes = ()

    def environment(self, token: Path | None) -> dict[str, str]:
        return {**super().environment(token), **VARIABLES}

    def start(self) -> None:
        (self.folder / "autoscaling.json").write_text(json.dumps(autoscaling(self.gcs)))
        self.head = (f"--autoscaling-config={self.folder / 'autoscaling.json'}",)
        super().start()


def autoscaling(gcs: int) -> dict[str, object]:
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    said = {"launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID, "gcs_address": f"127.0.0.1:{gcs}"}
    spot = {"CPU": 1, "object_store_memory": 100_000_000}
    return {
        "cluster_name": "growing",
        "max_workers": MOST,
        "idle_timeout_minutes": 0.1,
        "provider": {"type": "external", "module": provider, **said},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "spot": {"resources": spot, "node_config": {}, "min_workers": 0, "max_workers": MOST},
        },
        "head_node_type": "ray.head.default",
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in EMPTY},
    }


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running(kind=Growing) as there:
        yield there


def cpus(cluster: Cluster) -> int:
    alive = [node for node in cluster.listed("nodes") if node["state"] == "ALIVE"]
    return sum(int(node["resources_total"].get("CPU", 0)) for node in alive)


def test_it_grows_to_what_the_sweep_names_and_shrinks_afterwards(cluster: Cluster):
    space = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 50, 1]}, "pause_ms": 150.0}
    spec = small(cluster.folder / "results", strategy="tests.e2e.sweeps:Slow", space=space)
    spec["data"] = {**spec["data"], "store": str(DATA), "symbols": ["IBM"]}
    spec["cluster"] = {"cpus": MOST - 1}
    (cluster.folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    assert cpus(cluster) == 0
    driver = cluster.begin("run", "sweep.yaml", "--address", f"127.0.0.1:{cluster.gcs}", "--quiet", "--session-id", "s")
    seen, until = [0], time.monotonic() + 2 * PATIENCE_S
    while driver.poll() is None:
        assert time.monotonic() < until, seen
        seen.append(cpus(cluster))
        time.sleep(1)
    told = driver.communicate()
    assert driver.returncode == 0, told
    assert max(seen) == MOST - 1, seen
    while cpus(cluster):
        assert time.monotonic() < until, "nodes that nobody needs are left"
        time.sleep(1)
