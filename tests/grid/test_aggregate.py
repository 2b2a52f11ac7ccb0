"""The aggregator: whatever arrives, however often, and whatever breaks, each trial is committed once."""

import gc
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grid import aggregate, results
from grid.aggregate import FLUSH_AFTER_S, Aggregator, Ledger, Receipt, Tally, read_ledger
from grid.ranges import Ranges
from grid.results import ResultBatch, decode, summarise
from storage.errors import StorageError
from storage.sessions import CommitRecord, Part, SessionFolder
from tests.grid.faulty import ANSWER_LOST, FAILS, FINE, FaultyProvider
from tests.grid.made_results import KEEP, NUMBERS, OBJECTIVE, WORLD, batch, bits, rows_of, world_in

FATES = st.lists(st.sampled_from([FINE, FAILS, ANSWER_LOST]), max_size=3)
WHICH = st.integers(0, 1)
SPANS = st.tuples(st.integers(0, NUMBERS), st.integers(1, 50)).map(lambda s: (s[0], min(s[0] + s[1], NUMBERS)))


def session() -> SessionFolder:
    return SessionFolder(FaultyProvider(), "s1")


def aggregator_of(folder: SessionFolder) -> Aggregator:
    return Aggregator(folder, OBJECTIVE, KEEP, clock=lambda: 0.0)


def check_committed(folder: SessionFolder) -> Ranges:
    """The log holds no trial twice, and exactly the rows an undisturbed run has; returns what is done."""
    ranges = [r for record in folder.commits() for part in record.parts for r in part.ranges]
    done = Ranges(ranges)
    assert done.total() == sum(stop - start for start, stop in ranges)
    parts = read_ledger(folder, KEEP).parts
    tables = [decode(folder.read_part(part)) for part in parts]
    assert [part.rows for part in parts] == [table.num_rows for table in tables]
    for part, table in zip(parts, tables, strict=True):
        assert bits(table) == bits(world_in(Ranges(part.ranges)))
    ledger = read_ledger(folder, KEEP)
    assert ledger.done == done
    assert ledger.summary == summarise(world_in(done), OBJECTIVE, KEEP)
    return done


@dataclass(eq=False)
class Sent:
    """A batch that its sender keeps until it is safe: who was given it, and which writer said that it has it."""

    batch: ResultBatch
    to: int
    writer: str | None = None


