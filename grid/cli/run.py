"""`grid plan`, `grid run`, `grid resume`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid import sweep as sweeps
from grid.account import Limits
from grid.addresses import explained
from grid.begin import begin_or_reopen, check_resumable
from grid.budget import Estimate, estimate
from grid.cli.options import LogJson, Store, TokenFile, Trust
from grid.cli.output import emit, tell
from grid.cli.plan import render_plan
from grid.cli.progress import Meter, compiling_told
from grid.cli.tables import counted, failure_text, render_leaders, reuse_text
from grid.documents import plain
from grid.errors import BadInput, Unavailable
from grid.heartbeat import refuse_second_driver
from grid.hints import at_store, resume_command
from grid.logs import SESSION
from grid.rehearse import Rehearsal, rehearse
from grid.resolve import ResolvedSweep, reopen, resolve
from grid.reuse import gather
from grid.session import Session
from grid.spec import Sweep
from grid.specfile import called, load_sweep
from grid.telemetry import Telemetry
from grid.trust import lacks_trust
from grid.verdict.tried import tried_elsewhere
from grid.verdict.verdict import luck
from grid.verdict.words import luck_text
from storage.errors import BadData, StorageError
from strategies.errors import StrategyError

File = Annotated[Path, typer.Argument(help="The sweep: YAML, TOML or JSON.", metavar="SWEEP")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override any field, repeated.", metavar="A.B=VALUE")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Executor = Annotated[str, typer.Option(help="auto, serial (in this process) or ray.")]
Address = Annotated[str | None, typer.Option(help="A Ray cluster (auto or host:port); default a local Ray.")]
MaxTrials = Annotated[int | None, typer.Option(help="Refuse a sweep of more trials.")]
MaxCost = Annotated[
    float | None,
    typer.Option(help="Refuse a sweep that costs more, stop one that has (cluster.price_per_cpu_hour).", min=0),
]
MaxRuntime = Annotated[float | None, typer.Option(help="Stop after so many seconds, resumable.", min=0)]
MetricsPort = Annotated[
    int | None,
    typer.Option(help="Answer Prometheus on 127.0.0.1:PORT/metrics while it runs; 0 for a free port.", min=0),
]
Force = Annotated[bool, typer.Option("--force", help="Also when another driver of the session seems to live.")]
NoReuse = Annotated[bool, typer.Option("--no-reuse", help="Run trials again whose rows are in the store already.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@dataclass(frozen=True)
class Manner:
    """How a sweep is run: by which executor, what is shown, what is served, and what stops it."""

    executor: str
    quiet: bool
    as_json: bool
    metrics_port: int | None
    limits: Limits


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
    no_reuse: NoReuse = False,
    as_json: Json = False,
) -> None:
    """What a sweep will take: trials, units, bytes, time, money."""
    resolved, rehearsal = _rehearsed(file, read(file, set_, None, no_reuse))
    expected = _estimated(resolved, rehearsal)
    expected = expected.after(tried_elsewhere(resolved, rehearsal.datasets, expected.reused))
    emit(asdict(expected), as_json, lambda console: render_plan(console, expected, resolved, rehearsal))
    _tell_random_all(resolved)
    if expected.too_short:
        tell(f"warning: {expected.too_short}", "yellow")
    expected.refuse_over(max_trials, max_cost)


def run(
    file: File,
    set_: Set = None,
    executor: Executor = "auto",
    address: Address = None,
    max_trials: MaxTrials = None,
    max_cost: MaxCost = None,
    max_runtime: MaxRuntime = None,
    session_id: Annotated[
        str | None, typer.Option(help="An id for the session; one of the same sweep that exists is resumed.")
    ] = None,
    no_reuse: NoReuse = False,
    force: Force = False,
    metrics_port: MetricsPort = None,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    log_json: LogJson = False,  # noqa: ARG001
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a sweep and show who leads."""
    sweeps.check_executor(executor)
    resolved, rehearsal = _rehearsed(file, read(file, set_, address, no_reuse))
    if max_trials is not None or max_cost is not None:
        _estimated(resolved, rehearsal).refuse_over(max_trials, max_cost)
    session = begin_or_reopen(resolved, rehearsal, session_id, force)
    SESSION.set(session.id)
    count, datasets = resolved.plan.count(), counted(len(resolved.datasets), "dataset")
    tell(f"session {session.id}: {'' if count.exact else 'about '}{counted(count.trials, 'trial')} on {datasets}")
    _tell_random_all(resolved)
    _carry_on(session, resolved, Manner(executor, quiet, as_json, metrics_port, Limits(max_runtime, max_cost)))


