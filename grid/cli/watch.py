"""`grid watch`: look at a session that runs elsewhere, until it is over. It reads the store and nothing else."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from grid.aggregate import Progress
from grid.cli.options import Id, LogJson, Store
from grid.cli.output import jsonable, tell
from grid.cli.progress import Meter
from grid.cli.run import Quiet, exit_code
from grid.cli.tables import counted
from grid.hints import at_store, resume_command
from grid.plan import Plan
from grid.search import points_of
from grid.session import Session

OVER = ("done", "interrupted", "incomplete")


def register(app: typer.Typer) -> None:
    """Put the command of this file into `app`."""
    app.command("watch")(watch)


def watch(
    session_id: Id,
    store: Store = "results",
    every: Annotated[float, typer.Option(help="Seconds between two looks at the store.", min=0.1)] = 2.0,
    log_json: LogJson = False,  # noqa: ARG001 - its callback does the work
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON on stdout for each change.")] = False,
) -> None:
    """Show a session's progress until it is over.

    From any machine that sees its store.

    Exits as `grid run` would have: 0 done, 1 with failed trials, 3 stopped by a limit, 130 interrupted.
    """
    session = Session.open(session_id, store)
    plan = Plan(session.datasets, points_of(session.sweep, len(session.datasets)))
    meter = Meter(plan, session.ledger.done.total(), not session.sweep.objective.descending, quiet or as_json)
    ended = session
    with meter.shown():
        for ended, progress in looks(session, every):
            meter.update(progress)
            if as_json:
                sys.stdout.write(json.dumps(jsonable(_line(ended, progress, plan.total))) + "\n")
                sys.stdout.flush()
    if not as_json:
        _tell_end(ended)
    raise typer.Exit(exit_code(ended))


def looks(session: Session, every_s: float) -> Iterator[tuple[Session, Progress]]:
    """The session and its progress now and after each change, the last time when it is over."""
    ledger = session.ledger
    before: tuple[str, int] | None = None
    while True:
        now = Session(session.folder)
        status = now.status  # read before the log, so that the last look has every commit
        for record in session.folder.commits(ledger.next_n):
            ledger.apply(record)
        if before != (before := (status, ledger.next_n)):
            yield now, ledger.progress()
        if status in OVER:
            return
        time.sleep(every_s)


def _line(session: Session, progress: Progress, total: int) -> dict[str, Any]:
    best = progress.best and {"trial_id": progress.best[1], "score": _sign(session) * progress.best[0]}
    counts = {"done": progress.done, "total": total, "ok": progress.ok, "failed": progress.failed}
    return {"session_id": session.id, "status": session.status, **counts, "best": best, "time": time.time()}


def _sign(session: Session) -> float:
    return 1.0 if session.sweep.objective.descending else -1.0


def _tell_end(session: Session) -> None:
    summary = session.ledger.summary
    tell(f"{session.id} is {session.status} with {counted(summary.ok + summary.failed, 'trial')} committed.")
    show = f"grid show {session.id}{at_store(session)}"
    tell(f"Next: {show if session.status == 'done' else resume_command(session)}")
