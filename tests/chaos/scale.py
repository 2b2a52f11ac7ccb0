"""A sweep on 1,000 nodes of 64 cores, on paper.

A discrete simulation of what DESIGN.md describes: one driver, one aggregator, workers with two units each, nodes that
are lost at spot rates, a control plane that starts so many workers a second. Units are sized by the real `Pace`, and
back-pressure is the real number of uncommitted batches. What the machine at hand can measure is measured first.
"""

import heapq
import random
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from grid.aggregate import Aggregator
from grid.cluster.collect import MOST_UNCOMMITTED
from grid.dispatch import DEPTH, Dispatcher
from grid.engine import METRICS
from grid.pace import MOST_NUMBERS, Pace
from grid.plan import WorkUnit
from grid.results import BLOCK_COLUMNS, ResultBatch, batch_of, result_schema
from grid.space import SearchSpace
from grid.spec import Objective
from storage.providers import MemoryProvider
from storage.sessions import SessionFolder

CORES_A_NODE = 64
OBJECTIVE = Objective(maximize="sharpe")
BLOCKS = 16


@dataclass(frozen=True)
class Costs:
    """Seconds unless said otherwise. The first four are measured here, the others are assumptions of docs/scale.md."""

    dispatch: float
    fold: float
    fold_a_row: float
    bytes_a_row: float
    ray_call: float = 0.0005
    upload_bytes_a_second: float = 300e6
    request: float = 0.03
    lost_an_hour: float = 0.05
    back_after: float = 120.0
    starts_a_second: float = 100.0
    datasets: int = 100
    files_a_dataset: int = 5


@dataclass(frozen=True)
class Scene:
    """A sweep: nodes, what a trial takes, and how long it would last if every core were always busy."""

    nodes: int
    trial_s: float
    ideal_s: float = 1800.0

    @property
    def workers(self) -> int:
        return self.nodes * CORES_A_NODE

    @property
    def trials(self) -> int:
        return int(self.workers * self.ideal_s / self.trial_s)


@dataclass
class Outcome:
    """seconds: how long it took. The rest is what was used or done in that time."""

    seconds: float = 0.0
    useful: float = 0.0
    wasted: float = 0.0
    driver: float = 0.0
    aggregator: float = 0.0
    units: int = 0
    parts: int = 0
    commits: int = 0
    reads: int = 0
    lost_nodes: int = 0


