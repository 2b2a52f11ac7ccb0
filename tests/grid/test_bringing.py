"""What the driver brings to and fro, on a cluster made of nothing: bars to the workers, batches to the log."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError

from grid.aggregate import FLUSH_AFTER_S, Progress, Receipt
from grid.cluster import bars, collect, growth
from grid.cluster import driver as driver_module
from grid.cluster.driver import MOST_STILLBORN, Driver
from grid.dispatch import Dispatcher
from grid.errors import BadInput
from grid.pace import Pace
from grid.plan import WorkUnit
from grid.search import Asked, RandomSearch
from grid.searchspec import SearchSpec
from grid.space import SearchSpace
from grid.sweep import LEAST_BYTES, Watch, Work
from storage.errors import StorageError
from tests.grid.test_cluster import died

FOLDER = SimpleNamespace(session_id="s")


class Remote:
    """What `.options(...).remote(...)` is called on; remembers the calls."""

    def __init__(self, answer: Any) -> None:
        self.calls, self._answer = 0, answer

    def options(self, **_: str) -> "Remote":
        return self

    def remote(self, *_: object) -> Any:
        self.calls += 1
        return self._answer()


class Made:
    """A cluster whose clock and whose ready answers are told."""

    def __init__(self) -> None:
        self.now, self.killed = 1000.0, 0
        self.ready: list[Any] = []
        self.unanswered = False

    def monotonic(self) -> float:
        return self.now

    def wait(self, references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return [r for r in references if any(r is one for one in self.ready)], []

    def get(self, reference: Any, **_: object) -> Any:
        return reference

    def nodes(self) -> list[Any]:
        return []

    def kill(self, _: object) -> None:
        self.killed += 1


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    for module in (bars, collect):
        monkeypatch.setattr(module, "ray", made)
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def brought(made: Made, monkeypatch: pytest.MonkeyPatch) -> bars.BarsOnCluster:
    assert made.killed == 0
    monkeypatch.setattr(bars, "optioned", lambda *_, **__: Remote(lambda: SimpleNamespace(load=Remote(object))))
    plan = SimpleNamespace(dataset_trials=lambda d: (d, d + 1), end=100)
    work: Any = SimpleNamespace(
        resolved=SimpleNamespace(plan=plan),
        folder=FOLDER,
        fingerprint=str,
        let_go=lambda held, _room: list(held),
    )
    return bars.BarsOnCluster(work, {}, list(range(100)))


def test_the_first_datasets_stay_for_the_next_round_where_there_is_no_room_for_all(
    brought: bars.BarsOnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "_room", lambda: 5 * LEAST_BYTES)
    points = Asked(RandomSearch(SearchSpace({"a": range(9)}), 9), SearchSpec(method="local", trials=9, round=3))
    session: Any = SimpleNamespace(metadata={"datasets": [{"bars": 1, "fingerprint": ""}] * 10}, folder=FOLDER)
    resolved: Any = SimpleNamespace(points=points)
    nothing: Any = None
    brought._work = Work(resolved, session, nothing, nothing, nothing)
    read = []
    for _round in range(3):
        before = brought._loader.load.calls
        for dataset in range(10):
            brought.of(dataset, {dataset})
        read.append(brought._loader.load.calls - before)
    assert read == [10, 5, 5]


def test_the_loader_ends_once_everything_stays_and_was_used_and_another_reads_what_is_lost(
    brought: bars.BarsOnCluster, made: Made
) -> None:
    room, work = [0], brought._work
    work.observer = SimpleNamespace(read=lambda _: None)
    work.let_go = lambda held, _room: list(held)[room[0] :]
    brought._keys = ["A", "B"]
    first, second = (brought.of(dataset, {0, 1}) for dataset in (0, 1))
    made.ready += [first, second]
    for stay, dataset, bars_ in ((2, 0, first), (1, 1, second)):
        room[0] = stay
        brought.proved(dataset, bars_, {})
        assert (brought.loading(), made.killed) == ([], 0), "one was not used, then one does not stay"
    room[0] = 2
    brought.proved(1, second, {})
    assert made.killed == 1
    brought.lost(1, second, "its node died")
    again = brought.of(1, {0, 1})
    brought.proved(1, second, {})
    assert (brought.loading(), made.killed) == ([1], 1), "another worker had the old ones still"
    made.ready.append(again)
    brought.proved(1, again, {})
    assert (brought.loading(), made.killed) == ([], 2)
    brought.close()
    assert made.killed == 2


def test_a_loader_that_goes_on_is_left_alone_however_many_wait(brought: bars.BarsOnCluster, made: Made) -> None:
    everything = set(range(20))
    references = [brought.of(dataset, everything) for dataset in everything]
    for dataset in everything:
        assert brought.loading() == list(range(dataset, 20))
        made.now += 0.9 * bars.LONGEST_LOAD_S
        made.ready.append(references[dataset])
    assert brought.loading() == []
    assert made.killed == 0


def test_a_loader_that_is_stuck_is_replaced_again_and_again(brought: bars.BarsOnCluster, made: Made) -> None:
    for killed in range(bars.MOST_LOADS):
        brought.of(0, {0})
        assert brought.loading() == [0], "each load has its time anew"
        assert made.killed == killed
        made.now += bars.LONGEST_LOAD_S + 1
        if killed < bars.MOST_LOADS - 1:
            assert brought.loading() == []
    with pytest.raises(StorageError, match="loading them took longer than 600 s, 5 times"):
        brought.loading()


def test_a_worker_is_brought_bars_before_its_first_unit_on_them_and_waits_for_them(made: Made) -> None:
    worker, deliveries, at = SimpleNamespace(bring=Remote(object)), bars.Deliveries(), {"w": 0}
    for dataset in (0, 0, 1):
        deliveries.order("w", worker, dataset, "bars")
    assert worker.bring.calls == 2
    assert deliveries.waiting(at.get, made.now) == ["w"]
    made.ready = [call for call, (_, dataset) in deliveries._coming.items() if dataset == 0]
    assert deliveries.waiting(at.get, made.now) == [], "those of its current unit are there"
    at["w"] = 1
    assert deliveries.waiting(at.get, made.now) == ["w"]
    assert deliveries.waiting(at.get, made.now + 0.9 * bars.LONGEST_LOAD_S) == ["w"]
    assert deliveries.waiting(at.get, made.now + bars.LONGEST_LOAD_S) == [], "it has waited for long enough"
    deliveries.again("w")
    assert deliveries.waiting(at.get, made.now) == []
    deliveries.order("w", worker, 1, "bars")
    assert worker.bring.calls == 3


def starting() -> Driver:
    """A driver of which only the workers that start are there."""
    driver = Driver.__new__(Driver)
    driver._actors, driver._stillborn = {}, 0
    driver._dispatcher = Dispatcher(iter(()), Pace([1]))
    return driver


def test_workers_that_die_by_themselves_before_they_begin_end_the_sweep() -> None:
    driver = starting()
    for _ in range(MOST_STILLBORN - 1):
        driver._bury("w", died("it died"))
    with pytest.raises(BadInput, match="no worker can start on the cluster: it died"):
        driver._bury("w", died("it died"))


def test_workers_that_go_with_their_nodes_before_they_begin_do_not() -> None:
    driver = starting()
    for _ in range(10 * MOST_STILLBORN):
        driver._bury("w", died("The actor died because its node has died."))


class Group:
    """A placement group that waits until it is `there`."""

    def __init__(self) -> None:
        self.there = False

    def wait(self, _: float) -> bool:
        return self.there


def test_so_many_cpus_are_asked_for_and_no_longer_than_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Group] = []
    removed: list[Group] = []

    def make(bundles: list[dict[str, int]]) -> Group:
        assert bundles == [{"CPU": 1}]
        made.append(Group())
        return made[-1]

    monkeypatch.setattr(growth, "placement_group", make)
    monkeypatch.setattr(growth, "remove_placement_group", removed.append)
    asking = growth.Growth()
    asking.ask(-2)
    assert made == []
    for _ in range(2):
        asking.ask(3)
        assert (len(made), removed) == (3, [])
    made[0].there = True
    asking.ask(3)
    assert (len(made), removed) == (3, [made[0]]), "an autoscaler must not see both"
    asking.ask(3)
    assert (len(made), removed) == (4, [made[0]])
    made[1].there = True
    asking.ask(2)
    assert (len(made), removed) == (4, [made[0], made[1]]), "its CPU is there for a worker now"
    asking.ask(1)
    assert removed == [made[0], made[1], made[3]]
    asking.ask(10 * growth.MOST)
    assert len(made) - len(removed) == growth.MOST
    asking.close()
    assert len(made) == len(removed)


class Aggregating:
    """Takes batches in, and commits when it is told to."""

    def __init__(self) -> None:
        self.given = self.committed = 0
        self.fold, self.flush = Remote(self._fold), Remote(self._flush)
        self.read_on = Remote(lambda: True)

    def _receipt(self) -> Receipt:
        return Receipt("w", self.given, self.committed, Progress(0, 0, 0, None, 0))

    def _fold(self) -> Receipt:
        self.given += 1
        return self._receipt()

    def _flush(self) -> Receipt:
        self.committed = self.given
        return self._receipt()


class Ready(Made):
    """All that is asked is answered at once, unless it is not to be."""

    def wait(self, references: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        return ([], references) if self.unanswered else (references, [])


def collecting(made: Made, aggregators: list[Aggregating], monkeypatch: pytest.MonkeyPatch) -> collect.Collector:
    """A collector that starts these one after the other."""
    monkeypatch.setattr(collect, "ray", made)
    monkeypatch.setattr(collect, "time", made)
    left = iter(aggregators)
    monkeypatch.setattr(collect.Collector, "_start", lambda _: next(left))
    quiet: Any = SimpleNamespace(receipt=lambda _: None, progress=lambda _: None)
    work: Any = SimpleNamespace(resolved=None, observer=quiet)
    return collect.Collector(work, quiet)


def test_what_waits_is_committed_after_a_second_and_not_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    made, aggregator = Ready(), Aggregating()
    collector = collecting(made, [aggregator], monkeypatch)
    for step in range(100):  # a batch each tenth of a second, which the aggregator only keeps
        collector.take(WorkUnit(0, step, step + 1), object())
        for _ in range(3):
            collector.settle(idle=False)
        made.now += FLUSH_AFTER_S / 10
        assert collector.count <= 12, "none waits for much longer than a second"
    assert 7 <= aggregator.flush.calls <= 10
    made.now += FLUSH_AFTER_S
    made.unanswered = True
    for _ in range(5):
        collector.settle(idle=False)
    assert len(collector.awaited()) == 1, "one flush at a time, and the driver does not wait for it"
    made.unanswered = False
    collector.settle(idle=False)
    assert (collector.count, collector.awaited()) == (0, [])
    made.now += 100 * FLUSH_AFTER_S
    before = aggregator.flush.calls
    collector.settle(idle=True)
    assert aggregator.flush.calls == before, "nothing waits"


class Mortal(Aggregating):
    """Commits so many times, and is killed when it should the next time; Ray says that it may come back."""

    def __init__(self, commits: int) -> None:
        super().__init__()
        self.commits = commits
        self.flush = Remote(lambda: self._last_flush)

    def _last_flush(self) -> Receipt:
        self.commits -= 1
        if self.commits < 0:
            raise ActorUnavailableError("killed", None)
        return self._flush()


class Raising(Ready):
    """An answer may be an error, which `get` raises."""

    def get(self, reference: Any, **_: object) -> Any:
        return reference() if callable(reference) else reference

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def commit_one(collector: collect.Collector) -> None:
    collector.take(WorkUnit(0, 0, 1), object())
    while collector.count:
        collector.settle(idle=True)


def test_aggregators_that_are_killed_one_after_the_other_pause_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answers to batches, and none commits one."""
    made = Raising()
    collector = collecting(made, [Mortal(0) for _ in range(100)], monkeypatch)
    with pytest.raises(StorageError, match="the aggregator was lost 5 times, and nothing was committed between"):
        commit_one(collector)
    assert made.killed == collect.MOST_AGGREGATORS - 1


