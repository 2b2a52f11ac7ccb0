"""Batches on their way from workers to the commit log, each kept until it is committed. Events in, instructions out.

No clock, no Ray: whoever drives it sends what it is told to send, and tells it what came back.
"""

from dataclasses import dataclass
from typing import Any

from grid.aggregate import Receipt
from grid.plan import WorkUnit


@dataclass(eq=False)
class Parcel:
    """The batch of a unit: the answer that is awaited and since when, the writer that took it in, and as which number.

    batch, answer: whatever stands for them where the sweep runs.
    """

    unit: WorkUnit
    batch: Any
    answer: Any = None
    since: float = 0.0
    writer: str | None = None
    number: int = 0


class Outbox:
    """What is not committed yet."""

    def __init__(self) -> None:
        self._parcels: list[Parcel] = []

    def __len__(self) -> int:
        return len(self._parcels)

    def take(self, unit: WorkUnit, batch: Any) -> None:
        """Take charge of the batch of a unit."""
        self._parcels.append(Parcel(unit, batch))

    def unsent(self) -> list[Parcel]:
        """Those to hand to the aggregator: it never had them, or it died with them."""
        return [p for p in self._parcels if p.answer is None and p.writer is None]

    def awaited(self) -> list[Parcel]:
        """Those whose answer is awaited."""
        return [p for p in self._parcels if p.answer is not None]

    def waits_since(self) -> float | None:
        """When the oldest of those was handed over that the aggregator has taken in and not committed."""
        return min((p.since for p in self._parcels if p.writer is not None), default=None)

    def sent(self, parcel: Parcel, answer: Any, now: float) -> None:
        """A parcel was handed over, and `answer` stands for what will come back."""
        parcel.answer, parcel.since = answer, now

    def answered(self, parcel: Parcel, receipt: Receipt) -> None:
        """The answer to a parcel. Nothing when it was forgotten meanwhile, with the aggregator that gave it."""
        self.heard(receipt)
        if parcel.answer is not None:
            parcel.answer, parcel.writer, parcel.number = None, receipt.writer, receipt.number
            self._drop_committed(receipt)

    def heard(self, receipt: Receipt) -> None:
        """Any answer of the aggregator: what is committed is dropped; what another writer had is to be sent again."""
        for parcel in self._parcels:
            if parcel.writer not in (None, receipt.writer):
                parcel.writer = None
        self._drop_committed(receipt)

    def aggregator_lost(self) -> None:
        """It has forgotten what it had not committed: all of it is to be sent again."""
        for parcel in self._parcels:
            parcel.answer, parcel.writer = None, None

    def batch_lost(self, parcel: Parcel) -> WorkUnit:
        """The batch itself is gone; returns the unit, which is to be evaluated again."""
        self._parcels.remove(parcel)
        return parcel.unit

    def give_up(self) -> list[WorkUnit]:
        """Drop everything; returns the units, which are to be evaluated again."""
        units, self._parcels = [p.unit for p in self._parcels], []
        return units

    def _drop_committed(self, receipt: Receipt) -> None:
        safe = receipt.committed
        self._parcels = [p for p in self._parcels if p.writer != receipt.writer or p.number > safe]
