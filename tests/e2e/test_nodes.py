"""The pool of workers follows the cluster: nodes that join are used, nodes that go are done without."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from grid.aggregate import Progress
from grid.cluster import NAMESPACE
from grid.sweep import Watch, run
from tests.e2e.test_kill import slow
from tests.rows import digest

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]  # Ray's own warnings are not ours to mend


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head with one CPU, its processes children of this one."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=started.address, namespace=NAMESPACE, log_to_driver=False)
    yield started
    ray.shutdown()
    started.shutdown()


def workers() -> int:
    """Worker actors among the processes of this test; a method's name follows while one runs."""
    titles = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"]]
    return sum(title[0].startswith("ray::Worker") for title in titles)


def test_a_node_joins_and_another_goes(tmp_path: Path, cluster: Cluster) -> None:
    undisturbed = run(slow(tmp_path / "serial"), "serial")
    joined: list[object] = []
    most: list[int] = []

    def follow(progress: Progress) -> None:
        most.append(workers())
        if not joined and progress.done:
            joined.append(cluster.add_node(num_cpus=1))
        elif len(joined) == 1 and most[-1] == 2 and progress.done > 400:
            cluster.remove_node(joined[0])
            joined.append(None)

    session = run(slow(tmp_path / "ray"), "ray", Watch(progress=follow), unit_size=5)
    assert session.status == "done"
    assert max(most) == 2, "the node that joined got no worker"
    assert len(joined) == 2, "the node was never removed"
    assert digest(session.trials()) == digest(undisturbed.trials())
