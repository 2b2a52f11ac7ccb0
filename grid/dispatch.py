"""Which unit goes to which worker, and what happens when one does not come back. Events in, instructions out.

No clock, no Ray: whoever drives it tells it the time. A unit that fails with its worker is tried again, elsewhere; one
that took two workers with it is split, down to the trial that does it, which is given up and becomes a failed row. One
that is lost with a whole node is only tried again, as nodes go by chance; not for ever, as it may be the cause. When
nothing is left to send, a worker without work is given a copy of a unit that takes far longer than it should; the copy
that comes back first ends the other.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from grid.pace import Pace
from grid.plan import WorkUnit

DEPTH = 2
"""Units a worker has at a time: one that runs, one that waits so that it never idles."""
MOST_ATTEMPTS, MOST_ATTEMPTS_ALONE = 2, 4
"""Tries before a unit is split, and before a single trial is given up. Nodes that are lost do not count."""
MOST_NODES = 20
"""Nodes that a unit may be lost with before the sweep is to be paused: it may be what takes them."""
SHORTEST_DEADLINE_S = 30.0
DEADLINE_FACTOR = 10.0
STRAGGLES_AFTER_S = 2.0
STRAGGLE_FACTOR = 2.0
"""A unit that has run for so long, and for so many times its estimate, is copied when there is nothing else to do."""
CAUSES = ("first", "worker_died", "node_died", "overdue", "bars_lost", "batch_lost", "moved", "split", "copied")
"""Why an attempt is made: the plan says so, or because of what became of the last one."""


@dataclass(eq=False)
class Attempt:
    """One try at a unit: attempt number `number` (from 1), on `worker`; `since` is when it came to the head."""

    number: int
    unit: WorkUnit
    worker: str
    since: float


@dataclass(frozen=True)
class GivenUp:
    """A single trial number that no worker survives, and why."""

    unit: WorkUnit
    reason: str


@dataclass
class Dispatcher:
    """The state of a sweep's units between plan and aggregator."""

    units: Iterator[WorkUnit]
    pace: Pace
    given_up: list[GivenUp] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    _queues: dict[str, deque[Attempt]] = field(default_factory=dict)
    _again: deque[tuple[int, WorkUnit, str]] = field(default_factory=deque)
    _exhausted: bool = False
    _superseded: list[str] = field(default_factory=list)
    _nobody_late_at: float | None = None
    _nodes: Counter[WorkUnit] = field(default_factory=Counter)

    def go_on(self, units: Iterator[WorkUnit]) -> None:
        """More units, once those before are used up."""
        self.units, self._exhausted = units, False

    def add_worker(self, worker: str) -> None:
        self._queues.setdefault(worker, deque())

    def workers(self) -> list[str]:
        return list(self._queues)

    def next_for(self, worker: str, now: float) -> Attempt | None:
        """The next unit for a worker that has room; None when it has enough or nothing is left."""
        queue = self._queues[worker]
        if len(queue) >= DEPTH:
            return None
        taken = self._take() or (None if queue else self._straggler(now))
        if taken is None:
            return None
        attempt = Attempt(taken[0], taken[1], worker, now)
        queue.append(attempt)
        self.attempts[taken[2]] += 1
        return attempt

    def finished(self, attempt: Attempt, seconds: float, now: float, trials: int | None = None) -> None:
        """A unit came back from its worker after `seconds` of work on `trials` (by default all of its numbers)."""
        numbers = attempt.unit.stop - attempt.unit.start
        self.pace.learn(attempt.unit.dataset, numbers if trials is None else trials, seconds)
        self._nodes.pop(attempt.unit, None)
        if self._leave(attempt, now):
            for worker, queue in self._queues.items():
                if queue and queue[0].unit == attempt.unit and worker != attempt.worker:
                    queue.popleft()
                    self._superseded.append(worker)

    def superseded(self) -> list[str]:
        """Workers, told once, that work on a unit which another one has finished: end them, and say so by `ended`."""
        told, self._superseded = self._superseded, []
        return told

    def ended(self, worker: str) -> None:
        """A worker was ended on purpose: nobody is charged, and what waited behind is sent elsewhere."""
        for attempt in self._queues.pop(worker, deque()):
            self._again.append((attempt.number, attempt.unit, "moved"))

    def undone(self, attempt: Attempt, now: float) -> None:
        """A unit came back undone because its bars were lost, which is no fault of its own: it is tried again and not
        charged. Nothing when the attempt is over already.
        """
        if self._leave(attempt, now):
            self._again.append((attempt.number, attempt.unit, "bars_lost"))

    def hold(self, dataset: int, now: float) -> None:
        """The bars of a dataset are not there yet: its units have not begun, and none of them can be overdue."""
        for worker, queue in self._queues.items():
            if queue and queue[0].unit.dataset == dataset:
                self.hold_worker(worker, now)

    def hold_worker(self, worker: str, now: float) -> None:
        """The bars are not there yet where this worker is: its unit has not begun."""
        self._queues[worker][0].since = now

    def begun_since(self, then: float) -> list[str]:
        """Workers that began their current unit after some time."""
        return [worker for worker, queue in self._queues.items() if queue and queue[0].since > then]

    def redo(self, unit: WorkUnit) -> None:
        """The result of a finished unit was lost on its way: evaluate it again."""
        self._again.append((1, unit, "batch_lost"))

    def lost(self, worker: str, reason: str, cause: str = "worker_died") -> None:
        """A worker is gone. The unit at its head is charged with it, unless it went with its node (cause "node_died");
        those behind are only sent elsewhere.
        """
        queue = self._queues.pop(worker, deque())
        for place, attempt in enumerate(queue):
            if place == 0 and cause == "node_died":
                self._again.append((attempt.number, attempt.unit, cause))
                self._nodes[attempt.unit] += 1
            elif place == 0:
                self._charge(attempt, reason, cause)
            else:
                self._again.append((attempt.number, attempt.unit, "moved"))

    def takes_nodes(self) -> WorkUnit | None:
        """A unit that was lost with so many nodes that the sweep is to be paused; None while there is none."""
        return next((unit for unit, nodes in self._nodes.items() if nodes >= MOST_NODES), None)

    def overdue(self, now: float) -> list[str]:
        """Workers whose current unit has taken far longer than it should: ten times the estimate, at least 30 s."""
        return [
            worker for worker, queue in self._queues.items() if queue and now - queue[0].since > self._limit(queue[0])
        ]

    def holds(self, worker: str) -> int:
        """How many units a worker has."""
        return len(self._queues.get(worker, ()))

    def head(self, worker: str) -> WorkUnit | None:
        """The unit that a worker is at, which is charged when the worker is lost."""
        queue = self._queues.get(worker)
        return queue[0].unit if queue else None

    def in_flight(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def states(self) -> dict[str, int]:
        """How many units are running, queued behind one that runs, and waiting to be tried again; unsent is 1 while
        there are more, which are cut when they are sent.
        """
        busy = sum(1 for queue in self._queues.values() if queue)
        unsent = int(not self._exhausted)
        return {"running": busy, "queued": self.in_flight() - busy, "again": len(self._again), "unsent": unsent}

    def datasets_needed(self) -> set[int]:
        """Datasets of the units that are out or waiting to be tried again."""
        out = {attempt.unit.dataset for queue in self._queues.values() for attempt in queue}
        return out | {unit.dataset for _, unit, _ in self._again}

    def empty(self) -> bool:
        """Nothing is out and nothing is left to send."""
        if self.in_flight() or self._again:
            return False
        taken = self._take()
        if taken is not None:
            self._again.appendleft(taken)
        return taken is None

    def _leave(self, attempt: Attempt, now: float) -> bool:
        """Take an attempt off its worker; False when the worker does not have it (any more)."""
        queue = self._queues.get(attempt.worker, deque())
        if attempt not in queue:
            return False
        head = queue[0]
        queue.remove(attempt)
        if queue and queue[0] is not head:
            queue[0].since = now
        return True

    def _take(self) -> tuple[int, WorkUnit, str] | None:
        if self._again:
            return self._again.popleft()
        if self._exhausted:
            return None
        unit = next(self.units, None)
        self._exhausted = unit is None
        return None if unit is None else (1, unit, "first")

    def _out(self, unit: WorkUnit) -> list[Attempt]:
        """The attempts at a unit that workers have."""
        return [attempt for queue in self._queues.values() for attempt in queue if attempt.unit == unit]

    def _straggler(self, now: float) -> tuple[int, WorkUnit, str] | None:
        """The unit that runs longest by its estimate, if it straggles and has no copy yet."""
        if now == self._nobody_late_at:
            return None
        heads = [queue[0] for queue in self._queues.values() if queue]
        late = [(self._lateness(head, now), head.number, head.unit) for head in heads]
        late = [each for each in late if each[0] > STRAGGLE_FACTOR and len(self._out(each[2])) == 1]
        if not late:
            self._nobody_late_at = now
            return None
        _, number, unit = max(late, key=lambda each: each[0])
        return number, unit, "copied"

    def _lateness(self, head: Attempt, now: float) -> float:
        """How many times its estimate a unit has run; 0 while that is too short to tell."""
        ran = now - head.since
        expected = self.pace.seconds(head.unit.dataset, head.unit.stop - head.unit.start)
        return ran / expected if ran > STRAGGLES_AFTER_S else 0.0

    def _charge(self, attempt: Attempt, reason: str, cause: str) -> None:
        unit = attempt.unit
        if self._out(unit):
            return  # its copy is still at work
        alone = unit.stop - unit.start == 1
        if attempt.number < (MOST_ATTEMPTS_ALONE if alone else MOST_ATTEMPTS):
            self._again.append((attempt.number + 1, unit, cause))
        elif alone:
            self.given_up.append(GivenUp(unit, f"{reason}, {attempt.number} times"))
        else:
            middle = (unit.start + unit.stop) // 2
            self._again.append((1, WorkUnit(unit.dataset, unit.start, middle), "split"))
            self._again.append((1, WorkUnit(unit.dataset, middle, unit.stop), "split"))

    def _limit(self, attempt: Attempt) -> float:
        expected = self.pace.seconds(attempt.unit.dataset, attempt.unit.stop - attempt.unit.start)
        return max(SHORTEST_DEADLINE_S, DEADLINE_FACTOR * expected)
