"""The sweep on Ray: plan, evaluator and aggregator of `grid/sweep.py`, on workers. Only this file imports Ray.

The driver sends units and sees counts; rows go from worker to aggregator by reference. Ray retries nothing by itself:
`grid/dispatch.py` decides, and a batch is kept until the aggregator has committed it, so that any of them may die.
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    ObjectLostError,
    RayTaskError,
)

from grid.aggregate import Aggregator, Receipt
from grid.dispatch import Attempt, Dispatcher
from grid.errors import BadInput
from grid.evaluate import Evaluator
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, ResolvedSweep, reopen
from grid.results import ResultBatch, batch_of
from grid.spec import ClusterSpec, Objective, Sweep
from grid.sweep import Watch, Work
from storage.ohlcv import DatasetKey
from storage.providers import provider_for
from storage.sessions import SessionFolder

log = logging.getLogger(__name__)

NAMESPACE = "backtest-grid"
MOST_UNCOMMITTED = 64
RESIZE_EVERY_S = 2.0
WAIT_S = 0.2
ANSWER_S = 120.0
REACH_S = 5.0
DATASETS_KEPT = 2
GONE = (ActorDiedError, ActorUnavailableError)


def run_on_ray(work: Work, watch: Watch) -> None:
    """Work off the plan on the cluster that the sweep names, or on a local Ray started for it."""
    with connected(work.resolved.sweep.cluster):
        Driver(work, watch).run()


@contextmanager
def connected(cluster: ClusterSpec) -> Iterator[None]:
    """A connection to Ray: the one there is, the one at `cluster.address`, or a local one that ends with the block."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address is None:
        options |= {"address": "local", "num_cpus": cluster.cpus or os.cpu_count(), "include_dashboard": False}
    else:
        _check_reachable(cluster.address)
        options |= {"address": cluster.address}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"cluster.address {cluster.address!r} does not answer as a Ray cluster ({error}); start one with "
            "`ray start --head`, or leave the address out to work on this machine."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise BadInput(
            f"cluster.address {address!r} is not a cluster's own address: run on a node of the cluster with "
            "--address auto, or give the host:port of its head."
        )
    if not host:
        return  # auto, local: Ray finds those by itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cluster.address {address!r} does not answer ({error}); start a head with `ray start --head`, check host "
            "and port (6379 unless told otherwise), or leave the address out to work on this machine."
        ) from error


@dataclass(frozen=True)
class Done:
    """What the driver learns of a unit: how long it took and how many rows it gave."""

    seconds: float
    rows: int


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
class Worker:
    """One CPU that keeps compiled kernels, bars and indicators warm."""

    def __init__(self, sweep: dict[str, Any], datasets: Sequence[DatasetKey]) -> None:
        pa.set_cpu_count(1)
        self._evaluator = Evaluator(reopen(Sweep.model_validate(sweep), datasets))
        self._bars: dict[int, LoadedBars] = {}

    @ray.method(num_returns=2)
    def evaluate(self, unit: WorkUnit, bars: "list[ray.ObjectRef[LoadedBars]]") -> tuple[Done, ResultBatch]:
        """Backtest a unit. `bars` holds a reference, in a list so that it is fetched once and not with every call."""
        began = time.perf_counter()
        batch = self._evaluator.evaluate(unit, self._loaded(unit.dataset, bars[0]))
        return Done(time.perf_counter() - began, batch.rows), batch

    def _loaded(self, dataset: int, reference: "ray.ObjectRef[LoadedBars]") -> LoadedBars:
        if dataset not in self._bars:
            while len(self._bars) >= DATASETS_KEPT:
                self._bars.pop(next(iter(self._bars)))
            self._bars[dataset] = ray.get(reference)
        return self._bars[dataset]


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class AggregatorActor(Aggregator):
    """The aggregator in a process of its own; when it dies, its successor reads the commit log and goes on."""

    def __init__(self, store: str, session_id: str, objective: Objective, keep: int) -> None:
        super().__init__(SessionFolder(provider_for(store), session_id), objective, keep)


@ray.remote(num_cpus=0, max_retries=5)
def load(sweep: dict[str, Any], datasets: Sequence[DatasetKey], dataset: int) -> LoadedBars:
    """Bars as the value of a task, so that Ray can make them again when the node that holds them is lost."""
    return reopen(Sweep.model_validate(sweep), datasets).load(dataset)


