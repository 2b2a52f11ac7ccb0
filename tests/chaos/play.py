"""A real sweep on a real cluster while a schedule of faults goes on, and what came of it."""

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from grid.aggregate import Ledger
from grid.session import Session
from storage.errors import StorageError
from storage.providers import provider_for
from storage.sessions import SessionFolder
from tests.chaos.cluster import Nodes
from tests.chaos.processes import end, listens, python_of, runs
from tests.chaos.schedule import BOTH, FENCED, Event
from tests.conftest import REPOSITORY
from tests.rows import digest
from tests.services.fault_proxy import Fault, FaultProxy

POLL_S = 0.2
LONGEST_S = 600.0
MOST_TRIES = 25
GOES_ON = (130, 3)
"""Exit codes after which a session is resumed: interrupted, another driver seems to live."""
NOT_THERE = 2
"""The exit code of a driver that does not find cluster or store when it begins."""
STORAGE = {
    "requests refused": Fault("status", p=0.2),
    "requests reset": Fault("reset", p=0.1),
    "answers lost": Fault("reset_after", p=0.1),
    "answers cut short": Fault("truncate", "GET", length=100, p=0.2),
    "requests delayed": Fault("none", latency_s=2.0, p=0.2),
}
PROVED_LATER = (*STORAGE, "second driver")
"""What is counted only when it is seen at the end that it did anything."""


@dataclass(frozen=True)
class Stage:
    """Where it is played: the nodes, the proxy before the store, and the sweep with its undisturbed session.

    spec: the sweep with its stores by way of the proxy. direct: the results store past it.
    temporary: where nodes and drivers put temporary files, except for those of Ray itself.
    """

    nodes: Nodes
    proxy: FaultProxy
    spec: dict[str, Any]
    direct: str
    undisturbed: Session
    folder: Path
    temporary: Path


