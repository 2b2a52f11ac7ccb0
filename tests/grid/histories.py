"""Random histories of a sweep without I/O: plan, dispatcher, outbox and aggregator, with everything around them going
wrong between any two steps.

Workers die, batches are lost, doubled and reordered; an aggregator or a driver dies before or after any operation on
the store; a second driver works on the same session at the same time. Rows are their trial numbers.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from grid.aggregate import Aggregator, read_ledger
from grid.dispatch import MOST_ATTEMPTS_ALONE, Attempt, Dispatcher
from grid.outbox import Outbox, Parcel
from grid.pace import Pace
from grid.plan import Plan, WorkUnit
from grid.ranges import Ranges
from grid.results import ResultBatch, Summary
from grid.spec import Objective
from storage.errors import NotFound
from storage.sessions import SessionFolder

KEEP = 3
OBJECTIVE = Objective(maximize="sharpe")


class Crash(Exception):  # noqa: N818 - a process dies here
    """The process that does this operation dies, before it or after it."""


class World:
    """A store as a dict. `fuse`: so many steps until the process that takes one dies. `meddler`: what another process
    does between two steps, once. `actor`: the driver whose turn it is.
    """

    uri = "world://"
    retries = 0

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fuse: int | None = None
        self.meddler: tuple[int, Callable[[], None]] | None = None
        self.actor: object = None

    def read(self, path: str) -> bytes:
        self._step()
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    def write(self, path: str, data: bytes) -> None:
        self._step()
        self.objects[path] = data
        self._step()

    def create(self, path: str, data: bytes) -> bool:
        self._step()
        won = path not in self.objects
        self.objects.setdefault(path, data)
        self._step()
        return won

    def _step(self) -> None:
        if self.meddler is not None:
            steps, act = self.meddler
            self.meddler = (steps - 1, act) if steps else None
            if not steps:
                act()
        if self.fuse is not None:
            self.fuse = self.fuse - 1 if self.fuse else None
            if self.fuse is None:
                raise Crash


def batch_of_numbers(numbers: list[int], start: int, stop: int) -> ResultBatch:
    """Rows that are their own trial numbers; every fifth number is a hole, every seventh failed."""
    rows = [n for n in numbers if n % 5 != 4]
    best = tuple((float(n), n) for n in sorted(rows, reverse=True)[:KEEP])
    bad = sum(n % 7 == 0 for n in rows)
    return ResultBatch(start, stop, len(rows), json.dumps(rows).encode(), Summary(len(rows) - bad, bad, best))


def evaluated(unit: WorkUnit) -> ResultBatch:
    return batch_of_numbers(list(range(unit.start, unit.stop)), unit.start, unit.stop)


def without(batch: ResultBatch, done: Ranges, _objective: Objective, _keep: int) -> list[ResultBatch]:
    """In the place of `grid.results.without`, which opens Parquet."""
    left = done.subtract(batch.start, batch.stop)
    rows = json.loads(batch.parquet)
    return [batch_of_numbers([n for n in rows if a <= n < b], a, b) for a, b in left]


def join_small(batches: list[ResultBatch], _keep: int) -> list[tuple[Ranges, ResultBatch]]:
    """In the place of `grid.results.join_small`: one part of all."""
    rows = sorted(n for b in batches for n in json.loads(b.parquet))
    ranges = Ranges([(b.start, b.stop) for b in batches])
    return [(ranges, batch_of_numbers(rows, min(b.start for b in batches), max(b.stop for b in batches)))]


@dataclass
class Driver:
    """One driver with its workers and its aggregator; what `grid/cluster` does with Ray, in one thread."""

    world: World
    plan: Plan
    dice: random.Random
    clock: list[float]
    deadly: frozenset[int]
    workers: dict[str, list[Attempt]] = field(default_factory=dict)
    joined: int = 0

    def __post_init__(self) -> None:
        self.outbox = Outbox()
        self.answers: list[tuple[Parcel, object]] = []
        self.given_up: list[int] = []
        self.by_chance: Counter[int] = Counter()
        size = self.dice.choice([1, 3, 8, 100])
        done = read_ledger(SessionFolder(self.world, "s"), KEEP).done
        self.dispatcher = Dispatcher(self.plan.units(lambda _: size, done), Pace([9, 9], fixed=size))
        self.aggregator = self._aggregator()

    def _aggregator(self) -> Aggregator:
        return Aggregator(SessionFolder(self.world, "s"), OBJECTIVE, KEEP, clock=lambda: self.clock[0])

    @property
    def finished(self) -> bool:
        return not len(self.outbox) and self.dispatcher.empty()

    def step(self) -> None:
        """One thing that happens, of all that could."""
        feed, work, send, hear = self.feed, self.work, self.send, self.hear
        self.dice.choice((self.join, feed, feed, work, work, work, work, send, send, hear, hear))()

    def join(self) -> None:
        if len(self.workers) < 3:
            self.joined += 1
            name = f"w{self.joined}"
            self.workers[name] = []
            self.dispatcher.add_worker(name)

    def feed(self) -> None:
        for name, held in self.workers.items():
            while attempt := self.dispatcher.next_for(name, self.clock[0]):
                held.append(attempt)

    def work(self) -> None:
        busy = [name for name, held in self.workers.items() if held]
        if not busy:
            return
        name = self.dice.choice(busy)
        attempt = self.workers[name].pop(0)
        unit = attempt.unit
        if self.deadly & set(range(unit.start, unit.stop)):
            self.workers[name].insert(0, attempt)
            self.end(name)
            return
        self.dispatcher.finished(attempt, 0.1, self.clock[0])
        for late in self.dispatcher.superseded():
            del self.workers[late]
            self.dispatcher.ended(late)
        self.outbox.take(unit, evaluated(unit))
        if self.dice.random() < 0.1:
            self.outbox.take(unit, evaluated(unit))  # its copy came back as well, at the same moment

    def die(self) -> None:
        """A worker dies alone and by chance, which cannot be told from one that dies of what it does."""
        if self.workers:
            name = self.dice.choice(list(self.workers))
            for attempt in self.workers[name][:1]:
                self.by_chance.update(range(attempt.unit.start, attempt.unit.stop))
            self.end(name)

    def lose_node(self) -> None:
        """A worker goes with its node."""
        busy = [name for name, held in self.workers.items() if held]
        if busy:
            self.end(self.dice.choice(busy), "node_died")

    def end(self, name: str, cause: str = "worker_died") -> None:
        del self.workers[name]
        self.dispatcher.lost(name, "its worker died", cause)
        while self.dispatcher.given_up:
            unit = self.dispatcher.given_up.pop().unit
            self.given_up.append(unit.start)
            self.outbox.take(unit, evaluated(unit))

    def lose_bars(self) -> None:
        busy = [name for name, held in self.workers.items() if held]
        if busy:
            self.dispatcher.undone(self.workers[self.dice.choice(busy)].pop(0), self.clock[0])

    def lose_batch(self) -> None:
        awaited = [parcel for parcel, _ in self.answers if parcel.answer is not None]
        if awaited:
            parcel = self.dice.choice(awaited)
            self.answers = [(p, r) for p, r in self.answers if p is not parcel]
            self.dispatcher.redo(self.outbox.batch_lost(parcel))

    def send(self) -> None:
        """Hand over what is to be sent; the answers come back some time."""
        for parcel in self.outbox.unsent():
            self.outbox.sent(parcel, True, self.clock[0])
            try:
                self.answers.append((parcel, self.aggregator.fold(parcel.batch)))
                if self.dice.random() < 0.1:
                    self.aggregator.fold(parcel.batch)  # delivered twice
            except Crash:
                self.lose_aggregator()
                return

    def hear(self) -> None:
        """Read answers, in any order; flush when nothing is on its way."""
        self.dice.shuffle(self.answers)
        for parcel, receipt in self.answers[: self.dice.randint(0, 3)]:
            self.answers = [(p, r) for p, r in self.answers if p is not parcel]
            self.outbox.answered(parcel, receipt)
        if not self.answers and len(self.outbox) and not self.outbox.unsent() and self.dice.random() < 0.5:
            try:
                self.outbox.heard(self.aggregator.flush())
            except Crash:
                self.lose_aggregator()

    def lose_aggregator(self) -> None:
        self.answers = []
        self.outbox.aggregator_lost()
        self.world.fuse = None
        self.aggregator = self._aggregator()

    def give_up_on_answers(self) -> None:
        """The aggregator does not answer: another one, and all over again."""
        self.lose_aggregator()
        for unit in self.outbox.give_up():
            self.dispatcher.redo(unit)


@dataclass
class History:
    """One history from a seed: `run` plays it to its end, `check` holds it against what must be."""

    seed: int

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.world, self.clock = World(), [0.0]
        self.plan = Plan(("a", "b"), range(self.dice.choice([1, 5, 15])))
        total = self.plan.total
        self.deadly = frozenset(self.dice.sample(range(total), self.dice.choice([0, 0, 1, 2])))
        self.drivers = [self._driver() for _ in range(self.dice.choice([1, 1, 2]))]
        self.events: Counter[str] = Counter()

    def _driver(self) -> Driver:
        return Driver(self.world, self.plan, self.dice, self.clock, self.deadly)

    def run(self) -> None:
        trouble = self.dice.randint(0, 25)
        for _ in range(5_000):
            if all(driver.finished for driver in self.drivers):
                return
            self.clock[0] += 3 * self.dice.random()
            number = self.dice.randrange(len(self.drivers))
            self.world.actor = self.drivers[number]
            if trouble and self.dice.random() < 0.2:
                trouble -= 1
                self._disturb(number)
            else:
                self.drivers[number].step()
        raise AssertionError(f"seed {self.seed}: it does not end")

    def _disturb(self, number: int) -> None:
        driver = self.drivers[number]
        others = [d for d in self.drivers if d is not driver]
        kinds: dict[str, Callable[[], None]] = {
            "worker": driver.die,
            "node": driver.lose_node,
            "bars": driver.lose_bars,
            "batch": driver.lose_batch,
            "silence": driver.give_up_on_answers,
            "aggregator": self._light_a_fuse,
            "driver": lambda: self._replace(number),
        }
        if others:
            kinds["race"] = lambda: self._race(others[0])
        kind = self.dice.choice([*kinds, "node", "node", "node", "node"])
        self.events[kind] += 1
        kinds[kind]()

    def _light_a_fuse(self) -> None:
        """Whoever takes the n-th step from here dies at it."""
        self.world.fuse = self.dice.randint(1, 8)

    def _replace(self, number: int) -> None:
        """The driver dies with all it has; another one resumes the session."""
        self.world.fuse = None
        self.drivers[number] = self._driver()

    def _race(self, other: Driver) -> None:
        """The other driver's aggregator commits between two steps of whoever comes next."""

        def commit() -> None:
            if self.world.actor is other:
                return  # an aggregator does one thing at a time
            fuse, self.world.fuse = self.world.fuse, None
            other.aggregator.flush()
            self.world.fuse = fuse

        self.world.meddler = self.dice.randint(0, 6), commit

    def check(self) -> None:
        """Each trial number is committed once, by one row with its own content, and the counts say so."""
        self.world.fuse = self.world.meddler = None
        records = list(SessionFolder(self.world, "s").commits())
        parts = [part for record in records for part in record.parts]
        ranges = [span for part in parts for span in part.ranges]
        total = self.plan.total
        assert sum(b - a for a, b in ranges) == total, self.seed
        assert Ranges(ranges).to_list() == [(0, total)], self.seed
        rows = Counter(n for part in parts for n in json.loads(self.world.objects[f"s/{part.path}"]))
        expected = [n for n in range(total) if n % 5 != 4]
        assert rows == Counter(expected), self.seed
        for part in parts:
            held = json.loads(self.world.objects[f"s/{part.path}"])
            assert all(n in Ranges(part.ranges) for n in held), self.seed
        ledger = read_ledger(SessionFolder(self.world, "s"), KEEP)
        failed = sum(n % 7 == 0 for n in expected)
        assert (ledger.summary.ok, ledger.summary.failed) == (len(expected) - failed, failed), self.seed
        for driver in self.drivers:
            chance = {n for n, deaths in driver.by_chance.items() if deaths >= MOST_ATTEMPTS_ALONE}
            assert set(driver.given_up) <= self.deadly | chance, self.seed
