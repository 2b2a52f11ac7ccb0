"""The pool of workers follows the cluster: nodes that join are used, nodes that go are done without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from grid.aggregate import Progress
from grid.cluster import NAMESPACE
from grid.sweep import Watch, run
from tests.e2e.sweeps import WORKING, actors, small
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


def test_a_node_joins_and_another_goes(tmp_path: Path, cluster: Cluster) -> None:
    """The sweep waits for both: 6156 trials of 25 ms until the node is gone again, and of none from then on."""
    gone, joined, most = tmp_path / "gone", [], 0
    space = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 100, 1]}, "pause_ms": 25.0, "until": str(gone)}

    def slow(store: str) -> dict[str, object]:
        return small(tmp_path / store, strategy="tests.e2e.sweeps:Slow", space=space)

    def follow(progress: Progress) -> None:
        nonlocal most
        most = max(most, len(actors(WORKING)))
        if not joined and progress.done:
            joined.append(cluster.add_node(num_cpus=1))
        elif most == 2 and not gone.exists():
            cluster.remove_node(joined[0])
            gone.touch()

    session = run(slow("ray"), "ray", Watch(progress=follow), unit_size=20)
    assert session.status == "done"
    assert most == 2, "the node that joined was given no work"
    assert gone.exists(), "the node was never removed"
    assert "a worker was lost" in session.folder.read_log().decode()
    assert digest(session.trials()) == digest(run(slow("serial"), "serial").trials())
