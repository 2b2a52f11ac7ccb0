"""What every executor promises: the rows, leaders and counts of one process, however the plan is cut and spread."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from grid.aggregate import Aggregator
from grid.cluster import NAMESPACE
from grid.evaluate import Evaluator
from grid.session import Session
from grid.sweep import Watch, run
from storage.providers import provider_for
from storage.sessions import SessionFolder
from tests.e2e.sweeps import small
from tests.rows import digest

EXECUTORS = [
    pytest.param("serial", 1, id="serial"),
    pytest.param("ray", 1, id="ray-1", marks=pytest.mark.ray),
    pytest.param("ray", 2, id="ray-2", marks=pytest.mark.ray),
]
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own warnings are not ours to mend


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return run(small(tmp_path_factory.mktemp("whole")), "serial")


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
@pytest.mark.parametrize("unit_size", [1, 7, 1000])
def test_the_rows_do_not_depend_on_who_did_them(
    tmp_path: Path, whole: Session, executor: str, workers: int, unit_size: int
) -> None:
    session = run(small(tmp_path, cluster={"cpus": workers}), executor, unit_size=unit_size)
    assert session.status == "done"
    assert digest(session.trials()) == digest(whole.trials())
    assert session.ledger.summary == whole.ledger.summary
    assert session.top_points(5) == whole.top_points(5)


@pytest.mark.parametrize("unit_size", [1, 7, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_the_rows_do_not_depend_on_the_order_of_arrival(
    tmp_path: Path, whole: Session, unit_size: int, seed: int
) -> None:
    """Every batch in a random order, one in three of them twice."""
    resolved = whole.resolved
    evaluator, loaded = Evaluator(resolved), [resolved.load(d) for d in range(len(resolved.datasets))]
    batches = [evaluator.evaluate(unit, loaded[unit.dataset]) for unit in resolved.plan.units(lambda _: unit_size)]
    dice = random.Random(seed)
    arriving = batches + dice.sample(batches, len(batches) // 3)
    dice.shuffle(arriving)
    folder = SessionFolder(provider_for(str(tmp_path)), "shuffled")
    aggregator = Aggregator(folder, resolved.sweep.objective, 3)
    for batch in arriving:
        aggregator.fold(batch)
        if dice.random() < 0.1:
            aggregator.flush()
    aggregator.flush()
    folder.write_document("metadata.json", whole.metadata)
    assert digest(Session(folder).trials()) == digest(whole.trials())


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
def test_what_was_begun_is_committed_when_asked_to_stop(tmp_path: Path, executor: str, workers: int) -> None:
    """Stopped at once after the first commit; nothing that the session says it has is missing."""
    seen: list[int] = []
    watch = Watch(progress=lambda p: seen.append(p.done), stopping=lambda: bool(seen and seen[-1]))
    session = run(small(tmp_path, cluster={"cpus": workers}), executor, watch, unit_size=2)
    rows = session.trials(["trial_id"])["trial_id"].to_pylist()
    assert len(rows) == len(set(rows)) == session.metadata["ok"]
    assert session.status in ("done", "interrupted")