def resume(
    session_id: Annotated[
        str, typer.Argument(help="A session id, the beginning of one, or latest.", metavar="SESSION")
    ],
    store: Store = "results",
    executor: Executor = "auto",
    address: Annotated[
        str | None, typer.Option(help="Another cluster than before (auto or host:port), or local for this machine.")
    ] = None,
    max_cost: MaxCost = None,
    max_runtime: MaxRuntime = None,
    force: Force = False,
    trust: Trust = False,  # noqa: ARG001 - its callback does the work
    metrics_port: MetricsPort = None,
    token_file: TokenFile = None,  # noqa: ARG001
    log_json: LogJson = False,  # noqa: ARG001
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run what is missing of a session.

    Its rows will be those of a session that nothing disturbed.
    """
    sweeps.check_executor(executor)
    session = Session.open(session_id, store)
    if not force:
        refuse_second_driver(session.folder)
    SESSION.set(session.id)
    if session.status == "done" and lacks_trust(session.sweep.strategy, session.folder.provider.uri):
        tell(f"session {session.id} is done: nothing is missing")
        emit(lambda: _outcome(session), as_json, lambda _: None)
        raise typer.Exit(exit_code(session))
    resolved = session.resolved  # refused where it needs --trust
    if address is not None:
        resolved = _moved(session, address)
    check_resumable(session, force)
    if session.status == "done":
        tell(f"session {session.id} is done: nothing is missing")
    manner = Manner(executor, quiet, as_json, metrics_port, Limits(max_runtime, max_cost))
    _carry_on(session, resolved, manner)


def _moved(session: Session, address: str) -> ResolvedSweep:
    """The session's sweep, to be worked on by another cluster than it says itself."""
    try:
        cluster = {"address": None if address == "local" else explained(address)}
    except ValueError as error:
        raise BadInput(f"--address {address!r}: {error}.") from None
    sweep = session.sweep
    there = sweep.model_copy(update={"cluster": sweep.cluster.model_copy(update=cluster)})
    return reopen(there, session.datasets, session.points)


def read(file: Path, set_: list[str] | None, address: str | None, no_reuse: bool = False) -> Sweep:
    """The sweep file with the overrides of the command line."""
    overrides: dict[str, str] = {}
    for text in set_ or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--set {text!r} has no value: write --set execution.fee=0.001.")
        overrides[name.strip()] = value
    if address is not None:
        overrides["cluster.address"] = address
    if no_reuse:
        overrides["results.reuse"] = "false"
    return load_sweep(file, overrides)


def _rehearsed(file: Path, sweep: Sweep) -> tuple[ResolvedSweep, Rehearsal]:
    """The sweep of that file, tried out; what is wrong with it is told with the file's name."""
    try:
        resolved = resolve(sweep)
        with compiling_told():
            rehearsal = rehearse(resolved)
    except (BadInput, StrategyError) as error:
        raise BadInput(f"{called(file)}: {error}") from error
    except KeyboardInterrupt:
        tell("stopped before the sweep began; nothing was written")
        raise
    rehearsal.refuse_hopeless()
    return resolved, rehearsal


def _estimated(resolved: ResolvedSweep, rehearsal: Rehearsal) -> Estimate:
    return estimate(resolved, rehearsal, gather(resolved, rehearsal.datasets).counts)


def _tell_random_all(resolved: ResolvedSweep) -> None:
    """A random search for more points than there are is a search of all."""
    asked, points = resolved.sweep.search.trials, resolved.points.count().trials
    if asked is not None and asked > points:
        tell(f"note: search.trials asks for {asked:,} points and the space has {points:,}: each is tried once")


def _carry_on(session: Session, resolved: ResolvedSweep, manner: Manner) -> None:
    minimise = not session.sweep.objective.descending
    quiet = manner.quiet or manner.as_json
    meter = Meter(resolved.plan, session.ledger.done.total(), minimise, quiet)
    telemetry = Telemetry()
    try:
        with _served(telemetry, manner.metrics_port), meter.watching(telemetry, manner.limits) as watch:
            watch = replace(watch, reusing=lambda shelf: tell(f"reusing {reuse_text(shelf.counts)}"))
            ended = sweeps.carry_on(session, resolved, manner.executor, watch, None)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped at once; what was committed is kept. Next: {resume_command(session)}\n")
        raise
    except (StorageError, Unavailable) as error:
        tell(f"interrupted: {error}", "red")
        once = "Once that is mended" if isinstance(error, BadData) else "Next"
        tell(f"What was committed is kept. {once}: {resume_command(session)}")
        raise typer.Exit(130) from error
    emit(lambda: _outcome(ended), manner.as_json, lambda console: _render_end(console, ended))
    if ended.metadata["stopped_by"]:
        tell(f"refused: {ended.metadata['stopped_by']}, so the sweep was stopped; it can be resumed.", "yellow")
    raise typer.Exit(exit_code(ended))


def exit_code(session: Session) -> int:
    """What `run` exits with for a session in this state."""
    if session.status != "done":
        return 3 if session.metadata.get("stopped_by") else 130
    return 1 if session.metadata["failed"] else 0


@contextmanager
def _served(telemetry: Telemetry, port: int | None) -> Iterator[None]:
    if port is None:
        yield
        return
    with telemetry.served(port) as bound:
        tell(f"metrics on http://127.0.0.1:{bound}/metrics", None, metrics_port=bound)
        yield


def _outcome(session: Session) -> object:
    top = session.top(10)
    done = session.status == "done"
    return plain(
        {
            "session_id": session.id,
            "status": session.status,
            "stopped_by": session.metadata["stopped_by"],
            "ok": session.metadata["ok"],
            "idle": session.idle() if done else None,
            "failed": session.metadata["failed"],
            "seconds": session.metadata["seconds"],
            "best_trials": [] if top is None else top.to_pylist(),
            "best_points": session.top_points(10) if done else [],
        }
    )


def _render_end(console: Console, session: Session) -> None:
    facts = session.metadata
    trials = counted(facts["ok"] + facts["failed"], "trial")
    if session.status != "done":
        console.print(f"{session.id} is {session.status} with {trials} committed.", soft_wrap=True)
        console.print(f"Next: {resume_command(session)}", soft_wrap=True)
        return
    render_leaders(console, session, 10)
    found = luck(session)
    if found:
        console.print(f"Luck: {luck_text(found)}. `grid show` has the verdict.", soft_wrap=False)
        console.print()
    if facts["failed"]:
        console.print(f"{failure_text(session)}.", soft_wrap=True)
    if idle := session.idle():
        console.print(f"{counted(idle, 'trial')} closed no trade.", soft_wrap=True)
    reused = session.ledger.summary.reused
    of_them = f", {reuse_text(dict(reused))} reused" if reused else ""
    console.print(f"{trials} in {facts['seconds']:.1f} s{of_them}.", soft_wrap=True)
    console.print(f"Next: grid show {session.id}{at_store(session)}", soft_wrap=True)
