"""What the driver does with batches: hand them to the aggregator, and keep each until it is committed."""

import logging
import time
import uuid
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grid.aggregate import Receipt
from grid.cluster.actors import AggregatorActor
from grid.plan import WorkUnit
from grid.sweep import Watch, Work
from storage.errors import StorageError

log = logging.getLogger(__name__)

MOST_UNCOMMITTED = 64
MOST_AGGREGATORS = 5
WAIT_S = 0.2
ANSWER_S = 120.0
GONE = (RayActorError, NodeDiedError, OutOfMemoryError)


def optioned(kind: type, **options: Any) -> Any:
    """An actor's class with options; Ray's decorator hides it from the type checker."""
    return kind.options(**options)  # type: ignore[attr-defined]


def last_line(error: Exception) -> str:
    """What Ray's many lines about a dead actor come down to."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def cause_of(error: RayTaskError) -> BaseException:
    """The exception that was raised in the other process."""
    cause: BaseException = error.as_instanceof_cause()  # type: ignore[no-untyped-call]
    return cause


def named(work: Work, kind: str) -> str:
    """What the Dashboard calls an actor; several drivers may be at one session, so it ends in a number."""
    return f"{work.folder.session_id} {kind} {uuid.uuid4().hex[:8]}"


@dataclass(eq=False)
class Uncommitted:
    """The batch of a unit on its way: the answer that is awaited, the writer that took it in, and as which number."""

    unit: WorkUnit
    batch: Any
    answer: Any = None
    writer: str | None = None
    number: int = 0


class Collector:
    """Batches between workers and the commit log; whoever gave one may forget it."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self._resolved = work.resolved
        self._uncommitted: list[Uncommitted] = []
        self._lost: list[WorkUnit] = []
        self._orphaned = 0
        self._aggregator = self._start()

    @property
    def count(self) -> int:
        """How many batches are not committed yet."""
        return len(self._uncommitted)

    @property
    def full(self) -> bool:
        """So many are not committed that no more should be made."""
        return self.count >= MOST_UNCOMMITTED

    def take(self, unit: WorkUnit, batch: Any) -> None:
        """Take charge of the batch (a reference) of a unit."""
        self._uncommitted.append(Uncommitted(unit, batch))

    def awaited(self) -> list[Any]:
        """The answers that are awaited."""
        return [u.answer for u in self._uncommitted if u.answer is not None]

    def close(self) -> None:
        ray.kill(self._aggregator)

    def _start(self) -> Any:
        """On the driver's node, where the stores are known to be in reach; elsewhere if that node is lost."""
        sweep, folder = self._resolved.sweep, self._work.folder
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = optioned(AggregatorActor, name=named(self._work, "aggregator"), scheduling_strategy=here)
        return actor.remote(folder.provider.uri, folder.session_id, sweep.objective, max(sweep.results.keep_best, 1))

    def settle(self, idle: bool) -> list[WorkUnit]:
        """Hand batches to the aggregator, again if it died with them, and drop those that it has committed.

        idle: nothing more is on its way, so what waits is to be committed now. Returns units whose batch was lost.
        """
        self._lost = []
        for entry in self._uncommitted:
            if entry.answer is None and entry.writer is None:
                entry.answer = self._aggregator.fold.remote(entry.batch)
        answers = [u for u in self._uncommitted if u.answer is not None]
        if answers:
            ready, _ = ray.wait([u.answer for u in answers], num_returns=len(answers), timeout=0)
            for entry in [u for u in answers if u.answer in ready]:
                if entry.answer is not None:  # one lost aggregator takes all its answers with it
                    self._read_receipt(entry)
        elif self._uncommitted and (idle or self.full):
            self._receive(self._aggregator.flush.remote())
        return self._lost

    def _read_receipt(self, entry: Uncommitted) -> None:
        answer, entry.answer = entry.answer, None
        try:
            receipt = self._receive(answer)
        except ObjectLostError:
            self._uncommitted.remove(entry)
            self._lost.append(entry.unit)
            return
        if receipt is not None:
            entry.writer, entry.number = receipt.writer, receipt.number
            self._drop_committed(receipt)

    def _receive(self, answer: Any) -> Receipt | None:
        """Read the aggregator's answer. One that is gone has forgotten what it had not committed: send that again."""
        try:
            receipt: Receipt = ray.get(answer, timeout=ANSWER_S)
        except (*GONE, GetTimeoutError) as error:
            log.warning("the aggregator was lost (%s); its successor reads the commit log", type(error).__name__)
            for entry in self._uncommitted:
                entry.answer, entry.writer = None, None
            if isinstance(error, ActorDiedError):
                self._restart_aggregator(error)
            time.sleep(WAIT_S)
            return None
        except RayTaskError as error:
            raise cause_of(error) from None
        for entry in self._uncommitted:
            if entry.writer not in (None, receipt.writer):
                entry.writer = None
        self._drop_committed(receipt)
        self._orphaned = 0
        self._work.observer.receipt(receipt)
        self._watch.progress(receipt.progress)
        return receipt

    def _drop_committed(self, receipt: Receipt) -> None:
        safe = receipt.committed
        self._uncommitted = [u for u in self._uncommitted if u.writer != receipt.writer or u.number > safe]

    def _restart_aggregator(self, error: Exception) -> None:
        """Ray restarts one that was killed; one that could not even begin is ours to replace, not for ever."""
        self._orphaned += 1
        if self._orphaned > MOST_AGGREGATORS:
            raise StorageError(f"the aggregator cannot start: {last_line(error)}") from error
        self._aggregator = self._start()
