"""`grid ls`, `grid show`, `grid top`, `grid export`: what sessions hold."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pyarrow.csv
import pyarrow.parquet
import typer
from rich.console import Console

from grid.budget import cost_share
from grid.cli.jobs import job_rows
from grid.cli.options import Id, Json, N, Store, TokenFile, Trust
from grid.cli.output import emit, tell
from grid.cli.tables import (
    SORTS,
    costs_text,
    counted,
    failure_text,
    leader_rows,
    nobody,
    pareto_rows,
    plateau_rows,
    point_rows,
    print_facts,
    print_table,
    render_leaders,
    reuse_text,
    rung_facts,
    text_of,
    without_constants,
)
from grid.cli.verdict import render_verdict
from grid.documents import plain
from grid.engine.metrics import METRICS
from grid.errors import BadInput, nearest
from grid.halving import Rung
from grid.hints import at_store, resume_command, with_code
from grid.results import HISTORY_SHARE, OK, REUSED_FROM
from grid.search import rungs_of
from grid.session import Session
from grid.verdict.verdict import verdict
from storage.errors import BadData
from storage.providers import provider_for
from storage.sessions import AT_ONCE, DAMAGED, INCOMPLETE, SessionFolder, SessionStore

WithVerdict = Annotated[bool, typer.Option("--verdict/--no-verdict", help="Judge whether it is skill or luck.")]
SHOWN = 50
NO_VERDICT_YET = "The verdict comes when the session is done: it is over all of its trials."


def register(app: typer.Typer) -> None:
    """Put the commands of this file into `app`."""
    app.command("ls")(ls)
    app.command("show")(show)
    app.command("top")(top)
    app.command("export")(export)


def ls(
    store: Store = "results",
    address: Annotated[str | None, typer.Option(help="List the jobs of a cluster (http://HOST:8265) instead.")] = None,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    n: Annotated[
        int | None, typer.Option("-n", help=f"How many of the newest; {SHOWN} by default, as JSON all.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the sessions, the newest last."""
    if address is not None:
        jobs = job_rows(address)
        emit(jobs, as_json, lambda console: _render_rows(console, jobs, f"{address} has no sweep among its jobs."))
        return
    sessions = SessionStore(provider_for(store))
    rows = _lines(sessions, sessions.entries(n or (None if as_json else SHOWN)))
    nothing = f"{sessions.provider.uri} holds no session yet; `grid run SWEEP` makes one."
    emit(rows, as_json, lambda console: _render_rows(console, rows, nothing))
    if n is None and not as_json and len(rows) == SHOWN:
        tell(f"The newest {SHOWN} at most are shown; -n shows more.")


def show(
    session_id: Id,
    trial: Annotated[int | None, typer.Option(help="One trial, with its trades.")] = None,
    judge: WithVerdict = True,
    store: Store = "results",
    trust: Trust = False,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """Show a session or one of its trials, and the verdict.

    Without --trial the verdict is on the best trial, once the session is done.
    """
    session = Session.open(session_id, store)
    if trial is not None:
        _show_trial(session, trial, judge, as_json)
        return
    found = _judged(session, None) if judge else None
    emit(lambda: _described(session, found), as_json, lambda console: _render_show(console, session, found))


def _judged(session: Session, trial: int | None) -> dict[str, Any] | str | None:
    """The verdict, or why there is none; None where nobody leads."""
    return verdict(session, trial) if session.status == "done" else NO_VERDICT_YET


def _rungs(session: Session) -> tuple[tuple[Rung, ...], float]:
    """The rungs of successive halving, and their cost as a share of all points on everything."""
    rungs = rungs_of(session.points)
    return rungs, cost_share(rungs, [d["seconds_per_trial"] for d in session.metadata["datasets"]])


def _described(session: Session, found: dict[str, Any] | str | None) -> dict[str, Any]:
    summary = session.ledger.summary
    return {
        **session.metadata,
        "status": session.status,
        "committed": {"ok": summary.ok, "failed": summary.failed, "reused": dict(summary.reused)},
        "a_failure": session.a_failure(),
        "rungs": [asdict(rung) for rung in rungs_of(session.points)],
        "best_trials": leader_rows(session, 10),
        "best_points": session.top_points(10) if session.status == "done" else [],
        "verdict": None if isinstance(found, str) else found,
    }


def top(
    session_id: Id,
    n: N = 10,
    points: Annotated[bool, typer.Option("--points", help="Points across datasets instead of trials.")] = False,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="The trials that no other one beats in all goals (objective.beside).")
    ] = False,
    sort: Annotated[str, typer.Option(help="By their score, or by the plateau they stand on.")] = "score",
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """The leaderboard of a session."""
    session = Session.open(session_id, store)
    if sort not in SORTS:
        raise BadInput(f"--sort {sort!r} is no order{nearest(sort, SORTS)}; it is score or plateau.")
    if pareto and (points or sort != "score"):
        raise BadInput("--pareto lists trials by the goal that ranks: leave out --points and --sort.")
    if pareto:
        rows = pareto_rows(session, n)
    elif sort == "plateau":
        rows = plateau_rows(session, n, points)
    else:
        rows = point_rows(session, n) if points else leader_rows(session, n)
    shown = without_constants(session, rows)
    emit(rows, as_json, lambda console: _render_rows(console, shown, nobody(session)))


