"""What the driver does with batches: hand them to the aggregator, and keep each until it is committed."""

import logging
import time
import uuid
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grid.aggregate import FLUSH_AFTER_S, Receipt
from grid.cluster.actors import AggregatorActor
from grid.cluster.losses import GONE, last_line
from grid.cluster.sharing import kind
from grid.outbox import Outbox, Parcel
from grid.plan import WorkUnit
from grid.sweep import Watch, Work
from storage.errors import StorageError

log = logging.getLogger(__name__)

MOST_UNCOMMITTED = 64
MOST_AGGREGATORS = 5
"""Aggregators that are lost or silent one after the other, nothing committed between, before the sweep is paused."""
WAIT_S = 0.5
"""How soon a driver to whom nothing comes back looks around: for a stop, for what is overdue. Each look takes CPU."""
READ_S = 20.0
"""A new aggregator reads the commit log in steps of so long, each answered: a log of any length is no silence."""
ANSWER_S = 900.0
"""An aggregator that has not answered for so long is replaced. One that is well answers within a commit, most often a
part and a record. On S3 a request begins its last attempt by 100 s and gives it up by 190 s; the record may need two,
as one whose answer was lost is asked whose it is. That is 570 s, and 760 s where there is a second part.
"""


def optioned(kind: type, **options: Any) -> Any:
    """An actor's class with options; Ray's decorator hides it from the type checker."""
    return kind.options(**options)  # type: ignore[attr-defined]


def named(work: Work, kind: str) -> str:
    """What the Dashboard calls an actor; several drivers may be at one session, so it ends in a number."""
    return f"{work.folder.session_id} {kind} {uuid.uuid4().hex[:8]}"


