"""A sweep from request to committed results. Read this first; the Ray executor differs only in where units run."""

import logging
import os
import platform
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from grid import logs
from grid.account import Account, Limits
from grid.aggregate import Aggregator, Progress, Receipt
from grid.auth import use_token
from grid.budget import cpus_here
from grid.documents import finish, plain
from grid.errors import BadInput, Refused, nearest
from grid.evaluate import Evaluator
from grid.heartbeat import Heartbeat, read_beat, refuse_second_driver
from grid.observe import Observer
from grid.pace import Pace
from grid.rehearse import Rehearsal, rehearse
from grid.resolve import ENGINE_VERSION, LoadedBars, ResolvedSweep, processor, resolve, session_fingerprint, versions
from grid.session import Session
from grid.spec import Sweep
from grid.specfile import load_sweep
from grid.telemetry import Telemetry
from grid.windows import nanoseconds
from storage.providers import provider_for
from storage.sessions import SessionFolder, SessionStore

log = logging.getLogger(__name__)

EXECUTORS = ("auto", "serial", "ray")
RAY_START_S = 8.0
"""What starting a local Ray costs; less work than that is done in this process."""


@dataclass(frozen=True)
class Watch:
    """What an executor tells while it works, and asks: `progress` after each step, `stopping` before the next.

    limits: at which it stops by itself; they count from the first unit of this execution.
    """

    progress: Callable[[Progress], None] = lambda _: None
    stopping: Callable[[], bool] = lambda: False
    telemetry: Telemetry = field(default_factory=Telemetry)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Work:
    """What an executor is given: the resolved sweep, the session to go on with, how to cut units, and whom to tell
    what it holds (`account`) and what happens (`observer`).
    """

    resolved: ResolvedSweep
    session: Session
    pace: Pace
    account: Account
    observer: Observer

    @property
    def folder(self) -> SessionFolder:
        return self.session.folder

    def fingerprint(self, dataset: int) -> str:
        """Of the bars that the session was begun with."""
        return str(self.session.metadata["datasets"][dataset]["fingerprint"])

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
    if not force:
        refuse_second_driver(session.folder)
    check_unchanged(session)
    return carry_on(session, session.resolved, executor, watch or Watch(), unit_size)


def check_unchanged(session: Session) -> None:
    """Raises Refused when the rest of a session's trials would not be comparable with those it has."""
    check_same(session, session.resolved, rehearse(session.resolved))


def check_same(session: Session, resolved: ResolvedSweep, rehearsal: Rehearsal) -> None:
    """Raises Refused when `resolved` is not what the session was begun with."""
    _warn_of_other_machine(session)
    if session_fingerprint(resolved, rehearsal.fingerprints) != session.metadata["fingerprint"]:
        raise Refused(
            f"session {session.id} cannot be resumed: {_what_changed(session, rehearsal)} since it was started, "
            "so the rest of its trials would not be comparable. Run the sweep as a new session."
        )


def begin_or_reopen(
    resolved: ResolvedSweep, rehearsal: Rehearsal, session_id: str | None = None, force: bool = False
) -> Session:
    """A new session, or the one that has this id already: a job that is started again finds its own.

    Raises Refused when that one is of another sweep, or has a driver that lives (unless `force`), and BadInput, before
    anything is written, where the cluster that the sweep names does not let us in.
    """
    _check_entrance(resolved.sweep.cluster.address)
    if session_id is None:
        return begin(resolved, rehearsal)
    folder = SessionFolder(provider_for(resolved.sweep.results.store), session_id)
    if not folder.begun():
        return begin(resolved, rehearsal, session_id)
    if not force:
        refuse_second_driver(folder)
    return _reopened(folder, resolved, rehearsal)


def _check_entrance(address: str | None) -> None:
    if address is not None:
        use_token()
        from grid.cluster.connect import check_entrance

        check_entrance(address)


