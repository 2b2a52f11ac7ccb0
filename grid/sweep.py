"""A sweep from request to committed results. Read this first; the Ray executor differs only in where units run."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from grid import logs
from grid.account import Account, Limits
from grid.aggregate import Aggregator, Progress, Receipt
from grid.auth import use_token
from grid.begin import begin_or_reopen, check_resumable
from grid.budget import cpus_here
from grid.documents import finish
from grid.errors import BadInput, nearest
from grid.evaluate import Evaluator
from grid.heap import keep_freed
from grid.heartbeat import Heartbeat, read_beat
from grid.observe import Observer
from grid.pace import Pace
from grid.plan import WorkUnit
from grid.rehearse import rehearse
from grid.resolve import LoadedBars, ResolvedSweep, resolve
from grid.reuse import Known, Shelf, gather
from grid.rounds import spans
from grid.search import Asked, rung_of
from grid.session import Session
from grid.spec import Sweep
from grid.specfile import load_sweep
from grid.telemetry import Telemetry
from storage.sessions import SessionFolder

log = logging.getLogger(__name__)

EXECUTORS = ("auto", "serial", "ray")
RAY_START_S = 8.0
"""What starting a local Ray costs; less work than that is done in this process."""
BYTES_A_BAR, LEAST_BYTES = 48, 1 << 20
"""Memory of bars: a timestamp and five numbers each, and what counts for a dataset at least."""
KEPT_BYTES = 512 * 1024 * 1024
"""Bars that the serial executor keeps for the rounds to come, beside those it works on."""


@dataclass(frozen=True)
class Watch:
    """What an executor tells while it works, and asks: `progress` after each step, `stopping` before the next.

    limits: at which it stops by itself; they count from the first unit of this execution. reusing: told before the
    first unit which rows of earlier sessions are there, if there are any.
    """

    progress: Callable[[Progress], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    telemetry: Telemetry = field(default_factory=Telemetry)
    limits: Limits = field(default_factory=Limits)
    reusing: Callable[[Shelf], None] = lambda _: None


@dataclass(frozen=True)
class Work:
    """What an executor is given: the resolved sweep, the session to go on with, how to cut units, whom to tell what it
    holds (`account`) and what happens (`observer`), and the rows of earlier sessions (`shelf`).
    """

    resolved: ResolvedSweep
    session: Session
    pace: Pace
    account: Account
    observer: Observer
    shelf: Shelf = field(default_factory=Shelf)

    @property
    def folder(self) -> SessionFolder:
        return self.session.folder

    def fingerprint(self, dataset: int) -> str:
        """Of the bars that the session was begun with."""
        return str(self.session.metadata["datasets"][dataset]["fingerprint"])

    def let_go(self, held: Iterable[int], room: int) -> list[int]:
        """Of datasets whose bars are in memory, in the order in which they were read, those that are to go.

        All of them, unless the sweep comes back to them round after round: then the last ones of what takes more than
        `room` bytes, since the first ones are asked for first.
        """
        if not self._comes_back:
            return list(held)
        facts = self.session.metadata["datasets"]
        sizes = {dataset: max(BYTES_A_BAR * facts[dataset]["bars"], LEAST_BYTES) for dataset in held}
        staying = itertools.accumulate(sizes.values())
        return [dataset for dataset, total in zip(sizes, staying, strict=True) if total > room]

    @cached_property
    def _comes_back(self) -> bool:
        points = self.resolved.points
        return isinstance(points, Asked) and len(points.spans) > 1

    def known(self, unit: WorkUnit) -> Known | None:
        """The trials of a unit that need not be run."""
        plan = self.resolved.plan
        return self.shelf.known(unit.dataset, plan.points, plan.points_of(unit)) if len(self.shelf) else None

    def aggregator(self) -> Aggregator:
        """One in this process; it goes on with the ledger that the session has read."""
        sweep = self.resolved.sweep
        return Aggregator(self.folder, sweep.objective, max(sweep.results.keep_best, 1), ledger=self.session.ledger)


def run(
    sweep: Sweep | Mapping[str, Any] | str | Path,
    executor: str = "auto",
    watch: Watch | None = None,
    unit_size: int | None = None,
    session_id: str | None = None,
) -> Session:
    """Run a sweep to its end and return its session.

    sweep: a Sweep, a dict of its fields, or the path of a sweep file. executor: serial, ray, or auto, which works in
    this process what would take less time than starting Ray. unit_size: trial numbers a unit, measured by default.
    session_id: of a new session, or of one of the same sweep, which is resumed; made up by default.
    Raises BadInput before anything is written, Refused when the first trials all fail alike.
    """
    check_executor(executor)
    resolved = resolve(_sweep_of(sweep))
    rehearsal = rehearse(resolved)
    rehearsal.refuse_hopeless()
    session = begin_or_reopen(resolved, rehearsal, session_id)
    return carry_on(session, resolved, executor, watch or Watch(), unit_size)


def resume(
    session: Session,
    executor: str = "auto",
    watch: Watch | None = None,
    unit_size: int | None = None,
    force: bool = False,
) -> Session:
    """Run what is missing of a session.

    Raises Refused when strategy, data or engine are no longer the same, and while another driver of the session gives
    signs of life, unless `force`.
    """
    check_executor(executor)
    check_resumable(session, force)
    return carry_on(session, session.resolved, executor, watch or Watch(), unit_size)


def carry_on(session: Session, resolved: ResolvedSweep, executor: str, watch: Watch, unit_size: int | None) -> Session:
    """Work off what the commit log does not name yet, then write the documents; alive to readers until the end."""
    _ = session.same  # now, and not where the documents are written: files may be edited until then
    if isinstance(session.points, Asked):
        resolved = replace(resolved, points=session.points)  # which know what was committed before
    facts, numbers = session.metadata["datasets"], session.metadata["trials"]
    pace = Pace(
        [d["bars"] for d in facts],
        unit_size,
        [d["seconds_per_trial"] for d in facts],
        numbers["count"] / max(numbers["numbers"], 1),
    )
    account = Account(watch.limits, resolved.sweep.cluster.price_per_cpu_hour)
    observer = Observer(watch.telemetry, resolved.sweep.strategy, account, session.ledger.progress())
    left = resolved.plan.total - session.ledger.done.total()
    shelf = gather(resolved, facts, session.id) if left else Shelf()
    if len(shelf):
        log.info("session %s: %d trials of %s are there to be reused", session.id, len(shelf), ", ".join(shelf.counts))
        watch.reusing(shelf)
    work = Work(resolved, session, pace, account, observer, shelf)
    executor = choose(executor, session, resolved, len(shelf))
    asked = watch.stopping
    watch = replace(watch, stopping=lambda: asked() or account.over() is not None)
    with logs.kept(session.folder) as kept:
        heartbeat = Heartbeat(session.folder, observer.beat, [kept.store])
        with heartbeat.beating():
            try:
                return _work_off(work, executor, watch, heartbeat.goodbye)
            except BaseException as error:
                log.info("session %s: the driver ends with %s: %s", session.id, type(error).__name__, error)
                raise


def _work_off(work: Work, executor: str, watch: Watch, goodbye: Callable[[], None]) -> Session:
    session = work.session
    left = work.resolved.plan.total - session.ledger.done.total()
    began = time.monotonic()
    if left:
        log.info("session %s: %d trial numbers to do, %s executor", session.id, left, executor)
        if executor == "serial":
            run_serial(work, watch)
        else:
            use_token()
            from grid.cluster import run_on_ray

            run_on_ray(work, watch, goodbye)
    stopped_by = work.account.over() if watch.stopping() else None
    ended = finish(session, watch.stopping(), time.monotonic() - began, stopped_by)
    facts = ended.metadata
    log.info("session %s: %s, %d ok, %d failed", session.id, facts["status"], facts["ok"], facts["failed"])
    return ended


def run_serial(work: Work, watch: Watch) -> None:
    """The algorithm: unit by unit, evaluate and fold. Stops between units when asked; what was folded is committed."""
    keep_freed()
    aggregator, evaluator, tell = work.aggregator(), Evaluator(work.resolved), work.observer
    kept: dict[int, LoadedBars] = {}
    at: tuple[int, LoadedBars] | None = None
    work.account.hold(1)
    try:
        for number, unit in enumerate(_units(work, aggregator, watch), 1):
            if watch.stopping():
                break
            if at is None or at[0] != unit.dataset:
                at = unit.dataset, _bars_of(unit.dataset, kept, work)
            tell.attempts({"first": number})
            began, cpu_began = time.perf_counter(), time.thread_time()
            batch = evaluator.evaluate(unit, at[1], work.known(unit))
            work.pace.learn(unit.dataset, batch.ran, time.perf_counter() - began)
            tell.worked(time.thread_time() - cpu_began)
            _took_in(aggregator.fold(batch), work, watch)
    finally:
        _took_in(aggregator.flush(), work, watch)
        work.account.hold(0)


def _bars_of(dataset: int, kept: dict[int, LoadedBars], work: Work) -> LoadedBars:
    """The bars of a dataset, read unless they are kept; the indicators of those before go."""
    if dataset not in kept:
        for old in work.let_go(kept, KEPT_BYTES):
            del kept[old]
        kept[dataset] = work.resolved.load_same(dataset, work.fingerprint(dataset))
        work.observer.read(kept[dataset].read)
    return kept[dataset].cold()


def _units(work: Work, aggregator: Aggregator, watch: Watch) -> Iterator[WorkUnit]:
    """What is left to do, span by span; all of a span is committed before the next one is asked for."""
    for span in spans(work.session, work.resolved):
        work.pace.over(rung_of(work.resolved.points, span[0]))
        yield from work.resolved.plan.units(work.pace.size, aggregator.ledger.done, span)
        _took_in(aggregator.flush(), work, watch)


def _took_in(receipt: Receipt, work: Work, watch: Watch) -> None:
    """The aggregator's answer, for whoever watches."""
    work.observer.receipt(receipt)
    work.observer.spent()
    watch.progress(receipt.progress)


