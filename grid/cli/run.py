"""`grid plan`, `grid run`, `grid resume`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid import sweep as sweeps
from grid.budget import Estimate, estimate
from grid.cli.output import emit, messages
from grid.cli.progress import Meter
from grid.cli.tables import render_leaders
from grid.documents import plain
from grid.errors import BadInput
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.session import Session
from grid.spec import Sweep
from grid.specfile import load_sweep

File = Annotated[Path, typer.Argument(help="The sweep: YAML, TOML or JSON.", metavar="SWEEP")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override any field, repeated.", metavar="A.B=VALUE")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Executor = Annotated[str, typer.Option(help="auto, serial (in this process) or ray.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster (auto or host:port); default a local Ray.")]
MaxTrials = Annotated[int | None, typer.Option(help="Refuse a sweep of more trials.")]
MaxCost = Annotated[float | None, typer.Option(help="Refuse a sweep that costs more (cluster.price_per_cpu_hour).")]
Store = Annotated[str, typer.Option(help="The results store.", metavar="PATH")]


def register(app: typer.Typer) -> None:
    """Put the commands of this file into `app`."""
    app.command("plan")(plan)
    app.command("run")(run)
    app.command("resume")(resume)


def plan(
    file: File,
    set_: Set = None,
    max_trials: MaxTrials = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """Say what a sweep will take (trials, units, bytes, time, money) without running it."""
    resolved = resolve(read(file, set_, None))
    rehearsal = rehearse(resolved)
    rehearsal.refuse_hopeless()
    expected = estimate(resolved, rehearsal)
    emit(asdict(expected), as_json, lambda console: _render_plan(console, expected))
    expected.refuse_over(max_trials, max_cost)


def run(
    file: File,
    set_: Set = None,
    executor: Executor = "auto",
    address: Address = None,
    max_trials: MaxTrials = None,
    max_cost: MaxCost = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Run a sweep; ends with the leaderboard and the next command to type."""
    resolved = resolve(read(file, set_, address))
    rehearsal = rehearse(resolved)
    rehearsal.refuse_hopeless()
    if max_trials is not None or max_cost is not None:
        estimate(resolved, rehearsal).refuse_over(max_trials, max_cost)
    session = Session(sweeps.begin(resolved, rehearsal))
    messages.print(
        f"session {session.id}: {resolved.plan.count().trials:,} trials on {len(resolved.datasets)} datasets"
    )
    _carry_on(session, executor, quiet, as_json)


def resume(
    session_id: Annotated[str, typer.Argument(help="A session id, the beginning of one, or latest.")],
    store: Store = "results",
    executor: Executor = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Run what is missing of a session; its rows will be those of an undisturbed one."""
    session = Session.open(session_id, store)
    sweeps.check_unchanged(session)
    _carry_on(session, executor, quiet, as_json)


def read(file: Path, set_: list[str] | None, address: str | None) -> Sweep:
    """The sweep file with the overrides of the command line."""
    overrides: dict[str, str] = {}
    for text in set_ or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text!r} has no value: write --set execution.fee=0.001.")
        overrides[name.strip()] = value
    if address is not None:
        overrides["cluster.address"] = address
    return load_sweep(file, overrides)


def _carry_on(session: Session, executor: str, quiet: bool, as_json: bool) -> None:
    resolved = session.resolved
    minimise = not session.sweep.objective.descending
    meter = Meter(resolved.plan.total, session.ledger.done.total(), minimise, quiet or as_json)
    with meter.watching() as watch:
        ended = sweeps.carry_on(session, resolved, executor, watch, None)
    emit(_outcome(ended), as_json, lambda console: _render_end(console, ended))
    if ended.status != "done":
        raise typer.Exit(130)
    raise typer.Exit(1 if ended.metadata["failed"] else 0)


def _outcome(session: Session) -> object:
    top = session.top(10)
    done = session.status == "done"
    return plain(
        {
            "session_id": session.id,
            "status": session.status,
            "ok": session.metadata["ok"],
            "failed": session.metadata["failed"],
            "seconds": session.metadata["seconds"],
            "best_trials": [] if top is None else top.to_pylist(),
            "best_points": session.top_points(10) if done else [],
        }
    )


def _render_end(console: Console, session: Session) -> None:
    facts, store = session.metadata, session.sweep.results.store
    at = "" if store == str(Path("results").absolute()) else f" --store {store}"
    if session.status != "done":
        console.print(f"{session.id} was interrupted with {facts['ok'] + facts['failed']:,} trials committed.")
        console.print(f"Next: grid resume {session.id}{at}")
        return
    render_leaders(console, session, 10)
    failed = f", {facts['failed']:,} failed" if facts["failed"] else ""
    console.print(f"{facts['ok'] + facts['failed']:,} trials{failed} in {facts['seconds']:.1f} s.")
    console.print(f"Next: grid show {session.id}{at}", soft_wrap=True)


def _render_plan(console: Console, expected: Estimate) -> None:
    count = f"{expected.trials:,}" if expected.exact else f"about {expected.trials:,} +- {expected.error:,.0f}"
    rows = {
        "trials": f"{count} on {expected.datasets} datasets",
        "units": f"{expected.units:,}",
        "to read": f"{expected.bytes_read / 1e6:,.1f} MB",
        "CPU time": seconds_text(expected.cpu_seconds),
        "wall time": f"{seconds_text(expected.wall_seconds)} on {expected.cpus} CPUs, without starting up",
    }
    if expected.cost is not None:
        rows["cost"] = f"{expected.cost:,.2f}"
    for name, value in rows.items():
        console.print(f"{name:>10}  {value}")


def seconds_text(seconds: float) -> str:
    """A duration for people: 0.8 s, 12 min, 3.4 h."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"
