"""`grid verify`: an audit of a session."""

import secrets
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from grid.cli.options import Id, Json, Store, Trust
from grid.cli.output import emit, tell
from grid.cli.tables import counted
from grid.verify import Audit, audit
from storage.providers import provider_for
from storage.sessions import SessionStore

DAMAGED = 1


def register(app: typer.Typer) -> None:
    """Put the command of this file into `app`."""
    app.command("verify")(verify)


def verify(
    session_id: Id,
    sample: Annotated[int, typer.Option(help="How many trials are recomputed, chosen at random.", min=0)] = 20,
    seed: Annotated[int | None, typer.Option(help="Chooses the same trials again.", min=0)] = None,
    store: Store = "results",
    trust: Trust = False,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """Audit a session.

    Is all that was committed there, whole and once, and does it come out the same again? Reads every commit record,
    every part and every document, and the bars. Exits with 1 where something is damaged, which is named, and with 0
    where nothing is; what could not be looked at here is named as unchecked.
    """
    folder = SessionStore(provider_for(store)).folder(session_id)
    found = audit(folder, sample, secrets.randbelow(1 << 31) if seed is None else seed)
    emit(lambda: {"ok": not found.damage, **asdict(found)}, as_json, lambda console: _render(console, found))
    if found.damage:
        tell(f"{found.session_id} is damaged in {counted(len(found.damage), 'place')}.", "red")
        raise typer.Exit(DAMAGED)


def _render(console: Console, found: Audit) -> None:
    for damage in found.damage:
        console.print(f"{damage.where}: {damage.what}.", style="red", soft_wrap=True)
    for reason in found.unchecked:
        console.print(f"Unchecked: {reason}.", soft_wrap=True)
    looked_at = [counted(found.commits, "commit"), counted(found.parts, "part"), counted(found.rows, "row")]
    again = f"{counted(found.recomputed, 'trial')} recomputed (seed {found.seed})"
    if found.reused:
        again += f", {found.reused:,} of them run by other sessions"
    if found.rounds:
        again += f", {counted(found.rounds, 'round')} asked for again"
    verdict = "read" if found.damage else "are whole"
    console.print(f"{found.session_id}: {', '.join(looked_at)} {verdict}; {again}.", soft_wrap=True)
