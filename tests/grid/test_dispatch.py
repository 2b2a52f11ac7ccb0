"""Units, workers and what happens when one does not come back: every trial ends once, finished or given up."""

from collections import Counter, deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grid.dispatch import (
    DEPTH,
    MOST_ATTEMPTS,
    MOST_ATTEMPTS_ALONE,
    MOST_NODES,
    SHORTEST_DEADLINE_S,
    Attempt,
    Dispatcher,
)
from grid.pace import Pace
from grid.plan import WorkUnit

NUMBERS = 60
DEADLY = {13, 14, 41}


def units_of(size: int, numbers: int = NUMBERS) -> list[WorkUnit]:
    """Two datasets, cut into units of `size`."""
    half = numbers // 2
    return [
        WorkUnit(d, a, min(a + size, (d + 1) * half)) for d in (0, 1) for a in range(d * half, (d + 1) * half, size)
    ]


def dispatcher_of(units: list[WorkUnit]) -> Dispatcher:
    return Dispatcher(iter(units), Pace([10, 10], fixed=1))


def numbers_of(unit: WorkUnit) -> range:
    return range(unit.start, unit.stop)


class Workers(RuleBasedStateMachine):
    """Workers join, die and hang, units come back, fail or get lost on the way, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatcher: Dispatcher | None = None
        self.queues: dict[str, deque[Attempt]] = {}
        self.over: list[Attempt] = []
        self.finished: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        self.now, self.joined = 0.0, 0

    @precondition(lambda self: self.dispatcher is None)
    @rule(size=st.integers(1, 40))
    def begin(self, size: int) -> None:
        self.dispatcher = dispatcher_of(units_of(size))

    @precondition(lambda self: self.dispatcher is not None and len(self.queues) < 4)
    @rule()
    def join(self) -> None:
        self.joined += 1
        self.queues[f"w{self.joined}"] = deque()
        self.dispatcher.add_worker(f"w{self.joined}")

    @precondition(lambda self: self.queues)
    @rule(which=st.integers(0, 3))
    def feed(self, which: int) -> None:
        name = list(self.queues)[which % len(self.queues)]
        while attempt := self.dispatcher.next_for(name, self.now):
            alone = attempt.unit.stop - attempt.unit.start == 1
            assert 1 <= attempt.number <= (MOST_ATTEMPTS_ALONE if alone else MOST_ATTEMPTS)
            self.queues[name].append(attempt)
        assert len(self.queues[name]) == DEPTH or self.dispatcher.empty() or self.nothing_left_to_send()

    def nothing_left_to_send(self) -> bool:
        return self.dispatcher.next_for(self.spare(), self.now) is None

    def spare(self) -> str:
        self.dispatcher.add_worker("spare")
        return "spare"

    @precondition(lambda self: any(self.queues.values()))
    @rule(which=st.integers(0, 3), seconds=st.floats(0, 5))
    def work(self, which: int, seconds: float) -> None:
        """The head of a worker is finished, or kills it where there is a deadly trial in it."""
        name, queue = self.busy(which)
        self.now += seconds
        if DEADLY & set(numbers_of(queue[0].unit)):
            self.deaths.update(numbers_of(queue[0].unit))
            self.lose(name)
            return
        attempt = queue.popleft()
        self.dispatcher.finished(attempt, seconds, self.now)
        self.finished.update(numbers_of(attempt.unit))
        self.over.append(attempt)
        for late in self.dispatcher.superseded():
            assert self.queues[late][0].unit == attempt.unit
            self.over += self.queues.pop(late)
            self.dispatcher.ended(late)

    @precondition(lambda self: any(self.queues.values()))
    @rule(which=st.integers(0, 3))
    def lose_bars(self, which: int) -> None:
        """The bars of the head were lost: its worker lives, and nobody is charged."""
        _, queue = self.busy(which)
        attempt = queue.popleft()
        self.dispatcher.undone(attempt, self.now)
        self.over.append(attempt)

    @precondition(lambda self: any(self.queues.values()))
    @rule()
    def wait_for_bars(self) -> None:
        """However long bars take, nobody who waits for them is overdue."""
        self.now += SHORTEST_DEADLINE_S + 10 * 50 * 60
        for dataset in (0, 1):
            self.dispatcher.hold(dataset, self.now)
        assert self.dispatcher.overdue(self.now + SHORTEST_DEADLINE_S) == []

    @precondition(lambda self: self.queues)
    @rule(which=st.integers(0, 3))
    def die(self, which: int) -> None:
        name = list(self.queues)[which % len(self.queues)]
        if self.queues[name]:
            self.deaths.update(numbers_of(self.queues[name][0].unit))
        self.lose(name)

    @precondition(lambda self: self.queues)
    @rule(which=st.integers(0, 3))
    def lose_a_node(self, which: int) -> None:
        """Nobody is charged, however many go."""
        name = list(self.queues)[which % len(self.queues)]
        self.over += self.queues.pop(name)
        self.dispatcher.lost(name, "its worker died", "node_died")

    @precondition(lambda self: any(self.queues.values()))
    @rule()
    def hang(self) -> None:
        """Time passes and nothing comes back: whoever has work is overdue, and nobody else."""
        self.now += SHORTEST_DEADLINE_S + 10 * 50 * 60
        late = self.dispatcher.overdue(self.now)
        assert set(late) == {name for name, queue in self.queues.items() if queue}
        for name in late:
            self.deaths.update(numbers_of(self.queues[name][0].unit))
            self.lose(name)
        assert self.dispatcher.overdue(self.now) == []

    @precondition(lambda self: any(self.finished.values()))
    @rule(which=st.integers(0, 50))
    def lose_a_result(self, which: int) -> None:
        done = [a for a in self.over if self.finished[a.unit.start] > 0]
        if done:
            unit = done[which % len(done)].unit
            self.finished.subtract(numbers_of(unit))
            self.dispatcher.redo(unit)

    @precondition(lambda self: self.over)
    @rule(which=st.integers(0, 50))
    def hear_of_it_again(self, which: int) -> None:
        """Old news of an attempt that is over changes nothing."""
        before = self.dispatcher.in_flight(), list(self.dispatcher._again), list(self.dispatcher.given_up)
        self.dispatcher.undone(self.over[which % len(self.over)], self.now)
        assert (self.dispatcher.in_flight(), list(self.dispatcher._again), self.dispatcher.given_up) == before

    def busy(self, which: int) -> tuple[str, deque[Attempt]]:
        busy = [(name, queue) for name, queue in self.queues.items() if queue]
        return busy[which % len(busy)]

    def lose(self, name: str) -> None:
        self.over += self.queues.pop(name)
        self.dispatcher.lost(name, "its worker died")

    @invariant()
    def workers_have_what_they_were_given(self) -> None:
        if self.dispatcher is not None:
            assert self.dispatcher.in_flight() == sum(len(queue) for queue in self.queues.values())
            for name, queue in self.queues.items():
                assert self.dispatcher.holds(name) == len(queue) <= DEPTH
            out = {attempt.unit.dataset for queue in self.queues.values() for attempt in queue}
            assert out <= self.dispatcher.datasets_needed()

    def teardown(self) -> None:
        """From here on only the deadly trials do harm: work everything off."""
        if self.dispatcher is None:
            return
        steps = 0
        while not self.dispatcher.empty():
            steps += 1
            assert steps < 2_000, "it does not end"
            if not self.queues:
                self.join()
            self.feed(0)
            self.work(0, 0.1)
        given_up = Counter(lost.unit.start for lost in self.dispatcher.given_up)
        for lost in self.dispatcher.given_up:
            assert lost.unit.stop - lost.unit.start == 1
            assert self.deaths[lost.unit.start] >= MOST_ATTEMPTS_ALONE
            assert lost.reason.endswith(f", {MOST_ATTEMPTS_ALONE} times")
        assert given_up.keys() >= DEADLY
        assert {n: self.finished[n] + given_up[n] for n in range(NUMBERS)} == dict.fromkeys(range(NUMBERS), 1)


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def script(units: list[WorkUnit], deadly: set[int], workers: int = 3) -> tuple[Dispatcher, Counter[WorkUnit]]:
    """Work off `units` with workers that die of the deadly trials; how often each unit was begun."""
    given, begun, joined = dispatcher_of(units), Counter(), 0
    while not given.empty():
        while len(given.workers()) < workers:
            joined += 1
            given.add_worker(f"w{joined}")
        for name in given.workers():
            held = []
            while attempt := given.next_for(name, 0.0):
                held.append(attempt)
            for attempt in held:
                begun[attempt.unit] += 1
                if deadly & set(numbers_of(attempt.unit)):
                    given.lost(name, "its worker died")
                    break
                given.finished(attempt, 0.1, 0.0)
    return given, begun


def test_without_failures_each_unit_is_sent_once() -> None:
    given, begun = script(units_of(7), set())
    assert begun == Counter(units_of(7))
    assert given.given_up == []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_deadly_trial_is_found_by_halving(workers: int) -> None:
    """Each unit that holds it is tried twice and split, alone it is tried four times; the other halves once."""
    given, begun = script([WorkUnit(0, 0, 16), WorkUnit(0, 16, 32)], {5}, workers)
    spans = {(0, 16): 2, (0, 8): 2, (4, 8): 2, (4, 6): 2, (5, 6): 4}
    spans |= {(16, 32): 1, (8, 16): 1, (0, 4): 1, (6, 8): 1, (4, 5): 1}
    assert begun == Counter({WorkUnit(0, *span): count for span, count in spans.items()})
    assert [(lost.unit, lost.reason) for lost in given.given_up] == [(WorkUnit(0, 5, 6), "its worker died, 4 times")]


def test_a_worker_that_dies_once_costs_one_attempt_more() -> None:
    given = dispatcher_of(units_of(30))
    given.add_worker("a")
    first, second = given.next_for("a", 0.0), given.next_for("a", 0.0)
    assert given.next_for("a", 0.0) is None
    given.lost("a", "its worker died")
    given.add_worker("b")
    again = [given.next_for("b", 1.0), given.next_for("b", 1.0)]
    assert [(a.unit, a.number) for a in again] == [(first.unit, 2), (second.unit, 1)]  # the second only waited
    assert given.given_up == []


def test_only_the_unit_at_the_head_runs_and_can_be_late() -> None:
    given = dispatcher_of(units_of(1))
    given.add_worker("a")
    given.add_worker("idle")
    first, second = given.next_for("a", 0.0), given.next_for("a", 0.0)
    assert given.overdue(SHORTEST_DEADLINE_S) == []
    assert given.overdue(SHORTEST_DEADLINE_S + 0.1) == ["a"]
    given.finished(first, 29.0, 29.0)  # 29 s for one number: ten times that for the next
    assert second.since == 29.0
    assert given.overdue(29.0 + 290.0) == []
    assert given.overdue(29.0 + 290.1) == ["a"]


def test_what_finishes_out_of_turn_gives_the_head_no_more_time() -> None:
    given = dispatcher_of(units_of(1))
    given.add_worker("a")
    first, second = given.next_for("a", 0.0), given.next_for("a", 0.0)
    given.finished(second, 0.1, 20.0)
    assert first.since == 0.0


def test_asking_whether_it_is_empty_takes_nothing() -> None:
    given = dispatcher_of(units_of(30))
    given.add_worker("a")
    assert [given.empty() for _ in range(3)] == [False] * 3
    assert [given.next_for("a", 0.0).unit for _ in range(2)] == units_of(30)
    given.lost("a", "x")
    assert not given.empty()


def test_a_worker_that_is_added_twice_keeps_its_work() -> None:
    given = dispatcher_of(units_of(30))
    given.add_worker("a")
    given.next_for("a", 0.0)
    given.add_worker("a")
    assert given.holds("a") == 1


def test_lost_nodes_condemn_nobody_and_are_not_borne_for_ever() -> None:
    given = dispatcher_of([WorkUnit(0, 0, 1), WorkUnit(0, 1, 9)])
    given.add_worker("other")
    other = given.next_for("other", 0.0)
    for lost in range(MOST_NODES):
        assert given.takes_nodes() is None
        given.add_worker(f"w{lost}")
        attempt = given.next_for(f"w{lost}", 0.0)
        assert (attempt.number, attempt.unit) == (1, WorkUnit(0, 1, 9)), "neither charged nor split"
        given.lost(f"w{lost}", "its worker died", "node_died")
    assert given.takes_nodes() == WorkUnit(0, 1, 9)
    assert given.given_up == []
    given.finished(other, 0.1, 0.0)
    given.add_worker("last")
    given.finished(given.next_for("last", 0.0), 0.1, 0.0)
    assert given.takes_nodes() is None
    assert given.empty()
    assert given.attempts == Counter({"first": 2, "node_died": MOST_NODES})


def test_nodes_do_not_count_among_the_deaths_of_a_trial() -> None:
    given = dispatcher_of([WorkUnit(0, 0, 1)])
    causes = ["worker_died", *["node_died"] * 3] * MOST_ATTEMPTS_ALONE
    for number, cause in enumerate(causes):
        assert (given.given_up == []) == (causes[:number].count("worker_died") < MOST_ATTEMPTS_ALONE)
        if given.given_up:
            break
        given.add_worker(f"w{number}")
        given.next_for(f"w{number}", 0.0)
        given.lost(f"w{number}", "its worker died", cause)
    assert causes[:number].count("worker_died") == MOST_ATTEMPTS_ALONE


def test_lost_bars_condemn_nobody() -> None:
    given = dispatcher_of([WorkUnit(0, 0, 1)])
    given.add_worker("a")
    for _ in range(100):
        attempt = given.next_for("a", 0.0)
        assert attempt.number == 1
        given.undone(attempt, 0.0)
    assert given.given_up == []
    assert not given.empty()


def test_only_units_whose_bars_are_there_can_be_late() -> None:
    given = dispatcher_of([WorkUnit(0, 0, 1), WorkUnit(1, 1, 2)])
    for name in ("a", "b"):
        given.add_worker(name)
        given.next_for(name, 0.0)
    given.hold(0, SHORTEST_DEADLINE_S)
    assert given.overdue(SHORTEST_DEADLINE_S + 0.1) == ["b"]


def straggling() -> tuple[Dispatcher, Attempt]:
    """One unit that should take a second and has taken ten, on worker a; b has nothing to do."""
    given = Dispatcher(iter([WorkUnit(0, 0, 10)]), Pace([10, 10], fixed=10, seconds_per_trial=[0.1, 0.1]))
    for name in ("a", "b", "c"):
        given.add_worker(name)
    return given, given.next_for("a", 0.0)


def test_a_straggler_is_copied_once_when_there_is_nothing_else_to_do() -> None:
    given, first = straggling()
    assert given.next_for("b", 1.9) is None
    copy = given.next_for("b", 10.0)
    assert (copy.unit, copy.number) == (first.unit, first.number)
    assert given.next_for("c", 20.0) is None
    assert given.next_for("b", 20.0) is None
    assert given.attempts == Counter({"first": 1, "copied": 1})


@pytest.mark.parametrize("wins", ["a", "b"])
def test_the_copy_that_comes_back_first_ends_the_other(wins: str) -> None:
    given, first = straggling()
    copies = {"a": first, "b": given.next_for("b", 10.0)}
    given.finished(copies[wins], 10.0, 11.0)
    (late,) = given.superseded()
    assert late != wins
    assert given.superseded() == []
    given.ended(late)
    assert given.empty()
    assert late not in given.workers()


def test_a_copy_that_dies_leaves_it_to_the_other_and_two_charge_once() -> None:
    given, _ = straggling()
    given.next_for("b", 10.0)
    given.lost("a", "its worker died")
    assert given.next_for("c", 10.5) is None  # b still works on it, and has not for long
    given.lost("b", "its worker died")
    again = given.next_for("c", 12.0)
    assert (again.unit, again.number) == (WorkUnit(0, 0, 10), 2)


def test_what_waits_behind_a_superseded_copy_is_sent_elsewhere() -> None:
    given, first = straggling()
    given.next_for("b", 10.0)
    given.redo(WorkUnit(1, 10, 20))
    behind = given.next_for("b", 10.0)
    given.finished(first, 10.0, 11.0)
    assert given.superseded() == ["b"]
    given.ended("b")
    assert given.next_for("c", 11.0).unit == behind.unit
    assert given.given_up == []


def test_work_that_no_worker_takes_is_told_of():
    dispatcher = dispatcher_of([WorkUnit(0, 0, 1), WorkUnit(0, 1, 2)])
    assert sum(dispatcher.states().values()) == 1, "a sweep without a CPU waits for one"
    dispatcher.add_worker("w")
    attempts = [dispatcher.next_for("w", 0.0) for _ in range(DEPTH)]
    assert dispatcher.states() == {"running": 1, "queued": 1, "again": 0, "unsent": 1}
    for attempt in attempts:
        assert attempt is not None
        dispatcher.finished(attempt, 1.0, 1.0)
    assert dispatcher.empty()
    assert not any(dispatcher.states().values())