@dataclass
class Simulation:
    """Events in the order of time; a worker that was lost has a new life, and events of the old one are void."""

    scene: Scene
    costs: Costs
    out: Outcome = field(default_factory=Outcome)

    def __post_init__(self) -> None:
        workers = self.scene.workers
        self.dice = random.Random(1)
        self.events: list[tuple[float, int, str, int, int, int]] = []
        self.count = 0
        self.life = [0] * workers
        self.held: list[deque[int]] = [deque() for _ in range(workers)]
        self.coming: list[deque[int]] = [deque() for _ in range(workers)]
        self.began = [0.0] * workers
        self.again: list[int] = []
        self.idle: list[int] = []
        self.left = self.scene.trials
        self.out_there = 0
        self.pace = Pace([1], None, [self.scene.trial_s])
        self.driver_free = self.aggregator_free = self.starter_free = 0.0
        self.committed: deque[float] = deque([0.0] * MOST_UNCOMMITTED, maxlen=MOST_UNCOMMITTED)

    def run(self) -> Outcome:
        for worker in range(self.scene.workers):
            self._start(0.0, worker)
        self._lose_a_node_some_time(0.0)
        self.out.reads = min(self.costs.datasets, 2 + self.scene.trials // (50 * MOST_NUMBERS)) * self.scene.nodes
        while self.events and (self.left or self.again or self.out_there):
            now, _, kind, worker, life, size = heapq.heappop(self.events)
            if kind == "lost":
                self._lose_node(now)
            elif life == self.life[worker]:
                getattr(self, f"_{kind}")(now, worker, size)
        self.out.seconds = max(self.aggregator_free, self.driver_free)
        return self.out

    def _at(self, when: float, kind: str, worker: int = 0, size: int = 0) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, kind, worker, self.life[worker], size))

    def _start(self, now: float, worker: int) -> None:
        """The control plane starts workers one after the other."""
        self.starter_free = max(self.starter_free, now) + 1 / self.costs.starts_a_second
        self._at(self.starter_free, "hello", worker)

    def _hello(self, now: float, worker: int, _size: int) -> None:
        for _ in range(DEPTH):
            self._send(now, worker)

    def _send(self, now: float, worker: int) -> None:
        """The driver sends a unit: not before it is free, nor while too many batches are not committed."""
        size = self._next_size()
        if not size:
            self.idle.append(worker)
            return
        self.out_there += 1
        cost = self.costs.dispatch + self.costs.ray_call
        self.driver_free = max(self.driver_free, now, self.committed[0]) + cost
        self.out.driver += cost
        self.coming[worker].append(size)
        self._at(self.driver_free, "deliver", worker, size)

    def _next_size(self) -> int:
        if self.again:
            return self.again.pop()
        self.pace.aim(self.left, self.scene.workers)
        size = min(self.pace.size(0), self.left)
        self.left -= size
        return size

    def _deliver(self, now: float, worker: int, size: int) -> None:
        self.coming[worker].popleft()
        self.held[worker].append(size)
        if len(self.held[worker]) == 1:
            self._begin(now, worker)

    def _begin(self, now: float, worker: int) -> None:
        self.began[worker] = now
        self._at(now + self.held[worker][0] * self.scene.trial_s, "finish", worker)

    def _finish(self, now: float, worker: int, _size: int) -> None:
        size = self.held[worker].popleft()
        self.out_there -= 1
        self.out.units += 1
        self.out.useful += size * self.scene.trial_s
        if self.held[worker]:
            self._begin(now, worker)
        self._fold(now, size)
        self._send(now, worker)

    def _fold(self, now: float, rows: int) -> None:
        """The aggregator takes a batch in and stores it; small ones share a commit of a second."""
        costs = self.costs
        cost = costs.fold + rows * (costs.fold_a_row + costs.bytes_a_row / costs.upload_bytes_a_second)
        share = min(1.0, max(rows / 50_000, self.scene.trial_s * rows / self.scene.workers))
        cost += share * 2 * costs.request
        self.aggregator_free = max(self.aggregator_free, now) + cost
        self.out.aggregator += cost
        self.out.parts += 1 if rows >= 4096 else 0
        self.out.commits += share
        self.committed.append(self.aggregator_free)

    def _lose_a_node_some_time(self, now: float) -> None:
        rate = self.scene.nodes * self.costs.lost_an_hour / 3600
        if rate:
            self._at(now + self.dice.expovariate(rate), "lost")

    def _lose_node(self, now: float) -> None:
        node = self.dice.randrange(self.scene.nodes)
        self.out.lost_nodes += 1
        self.out.reads += 1
        for worker in range(node * CORES_A_NODE, (node + 1) * CORES_A_NODE):
            if self.held[worker]:
                self.out.wasted += now - self.began[worker]
            lost = [*self.held[worker], *self.coming[worker]]
            self.out_there -= len(lost)
            self.again += lost
            self.held[worker].clear()
            self.coming[worker].clear()
            self.life[worker] += 1
            self._at(now + self.costs.back_after, "back", worker)
        idle, self.idle = [w for w in self.idle if w // CORES_A_NODE != node], []
        for worker in idle:
            self._send(now, worker)
        self._lose_a_node_some_time(now)

    def _back(self, now: float, worker: int, _size: int) -> None:
        self._start(now, worker)


def measured() -> Costs:
    """What this machine takes for a unit in the dispatcher and for a batch in the aggregator, store left out."""
    rows = 20_000
    big, small = _batches(rows), _batches(1000)
    fold_big, fold_small = _fold_seconds(big), _fold_seconds(small)
    a_row = max((fold_big - fold_small) / (rows - 1000), 0.0)
    return Costs(
        dispatch=_dispatch_seconds(),
        fold=max(fold_small - 1000 * a_row, 1e-6),
        fold_a_row=a_row,
        bytes_a_row=len(big[0].parquet) / rows,
    )


def _batches(rows: int, count: int = 6) -> list[ResultBatch]:
    dice = np.random.default_rng(1)
    schema = result_schema(SearchSpace({"fast": range(10_000), "slow": range(10_000)}), BLOCKS)
    made = []
    for number in range(count):
        ids = np.arange(number * rows, (number + 1) * rows)
        columns = [ids, ["BTC_KRW"] * rows, ["1H"] * rows, ids % 10_000, ids // 10_000]
        columns += list(dice.normal(size=(len(METRICS), rows)))
        columns += [["ok"] * rows, [None] * rows, *[list(dice.normal(size=(rows, BLOCKS))) for _ in BLOCK_COLUMNS]]
        columns += [[None] * rows]
        table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
        made.append(batch_of(table, (number * rows, (number + 1) * rows), OBJECTIVE, 20))
    return made


def _fold_seconds(batches: list[ResultBatch]) -> float:
    """CPU seconds a batch, committed one by one to memory."""
    aggregator = Aggregator(SessionFolder(MemoryProvider("simulate"), f"s{time.time_ns()}"), OBJECTIVE, 20)
    began = time.process_time()
    for batch in batches:
        aggregator.fold(batch)
        aggregator.flush()
    return (time.process_time() - began) / len(batches)


def _dispatch_seconds(units: int = 100_000, workers: int = 1_000) -> float:
    """CPU seconds a unit in the dispatcher, from the plan to finished."""
    pace = Pace([1], 1)
    given = Dispatcher((WorkUnit(0, n, n + 1) for n in range(units)), pace)
    names = [str(n) for n in range(workers)]
    for name in names:
        given.add_worker(name)
    began = time.process_time()
    while not given.empty():
        for name in names:
            while attempt := given.next_for(name, 0.0):
                given.finished(attempt, 0.1, 0.0)
    return (time.process_time() - began) / units


def simulate(scene: Scene, costs: Costs) -> Outcome:
    return Simulation(scene, costs).run()
