"""The sweep on Ray: plan, evaluator and aggregator of `grid/sweep.py`, on workers. Only this file imports Ray.

The driver sends units and sees counts; rows go from worker to aggregator by reference. Ray retries nothing by itself:
`grid/dispatch.py` decides, and a batch is kept until the aggregator has committed it, so that any of them may die.
"""

import logging
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
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
from ray.util import metrics
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grid.addresses import check_cluster
from grid.aggregate import Aggregator, Receipt, retries_of
from grid.dispatch import Attempt, Dispatcher
from grid.errors import BadInput
from grid.evaluate import Evaluator
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, ResolvedSweep, reopen
from grid.results import ResultBatch, batch_of
from grid.spec import ClusterSpec, Objective, Sweep
from grid.sweep import Watch, Work
from grid.telemetry import COMMIT_BUCKETS_S, Metric
from storage.ohlcv import DatasetKey
from storage.providers import provider_for
from storage.sessions import SessionFolder

log = logging.getLogger(__name__)

NAMESPACE = "backtest-grid"
MOST_UNCOMMITTED = 64
RESIZE_EVERY_S = 2.0
WAIT_S = 0.2
ANSWER_S = 120.0
DATASETS_KEPT = 2
TELL_EVERY_S = 1.0
PATIENCE_S = 30.0
"""Without any worker for so long, the log says what that may mean."""
MOST_STILLBORN = 3
"""Workers that die before they say hello, one after the other and none better, before the sweep is called off."""
SAME = ("python", "ray", "backtest-grid", "numpy", "numba")
"""What driver and workers must have in the same version."""
DRIVER_CPUS_VARIABLE = "GRID_DRIVER_CPUS"
"""Set by `grid submit`: CPUs of the cluster that the driver itself occupies."""
GONE = (ActorDiedError, ActorUnavailableError)


def run_on_ray(work: Work, watch: Watch) -> None:
    """Work off the plan on the cluster that the sweep names, or on a local Ray started for it."""
    with connected(work.resolved.sweep.cluster), watch.telemetry.also(RaySink()):
        Driver(work, watch).run()


