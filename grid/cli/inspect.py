"""`grid ls`, `grid show`, `grid top`, `grid export`: what sessions hold."""

from pathlib import Path
from typing import Annotated, Any

import pyarrow.csv
import pyarrow.parquet
import typer
from rich.console import Console

from grid.cli.output import emit, messages
from grid.cli.tables import leader_rows, point_rows, print_table, render_leaders
from grid.documents import plain, trade_records
from grid.engine.metrics import METRICS
from grid.errors import BadInput
from grid.session import Session
from storage.providers import provider_for
from storage.sessions import SessionStore

Id = Annotated[str, typer.Argument(help="A session id, the beginning of one, or latest.", metavar="SESSION")]
Store = Annotated[str, typer.Option(help="The results store.", metavar="PATH")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
N = Annotated[int, typer.Option("-n", help="How many.", min=1)]


def register(app: typer.Typer) -> None:
    """Put the commands of this file into `app`."""
    app.command("ls")(ls)
    app.command("show")(show)
    app.command("top")(top)
    app.command("export")(export)


def ls(store: Store = "results", as_json: Json = False) -> None:
    """List the sessions of a results store, the newest last."""
    sessions = SessionStore(provider_for(store))
    rows = [_line(Session(sessions.folder(session_id))) for session_id in sessions.ids()]
    nothing = f"{store} holds no session yet; `grid run SWEEP` makes one."
    emit(rows, as_json, lambda console: _render_rows(console, rows, nothing))


def show(
    session_id: Id,
    trial: Annotated[int | None, typer.Option(help="One trial, with its trades.")] = None,
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """Show a session: what was asked, how it went and who leads; or one of its trials in full."""
    session = Session.open(session_id, store)
    if trial is not None:
        _show_trial(session, trial, as_json)
        return
    payload = {
        **session.metadata,
        "committed": {"ok": session.ledger.summary.ok, "failed": session.ledger.summary.failed},
        "best_trials": leader_rows(session, 10),
        "best_points": session.top_points(10) if session.status == "done" else [],
    }
    emit(payload, as_json, lambda console: _render_show(console, session))


def top(
    session_id: Id,
    n: N = 10,
    points: Annotated[bool, typer.Option("--points", help="Points across datasets instead of trials.")] = False,
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """The leaderboard of a session."""
    session = Session.open(session_id, store)
    rows = point_rows(session, n) if points else leader_rows(session, n)
    emit(rows, as_json, lambda console: _render_rows(console, rows, "Nobody leads yet."))


def export(
    session_id: Id,
    to: Annotated[Path, typer.Argument(help="A .parquet, .csv or .arrow file to write.")],
    columns: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    store: Store = "results",
    as_json: Json = False,
) -> None:
    """Write all rows of a session, in the order of trial numbers, to one file."""
    if to.suffix not in (".parquet", ".csv", ".arrow"):
        raise BadInput(f"{to} is no kind of file that can be written: name it .parquet, .csv or .arrow.")
    table = Session.open(session_id, store).trials(columns.split(",") if columns else None)
    if to.suffix == ".parquet":
        pyarrow.parquet.write_table(table, to)
    elif to.suffix == ".arrow":
        with pyarrow.ipc.new_file(str(to), table.schema) as sink:
            sink.write_table(table)
    else:
        flat = [name for name, kind in zip(table.schema.names, table.schema.types, strict=True) if kind.num_fields == 0]
        pyarrow.csv.write_csv(table.select(flat), to)
    message = f"wrote {table.num_rows:,} rows to {to}"
    emit({"rows": table.num_rows, "file": str(to)}, as_json, lambda _: messages.print(message))


def _line(session: Session) -> dict[str, Any]:
    facts = session.metadata
    return {
        "session_id": session.id,
        "strategy": facts["strategy"],
        "datasets": len(facts["datasets"]),
        "trials": facts["trials"]["count"],
        "status": facts["status"],
        "failed": facts.get("failed"),
        "seconds": facts.get("seconds"),
    }


def _render_rows(console: Console, rows: list[dict[str, Any]], nothing: str) -> None:
    if rows:
        print_table(console, "", rows)
    else:
        console.print(nothing)


def _render_show(console: Console, session: Session) -> None:
    facts, sweep = session.metadata, session.sweep
    numbers = facts["trials"]["numbers"]
    done = 100 * session.ledger.done.total() / numbers if numbers else 100
    lines = {
        "session": session.id,
        "status": f"{facts['status']}, {done:.0f} % committed",
        "strategy": sweep.strategy,
        "data": ", ".join(f"{d['symbol']} {d['timeframe']} ({d['bars']:,} bars)" for d in facts["datasets"]),
        "span": f"{sweep.data.start} to {sweep.data.end} (excluded), hold-out {sweep.validation.holdout:.0%} unseen",
        "trials": f"{session.ledger.summary.ok:,} ok, {session.ledger.summary.failed:,} failed",
        "costs": f"fee {sweep.execution.fee:.4%}, slippage {sweep.execution.slippage:.4%} a side",
        "fingerprint": facts["fingerprint"],
    }
    for name, value in lines.items():
        console.print(f"{name:>11}  {value}", soft_wrap=True)
    console.print()
    render_leaders(console, session, 10)
    if sweep.results.keep_best and session.ledger.summary.best:
        console.print(f"Next: grid show {session.id} --trial {session.ledger.summary.best[0][1]}", soft_wrap=True)


def _show_trial(session: Session, trial: int, as_json: bool) -> None:
    rows = session.rows([trial])
    if rows is None or rows.num_rows == 0:
        raise BadInput(
            f"session {session.id} has no committed trial {trial}: it may break a constraint, or be missing."
        )
    row = rows.to_pylist()[0]
    result = session.backtest(trial)
    trades = trade_records(result.trades)

    def render(console: Console) -> None:
        names = ["trial_id", "symbol", "timeframe", *session.resolved.points.names, "status", "error"]
        print_table(console, "", [{name: row[name] for name in names}])
        console.print()
        print_table(console, "Metrics", [{"metric": name, "value": row[name]} for name in METRICS])
        console.print()
        if trades:
            print_table(console, f"{len(trades)} trades, the last 20", trades[-20:])

    emit(plain({"trial": row, "trades": trades}), as_json, render)
