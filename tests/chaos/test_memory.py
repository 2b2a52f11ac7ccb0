"""A trial that eats memory on a real Ray whose monitor kills it: a failed row, and not for ever tried again."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from grid import rehearse
from grid.cluster import NAMESPACE
from grid.sweep import run
from tests.e2e.sweeps import small

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]
LIMIT_GB = 3.0


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """A Ray that kills when there is so much more memory in use than now."""
    memory = psutil.virtual_memory()
    threshold = (memory.total - memory.available + LIMIT_GB * 1e9) / memory.total
    settings = {"memory_usage_threshold": threshold, "memory_monitor_refresh_ms": 100}
    quiet = {"include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=1, namespace=NAMESPACE, _system_config=settings, **quiet)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_little_memory")
def test_one_that_eats_memory_becomes_a_failed_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearse, "SAMPLE", 20)  # the rehearsal is not what this is about
    space = {"fast": {"range": [20, 45, 1]}, "bad": 45, "way": "eat"}
    data = {**small(tmp_path)["data"], "symbols": ["IBM"]}
    spec = small(tmp_path, strategy="tests.chaos.poison:Poison", space=space, constraints=[], data=data)
    session = run(spec, "ray", unit_size=1)
    (bad,) = [row for row in session.trials().to_pylist() if row["status"] == "failed"]
    assert bad["fast"] == 45
    assert "its worker died" in bad["error"]
    assert bad["error"].endswith("4 times")