class RaySink:
    """Records go to Ray's own metrics, and so to its Dashboard: the names of `grid/telemetry.py` after `ray_`."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """See `grid.telemetry.Sink`."""
        known = self._known.get(metric.name) or self._known.setdefault(metric.name, _ray_metric(metric))
        tags = dict(labels)
        if metric.kind == "gauge":
            known.set(value, tags)
        elif metric.kind == "histogram":
            known.observe(value, tags)
        elif value > 0:
            known.inc(value, tags)


def _ray_metric(metric: Metric) -> Any:
    if metric.kind == "gauge":
        return metrics.Gauge(metric.name, metric.help, metric.labels)
    if metric.kind == "histogram":
        return metrics.Histogram(metric.name, metric.help, list(COMMIT_BUCKETS_S), metric.labels)
    return metrics.Counter(metric.name, metric.help, metric.labels)


def running_versions() -> dict[str, str]:
    """The versions of SAME in this process."""
    return {"python": platform.python_version(), **{name: version(name) for name in SAME[1:]}}


def check_versions(here: Mapping[str, str], there: Mapping[str, str], host: str) -> None:
    """Raises BadInput where a worker's versions are not the driver's: its rows could differ."""
    differ = [
        f"{name} {there.get(name)} where the driver has {here[name]}" for name in SAME if here[name] != there.get(name)
    ]
    if differ:
        raise BadInput(
            f"the workers on {host} have {', '.join(differ)}: their rows could differ from those of other machines. "
            "Install the same versions on every node, or start the driver from the nodes' own image."
        )


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
        check_cluster(cluster.address)
        options |= {"address": cluster.address}
    try:
        with _own_sigterm():
            ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0][:300]
        raise BadInput(
            f"cluster.address {cluster.address!r} does not answer as a Ray cluster ({reason}); start one with "
            "`ray start --head`, or leave the address out to work on this machine. A cluster that asks for a token "
            "needs --token-file, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN, and answers a wrong one in the same way."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler there is: Ray's ends the process at once, where ours commits what is in flight."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


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

    def hello(self) -> tuple[str, dict[str, str]]:
        """The worker is ready: its host and its versions."""
        return platform.node(), running_versions()

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


def _optioned(kind: type, **options: Any) -> Any:
    """An actor's class with options; Ray's decorator hides it from the type checker."""
    return kind.options(**options)  # type: ignore[attr-defined]


def _last_line(error: Exception) -> str:
    """What Ray's many lines about a dead actor come down to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


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
        self._dispatcher = Dispatcher(self._resolved.plan.units(self._size, done), work.pace)
        self._actors: dict[str, Any] = {}
        self._starting: dict[Any, str] = {}
        self._stillborn = 0
        self._began = self._told = time.monotonic()
        self._own_cpus = float(os.environ.get(DRIVER_CPUS_VARIABLE, "0"))
        self._attempts: dict[Any, tuple[Attempt, Any]] = {}
        self._uncommitted: list[Uncommitted] = []
        self._bars: dict[int, Any] = {}
        self._aggregator: Any = None
        self._resized = 0.0

    def run(self) -> None:
        """Until everything is committed, or until asked to stop and what was begun is committed."""
        self._aggregator = self._start_aggregator()
        try:
            while not self._all_done():
                self._resize()
                self._welcome()
                self._feed()
                self._wait()
                self._kill_overdue()
                self._record_given_up()
                self._settle()
                self._tell()
        finally:
            self._tell(last=True)
            self._work.account.hold(0)
            for actor in (*self._actors.values(), self._aggregator):
                ray.kill(actor)

    def _start_aggregator(self) -> Any:
        """On the driver's node, where the stores are known to be in reach; elsewhere if that node is lost."""
        sweep, folder = self._resolved.sweep, self._work.folder
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = _optioned(AggregatorActor, name=self._named("aggregator"), scheduling_strategy=here)
        return actor.remote(folder.provider.uri, folder.session_id, sweep.objective, max(sweep.results.keep_best, 1))

    def _named(self, kind: str) -> str:
        """What the Dashboard calls an actor; several drivers may be at one session, so it ends in a number."""
        return f"{self._work.folder.session_id} {kind} {uuid.uuid4().hex[:8]}"

    def _all_done(self) -> bool:
        if self._uncommitted or self._attempts:
            return False
        return self._watch.stopping() or self._dispatcher.empty()

    def _size(self, dataset: int) -> int:
        self._work.pace.aim(self._left, max(len(self._actors), 1))
        size = self._work.pace.size(dataset)
        self._left -= size
        return size

    def _resize(self) -> None:
        """As many workers as there are CPUs, now; new ones appear when nodes join or workers died."""
        now = time.monotonic()
        if self._actors and now - self._resized < RESIZE_EVERY_S:
            return
        self._resized = now
        total = ray.cluster_resources().get("CPU", 0) - self._own_cpus  # type: ignore[no-untyped-call]
        wanted = max(1, min(int(total), self._resolved.sweep.cluster.cpus or int(total)))
        for name in list(self._actors)[wanted:]:
            if not self._dispatcher.holds(name):
                self._forget(name)
                self._dispatcher.lost(name, "it was not needed any more")
        while len(self._actors) < wanted:
            name = uuid.uuid4().hex
            self._actors[name] = _optioned(Worker, name=self._named("worker")).remote(self._spec, self._keys)
            self._starting[self._actors[name].hello.remote()] = name

    def _welcome(self) -> None:
        """Give work to workers once they have said hello: one that waits for a CPU must not hold units."""
        ready, _ = (
            ray.wait(list(self._starting), num_returns=len(self._starting), timeout=0) if self._starting else ([], [])
        )
        for reference in ready:
            name = self._starting.pop(reference)
            try:
                host, there = ray.get(reference)
            except GONE as error:
                self._bury(name, error)
                continue
            check_versions(running_versions(), there, host)
            self._stillborn = 0
            self._dispatcher.add_worker(name)
        self._work.account.hold(len(self._dispatcher.workers()))
        if not self._dispatcher.workers() and time.monotonic() - self._began > PATIENCE_S:
            self._began = time.monotonic()
            log.warning("no worker has started yet: the cluster has no free CPU, or other jobs hold them all")

    def _bury(self, name: str, error: Exception) -> None:
        """A worker died before it said hello. When all do, starting more of them helps nobody."""
        self._forget(name)
        self._stillborn += 1
        log.warning("a worker died while it started: %s", _last_line(error))
        if self._stillborn >= MOST_STILLBORN and not self._dispatcher.workers():
            raise BadInput(
                f"no worker can start on the cluster: {_last_line(error)}. The package, the strategy's module and the "
                "stores must be in reach of every node; `grid submit` takes the module along."
            ) from error

    def _forget(self, name: str) -> Any:
        """Kill a worker that is known; returns it, None when it is not known any more."""
        actor = self._actors.pop(name, None)
        if actor is not None:
            ray.kill(actor)
            self._starting = {reference: n for reference, n in self._starting.items() if n != name}
        return actor

    def _feed(self) -> None:
        if self._watch.stopping() or len(self._uncommitted) >= MOST_UNCOMMITTED:
            return
        for name in self._dispatcher.workers():
            while attempt := self._dispatcher.next_for(name, time.monotonic()):
                bars = [self._bars_of(attempt.unit.dataset)]
                evaluate = self._actors[name].evaluate.options(name=self._titled(attempt.unit))
                done, batch = evaluate.remote(attempt.unit, bars)
                self._attempts[done] = attempt, batch

    def _titled(self, unit: WorkUnit) -> str:
        """What the Dashboard calls a unit."""
        key = self._keys[unit.dataset]
        return f"{self._work.folder.session_id} {key.symbol} {key.timeframe} [{unit.start}, {unit.stop})"

    def _bars_of(self, dataset: int) -> Any:
        needed = self._dispatcher.datasets_needed() | {dataset}
        for old in [d for d in self._bars if d not in needed]:
            del self._bars[old]
        if dataset not in self._bars:
            key = self._keys[dataset]
            title = f"{self._work.folder.session_id} bars of {key.symbol} {key.timeframe}"
            self._bars[dataset] = load.options(name=title).remote(self._spec, self._keys, dataset)
            self._work.observer.read(self._resolved.bytes_of(dataset))
        return self._bars[dataset]

    def _wait(self) -> None:
        """Take in what has come back, from workers and from the aggregator."""
        answers = [u.answer for u in self._uncommitted if u.answer is not None]
        waiting = [*self._attempts, *answers, *self._starting]
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
        self._work.observer.worked(done.seconds)
        self._uncommitted.append(Uncommitted(attempt.unit, batch))

    def _lose(self, worker: str, reason: str, cause: str = "worker_died") -> None:
        """Forget a worker and everything it was doing."""
        if self._forget(worker) is None:
            return
        for reference in [r for r, (attempt, _) in self._attempts.items() if attempt.worker == worker]:
            del self._attempts[reference]
        self._dispatcher.lost(worker, reason, cause)
        log.warning("a worker was lost: %s", reason)

    def _kill_overdue(self) -> None:
        for worker in self._dispatcher.overdue(time.monotonic()):
            self._lose(worker, "it ran out of time", "overdue")

    def _record_given_up(self) -> None:
        evaluator = Evaluator(self._resolved) if self._dispatcher.given_up else None
        while evaluator and self._dispatcher.given_up:
            lost = self._dispatcher.given_up.pop()
            rows = evaluator.failed_rows(lost.unit, lost.reason)
            sweep = self._resolved.sweep
            span = (lost.unit.start, lost.unit.stop)
            batch = batch_of(rows, span, sweep.objective, max(sweep.results.keep_best, 1))
            self._uncommitted.append(Uncommitted(lost.unit, ray.put(batch)))
            self._work.observer.gave_up()
            log.warning("trial %d was given up: %s", lost.unit.start, lost.reason)

    def _tell(self, last: bool = False) -> None:
        """How things stand, once a second."""
        now, observer = time.monotonic(), self._work.observer
        if last or now - self._told >= TELL_EVERY_S:
            self._told = now
            observer.units({**self._dispatcher.states(), "uncommitted": len(self._uncommitted)})
            observer.attempts(self._dispatcher.attempts)
            observer.retried("driver", retries_of(self._work.folder.provider))
            observer.spent()

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
        self._work.observer.receipt(receipt)
        self._watch.progress(receipt.progress)
        return receipt