def _actor(kind: type) -> Any:
    """How to start an actor; Ray's decorator hides it from the type checker."""
    return kind.remote  # type: ignore[attr-defined]


def _cause(error: RayTaskError) -> BaseException:
    """The exception that was raised in the other process."""
    cause: BaseException = error.as_instanceof_cause()  # type: ignore[no-untyped-call]
    return cause


@dataclass(eq=False)
class Uncommitted:
    """The batch of a unit on its way: the aggregator's answer that is awaited, and the writer that has taken it in."""

    unit: WorkUnit
    batch: Any
    answer: Any = None
    writer: str | None = None


class Driver:
    """Feeds workers, hands batches on, and keeps both going."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self._resolved: ResolvedSweep = work.resolved
        self._spec = self._resolved.sweep.model_dump(mode="json")
        self._keys = list(self._resolved.datasets)
        done = work.aggregator().ledger.done
        self._left = self._resolved.plan.total - done.total()
        self._dispatcher = Dispatcher(self._counted(self._resolved.plan.units(self._size, done)), work.pace)
        self._actors: dict[str, Any] = {}
        self._attempts: dict[Any, tuple[Attempt, Any]] = {}
        self._uncommitted: list[Uncommitted] = []
        self._bars: dict[int, Any] = {}
        self._aggregator: Any = None
        self._resized = 0.0

    def run(self) -> None:
        """Until everything is committed, or until asked to stop and what was begun is committed."""
        sweep = self._resolved.sweep
        keep = max(sweep.results.keep_best, 1)
        folder = self._work.folder
        self._aggregator = _actor(AggregatorActor)(folder.provider.uri, folder.session_id, sweep.objective, keep)
        try:
            while not self._all_done():
                self._resize()
                self._feed()
                self._wait()
                self._kill_overdue()
                self._record_given_up()
                self._settle()
        finally:
            for actor in (*self._actors.values(), self._aggregator):
                ray.kill(actor)

    def _all_done(self) -> bool:
        if self._uncommitted or self._attempts:
            return False
        return self._watch.stopping() or self._dispatcher.empty()

    def _size(self, dataset: int) -> int:
        self._work.pace.aim(self._left, max(len(self._actors), 1))
        return self._work.pace.size(dataset)

    def _counted(self, units: Iterator[WorkUnit]) -> Iterator[WorkUnit]:
        """The units, taking each off what is left; one at a dataset's end is smaller than the size asked for."""
        for unit in units:
            self._left -= unit.stop - unit.start
            yield unit

    def _resize(self) -> None:
        """As many workers as there are CPUs, now; new ones appear when nodes join or workers died."""
        now = time.monotonic()
        if self._actors and now - self._resized < RESIZE_EVERY_S:
            return
        self._resized = now
        wanted = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        wanted = max(1, min(wanted, self._resolved.sweep.cluster.cpus or wanted))
        for name in list(self._actors)[wanted:]:
            if not self._dispatcher.holds(name):
                ray.kill(self._actors.pop(name))
                self._dispatcher.lost(name, "it was not needed any more")
        while len(self._actors) < wanted:
            name = uuid.uuid4().hex
            self._actors[name] = _actor(Worker)(self._spec, self._keys)
            self._dispatcher.add_worker(name)

    def _feed(self) -> None:
        if self._watch.stopping() or len(self._uncommitted) >= MOST_UNCOMMITTED:
            return
        for name, actor in self._actors.items():
            while attempt := self._dispatcher.next_for(name, time.monotonic()):
                bars = [self._bars_of(attempt.unit.dataset)]
                done, batch = actor.evaluate.remote(attempt.unit, bars)
                self._attempts[done] = attempt, batch

    def _bars_of(self, dataset: int) -> Any:
        needed = self._dispatcher.datasets_needed() | {dataset}
        for old in [d for d in self._bars if d not in needed]:
            del self._bars[old]
        if dataset not in self._bars:
            self._bars[dataset] = load.remote(self._spec, self._keys, dataset)
        return self._bars[dataset]

    def _wait(self) -> None:
        """Take in what has come back, from workers and from the aggregator."""
        answers = [u.answer for u in self._uncommitted if u.answer is not None]
        waiting = [*self._attempts, *answers]
        if not waiting:
            return
        ready, _ = ray.wait(waiting, num_returns=1, timeout=WAIT_S, fetch_local=False)
        for reference in [r for r in ready if r in self._attempts]:
            self._take_in(reference)

    def _take_in(self, reference: Any) -> None:
        attempt, batch = self._attempts.pop(reference)
        try:
            done: Done = ray.get(reference)
        except GONE as error:
            self._lose(attempt.worker, f"its worker died ({type(error).__name__})")
            return
        except RayTaskError as error:
            if not isinstance(error.cause, ObjectLostError):
                raise _cause(error) from None
            self._bars.pop(attempt.unit.dataset, None)
            self._dispatcher.failed(attempt, "its bars were lost", time.monotonic())
            return
        self._dispatcher.finished(attempt, done.seconds, time.monotonic())
        self._uncommitted.append(Uncommitted(attempt.unit, batch))

    def _lose(self, worker: str, reason: str) -> None:
        """Forget a worker and everything it was doing."""
        actor = self._actors.pop(worker, None)
        if actor is None:
            return
        ray.kill(actor)
        for reference in [r for r, (attempt, _) in self._attempts.items() if attempt.worker == worker]:
            del self._attempts[reference]
        self._dispatcher.lost(worker, reason)
        log.warning("a worker was lost: %s", reason)

    def _kill_overdue(self) -> None:
        for worker in self._dispatcher.overdue(time.monotonic()):
            self._lose(worker, "it ran out of time")

    def _record_given_up(self) -> None:
        evaluator = Evaluator(self._resolved) if self._dispatcher.given_up else None
        while evaluator and self._dispatcher.given_up:
            lost = self._dispatcher.given_up.pop()
            rows = evaluator.failed_rows(lost.unit, lost.reason)
            sweep = self._resolved.sweep
            span = (lost.unit.start, lost.unit.stop)
            batch = batch_of(rows, span, sweep.objective, max(sweep.results.keep_best, 1))
            self._uncommitted.append(Uncommitted(lost.unit, ray.put(batch)))

    def _settle(self) -> None:
        """Hand batches to the aggregator, again if it died with them, and drop those that it has committed."""
        for entry in self._uncommitted:
            if entry.answer is None and entry.writer is None:
                entry.answer = self._aggregator.fold.remote(entry.batch)
        answers = [u for u in self._uncommitted if u.answer is not None]
        if answers:
            ready, _ = ray.wait([u.answer for u in answers], num_returns=len(answers), timeout=0)
            for entry in [u for u in answers if u.answer in ready]:
                if entry.answer is not None:  # one lost aggregator takes all its answers with it
                    self._read_receipt(entry)
        elif self._uncommitted and (self._dispatcher.in_flight() == 0 or len(self._uncommitted) >= MOST_UNCOMMITTED):
            self._receive(self._aggregator.flush.remote())

    def _read_receipt(self, entry: Uncommitted) -> None:
        answer, entry.answer = entry.answer, None
        try:
            receipt = self._receive(answer)
        except ObjectLostError:
            self._uncommitted.remove(entry)
            self._dispatcher.redo(entry.unit)
            return
        if receipt is not None:
            entry.writer = receipt.writer
            if receipt.pending == 0:
                self._uncommitted.remove(entry)

    def _receive(self, answer: Any) -> Receipt | None:
        """Read the aggregator's answer. One that is gone has forgotten what it had not committed: send that again."""
        try:
            receipt: Receipt = ray.get(answer, timeout=ANSWER_S)
        except (*GONE, GetTimeoutError) as error:
            log.warning("the aggregator was lost (%s); its successor reads the commit log", type(error).__name__)
            for entry in self._uncommitted:
                entry.answer, entry.writer = None, None
            time.sleep(WAIT_S)
            return None
        except RayTaskError as error:
            raise _cause(error) from None
        for entry in self._uncommitted:
            if entry.writer not in (None, receipt.writer):
                entry.writer = None
        if receipt.pending == 0:
            self._uncommitted = [u for u in self._uncommitted if u.writer != receipt.writer]
        self._watch.progress(receipt.progress)
        return receipt
