"""The driver: feeds workers, takes their batches in, and keeps both going."""

import itertools
import logging
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError

from grid.cluster.actors import Done, Worker
from grid.cluster.bars import BarsOnCluster, Deliveries
from grid.cluster.collect import WAIT_S, Collector, named, optioned
from grid.cluster.connect import check_versions, running_versions
from grid.cluster.growth import Alone, Growth
from grid.cluster.losses import BARS_LOST, GONE, last_line, with_its_node
from grid.cluster.names import WORKERS, units_name
from grid.cluster.sharing import Share
from grid.dispatch import MOST_NODES, Attempt, Dispatcher
from grid.errors import BadInput
from grid.evaluate import Evaluator
from grid.logs import spoken
from grid.plan import WorkUnit
from grid.resolve import ResolvedSweep
from grid.results import batch_of
from grid.rounds import spans
from grid.search import rung_of
from grid.sweep import Watch, Work
from storage.errors import StorageError

log = logging.getLogger(__name__)

RESIZE_EVERY_S = 2.0
TELL_EVERY_S = 1.0
WORTH_S = 60.0
"""Work that a CPU must have for an autoscaler to be asked for it: a node takes a minute or more to come."""
MOST_STILLBORN = 3
"""Workers that die before they say hello, one after the other and none better, before the sweep is called off."""
DRIVER_CPUS_VARIABLE = "GRID_DRIVER_CPUS"
"""Set by `grid submit`: CPUs of the cluster that the driver itself occupies."""


@dataclass(frozen=True)
class Sent:
    """An attempt that is out, and references to the batch that will come of it and to the bars that it needs."""

    attempt: Attempt
    batch: Any
    bars: Any