def new_session_id(name: str) -> str:
    """An id for a session of the sweep `name`: ids sort by time."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}{now.microsecond // 1000:03d}-{slug}-{secrets.token_hex(2)}"


def begin(resolved: ResolvedSweep, rehearsal: Rehearsal, session_id: str | None = None) -> Session:
    """Announce a session and write its metadata; one that was announced and never begun is begun now.

    Of two that begin one id at once the first is the session; the other one goes on with it, or is Refused.
    """
    sweep, now = resolved.sweep, datetime.now(UTC)
    session_id = session_id or new_session_id(sweep.name)
    entry = {
        "session_id": session_id,
        "strategy": sweep.strategy,
        "symbol": ",".join(sorted({key.symbol for key in resolved.datasets})),
        "start_date": str(sweep.data.start),
        "end_date": _last_day(resolved),
        "created_at": now.isoformat(timespec="seconds"),
    }
    count = resolved.plan.count()
    folder = SessionStore(provider_for(sweep.results.store)).announce(session_id, entry, again=True)
    metadata = plain(
        {
            **entry,
            "name": sweep.name,
            "status": "running",
            "fingerprint": session_fingerprint(resolved, rehearsal.fingerprints),
            "sweep": sweep.model_dump(mode="json"),
            "datasets": rehearsal.datasets,
            "trials": {"count": count.trials, "exact": count.exact, "numbers": resolved.plan.total},
            "deadly": rehearsal.deadly,
            "engine": ENGINE_VERSION,
            "strategy_source": resolved.strategy.source_hash(),
            "versions": versions(),
            "host": {
                "name": platform.node(),
                "processor": processor(),
                "python": platform.python_version(),
                "cpus": os.cpu_count(),
            },
        }
    )
    if folder.create_document("metadata.json", metadata):
        return Session(folder, metadata)
    return _reopened(folder, resolved, rehearsal)


def _reopened(folder: SessionFolder, resolved: ResolvedSweep, rehearsal: Rehearsal) -> Session:
    session = Session(folder)
    check_same(session, resolved, rehearsal)
    return session


def carry_on(session: Session, resolved: ResolvedSweep, executor: str, watch: Watch, unit_size: int | None) -> Session:
    """Work off what the commit log does not name yet, then write the documents; alive to readers until the end."""
    _ = session.same  # now, and not where the documents are written: files may be edited until then
    facts, numbers = session.metadata["datasets"], session.metadata["trials"]
    pace = Pace(
        [d["bars"] for d in facts],
        unit_size,
        [d["seconds_per_trial"] for d in facts],
        numbers["count"] / max(numbers["numbers"], 1),
    )
    account = Account(watch.limits, resolved.sweep.cluster.price_per_cpu_hour)
    observer = Observer(watch.telemetry, resolved.sweep.strategy, account, session.ledger.progress())
    work = Work(resolved, session, pace, account, observer)
    executor = choose(executor, session, resolved)
    asked = watch.stopping
    watch = replace(watch, stopping=lambda: asked() or account.over() is not None)
    with logs.kept(session.folder) as kept, Heartbeat(session.folder, observer.beat, [kept.store]).beating():
        try:
            return _work_off(session, work, executor, watch)
        except BaseException as error:
            log.info("session %s: the driver ends with %s: %s", session.id, type(error).__name__, error)
            raise


def _work_off(session: Session, work: Work, executor: str, watch: Watch) -> Session:
    left = work.resolved.plan.total - session.ledger.done.total()
    began = time.monotonic()
    if left:
        log.info("session %s: %d trial numbers to do, %s executor", session.id, left, executor)
        if executor == "serial":
            run_serial(work, watch)
        else:
            use_token()
            from grid.cluster import run_on_ray

            run_on_ray(work, watch)
    stopped_by = work.account.over() if watch.stopping() else None
    ended = finish(session, watch.stopping(), time.monotonic() - began, stopped_by)
    facts = ended.metadata
    log.info("session %s: %s, %d ok, %d failed", session.id, facts["status"], facts["ok"], facts["failed"])
    return ended


def run_serial(work: Work, watch: Watch) -> None:
    """The algorithm: unit by unit, evaluate and fold. Stops between units when asked; what was folded is committed."""
    aggregator, evaluator, tell = work.aggregator(), Evaluator(work.resolved), work.observer
    loaded: tuple[int, LoadedBars] | None = None
    work.account.hold(1)
    try:
        for number, unit in enumerate(work.resolved.plan.units(work.pace.size, aggregator.ledger.done), 1):
            if watch.stopping():
                break
            if loaded is None or loaded[0] != unit.dataset:
                loaded = unit.dataset, work.resolved.load_same(unit.dataset, work.fingerprint(unit.dataset))
                tell.read(loaded[1].read)
            began = time.perf_counter()
            tell.attempts({"first": number})
            batch = evaluator.evaluate(unit, loaded[1])
            took = time.perf_counter() - began
            work.pace.learn(unit.dataset, batch.rows, took)
            tell.worked(took)
            _took_in(aggregator.fold(batch), work, watch)
    finally:
        _took_in(aggregator.flush(), work, watch)
        work.account.hold(0)


def _took_in(receipt: Receipt, work: Work, watch: Watch) -> None:
    """The aggregator's answer, for whoever watches."""
    work.observer.receipt(receipt)
    work.observer.spent()
    watch.progress(receipt.progress)


