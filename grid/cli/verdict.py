"""`grid holdout`, `grid permute`, `grid tried`, and the verdict that `grid show` tells."""

from typing import Annotated, Any

import typer
from rich.console import Console

from grid.cli.options import Id, Json, Store, Trust
from grid.cli.output import emit, print_wrapped, tell
from grid.cli.tables import print_facts, print_table
from grid.errors import BadInput
from grid.session import Session
from grid.verdict.checks import TRIAL
from grid.verdict.holdout import KEPT, look
from grid.verdict.permutation import permute as permute_search
from grid.verdict.tried import ledger
from grid.verdict.words import lines, meaning, number
from storage.providers import provider_for
from storage.sessions import SessionStore


def register(app: typer.Typer) -> None:
    """Put the commands of this file into `app`."""
    app.command("holdout")(holdout)
    app.command("permute")(permute)
    app.command("tried")(tried)


def holdout(
    session_id: Id,
    trial: Annotated[list[int] | None, typer.Option(help="A trial, repeated; the best by default.")] = None,
    store: Store = "results",
    trust: Trust = False,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """The best trial on the hold-out; the look is written down.

    No sweep sees these bars. Every look is written down in the session and shown from then on.
    """
    session = Session.open(session_id, store)
    best = session.ledger.summary.best
    if not trial and not best:
        raise BadInput(f"nobody leads in session {session.id}: name a trial with --trial.")
    found = look(session, trial or [best[0][1]])
    emit(found, as_json, lambda console: _render_look(console, session, found))


def _render_look(console: Console, session: Session, found: dict[str, Any]) -> None:
    rows = []
    for one in found["trials"]:
        names = {"trial_id": one["trial_id"], "symbol": one["symbol"], "timeframe": one["timeframe"]}
        for what in ("before", "holdout", "buy_and_hold"):
            part = one[what] or {}
            rows.append({**names, "span": what.replace("_", " "), **{name: part.get(name) for name in KEPT}})
    share = 100 * session.sweep.validation.holdout
    print_table(console, f"The hold-out, the last {share:g} % of the span, with a fresh start", rows)
    if found["look"] == 1:
        console.print("This was the first look. The next one is no longer at unseen bars.", soft_wrap=True)
    else:
        console.print(f"This was look {found['look']}: these bars are no longer unseen.", soft_wrap=True)


def permute(
    session_id: Id,
    n: Annotated[int, typer.Option("-n", help="How many permutations.", min=1)] = 200,
    seed: Annotated[int, typer.Option(help="Of the first; the next ones count on.", min=0)] = 0,
    processes: Annotated[int | None, typer.Option(help="How many at a time; all CPUs by default.", min=1)] = None,
    store: Store = "results",
    trust: Trust = False,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """Run the whole search again on bars with permuted returns.

    Is its best better than the best of those?
    """
    session = Session.open(session_id, store)
    steps = {max(1, n * k // 10) for k in range(1, 11)}

    def told(done: int) -> None:
        if done in steps and not as_json:
            tell(f"{done} of {n} permutations")

    found = permute_search(session, n, seed, processes, told)
    emit(found, as_json, lambda console: _render_permuted(console, session, found))


def _render_permuted(console: Console, session: Session, found: dict[str, Any]) -> None:
    goal = f"{'highest' if session.sweep.objective.descending else 'lowest'} {found['metric']}"
    print_facts(
        console,
        {
            "session": session.id,
            "best": f"{goal} {number(found['real'])}",
            "permuted": f"{number(found['median'])} in the middle of {found['permutations']}, "
            f"{number(found['best_20th'])} among the best 5 %",
            "as good": f"{found['at_least_as_good']} of {found['permutations']}, p {number(found['p_value'])}",
        },
    )


def tried(
    strategy: Annotated[str | None, typer.Option(help="This strategy alone.")] = None,
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """What a store's sessions tried, per strategy and dataset.

    Sessions of the very same sweep count once.
    """
    sessions = SessionStore(provider_for(store))
    found = ledger(sessions, strategy)
    names = ("strategy", "symbol", "timeframe", "sessions", "trials")
    rows = [{name: getattr(t, name) for name in names} for t in found]
    nothing = f"{sessions.provider.uri} holds no trial yet; `grid run SWEEP` makes some."
    emit(rows, as_json, lambda console: print_table(console, "", rows) if rows else console.print(nothing))


def render_verdict(console: Console, found: dict[str, Any]) -> None:
    """The verdict on a trial in words."""
    best = found["trial_id"] == found["best_trial_id"]
    told = [c["passed"] for c in found["checks"] if c["passed"] is not None and (best or c["of"] == TRIAL)]
    where = f"trial {found['trial_id']:,} ({found['symbol']} {found['timeframe']})"
    print_wrapped(console, f"Verdict on {where}: {meaning(found)}", style="bold")
    facts = lines(found)
    width = max(map(len, facts))
    for name, text in facts.items():
        print_wrapped(console, f"{name:>{width}}  {text}", width + 4 if text[:2] in ("+ ", "- ", "? ") else width + 2)
    those = "checks" if best else "checks of this trial"
    print_wrapped(
        console, f"{sum(told)} of {len(told)} {those} speak for skill (+). docs/verdict.md says what they mean."
    )