@dataclass
class Report:
    """What came of it. left: processes of the sweep, and temporary files, that were there after its end."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    impossible: Counter[str] = field(default_factory=Counter)
    drivers: int = 0
    seconds: float = 0.0
    rows: int = 0
    lost: int = 0
    doubled: int = 0
    failed: int = 0
    same: bool = False
    left: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.same and not (self.lost or self.doubled or self.failed or self.left)


class Play:
    """One sweep and its faults."""

    def __init__(self, stage: Stage, seed: int, events: list[Event]) -> None:
        self.stage, self.events = stage, list(events)
        self.report = Report(seed)
        self.session_id = f"chaos-{seed}-{time.time_ns() % 10**9}"
        self.folder = SessionFolder(provider_for(stage.direct), self.session_id)
        self.ledger = Ledger(1)
        self.total = stage.undisturbed.resolved.plan.total
        self.tries = 0
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.down: set[int] = set()
        self.drivers: list[psutil.Popen] = []
        self.logs: list[Path] = []
        self.unproved: list[tuple[str, Callable[[], str | None]]] = []
        """Faults that were injected, and what tells at the end as what they count; None for one that did nothing."""
        self._worker = rf"(Worker|{self.session_id} trials$)"
        """What a worker's process is called: its class while it is idle, and else a name that says the session."""

    def run(self) -> Report:
        """Until the sweep is done; a driver that ends before is followed by another one."""
        began = time.monotonic()
        spec = self.stage.folder / f"{self.session_id}.json"
        spec.write_text(json.dumps({**self.stage.spec, "name": self.session_id}))
        begin = ("run", str(spec), "--address", self.stage.nodes.address, "--session-id", self.session_id)
        try:
            self._start(*begin)
            while not self._done():
                if time.monotonic() - began > LONGEST_S:
                    raise AssertionError(f"seed {self.report.seed} does not end: {self._told()}")
                self._look()
                self._act()
                self._supervise()
                if not any(runs(driver) for driver in self.drivers):
                    self._follow(begin)
                time.sleep(POLL_S)
        finally:
            self._calm()
            for driver in self.drivers:
                end(driver)
        self.report.seconds = time.monotonic() - began
        self._judge()
        return self.report

    def _start(self, *arguments: str) -> None:
        nodes = self.stage.nodes
        self.logs.append(self.stage.folder / f"driver-{self.session_id}-{len(self.logs)}.log")
        with self.logs[-1].open("ab") as log:
            self.drivers.append(
                psutil.Popen(
                    nodes.command(0, sys.executable, "-m", "grid", *arguments, "--executor", "ray", "--quiet"),
                    cwd=REPOSITORY,
                    env=nodes.environment,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        self.report.drivers += 1

    def _follow(self, begin: tuple[str, ...]) -> None:
        """All drivers ended before the sweep did: the next one, as whoever watches over it would start it."""
        if self._ended():
            return
        codes = [driver.wait() for driver in self.drivers]
        at_work = [bool(writers_in(log)) for log in self.logs[-len(codes) :]]
        good = (*GOES_ON, -signal.SIGKILL)
        bad = [
            code for code, worked in zip(codes, at_work, strict=True) if code not in good + (NOT_THERE,) * (not worked)
        ]
        assert not bad, f"a driver of seed {self.report.seed} ended with {bad}: {self._told()}"
        self.drivers = []
        self._start(*begin)

    def _done(self) -> bool:
        return self.ledger.done.total() == self.total and not any(runs(d) for d in self.drivers) and self._ended()

    def _ended(self) -> bool:
        with suppress(StorageError):
            return bool(self.folder.document("metadata.json")["status"] == "done")
        return False

    def _look(self) -> None:
        with suppress(StorageError):
            for record in self.folder.commits(self.ledger.next_n):
                self.ledger.apply(record)

    def _act(self) -> None:
        """What is due: the end of an earlier fault, or the next one."""
        now, progress = time.monotonic(), self.ledger.done.total() / self.total
        for due in [item for item in self.later if item[0] <= now]:
            self.later.remove(due)
            due[1]()
        if self.events and self.events[0].progress <= progress < 1:  # one at a time
            self._try(self.events[0])

    def _try(self, event: Event) -> None:
        """Strike; where there is no victim at the moment, wait some seconds for one."""
        struck = self._strike(event)
        self.tries += 1
        if struck or self.tries == MOST_TRIES:
            if event.kind not in PROVED_LATER or not struck:
                self._count(event.kind, struck)
            self.tries = 0
            self.events.pop(0)

    def _count(self, kind: str, struck: bool) -> None:
        (self.report.faults if struck else self.report.impossible)[kind] += 1

    def _strike(self, event: Event) -> bool:
        return {
            "worker killed": lambda: self._kill_one(self.stage.nodes.titled(self._worker), event),
            "aggregator killed": lambda: self._kill_one(self.stage.nodes.titled("AggregatorActor"), event),
            "node killed": lambda: self._kill_node(event),
            "link cut": lambda: self._cut(event),
            "driver killed": lambda: self._signal(signal.SIGKILL),
            "driver told to stop": lambda: self._signal(signal.SIGTERM),
            "second driver": self._second,
        }.get(event.kind, lambda: self._break_the_store(event))()

    def _kill_one(self, processes: list[psutil.Process], event: Event) -> bool:
        if processes:
            with suppress(psutil.Error):
                processes[event.which % len(processes)].kill()
                return True
        return False

    def _member(self, event: Event) -> int:
        members = [place for place in self.stage.nodes.running if place]
        return members[event.which % len(members)]

    def _kill_node(self, event: Event) -> bool:
        place = self._member(event)
        if not self.stage.nodes.alive(place):
            return False
        self.down.add(place)
        self.stage.nodes.kill(place)
        self._after(event.seconds, lambda: self.down.discard(place))
        return True

    def _cut(self, event: Event) -> bool:
        network, place = self.stage.nodes.network, self._member(event)
        if not network.can_cut or not self.stage.nodes.alive(place):
            return False
        network.cut(place)
        self._after(event.seconds, lambda: network.heal(place))
        return True

    def _supervise(self) -> None:
        """Start nodes again that ended, whatever of; one that was taken for dead ends when it hears of it."""
        nodes = self.stage.nodes
        for place, process in list(nodes.running.items()):
            if place and place not in self.down and not runs(process):
                nodes.kill(place)
                nodes.start(place)

    def _signal(self, number: int) -> bool:
        for driver in self.drivers[:1]:
            for process in python_of(driver):
                if number == signal.SIGTERM and not listens(process):
                    return False
                process.send_signal(number)
                return True
        return False

    def _second(self) -> bool:
        store = self.stage.spec["results"]["store"]
        before, others = self.ledger.next_n, len(self.logs)
        self._start(
            "resume", self.session_id, "--store", store, "--force", "--trust", "--address", self.stage.nodes.address
        )
        self.unproved.append(("second driver", lambda: self._what_became_of(self.logs[others], before)))
        return True

    def _what_became_of(self, log: Path, since: int) -> str | None:
        """Of the driver with that log, when number `since` was the next: a driver before it must have gone on, and its
        own aggregator must have been given batches.
        """
        writers, own = {record.writer for record in self.folder.commits(since)}, writers_in(log)
        earlier = set().union(*(writers_in(other) for other in self.logs[: self.logs.index(log)]))
        if not own or not writers & earlier:
            return None
        return BOTH if writers & own else FENCED

    def _break_the_store(self, event: Event) -> bool:
        fault = Fault(**vars(STORAGE[event.kind]))
        self.stage.proxy.faults.append(fault)
        self._after(event.seconds, lambda: self.stage.proxy.faults.remove(fault))
        self.unproved.append((event.kind, lambda: event.kind if fault.struck else None))
        return True

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, act))

    def _calm(self) -> None:
        """Everything heals, so that the next play begins on a whole stage."""
        self.stage.proxy.faults.clear()
        nodes = self.stage.nodes
        for place in list(nodes.running):
            if place and nodes.network.can_cut:
                nodes.network.heal(place)
            if not nodes.alive(place):
                nodes.kill(place)
                nodes.start(place)

    def _judge(self) -> None:
        report, session = self.report, Session(self.folder)
        self.prove()
        rows, expected = session.trials(), self.stage.undisturbed.trials()
        ids = rows["trial_id"].to_pylist()
        spans = sorted(r for record in self.folder.commits() for part in record.parts for r in part.ranges)
        overlaps = sum(max(a[1] - b[0], 0) for a, b in itertools.pairwise(spans))
        report.rows = len(expected)
        report.lost = len(set(expected["trial_id"].to_pylist()) - set(ids))
        report.doubled = len(ids) - len(set(ids)) + overlaps
        report.failed = session.metadata["failed"]
        report.same = digest(rows) == digest(expected)
        report.left = self._left_over()

    def prove(self) -> None:
        """Count what could not be counted when it was injected."""
        for kind, proof in self.unproved:
            became = proof()
            self._count(became or kind, became is not None)

    def _left_over(self) -> list[str]:
        """Processes of the sweep, which have some seconds to end, and files where temporary ones belong."""
        until = time.monotonic() + 30
        while True:
            found = [driver.pid for driver in self.drivers if runs(driver)]
            actors = self.stage.nodes.titled(f"({self._worker}|AggregatorActor|Loader)")
            if not (found or actors) or time.monotonic() > until:
                left = [f"driver {pid}" for pid in found] + [f"actor {process.pid}" for process in actors]
                return left + [f"file {path.name}" for path in self.stage.temporary.iterdir()]
            time.sleep(POLL_S)

    def _told(self) -> str:
        done = f"{self.ledger.done.total()} of {self.total} done"
        return f"{done}; the drivers said: {''.join(log.read_text()[-2000:] for log in self.logs)}"


def writers_in(log: Path) -> set[str]:
    """The writers of commit records that a driver has said are its own."""
    return set(re.findall(r"commit records of writer (\w+) are this driver's", log.read_text()))