def test_a_stop_does_not_wait_for_aggregators_that_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is lost is replaced, so that what was begun may still be committed; a second one is not waited for."""
    collector = collecting(Raising(), [Mortal(0) for _ in range(100)], monkeypatch)
    collector.take(WorkUnit(0, 0, 1), object())
    driver, stopping = Driver.__new__(Driver), [False]
    driver._collector, driver._attempts = collector, {}
    driver._watch = Watch(stopping=lambda: stopping[0])
    while collector._losses < 2:
        stopping[0] = True
        assert not driver._all_done()
        stopping[0] = False
        assert not driver._all_done()
        collector.settle(idle=True)
    assert not driver._all_done()
    stopping[0] = True
    assert driver._all_done()
    assert collector.count == 1


def test_losses_of_aggregators_are_forgiven_when_one_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    commits = [1, *[0] * (collect.MOST_AGGREGATORS - 2)] * 10
    collector = collecting(Raising(), [Mortal(n) for n in commits], monkeypatch)
    for _ in range(10):
        commit_one(collector)
        assert not collector.bereft


def test_a_silent_aggregator_is_not_replaced_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Raising()
    made.unanswered = True
    collector = collecting(made, [Aggregating() for _ in range(100)], monkeypatch)
    for _ in range(collect.MOST_AGGREGATORS - 1):
        made.now += collect.ANSWER_S + 1
        collector.settle(idle=True)
    assert collector.bereft
    made.now += collect.ANSWER_S + 1
    with pytest.raises(StorageError, match=r"was lost 5 times.*has not answered for 900 s"):
        collector.settle(idle=True)


def test_a_long_log_is_read_in_peace_and_before_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is answered in time; all of them take a day."""
    aggregator, made = Aggregating(), Raising()
    steps = iter([*[False] * 2000, True])
    aggregator.read_on = Remote(lambda: next(steps))
    collector = collecting(made, [aggregator], monkeypatch)
    collector.take(WorkUnit(0, 0, 1), object())
    while aggregator.read_on.calls <= 2000:
        collector.settle(idle=True)
        assert aggregator.fold.calls == 0
        made.now += 45
    commit_one(collector)
    assert (made.killed, aggregator.fold.calls) == (0, 2)


