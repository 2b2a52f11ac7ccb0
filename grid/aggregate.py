"""The aggregator: folds result batches, commits them, keeps counts and leaders. The only writer of a session.

`Ledger` is its state and does no I/O; `Aggregator` moves bytes between the ledger and the session's folder. A plain
class: the serial executor calls it, and the Ray executor makes an actor of it.
"""

import math
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from grid.ranges import Ranges
from grid.results import ResultBatch, Summary, join_small, without
from grid.spec import Objective
from storage.sessions import CommitRecord, Part, SessionFolder

FLUSH_ROWS = 50_000
FLUSH_AFTER_S = 1.0


@dataclass
class Tally:
    """What the commit log says: which trials are done, how they went, who leads, and the next free number.

    It does not grow with the log, which has hundreds of thousands of records after a week.
    """

    keep: int
    done: Ranges = field(default_factory=Ranges)
    summary: Summary = field(default_factory=Summary)
    next_n: int = 0

    def apply(self, record: CommitRecord) -> None:
        """Take in the next record of the log."""
        for part in record.parts:
            for start, stop in part.ranges:
                self.done.add(start, stop)
            self.summary = self.summary.merged(Summary.from_json(part.summary), self.keep)
        self.next_n = record.n + 1

    def progress(self) -> "Progress":
        """How far the session is."""
        best = self.summary.best[0] if self.summary.best else None
        return Progress(self.done.total(), self.summary.ok, self.summary.failed, best, self.next_n)


@dataclass
class Ledger(Tally):
    """A tally that keeps the parts as well, each without its leaders, for those who read rows."""

    parts: list[Part] = field(default_factory=list)

    def apply(self, record: CommitRecord) -> None:
        """See `Tally.apply`."""
        super().apply(record)
        for part in record.parts:
            kept = {name: part.summary[name] for name in ("ok", "failed")}
            machine = sys.intern(part.summary["machine"])  # one text for all of a log's many parts
            self.parts.append(replace(part, summary={**kept, "machine": machine}))


def read_ledger(folder: SessionFolder, keep: int) -> Ledger:
    """The state that a session's commit log describes."""
    ledger = Ledger(keep)
    for record in folder.commits():
        ledger.apply(record)
    return ledger


@dataclass(frozen=True)
class Progress:
    """How far a session is: trial numbers committed (holes included), trials that went well or failed, best so far."""

    done: int
    ok: int
    failed: int
    best: tuple[float, int] | None
    commits: int


@dataclass(frozen=True)
class Receipt:
    """The aggregator's answer: of the `number` batches that this `writer` was given, the first `committed` are safe.

    commit_seconds: how long each commit took that was made since the last answer. retries: how often the writer's
    process has tried an operation on a store again since there is this writer.
    """

    writer: str
    number: int
    committed: int
    progress: Progress
    commit_seconds: tuple[float, ...] = ()
    retries: int = 0

    @property
    def pending(self) -> int:
        """How many of the batches wait to be committed."""
        return self.number - self.committed


class Aggregator:
    """Folds batches and commits them in groups.

    A batch is safe once a receipt of the same writer counts it among the committed; until then whoever sent it must be
    ready to send it again. Sending one twice, or batches that overlap, changes nothing.
    """

    def __init__(
        self,
        folder: SessionFolder,
        objective: Objective,
        keep: int,
        clock: Callable[[], float] = time.monotonic,
        ledger: Tally | None = None,
    ) -> None:
        """ledger: the state to go on from where it is known, else it is read from the commit log."""
        self.ledger: Tally = read_ledger(folder, keep) if ledger is None else ledger
        self.writer = uuid.uuid4().hex
        self._folder = folder
        self._objective = objective
        self._keep = keep
        self._clock = clock
        self._pending: list[ResultBatch] = []
        self._given = 0
        self._since = clock()
        self._commit_seconds: list[float] = []
        self._retries_before = folder.provider.retries

    def read_on(self, seconds: float = math.inf) -> bool:
        """Read on in the commit log, for about so long; whether its end was reached."""
        until = self._clock() + seconds
        for record in self._folder.commits(self.ledger.next_n):
            self.ledger.apply(record)
            if self._clock() >= until:
                return False
        return True

    def fold(self, batch: ResultBatch) -> Receipt:
        """Take a batch in; commits what is pending when there is enough of it or it has waited long enough."""
        if not self._pending:
            self._since = self._clock()
        self._pending.append(batch)
        self._given += 1
        rows = sum(b.rows for b in self._pending)
        if rows >= FLUSH_ROWS or self._clock() - self._since >= FLUSH_AFTER_S:
            return self.flush()
        return self._receipt()

    def flush(self) -> Receipt:
        """Commit everything pending. Raises StorageError when it cannot; the batches stay pending then."""
        while fresh := self._fresh():
            began = time.perf_counter()
            parts = [self._store(ranges, batch) for ranges, batch in join_small(fresh, self._keep)]
            record = CommitRecord(self.ledger.next_n, self.writer, tuple(parts))
            if self._folder.commit(record):
                self.ledger.apply(record)
                self._commit_seconds.append(time.perf_counter() - began)
            else:
                self.read_on()  # another writer has our number
        self._pending = []
        return self._receipt()

    def _receipt(self) -> Receipt:
        took, self._commit_seconds = tuple(self._commit_seconds), []
        safe = self._given - len(self._pending)
        retries = self._folder.provider.retries - self._retries_before
        return Receipt(self.writer, self._given, safe, self.ledger.progress(), took, retries)

    def _fresh(self) -> list[ResultBatch]:
        """The pending batches without what is done already, by the log or by an earlier one of them."""
        seen = Ranges(self.ledger.done.to_list())
        fresh: list[ResultBatch] = []
        for batch in self._pending:
            fresh += without(batch, seen, self._objective, self._keep)
            seen.add(batch.start, batch.stop)
        return fresh

    def _store(self, ranges: Ranges, batch: ResultBatch) -> Part:
        summary = {**batch.summary.to_json(), "machine": batch.machine}
        return self._folder.write_part(batch.parquet, batch.rows, ranges.to_list(), summary)
