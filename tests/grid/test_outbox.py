"""Batches on their way, by receipts of more than one aggregator."""

from grid.aggregate import Progress, Receipt
from grid.outbox import Outbox
from grid.plan import WorkUnit

UNIT = WorkUnit(0, 0, 1)


def receipt(writer: str, number: int, committed: int) -> Receipt:
    return Receipt(writer, number, committed, Progress(0, 0, 0, None, 0))


def taken_in() -> Outbox:
    """A batch that aggregator "a" has taken in as its number 1, and not committed."""
    outbox = Outbox()
    outbox.take(UNIT, "batch")
    outbox.sent(outbox.unsent()[0], "answer", 1.0)
    outbox.answered(outbox.awaited()[0], receipt("a", 1, 0))
    assert (len(outbox), outbox.unsent(), outbox.waits_since()) == (1, [], 1.0)
    return outbox


def test_a_batch_is_kept_until_its_aggregator_has_committed_it():
    outbox = taken_in()
    outbox.heard(receipt("a", 2, 0))
    assert len(outbox) == 1
    outbox.heard(receipt("a", 2, 1))
    assert len(outbox) == 0


def test_what_another_aggregator_commits_is_another_batch_and_ours_is_sent_again():
    outbox = taken_in()
    outbox.heard(receipt("b", 7, 7))
    assert [parcel.unit for parcel in outbox.unsent()] == [UNIT]
    assert outbox.waits_since() is None


def test_a_batch_that_another_aggregator_has_is_not_committed_with_the_first_ones_numbers():
    outbox = Outbox()
    for n in range(2):
        outbox.take(WorkUnit(0, n, n + 1), "batch")
    first, second = outbox.unsent()
    outbox.sent(first, "answer", 1.0)
    outbox.sent(second, "answer", 1.0)
    outbox.answered(first, receipt("a", 1, 0))
    outbox.answered(second, receipt("b", 1, 1))
    assert [parcel.unit for parcel in outbox.unsent()] == [WorkUnit(0, 0, 1)]
    assert len(outbox) == 1
