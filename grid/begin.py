"""How a session begins, and whether one that has begun may be gone on with."""

import logging
import os
import platform
import re
import secrets
from datetime import UTC, datetime

import numpy as np

from grid.auth import use_token
from grid.documents import plain
from grid.errors import Refused
from grid.heartbeat import refuse_second_driver
from grid.methods import searched_with
from grid.rehearse import Rehearsal, rehearse
from grid.resolve import ENGINE_VERSION, ResolvedSweep, processor, session_fingerprint, versions
from grid.session import Session
from grid.sources import CONDITIONS, marks
from grid.windows import nanoseconds
from storage.providers import provider_for
from storage.sessions import SessionFolder, SessionStore

log = logging.getLogger(__name__)


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
        CONDITIONS: marks(resolved, rehearsal.datasets),
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
            "doubt": rehearsal.doubt,
            "engine": ENGINE_VERSION,
            "strategy_source": resolved.strategy.source_hash(),
            "versions": versions(),
            "searched_with": searched_with(sweep.search.method),
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


def new_session_id(name: str) -> str:
    """An id for a session of the sweep `name`: ids sort by time."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}{now.microsecond // 1000:03d}-{slug}-{secrets.token_hex(2)}"


def check_resumable(session: Session, force: bool) -> None:
    """Raises Refused when the rest of a session's trials would not be comparable with those it has, or, unless `force`,
    when it has a driver that lives: one that began while the first trials were tried here, too.
    """
    if not force:
        refuse_second_driver(session.folder)
    check_same(session, session.resolved, rehearse(session.resolved))
    if not force:
        refuse_second_driver(session.folder)


def check_same(session: Session, resolved: ResolvedSweep, rehearsal: Rehearsal) -> None:
    """Raises Refused when `resolved` is not what the session was begun with."""
    _warn_of_other_machine(session)
    if session_fingerprint(resolved, rehearsal.fingerprints) != session.metadata["fingerprint"]:
        raise Refused(
            f"session {session.id} cannot be resumed: {_what_changed(session, rehearsal)} since it was started, "
            "so the rest of its trials would not be comparable. Run the sweep as a new session."
        )


def _reopened(folder: SessionFolder, resolved: ResolvedSweep, rehearsal: Rehearsal) -> Session:
    session = Session(folder)
    check_same(session, resolved, rehearsal)
    return session


def _check_entrance(address: str | None) -> None:
    if address is not None:
        use_token()
        from grid.cluster.connect import check_entrance

        check_entrance(address)


def _last_day(resolved: ResolvedSweep) -> str:
    """The last day included, as readers of index.json expect it; everywhere else an end is excluded."""
    end = resolved.sweep.data.end
    return str(np.datetime64(nanoseconds(end) - 1, "ns").astype("datetime64[D]")) if end else ""


def _warn_of_other_machine(session: Session) -> None:
    """Rows are equal bit for bit on the same versions and processor; elsewhere they may differ in the last digit."""
    facts = session.metadata
    before = {**facts["versions"], **facts.get("searched_with", {})}
    here = {**versions(), **searched_with(session.sweep.search.method)}
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