def check_executor(executor: str) -> None:
    """Raises BadInput for an executor that there is not."""
    if executor not in EXECUTORS:
        raise BadInput(f"there is no executor {executor!r}{nearest(executor, EXECUTORS)}; it is auto, serial or ray.")


def choose(executor: str, session: Session, resolved: ResolvedSweep, known: int = 0) -> str:
    """serial or ray: what was asked for, or by `auto` what is done sooner; `known` trials need not be run.

    Where a trial may kill its process or never end it is Ray, whose workers can be done without: the rehearsal met
    one, or the last driver of the session did not end by itself. Asked before this driver gives signs of life.
    """
    if executor != "auto":
        return executor
    metadata, beat = session.metadata, read_beat(session.folder)
    if resolved.sweep.cluster.address is not None or metadata.get("deadly") or (beat is not None and beat.died_at_work):
        return "ray"
    left = resolved.plan.total - session.ledger.done.total()
    cpus = resolved.sweep.cluster.cpus or cpus_here()
    trials = max(left * metadata["trials"]["count"] / max(metadata["trials"]["numbers"], 1) - known, 0)
    each = zip(resolved.plan.whole_trials(trials), metadata["datasets"], strict=True)
    return sooner(sum(whole * d["seconds_per_trial"] for whole, d in each), cpus)


def sooner(cpu_seconds: float, cpus: int) -> str:
    """Where so much work is done sooner: serial, or on a Ray that has to be started."""
    return "serial" if cpu_seconds < RAY_START_S + cpu_seconds / cpus else "ray"


def _sweep_of(given: Sweep | Mapping[str, Any] | str | Path) -> Sweep:
    if isinstance(given, Sweep):
        return given
    if isinstance(given, Mapping):
        return Sweep(**given)
    return load_sweep(Path(given), {})