def export(
    session_id: Id,
    to: Annotated[Path, typer.Argument(help="A .parquet, .csv or .arrow file to write.")],
    columns: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a file that exists.")] = False,
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """Write all rows of a session to one file.

    They are in the order of trial numbers. CSV has no room for the lists of block moments and goes without them.
    """
    if to.suffix not in (".parquet", ".csv", ".arrow"):
        raise BadInput(f"{to} is no kind of file that can be written: name it .parquet, .csv or .arrow.")
    if to.is_file() and not replace:
        raise BadInput(f"{to} exists: name another file, or say --replace to write over it.")
    names = [name.strip() for name in columns.split(",")] if columns else None
    table = Session.open(session_id, store).trials(names)
    if not to.parent.is_dir():
        raise BadInput(f"{to} cannot be written: there is no folder {to.parent}.")
    try:
        _write(table, to)
    except OSError as error:
        raise BadInput(
            f"{to} cannot be written ({error.strerror or error}): name a file in a folder of yours."
        ) from error
    left_out = [] if to.suffix != ".csv" else _lists(table)
    message = f"wrote {counted(table.num_rows, 'row')} to {to}"
    if left_out:
        message += f", without {', '.join(left_out)}: a cell of CSV holds no list; .parquet has them"
    emit({"rows": table.num_rows, "file": str(to), "left_out": left_out}, as_json, lambda _: tell(message))


def _write(table: pyarrow.Table, to: Path) -> None:
    if to.suffix == ".parquet":
        pyarrow.parquet.write_table(table, to)
    elif to.suffix == ".arrow":
        with pyarrow.ipc.new_file(str(to), table.schema) as sink:
            sink.write_table(table)
    else:
        pyarrow.csv.write_csv(table.drop_columns(_lists(table)), to)


def _lists(table: pyarrow.Table) -> list[str]:
    """The columns whose cells are lists."""
    return [field.name for field in table.schema if field.type.num_fields]


def _lines(sessions: SessionStore, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A session that is done says all in its entry; the metadata of the others is read, of several at once."""
    done = [e for e in entries if e["status"] not in (INCOMPLETE, DAMAGED) and "datasets" in e]
    lines = {e["session_id"]: _line_of_done(e) for e in done}
    others = [e["session_id"] for e in entries if e["session_id"] not in lines]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read = pool.map(lambda s: _line_of(Session(SessionFolder(sessions.provider, s))), others)
        lines |= zip(others, read, strict=True)
    return [lines[e["session_id"]] for e in entries]


def _line_of_done(entry: dict[str, Any]) -> dict[str, Any]:
    named = {"session_id": entry["session_id"], "status": entry["status"], "strategy": entry["strategy"]}
    told = {"datasets": entry["datasets"], "trials": entry["trials"]["count"], "failed": entry["trials"]["failed"]}
    return {**named, **told, "seconds": entry["seconds"]}


def _line_of(session: Session) -> dict[str, Any]:
    try:
        facts = session.metadata
    except (BadInput, BadData) as error:
        status = "damaged" if isinstance(error, BadData) else "never begun"
        nothing = dict.fromkeys(("strategy", "datasets", "trials"))
        return {"session_id": session.id, "status": status, **nothing, "failed": None, "seconds": None}
    return {
        "session_id": session.id,
        "status": session.status,
        "strategy": facts["strategy"],
        "datasets": len(facts["datasets"]),
        "trials": facts["trials"]["count"],
        "failed": facts.get("failed"),
        "seconds": facts.get("seconds"),
    }


def _render_rows(console: Console, rows: list[dict[str, Any]], nothing: str) -> None:
    if rows:
        print_table(console, "", rows)
    else:
        console.print(nothing, soft_wrap=True)


def _render_show(console: Console, session: Session, found: dict[str, Any] | str | None) -> None:
    facts, sweep = session.metadata, session.sweep
    numbers = facts["trials"]["numbers"]
    done = 100 * session.ledger.done.total() / numbers if numbers else 100
    holdout = sweep.validation.holdout
    unseen = f"of which the last {100 * holdout:g} % are the hold-out" if holdout else "without hold-out"
    lines = {
        "session": session.id,
        "status": f"{session.status}, {done:.0f} % committed",
        "strategy": sweep.strategy,
        "data": ", ".join(f"{d['symbol']} {d['timeframe']} ({d['bars']:,} bars)" for d in facts["datasets"]),
        "span": f"{sweep.data.start} to {sweep.data.end} (excluded), {unseen}",
        **rung_facts(*_rungs(session)),
        "trials": f"{session.ledger.summary.ok:,} ok, {session.ledger.summary.failed:,} failed",
        "costs": costs_text(sweep.execution),
        "fingerprint": facts["fingerprint"],
    }
    if session.ledger.summary.failed:
        lines["failures"] = failure_text(session)
    if session.ledger.summary.reused:
        lines["reused"] = reuse_text(dict(session.ledger.summary.reused))
    print_facts(console, lines)
    console.print()
    render_leaders(console, session, 10)
    if found:
        _render_judged(console, found)
        console.print()
    if done < 100 and session.status == "running":
        console.print(f"Next: grid watch {session.id}{at_store(session)}", soft_wrap=True)
    elif done < 100:
        console.print(f"Next: {resume_command(session)}", soft_wrap=True)
    elif session.ledger.summary.best:
        best = session.ledger.summary.best[0][1]
        console.print(f"Next: grid show {session.id} --trial {best}{with_code(session)}", soft_wrap=True)


def _show_trial(session: Session, trial: int, judge: bool, as_json: bool) -> None:
    numbers = len(session.points) * len(session.datasets)
    if not 0 <= trial < numbers:
        raise BadInput(f"session {session.id} has no trial {trial}: its numbers go from 0 to {numbers - 1}.")
    rows = session.rows([trial])
    if rows is None or rows.num_rows == 0:
        raise BadInput(
            f"session {session.id} has no committed trial {trial}: it may break a constraint, be missing, or be on a "
            "dataset that its rung leaves out."
        )
    row = rows.to_pylist()[0]
    trades = session.backtest(trial).trade_records() if row["status"] == OK else []
    judge = judge and row["status"] == OK and row.get(HISTORY_SHARE, 1) == 1
    found = _judged(session, trial) if judge else None
    payload = plain({"trial": row, "verdict": None if isinstance(found, str) else found, "trades": trades})
    emit(payload, as_json, lambda console: _render_trial(console, session, payload, found))


def _render_judged(console: Console, found: dict[str, Any] | str) -> None:
    if isinstance(found, str):
        console.print(found, soft_wrap=True)
    else:
        render_verdict(console, found)


def _render_trial(
    console: Console, session: Session, payload: dict[str, Any], found: dict[str, Any] | str | None
) -> None:
    row, trades = payload["trial"], payload["trades"]
    names = ["trial_id", "symbol", "timeframe", *session.points.names, "status"]
    print_table(console, "", [{name: row[name] for name in names}])
    console.print()
    if row[REUSED_FROM]:
        console.print(f"Run by session {row[REUSED_FROM]}, and reused.", soft_wrap=True)
        console.print()
    if row.get(HISTORY_SHARE, 1) != 1:
        share = f"{100 * row[HISTORY_SHARE]:.3g} %"
        console.print(f"Run over {share} of the history, in an early rung: it is neither ranked nor judged.")
        console.print()
    if row["status"] != OK:
        console.print(row["error"], soft_wrap=True)
        return
    print_facts(console, {name.replace("_", " "): text_of(name, row[name]) for name in METRICS})
    if found:
        console.print()
        _render_judged(console, found)
    if trades:
        console.print()
        last = ", the last 20" if len(trades) > 20 else ""
        print_table(console, f"{counted(len(trades), 'trade')}{last}", [_trade(trade) for trade in trades[-20:]])


def _trade(trade: dict[str, Any]) -> dict[str, Any]:
    """What people look at first comes first, and midnight is left out of times."""
    names = ("side", "entry_time", "exit_time", "entry_price", "exit_price", "pnl", "return", "reason", "fees", "units")
    shown = {name: trade[name] for name in names}
    times = {n: shown[n].removesuffix("+00:00").removesuffix(" 00:00:00") for n in ("entry_time", "exit_time")}
    return {**shown, **times}