class Driver:
    """Feeds workers, hands batches on, and keeps both going."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self._resolved: ResolvedSweep = work.resolved
        self._spec = self._resolved.sweep.model_dump(mode="json")
        self._keys = list(self._resolved.datasets)
        self._spans = spans(work.session, self._resolved)
        self._left = 0
        self._dispatcher = Dispatcher(iter(()), work.pace)
        self._actors: dict[str, Any] = {}
        self._starting: dict[Any, str] = {}
        self._stillborn = 0
        self._told = time.monotonic()
        self._alone = Alone(time.monotonic())
        self._lost_at: list[WorkUnit] = []
        self._own_cpus = float(os.environ.get(DRIVER_CPUS_VARIABLE, "0"))
        self._attempts: dict[Any, Sent] = {}
        self._collector = Collector(work, watch)
        self._bars = BarsOnCluster(work, self._spec, self._keys)
        self._deliveries = Deliveries()
        self._stopped: float | None = None
        self._retries_before = work.folder.provider.retries
        self._share = Share(work.folder.session_id, self._resolved.sweep.cluster.cpus)
        self._resized, self._wanted = 0.0, 0
        self._growth = Growth()
        self._next_span()

    def run(self) -> None:
        """Until everything is committed, or until asked to stop and what was begun is committed."""
        try:
            while not self._all_done():
                self._resize()
                self._welcome()
                self._feed()
                self._wait()
                self._leave_unbegun()
                self._kill_overdue()
                self._record_given_up()
                for unit in self._collector.settle(idle=self._dispatcher.in_flight() == 0):
                    self._dispatcher.redo(unit)
                self._tell()
        finally:
            self._tell(last=True)
            self._work.account.hold(0)
            for actor in self._actors.values():
                ray.kill(actor)
            self._bars.close()
            self._growth.close()
            self._collector.close()

    def _all_done(self) -> bool:
        if self._watch.stopping() and self._collector.bereft:
            log.warning("the aggregator is lost again and again: %d units stay uncommitted", self._collector.count)
            return True
        if self._collector.count or self._attempts:
            return False
        return self._watch.stopping() or (self._dispatcher.empty() and not self._next_span())

    def _next_span(self) -> bool:
        """Go on with the next span of points, now that all before is committed; False when that was the last."""
        span, plan = next(self._spans, None), self._resolved.plan
        if span is None:
            return False
        done = self._work.session.ledger.done
        self._work.pace.over(rung_of(plan.points, span[0]))
        self._left = plan.missing(span, done)
        self._dispatcher.go_on(self._counted(plan.units(self._size, done, span)))
        for first in itertools.islice(plan.units(lambda _: 1, done, span), 1):
            self._bars.of(first.dataset, set())  # while the workers start
        return True

    def _size(self, dataset: int) -> int:
        self._work.pace.aim(self._left, max(len(self._actors), 1))
        return self._work.pace.size(dataset)

    def _counted(self, units: Iterator[WorkUnit]) -> Iterator[WorkUnit]:
        """The units, taking each off what is left; one at a dataset's end is smaller than the size asked for."""
        for unit in units:
            self._left -= unit.stop - unit.start
            yield unit

    def _resize(self) -> None:
        """As many workers as this sweep's share of the CPUs, now; new ones appear when nodes join or workers died."""
        now = time.monotonic()
        if self._actors and now - self._resized < RESIZE_EVERY_S:
            return
        self._resized = now
        total = ray.cluster_resources().get("CPU", 0) - self._own_cpus  # type: ignore[no-untyped-call]
        self._wanted = self._share.of(int(total))
        self._growth.ask(self._worth() - max(int(total), self._wanted))
        for name in self._leaving():
            if not self._dispatcher.holds(name):
                self._forget(name)
                self._dispatcher.lost(name, "it was not needed any more")
        while len(self._actors) < self._wanted:
            name = uuid.uuid4().hex
            worker = optioned(Worker, name=named(self._work, "worker"), namespace=WORKERS)
            self._actors[name] = worker.remote(self._spec, self._keys, self._work.folder.session_id, spoken())
            self._starting[self._actors[name].hello.remote()] = name

    def _worth(self) -> int:
        """How many CPUs there should be: those that the sweep names, each with some work; 0 where it names none."""
        most = self._resolved.sweep.cluster.cpus
        if most is None or self._watch.stopping():
            return 0
        return min(most, int(self._work.pace.left_s(self._left) / WORTH_S))

    def _leaving(self) -> list[str]:
        """Workers that are given nothing more, as others have a right to their CPUs."""
        return list(self._actors)[self._wanted :]

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
        if told := self._alone.told(len(self._dispatcher.workers()), time.monotonic()):
            log.warning("%s: the cluster has no free CPU, or other jobs hold them all", told)

    def _bury(self, name: str, error: Exception) -> None:
        """A worker died before it said hello. When all do, starting more of them helps nobody."""
        self._forget(name)
        log.warning("a worker died while it started: %s", last_line(error))
        if with_its_node(error):
            return
        self._stillborn += 1
        if self._stillborn >= MOST_STILLBORN and not self._dispatcher.workers():
            raise BadInput(
                f"no worker can start on the cluster: {last_line(error)}. The package, the strategy's module and the "
                "stores must be in reach of every node; `grid submit` takes the module along."
            ) from error

    def _forget(self, name: str) -> Any:
        """Kill a worker that is known; returns it, None when it is not known any more."""
        actor = self._actors.pop(name, None)
        if actor is not None:
            ray.kill(actor)
            self._deliveries.again(name)
            self._starting = {reference: n for reference, n in self._starting.items() if n != name}
        return actor

    def _feed(self) -> None:
        if self._watch.stopping() or self._collector.full:
            return
        now, leaving = time.monotonic(), set(self._leaving())
        for name in self._dispatcher.workers():
            while name not in leaving and (attempt := self._dispatcher.next_for(name, now)):
                bars = self._bars.of(attempt.unit.dataset, self._dispatcher.datasets_needed())
                self._deliveries.order(name, self._actors[name], attempt.unit.dataset, bars)
                evaluate = self._actors[name].evaluate.options(name=units_name(self._work.folder.session_id))
                asked, known = self._resolved.plan.asked(attempt.unit), self._work.known(attempt.unit)
                done, batch = evaluate.remote(attempt.unit, [bars], asked, known)
                self._attempts[done] = Sent(attempt, batch, bars)

    def _wait(self) -> None:
        """Take in what has come back, from workers and from the aggregator."""
        waiting = [*self._attempts, *self._collector.awaited(), *self._starting]
        if not waiting:
            return
        if ray.wait(waiting, num_returns=1, timeout=WAIT_S, fetch_local=False)[0]:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        else:
            ready = []
        for reference in ready:
            if reference in self._attempts:  # a lost worker takes its other units with it
                self._take_in(reference)

    def _take_in(self, reference: Any) -> None:
        sent = self._attempts.pop(reference)
        attempt, unit = sent.attempt, sent.attempt.unit
        try:
            done: Done = ray.get(reference)
        except RayTaskError as error:
            if not isinstance(error.cause, BARS_LOST):
                raise error.cause from error
            self._dispatcher.undone(attempt, time.monotonic())
            self._deliveries.again(attempt.worker)
            self._bars.lost(unit.dataset, sent.bars, last_line(error.cause))
            return
        except GONE as error:
            cause = "node_died" if with_its_node(error) else "worker_died"
            self._lose(attempt.worker, f"its worker died ({type(error).__name__})", cause)
            if (taking := self._dispatcher.takes_nodes()) is not None:
                raise StorageError(
                    f"trials [{taking.start}, {taking.stop}) were lost with their node {MOST_NODES} times: "
                    f"{last_line(error)}. Either nodes go faster than a unit is done, or these trials take them along."
                ) from error
            return
        self._dispatcher.finished(attempt, done.seconds, time.monotonic(), done.ran)
        self._bars.proved(unit.dataset, sent.bars, done.read)
        self._work.observer.worked(done.cpu_seconds)
        self._collector.take(unit, sent.batch)
        for worker in self._dispatcher.superseded():
            self._abandon(worker)
            self._dispatcher.ended(worker)

    def _lose(self, worker: str, reason: str, cause: str = "worker_died") -> None:
        """A worker is gone, with everything it was doing. Of a unit and its parts it is told once, then only logged."""
        unit = self._dispatcher.head(worker)
        if not self._abandon(worker):
            return
        self._dispatcher.lost(worker, reason, cause)
        again = unit is not None and any(told.start <= unit.start < told.stop for told in self._lost_at)
        if unit is not None and not again:
            self._lost_at.append(unit)
        at = "" if unit is None else f" at trials [{unit.start}, {unit.stop})"
        log.log(logging.INFO if again else logging.WARNING, "a worker was lost%s: %s", at, reason)

    def _abandon(self, worker: str) -> bool:
        """Kill a worker and await nothing of it any more; whether it was known."""
        if self._forget(worker) is None:
            return False
        self._attempts = {r: sent for r, sent in self._attempts.items() if sent.attempt.worker != worker}
        return True

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for dataset in self._bars.loading():
            self._dispatcher.hold(dataset, now)
        for worker in self._deliveries.waiting(self._dataset_at, now):
            self._dispatcher.hold_worker(worker, now)
        for worker in self._dispatcher.overdue(now):
            self._lose(worker, "it ran out of time", "overdue")

    def _dataset_at(self, worker: str) -> int | None:
        unit = self._dispatcher.head(worker)
        return None if unit is None else unit.dataset

    def _leave_unbegun(self) -> None:
        """Asked to stop: units that workers had begun are finished, and those that waited behind them are left."""
        if not self._watch.stopping():
            return
        now = time.monotonic()
        self._stopped = self._stopped or now
        for worker in self._dispatcher.begun_since(self._stopped):
            self._abandon(worker)
            self._dispatcher.ended(worker)

    def _record_given_up(self) -> None:
        evaluator = Evaluator(self._resolved) if self._dispatcher.given_up else None
        while evaluator and self._dispatcher.given_up:
            lost = self._dispatcher.given_up.pop()
            rows = evaluator.failed_rows(lost.unit, lost.reason)
            sweep = self._resolved.sweep
            span = (lost.unit.start, lost.unit.stop)
            batch = batch_of(rows, span, sweep.objective, max(sweep.results.keep_best, 1))
            self._collector.take(lost.unit, ray.put(batch))
            self._work.observer.gave_up()
            log.warning("trial %d was given up: %s", lost.unit.start, lost.reason)

    def _tell(self, last: bool = False) -> None:
        """How things stand, once a second. At the end nothing waits for this driver, however much of the sweep is left,
        so that one that was stopped is not missed (GridDriverSilent).
        """
        now, observer = time.monotonic(), self._work.observer
        if last or now - self._told >= TELL_EVERY_S:
            self._told = now
            states = {**self._dispatcher.states(), "uncommitted": self._collector.count}
            observer.units(dict.fromkeys(states, 0) if last else states)
            observer.attempts(self._dispatcher.attempts)
            observer.retried("driver", self._work.folder.provider.retries - self._retries_before)
            observer.spent()