def check_executor(executor: str) -> None:
    """Raises BadInput for an executor that there is not."""
    if executor not in EXECUTORS:
        raise BadInput(f"there is no executor {executor!r}{nearest(executor, EXECUTORS)}; it is auto, serial or ray.")


def choose(executor: str, session: Session, resolved: ResolvedSweep) -> str:
    """serial or ray: what was asked for, or by `auto` what is done sooner.

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
    trials = left * metadata["trials"]["count"] / max(metadata["trials"]["numbers"], 1)
    seconds = trials * sum(d["seconds_per_trial"] for d in metadata["datasets"]) / len(metadata["datasets"])
    return sooner(seconds, cpus)


def sooner(cpu_seconds: float, cpus: int) -> str:
    """Where so much work is done sooner: serial, or on a Ray that has to be started."""
    return "serial" if cpu_seconds < RAY_START_S + cpu_seconds / cpus else "ray"


def _sweep_of(given: Sweep | Mapping[str, Any] | str | Path) -> Sweep:
    if isinstance(given, Sweep):
        return given
    if isinstance(given, Mapping):
        return Sweep(**given)
    return load_sweep(Path(given), {})


def _last_day(resolved: ResolvedSweep) -> str:
    """The last day included, as readers of index.json expect it; everywhere else an end is excluded."""
    end = resolved.sweep.data.end
    return str(np.datetime64(nanoseconds(end) - 1, "ns").astype("datetime64[D]")) if end else ""


def _warn_of_other_machine(session: Session) -> None:
    """Rows are equal bit for bit on the same versions and processor; elsewhere they may differ in the last digit."""
    before, here = session.metadata["versions"], versions()
    changed = [f"{name} {before.get(name)} is now {now}" for name, now in here.items() if before.get(name) != now]
    if session.metadata["host"]["processor"] != processor():
        changed.append(f"the processor {session.metadata['host']['processor']} is now {processor()}")
    if changed:
        log.warning("session %s: last digits may differ from the rows so far: %s", session.id, "; ".join(changed))


def _what_changed(session: Session, rehearsal: Rehearsal) -> str:
    before = {(d["symbol"], d["timeframe"]): d["fingerprint"] for d in session.metadata["datasets"]}
    for d in rehearsal.datasets:
        if before.get((d["symbol"], d["timeframe"])) != d["fingerprint"]:
            return f"the data of {d['symbol']} {d['timeframe']} changed"
    if session.metadata["strategy_source"] != session.resolved.strategy.source_hash():
        return f"the source of the strategy {session.sweep.strategy} changed"
    return "the engine or the sweep changed"