class Collector:
    """Batches between workers and the commit log; whoever gave one may forget it."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self._resolved = work.resolved
        self._outbox = Outbox()
        self._writer = ""
        self._losses = 0  # of aggregators, since anything was committed
        self._heard = 0.0
        self._flush: tuple[Any, float] | None = None  # the answer to a flush that is awaited, and since when
        self._reading: tuple[Any, float] | None = None  # likewise the answer to a step in reading the log
        self._begin()

    @property
    def count(self) -> int:
        """How many batches are not committed yet."""
        return len(self._outbox)

    @property
    def full(self) -> bool:
        """So many are not committed that no more should be made."""
        return self.count >= MOST_UNCOMMITTED

    @property
    def bereft(self) -> bool:
        """Whether a second aggregator was lost before anything was committed: who is to stop does not wait for more."""
        return self._losses > 1

    def take(self, unit: WorkUnit, batch: Any) -> None:
        """Take charge of the batch (a reference) of a unit."""
        self._outbox.take(unit, batch)

    def awaited(self) -> list[Any]:
        """The answers that are awaited."""
        asked = [each[0] for each in (self._flush, self._reading) if each]
        return [*asked, *(parcel.answer for parcel in self._outbox.awaited())]

    def close(self) -> None:
        ray.kill(self._aggregator)

    def _begin(self) -> None:
        """An aggregator that reads the log, and is given batches after that."""
        self._aggregator, self._flush = self._start(), None
        self._read()

    def _read(self) -> None:
        self._reading = self._aggregator.read_on.remote(READ_S), time.monotonic()

    def _start(self) -> Any:
        """On the driver's node, where the stores are known to be in reach; elsewhere if that node is lost."""
        sweep, folder = self._resolved.sweep, self._work.folder
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = optioned(AggregatorActor, name=named(self._work, kind(sweep.cluster.cpus)), scheduling_strategy=here)
        return actor.remote(folder.provider.uri, folder.session_id, sweep.objective, max(sweep.results.keep_best, 1))

    def settle(self, idle: bool) -> list[WorkUnit]:
        """Hand batches to the aggregator, again if it died with them, and drop those that it has committed.

        idle: nothing more is on its way, so what waits is to be committed now; else it waits for a second at most. The
        driver does not wait for a commit. Returns units whose batch was lost.
        """
        if self._reading:
            self._go_on_reading(self._reading[0])
        for parcel in self._outbox.unsent() if not self._reading else []:
            self._outbox.sent(parcel, self._aggregator.fold.remote(parcel.batch), time.monotonic())
        if self._flush:
            self._read_flush(self._flush[0])
        awaited = self._outbox.awaited()
        asked = [p.since for p in awaited] + [each[1] for each in (self._flush, self._reading) if each]
        if asked and time.monotonic() - max(self._heard, min(asked)) > ANSWER_S:
            return self._start_over()
        if awaited:
            ready, _ = ray.wait([p.answer for p in awaited], num_returns=len(awaited), timeout=0)
            lost = [self._read_receipt(p) for p in awaited if p.answer in ready]
            return [unit for unit in lost if unit is not None]
        since, now = self._outbox.waits_since(), time.monotonic()
        if not self._flush and since is not None and (idle or self.full or now - since >= FLUSH_AFTER_S):
            self._flush = self._aggregator.flush.remote(), now
        return []

    def _go_on_reading(self, answer: Any) -> None:
        if not ray.wait([answer], timeout=0)[0]:
            return
        at_end = self._receive(answer)
        if at_end:
            self._reading = None
        elif at_end is not None:
            self._read()

    def _read_flush(self, answer: Any) -> None:
        if not ray.wait([answer], timeout=0)[0]:
            return
        self._flush = None
        receipt = self._receive(answer)
        if receipt is not None:
            self._took_in(receipt)

    def _start_over(self) -> list[WorkUnit]:
        """No answer for too long: the aggregator hangs, or waits for a batch on a node that is cut off. Both go."""
        log.warning("the aggregator does not answer; another one takes its place")
        self._replace(f"it has not answered for {ANSWER_S:.0f} s")
        return self._outbox.give_up()

    def _read_receipt(self, parcel: Parcel) -> WorkUnit | None:
        """Take in the answer to a parcel; returns its unit when the batch was lost."""
        if parcel.answer is None:  # one lost aggregator takes all its answers with it
            return None
        try:
            receipt = self._receive(parcel.answer)
        except ObjectLostError:
            return self._outbox.batch_lost(parcel)
        if receipt is not None:
            self._took_in(receipt, parcel)
        return None

    def _took_in(self, receipt: Receipt, parcel: Parcel | None = None) -> None:
        """A receipt came, as the answer to a parcel or to a flush."""
        before = self.count
        if parcel is None:
            self._outbox.heard(receipt)
        else:
            self._outbox.answered(parcel, receipt)
        if self.count < before:
            self._losses = 0
        if receipt.writer != self._writer:
            self._writer = receipt.writer
            log.info("commit records of writer %s are this driver's", self._writer)
        self._work.observer.receipt(receipt)
        self._watch.progress(receipt.progress)

    def _receive(self, answer: Any) -> Any:
        """The aggregator's answer; None when it was lost, and replaced."""
        try:
            received = ray.get(answer, timeout=ANSWER_S)
        except RayTaskError as error:
            raise error.cause from error
        except (*GONE, GetTimeoutError) as error:
            log.warning("the aggregator was lost (%s); its successor reads the commit log", type(error).__name__)
            self._outbox.aggregator_lost()
            self._replace(last_line(error))
            time.sleep(WAIT_S)
            return None
        self._heard = time.monotonic()
        return received

    def _replace(self, reason: str) -> None:
        """Another aggregator in the place of one that is lost or silent.

        Raises StorageError when none of several has committed anything: the sweep pauses, resumable.
        """
        self._losses += 1
        if self._losses >= MOST_AGGREGATORS:
            raise StorageError(
                f"the aggregator was lost {self._losses} times, and nothing was committed between: {reason}. "
                "The driver's node needs memory for it, and reach of the store."
            )
        ray.kill(self._aggregator)
        self._begin()
