"""`grid plan`, `grid run`, `grid resume`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid import sweep as sweeps
from grid.budget import Estimate, estimate
from grid.cli.output import emit, tell
from grid.cli.progress import Meter
from grid.cli.tables import counted, failure_text, print_facts, render_leaders, store_option
from grid.documents import plain
from grid.errors import BadInput
from grid.rehearse import Rehearsal, rehearse
from grid.resolve import ResolvedSweep, resolve
from grid.session import Session
from grid.spec import Sweep
from grid.specfile import load_sweep
from strategies.errors import StrategyError

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
    """What a sweep will take: trials, units, bytes, time, money."""
    resolved, rehearsal = _rehearsed(file, read(file, set_, None))
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
    """Run a sweep and show who leads."""
    sweeps.check_executor(executor)
    resolved, rehearsal = _rehearsed(file, read(file, set_, address))
    if max_trials is not None or max_cost is not None:
        estimate(resolved, rehearsal).refuse_over(max_trials, max_cost)
    session = Session(sweeps.begin(resolved, rehearsal))
    count, datasets = resolved.plan.count(), counted(len(resolved.datasets), "dataset")
    tell(f"session {session.id}: {'' if count.exact else 'about '}{counted(count.trials, 'trial')} on {datasets}")
    _carry_on(session, executor, quiet, as_json)


def resume(
    session_id: Annotated[
        str, typer.Argument(help="A session id, the beginning of one, or latest.", metavar="SESSION")
    ],
    store: Store = "results",
    executor: Executor = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Run what is missing of a session.

    Its rows will be those of a session that nothing disturbed.
    """
    sweeps.check_executor(executor)
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


def _rehearsed(file: Path, sweep: Sweep) -> tuple[ResolvedSweep, Rehearsal]:
    """The sweep of that file, tried out; what is wrong with it is told with the file's name."""
    try:
        resolved = resolve(sweep)
        rehearsal = rehearse(resolved)
    except (BadInput, StrategyError) as error:
        raise BadInput(f"{file}: {error}") from error
    except KeyboardInterrupt:
        tell("stopped before the sweep began; nothing was written")
        raise
    rehearsal.refuse_hopeless()
    return resolved, rehearsal


def _carry_on(session: Session, executor: str, quiet: bool, as_json: bool) -> None:
    resolved = session.resolved
    minimise = not session.sweep.objective.descending
    meter = Meter(resolved.plan.total, session.ledger.done.total(), minimise, quiet or as_json)
    try:
        with meter.watching() as watch:
            ended = sweeps.carry_on(session, resolved, executor, watch, None)
    except KeyboardInterrupt:
        next_command = f"grid resume {session.id}{store_option(session)}"
        sys.stderr.write(f"stopped at once; what was committed is kept. Next: {next_command}\n")
        raise
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
    facts, at = session.metadata, store_option(session)
    trials = counted(facts["ok"] + facts["failed"], "trial")
    if session.status != "done":
        console.print(f"{session.id} is {session.status} with {trials} committed.", soft_wrap=True)
        console.print(f"Next: grid resume {session.id}{at}", soft_wrap=True)
        return
    render_leaders(console, session, 10)
    if facts["failed"]:
        console.print(f"{failure_text(session)}.", soft_wrap=True)
    console.print(f"{trials} in {facts['seconds']:.1f} s.")
    console.print(f"Next: grid show {session.id}{at}", soft_wrap=True)


def _render_plan(console: Console, expected: Estimate) -> None:
    count = f"{expected.trials:,}" if expected.exact else f"about {expected.trials:,} +- {expected.error:,.0f}"
    rows = {
        "trials": f"{count} on {counted(expected.datasets, 'dataset')}",
        "units": f"{expected.units:,}",
        "to read": f"{expected.bytes_read / 1e6:,.1f} MB",
        "CPU time": seconds_text(expected.cpu_seconds),
        "wall time": f"{seconds_text(expected.wall_seconds)} on {expected.cpus} CPUs, without starting up",
    }
    if expected.cost is not None:
        rows["cost"] = f"{expected.cost:,.2f}"
    print_facts(console, rows)


def seconds_text(seconds: float) -> str:
    """A duration for people: 0.8 s, 12 min, 3.4 h."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"
