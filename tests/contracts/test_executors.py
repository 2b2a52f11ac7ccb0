"""What every executor promises: the rows, leaders and counts of one process, however the plan is cut and spread."""

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

from grid import dispatch, rounds
from grid.aggregate import Aggregator
from grid.cluster import NAMESPACE, driver
from grid.errors import Refused
from grid.evaluate import Evaluator
from grid.observe import READ
from grid.searchspec import ADAPTIVE, HALVING
from grid.session import Session
from grid.sweep import Watch, resume, run
from grid.telemetry import Telemetry
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
def test_bars_are_read_once_for_all_rounds_where_there_is_room_for_them(
    tmp_path: Path, executor: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    sink = SimpleNamespace(record=lambda metric, size, _: sizes.append(size) if metric.name == READ else None)

    def read(results: Path, method: str = "local") -> tuple[int, str]:
        """Bytes of bars that were read for a search, and the digest of its rows."""
        sizes.clear()
        telemetry = Telemetry()
        with telemetry.also(sink):
            sweep = searching(results, method, cluster={"cpus": workers})
            session = run(sweep, executor, Watch(telemetry=telemetry), unit_size=3)
        return int(sum(sizes)), digest(session.trials())

    once, _ = read(tmp_path / "once", "sobol")
    kept, rows = read(tmp_path / "kept")
    assert kept == once
    monkeypatch.setattr("grid.sweep.KEPT_BYTES", 0)
    monkeypatch.setattr("grid.cluster.bars._room", lambda: 0)
    again, same = read(tmp_path / "again")
    assert again == 3 * once if executor == "serial" else again > once
    assert same == rows


ASKED = ("sobol", "lhs", *ADAPTIVE, HALVING)


def searching(store: Path, method: str, **changes: Any) -> dict[str, Any]:
    """24 points on two datasets, three rounds of 8 where the method learns from results; of halving, 72, 24 and 8."""
    search = {"method": method, "trials": 24, "seed": 5, **({"round": 8} if method in ADAPTIVE else {})}
    search |= {"trials": 72} if method == HALVING else {}
    return small(store, search=search, **changes)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Session]:
    """One session of each method, by this process without a break."""
    folder = tmp_path_factory.mktemp("asked")
    return {method: run(searching(folder / method, method), "serial") for method in ASKED}


@pytest.mark.parametrize("method", ASKED)
def test_a_search_that_is_cut_short_goes_on_with_the_very_sequence(
    tmp_path: Path, asked: dict[str, Session], method: str
) -> None:
    """Stopped after each few trials, in the middle of a round too, and resumed by a driver that knows rows alone."""
    session, runs = None, 0
    while session is None or session.status != "done":
        seen: list[int] = []
        watch = Watch(progress=seen.append, stopping=lambda seen=seen: len(seen) > 2)
        if session is None:
            session = run(searching(tmp_path, method), "serial", watch, unit_size=5)
        else:
            session = resume(Session(session.folder), "serial", watch, unit_size=5)
        runs += 1
    assert runs > 2
    assert digest(session.trials()) == digest(asked[method].trials())
    assert Session(session.folder).top_points(3) == asked[method].top_points(3)
    ids = session.trials(["trial_id"])["trial_id"].to_pylist()
    if method == HALVING:  # 72 points on one dataset, 24 on both, 8 on both
        assert sorted(i % 104 for i in ids) == sorted([*range(72), *range(72, 104), *range(72, 104)])
    else:
        assert ids == list(range(48))


def test_a_search_that_would_go_on_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another version of a sampler: what is asked for again is not what the begun round's rows are of."""
    seen: list[int] = []
    watch = Watch(progress=lambda p: seen.append(p.done), stopping=lambda: len(seen) > 2)
    begun = run(searching(tmp_path, "sobol"), "serial", watch, unit_size=5)
    rows = digest(begun.trials())
    monkeypatch.setattr(rounds, "_seed", lambda search: search.seed + 1)
    with pytest.raises(Refused, match="does not go on as it began"):
        resume(Session(begun.folder), "serial")
    assert digest(Session(begun.folder).trials()) == rows


@pytest.mark.ray
@pytest.mark.parametrize("method", ["nsga2", HALVING])
def test_workers_do_not_change_what_is_searched(
    tmp_path: Path, asked: dict[str, Session], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """By Ray, stopped after the first commit and resumed; two workers each time, which stay from round to round."""
    names: list[str] = []
    monkeypatch.setattr(driver, "named", lambda _, kind: names.append(kind) or f"{kind} {len(names)}")
    monkeypatch.setattr(dispatch, "STRAGGLES_AFTER_S", 60.0)  # on a busy machine one would be ended for its copy
    seen: list[int] = []
    watch = Watch(progress=lambda p: seen.append(p.done), stopping=lambda: bool(seen and seen[-1]))
    begun = run(searching(tmp_path, method, cluster={"cpus": 2}), "ray", watch, unit_size=3)
    assert begun.status == "interrupted"
    session = resume(Session(begun.folder), "ray", unit_size=3)
    assert digest(session.trials()) == digest(asked[method].trials())
    assert session.ledger.summary == asked[method].ledger.summary
    assert names == ["worker"] * 4


@pytest.mark.parametrize(("executor", "workers"), [EXECUTORS[0], EXECUTORS[2]])
@pytest.mark.parametrize("method", ["grid", "nsga2"])
def test_the_rows_do_not_depend_on_what_was_run_before(
    tmp_path: Path, whole: Session, asked: dict[str, Session], executor: str, workers: int, method: str
) -> None:
    """Half of the trials are there already; stopped after the first commit, and resumed."""
    earlier = run(small(tmp_path, space={"slow": {"range": [5, 50, 5]}, "fast": {"range": [2, 20, 2]}}), "serial")
    sweep = searching(tmp_path, method) if method != "grid" else small(tmp_path)
    seen: list[int] = []
    watch = Watch(progress=lambda p: seen.append(p.done), stopping=lambda: bool(seen and seen[-1]))
    begun = run({**sweep, "cluster": {"cpus": workers}}, executor, watch, unit_size=3)
    session = resume(Session(begun.folder), executor, unit_size=7)
    alone = whole if method == "grid" else asked[method]
    assert digest(session.trials().drop_columns(["reused_from"])) == digest(
        alone.trials().drop_columns(["reused_from"])
    )
    fast = np.array(session.trials(["fast"])["fast"])
    assert dict(session.ledger.summary.reused) == {earlier.id: int((fast % 2 == 0).sum())}
    assert session.top_points(5) == alone.top_points(5)


@pytest.mark.parametrize(("executor", "workers"), EXECUTORS)
def test_what_was_begun_is_committed_when_asked_to_stop(tmp_path: Path, executor: str, workers: int) -> None:
    """Stopped at once after the first commit; nothing that the session says it has is missing."""
    seen: list[int] = []
    watch = Watch(progress=lambda p: seen.append(p.done), stopping=lambda: bool(seen and seen[-1]))
    session = run(small(tmp_path, cluster={"cpus": workers}), executor, watch, unit_size=2)
    rows = session.trials(["trial_id"])["trial_id"].to_pylist()
    assert len(rows) == len(set(rows)) == session.metadata["ok"]
    assert session.status in ("done", "interrupted")