class Disturbed(RuleBasedStateMachine):
    """Two aggregators of one session, a sender that keeps to the protocol of receipts, a store that fails."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [patch.object(aggregate, "FLUSH_ROWS", 60), patch.object(results, "SMALL_ROWS", 12)]
        for each in self.patches:
            each.start()
        self.now = 0.0
        self.provider = FaultyProvider()
        self.folder = SessionFolder(self.provider, "s1")
        self.aggregators = [self.made(), self.made()]
        self.kept: list[Sent] = []
        self.safe = Ranges()

    def made(self) -> Aggregator:
        return Aggregator(self.folder, OBJECTIVE, KEEP, clock=lambda: self.now)

    @rule(span=SPANS, to=WHICH)
    def send(self, span: tuple[int, int], to: int) -> None:
        self.kept.append(Sent(batch(*span), to))
        self.deliver(self.kept[-1])

    @rule(to=WHICH)
    def send_again(self, to: int) -> None:
        for sent in [s for s in self.kept if s.writer is None]:
            sent.to = to
            self.deliver(sent)

    @rule(to=WHICH)
    def flush(self, to: int) -> None:
        with suppress(StorageError):
            self.read(to, self.aggregators[to].flush())

    @rule(to=WHICH)
    def kill(self, to: int) -> None:
        """What was pending is gone; the next receipt has another writer."""
        self.provider.script["read"].clear()
        self.aggregators[to] = self.made()

    @rule(seconds=st.sampled_from([0.1, FLUSH_AFTER_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(read=FATES, write=FATES, create=FATES)
    def break_the_store(self, read: list[str], write: list[str], create: list[str]) -> None:
        for name, fates in (("read", read), ("write", write), ("create", create)):
            self.provider.script[name].extend(fates)

    def deliver(self, sent: Sent) -> None:
        try:
            receipt = self.aggregators[sent.to].fold(sent.batch)
        except StorageError:
            return
        sent.writer = receipt.writer
        self.read(sent.to, receipt)

    def read(self, to: int, receipt: Receipt) -> None:
        mine = [s for s in self.kept if s.to == to and s.writer is not None]
        for sent in mine:
            if sent.writer != receipt.writer:
                sent.writer = None
            elif receipt.pending == 0:
                self.safe.add(sent.batch.start, sent.batch.stop)
                self.kept.remove(sent)

    @invariant()
    def what_is_safe_is_committed(self) -> None:
        with self.provider.healthy():
            done = read_ledger(self.folder, KEEP).done
        assert not any(done.subtract(*span) for span in self.safe)

    def teardown(self) -> None:
        self.provider.heal()
        for to in (0, 1):
            self.flush(to)
        while self.kept:
            self.send_again(0)
            self.flush(0)
            self.flush(1)
        done = check_committed(self.folder)
        assert not any(done.subtract(*span) for span in self.safe)
        for span in done.subtract(0, NUMBERS):
            self.aggregators[1].fold(batch(*span))
        self.aggregators[1].flush()
        assert check_committed(self.folder).to_list() == [(0, NUMBERS)]
        for each in self.patches:
            each.stop()


TestDisturbed = Disturbed.TestCase
TestDisturbed.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)


def test_batches_are_committed_in_groups() -> None:
    folder, now = session(), [0.0]
    given = Aggregator(folder, OBJECTIVE, KEEP, clock=lambda: now[0])
    assert given.fold(batch(0, 10)).pending == 1
    now[0] = FLUSH_AFTER_S - 0.01
    receipt = given.fold(batch(20, 30))
    assert (receipt.pending, receipt.progress.done, receipt.progress.commits) == (2, 0, 0)
    now[0] = FLUSH_AFTER_S
    receipt = given.fold(batch(10, 20))
    assert (receipt.pending, receipt.progress.done, receipt.progress.commits) == (0, 30, 1)
    assert [part.ranges for part in read_ledger(folder, KEEP).parts] == [((0, 30),)]  # small ones became one part
    now[0] += FLUSH_AFTER_S
    assert given.fold(batch(30, 31)).pending == 1  # the waiting began anew


def test_enough_rows_are_committed_at_once() -> None:
    folder = session()
    with patch.object(aggregate, "FLUSH_ROWS", batch(0, 20).rows):
        given = aggregator_of(folder)
        assert given.fold(batch(0, 19)).pending == 1
        assert given.fold(batch(19, 20)).pending == 0
    assert check_committed(folder).to_list() == [(0, 20)]


def test_progress_counts_and_names_the_best() -> None:
    given = aggregator_of(session())
    given.fold(batch(0, NUMBERS))
    progress = given.flush().progress
    summary = summarise(WORLD, OBJECTIVE, KEEP)
    assert (progress.done, progress.ok, progress.failed, progress.best) == (
        NUMBERS,
        summary.ok,
        summary.failed,
        summary.best[0],
    )


def test_nothing_new_is_no_commit() -> None:
    folder = session()
    given = aggregator_of(folder)
    for span in ((0, 50), (0, 50), (10, 20), (45, 50), (50, 50)):
        given.fold(batch(*span))
        given.flush()
    assert [record.n for record in folder.commits()] == [0]
    assert folder.provider.calls["create"] == 1


def test_numbers_without_rows_are_done_too() -> None:
    folder = session()
    given = aggregator_of(folder)
    given.fold(batch(40, 48))
    assert given.flush().progress.done == 8
    assert check_committed(folder).to_list() == [(40, 48)]


def test_the_later_of_two_aggregators_drops_what_the_other_committed() -> None:
    folder = session()
    first, second = aggregator_of(folder), aggregator_of(folder)
    for given in (first, second):
        given.fold(batch(0, 30))
    second.fold(batch(30, 35))
    assert first.flush().progress.done == 30
    assert second.flush().progress.done == 35
    assert [(record.writer, record.parts[0].ranges) for record in folder.commits()] == [
        (first.writer, ((0, 30),)),
        (second.writer, ((30, 35),)),
    ]
    check_committed(folder)


@pytest.mark.parametrize("more", [False, True], ids=["same batches", "another one arrived"])
@pytest.mark.parametrize(
    ("method", "fate", "creates"),
    [("write", FAILS, 1), ("write", ANSWER_LOST, 1), ("create", FAILS, 2), ("create", ANSWER_LOST, 2)],
)
def test_a_failing_store_loses_nothing_and_repeats_nothing(method: str, fate: str, creates: int, more: bool) -> None:
    folder = session()
    given = aggregator_of(folder)
    given.fold(batch(0, 30))
    folder.provider.script[method].append(fate)
    with pytest.raises(StorageError, match="as the script says"):
        given.flush()
    if more:
        given.fold(batch(20, 50))
    receipt = given.flush()
    lost = (method, fate) == ("create", ANSWER_LOST)
    assert receipt.pending == 0
    assert check_committed(folder).to_list() == [(0, 50 if more else 30)]
    assert len(list(folder.commits())) == (2 if lost and more else 1)
    assert folder.provider.calls["create"] == creates + (1 if lost and more else 0)


def test_an_own_record_whose_answer_was_lost_is_seen_by_a_successor_too() -> None:
    folder = session()
    given = aggregator_of(folder)
    given.fold(batch(0, 30))
    folder.provider.script["create"].append(ANSWER_LOST)
    with pytest.raises(StorageError):
        given.flush()
    successor = aggregator_of(folder)
    receipt = successor.fold(batch(0, 30))
    assert (receipt.writer, receipt.progress.done) == (successor.writer, 30)
    assert successor.writer != given.writer
    successor.flush()
    given.flush()
    assert [record.writer for record in folder.commits()] == [given.writer]


def test_a_ledger_read_again_is_the_one_that_was_kept() -> None:
    folder = session()
    given = aggregator_of(folder)
    for span in ((30, 60), (0, 10), (5, 40)):
        given.fold(batch(*span))
        given.flush()
    assert read_ledger(folder, KEEP) == given.ledger


def test_what_arrives_while_the_store_fails_is_committed_in_the_end() -> None:
    folder = session()
    given = aggregator_of(folder)
    folder.provider.script["write"].extend([FAILS] * 6)
    with patch.object(aggregate, "FLUSH_ROWS", 1):
        for start in range(0, 60, 10):
            with pytest.raises(StorageError):
                given.fold(batch(start, start + 10))
    assert given.flush().pending == 0
    assert bits(rows_of([batch(0, 60)])) == bits(world_in(check_committed(folder)))


def records(first: int, stop: int) -> list[CommitRecord]:
    """As a long sweep commits them: a part of one range, with its leaders."""
    made = []
    for n in range(first, stop):
        digest = f"{n:064x}"
        best = [[float(n) + i / 100, n * 1000 + i] for i in range(20)]
        summary = {"ok": 900, "failed": 100, "best": best, "reused": {}, "machine": "m"}
        part = Part(f"trials/part-{digest[:24]}.parquet", digest, 1000, ((n * 1000, n * 1000 + 1000),), summary)
        made.append(CommitRecord.decode(CommitRecord(n, "w" * 32, (part,)).encode(), "here"))
    return made


@pytest.mark.parametrize(("kind", "most"), [(Tally, 10), (Ledger, 1000)])
def test_memory_for_a_commit_is_small(kind: type[Tally], most: int) -> None:
    """A week has 400,000 of them. With its leaders a part is 4 KB."""
    ledger = kind(20)
    for record in records(0, 200):
        ledger.apply(record)
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for first in range(200, 2200, 100):
        for record in records(first, first + 100):
            ledger.apply(record)
    del record
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert ledger.next_n == 2200
    assert grown / 2000 < most
