"""Opening the hold-out: trials on the bars that the sweep never saw, and a record of every look."""

import getpass
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from grid.documents import plain
from grid.engine import buy_and_hold
from grid.errors import BadInput
from grid.resolve import LoadedBars, ResolvedSweep
from grid.search import first_on_all
from grid.session import Session
from grid.verdict.fresh import fresh_start
from grid.windows import nanoseconds
from storage.errors import NotFound

KEPT = ("sharpe", "total_return", "max_drawdown", "total_trades", "win_rate", "profit_factor")


def look(session: Session, trials: Sequence[int]) -> dict[str, Any]:
    """Run trials on the hold-out, write the look down, and return it; nothing is told that is not written.

    A trial starts there with the cash and without a position; its indicators know the bars before. Raises BadInput
    where there is no hold-out or no such trial, and what `Session.loaded` raises where something changed.
    """
    if not session.sweep.validation.holdout:
        raise BadInput(
            f"session {session.id} has no hold-out: its sweep saw the whole span. Say validation.holdout: 0.2 in the "
            "sweep file and run it again."
        )
    results = [_one(session, trial) for trial in trials]
    record = plain(
        {
            "session_id": session.id,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": f"{_user()}@{platform.node()}",
            "trials": results,
        }
    )
    number = len(looks(session)) + 1
    while not session.folder.create_document(_name(number), {**record, "look": number}):
        number += 1
    return {**record, "look": number}


def looks(session: Session) -> list[dict[str, Any]]:
    """Every look at the hold-out so far, in order."""
    found: list[dict[str, Any]] = []
    try:
        while True:
            found.append(session.folder.document(_name(len(found) + 1)))
    except NotFound:
        return found


def _name(number: int) -> str:
    return f"holdout-{number:04d}.json"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def _one(session: Session, trial: int) -> dict[str, Any]:
    resolved = session.resolved
    if not 0 <= trial < resolved.plan.end:
        raise BadInput(f"session {session.id} has no trial {trial}: numbers go to {resolved.plan.end - 1}.")
    dataset, point = resolved.plan.locate(trial)
    if not resolved.plan.has(trial):
        raise BadInput(f"session {session.id} has no trial {trial}: a constraint or a rung excludes it.")
    if point < first_on_all(resolved.points):
        raise BadInput(
            f"trial {trial} of session {session.id} was run over a part of the history and is not ranked: name one of "
            "the last rung."
        )
    seen, whole = session.loaded(dataset), _to_the_end(resolved, dataset)
    start, stop = len(seen.bars), len(whole.bars)
    if start == stop:
        raise BadInput(f"{session.datasets[dataset]} has no bar in the hold-out of session {session.id}.")
    strategy, execution = resolved.strategy(**resolved.points[point]), session.sweep.execution
    found = fresh_start(whole.bars, strategy, execution, start, stop).metrics
    held = buy_and_hold(whole.bars.slice(start, stop), execution).metrics
    before = session.rows([trial])
    key = session.datasets[dataset]
    return {
        "trial_id": trial,
        "symbol": key.symbol,
        "timeframe": key.timeframe,
        "parameters": resolved.points[point],
        "bars": stop - start,
        "before": {name: before.to_pylist()[0][name] for name in KEPT} if before is not None else None,
        "holdout": {name: found[name] for name in KEPT},
        "buy_and_hold": {name: held[name] for name in KEPT[:3]},
    }


def _to_the_end(resolved: ResolvedSweep, dataset: int) -> LoadedBars:
    """The bars of the sweep's whole span, hold-out included."""
    end = resolved.sweep.data.end
    if end is None:
        raise BadInput("the session's sweep does not state its span: its metadata.json is incomplete.")
    return replace(resolved, cut=nanoseconds(end)).load(dataset)