def test_one_that_falls_silent_while_it_reads_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Raising()
    made.unanswered = True
    collector = collecting(made, [Aggregating(), Aggregating()], monkeypatch)
    made.now += collect.ANSWER_S + 1
    assert collector.settle(idle=True) == []
    assert made.killed == 1
    made.unanswered = False
    commit_one(collector)


def test_a_stop_leaves_the_units_that_wait_behind_others(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, made, stopping = starting(), Made(), [False]
    monkeypatch.setattr(driver_module, "time", made)
    monkeypatch.setattr(driver_module, "ray", made)
    driver._dispatcher = dispatcher = Dispatcher(iter([WorkUnit(0, n, n + 1) for n in range(4)]), Pace([1]))
    driver._watch, driver._stopped = Watch(stopping=lambda: stopping[0]), None
    driver._deliveries, driver._starting, driver._attempts = bars.Deliveries(), {}, {}
    for name in ("a", "b"):
        driver._actors[name] = object()
        dispatcher.add_worker(name)
    first, *_ = [dispatcher.next_for(name, made.now) for name in "abab"]
    driver._leave_unbegun()
    assert dispatcher.in_flight() == 4
    stopping[0] = True
    made.now += 1
    driver._leave_unbegun()
    assert dispatcher.in_flight() == 4, "both are at what they had begun"
    assert first is not None
    dispatcher.finished(first, 1.0, made.now + 1)
    driver._leave_unbegun()
    assert (dispatcher.workers(), dispatcher.in_flight(), made.killed) == (["b"], 2, 1)
