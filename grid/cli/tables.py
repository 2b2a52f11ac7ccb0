"""Tables that several commands draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from grid.engine.execution import Execution
from grid.errors import BadInput
from grid.halving import Rung
from grid.session import Session
from grid.verdict.surface import Surface

SORTS = ("score", "plateau")
SHOWN = ("sharpe", "total_return", "max_drawdown", "total_trades", "win_rate", "profit_factor")
_RATES = ("total_return", "cagr", "max_drawdown", "win_rate", "volatility", "exposure", "best_trade", "worst_trade")
PERCENT = {*_RATES, "expectancy", "avg_win", "avg_loss", "return"}


def print_table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row a mapping, numbers to the right; columns at the end that do not fit the terminal are left out."""
    cells = [[text_of(name, value) for name, value in row.items()] for row in rows]
    names = [name.replace("_", " ") for name in (rows[0] if rows else {})]
    texts = [any(isinstance(row[name], str) for row in rows) for name in (rows[0] if rows else ())]
    widths = [max(map(len, _unbroken(name, cells, i, texts[i]))) for i, name in enumerate(names)]
    fitting = next((k for k in range(len(names), 1, -1) if sum(widths[:k]) + 2 * k <= console.width), 1)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(names[:fitting]):
        if texts[i]:
            table.add_column(name, min_width=widths[i])
        else:
            table.add_column(name, justify="right", width=widths[i])
    for row in cells:
        table.add_row(*row[:fitting])
    if title:
        console.print(title, style="bold", soft_wrap=True)
    console.print(table)
    if fitting < len(names):
        console.print(f"(a wider terminal or --json shows {', '.join(names[fitting:])})", style="dim")


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """One line a fact: its name, right-aligned, and what it is; on a terminal, long ones go on below themselves."""
    width = max(map(len, facts))
    table = Table.grid(padding=(0, 2))
    for name, text in facts.items():
        table.add_row(f"{name:>{width}}", text)
        if not console.is_terminal:
            console.print(f"{name:>{width}}  {text}", soft_wrap=True)
    if console.is_terminal:
        console.print(table)


def _unbroken(name: str, cells: list[list[str]], column: int, text: bool) -> list[str]:
    """What must stay on one line: the words of the header, numbers, and the words of texts."""
    return [*name.split(), *(word for row in cells for word in (row[column].split() if text else [row[column]])), ""]


def text_of(name: str, value: Any) -> str:
    """A value for a cell: NaN and None as a dash, four significant digits, whole numbers whole."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if name in PERCENT:
        return f"{100 * value:,.1f} %"
    whole = float(value).is_integer() or abs(value) >= 1e4
    return f"{value:,.0f}" if whole and abs(value) < 1e12 else f"{value:,.4g}"


def counted(n: int, thing: str) -> str:
    """`1 dataset`, `7,000 trials`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def costs_text(execution: Execution) -> str:
    """Fee and slippage for people."""
    return f"fee {100 * execution.fee:.4g} %, slippage {100 * execution.slippage:.4g} % a side"


def rung_facts(rungs: Sequence[Rung], share: float) -> dict[str, str]:
    """The rungs of successive halving, and what they cost beside all points on everything; nothing without rungs."""
    if not rungs:
        return {}
    first, *between, last = rungs
    several = len(last.datasets) > 1
    of = f"{counted(len(first.datasets), 'dataset')} of {len(last.datasets):,} and " if several else ""
    told = [f"{first.stop:,} points on {of}{100 * first.share:.3g} % of the history"]
    for rung in between:
        on = f"{len(rung.datasets):,} and " if several else ""
        told.append(f"the best {rung.stop - rung.first:,} on {on}{100 * rung.share:.3g} %")
    told.append(f"the best {last.stop - last.first:,} on everything")
    cost = f"{100 * share:.2g} % of the cost of all {first.stop:,} on everything"
    return {"rungs": f"{', '.join(told)}: {cost}"}


def failure_text(session: Session) -> str:
    """How many trials failed, and one of them."""
    failure = session.a_failure()
    example = f"; trial {failure[0]}: {failure[1]}" if failure else ""
    return f"{counted(session.ledger.summary.failed, 'trial')} failed{example}"


def reuse_text(counts: Mapping[str, int]) -> str:
    """How many trials are not run again, and which sessions ran them, those of the most trials first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    named = [f"{name} ({count:,})" for name, count in ordered[:3]]
    more = [f"{counted(len(ordered) - 3, 'other session')}"] if len(ordered) > 3 else []
    return f"{counted(sum(counts.values()), 'trial')} of {', '.join([*named, *more])}"


def leader_rows(session: Session, n: int) -> list[dict[str, Any]]:
    """The best trials with their parameters and the metrics people look at first."""
    top = session.top(n)
    objective = session.sweep.objective.metric
    names = dict.fromkeys(["trial_id", "symbol", "timeframe", objective, *session.points.names, *SHOWN])
    return [] if top is None else [{name: row[name] for name in names} for row in top.to_pylist()]


def pareto_rows(session: Session, n: int) -> list[dict[str, Any]]:
    """The first trials of the Pareto front, with their goals before the other metrics."""
    rows = session.rows(session.pareto()[:n])
    goals = [metric for metric, _ in session.sweep.objective.goals]
    names = dict.fromkeys(["trial_id", "symbol", "timeframe", *goals, *session.points.names, *SHOWN])
    return [] if rows is None else [{name: row[name] for name in names} for row in rows.to_pylist()]


def without_constants(session: Session, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows for a narrow screen: without parameters of one value, and without the only timeframe."""
    constant = {name for name, dimension in session.sweep.space.items() if len(dimension.axis()) == 1}
    if len({key.timeframe for key in session.datasets}) == 1:
        constant.add("timeframe")
    return [{name: value for name, value in row.items() if name not in constant} for row in rows]


def held_rows(session: Session) -> list[dict[str, Any]]:
    """Buy and hold on each dataset, same span and costs."""
    names = [name for name in SHOWN if name not in ("total_trades", "win_rate", "profit_factor")]
    return [
        {"symbol": d["symbol"], "timeframe": d["timeframe"], **{n: d["buy_and_hold"][n] for n in names}}
        for d in session.metadata["datasets"]
    ]


def point_rows(session: Session, n: int) -> list[dict[str, Any]]:
    """The best points across datasets."""
    return [{"point": p["point"], "score": p["score"], **p["parameters"], **p["scores"]} for p in session.top_points(n)]


def plateau_rows(session: Session, n: int, points: bool) -> list[dict[str, Any]]:
    """The trials (or points) on the highest plateaus: the median score of each and its neighbours in the space."""
    if not Surface.fits(session):
        raise BadInput(f"the space of session {session.id} is too large to be searched for plateaus.")
    surface = Surface(session)
    if points:
        found = surface.best_points_by_plateau(n)
        return [{"point": p, "plateau": high, "score": score, **session.points[p]} for p, high, score in found]
    best = dict(surface.best_by_plateau(n))
    rows = session.rows(best)
    objective = session.sweep.objective.metric
    names = dict.fromkeys(["symbol", "timeframe", objective, *session.points.names, *SHOWN])
    told = [] if rows is None else rows.to_pylist()
    return [
        {"trial_id": row["trial_id"], "plateau": best[row["trial_id"]], **{name: row[name] for name in names}}
        for row in told
    ]


def nobody(session: Session) -> str:
    """What is said where no trial is ranked."""
    if session.status != "done":
        return "Nobody leads yet."
    objective = session.sweep.objective
    require = f" with {' and '.join(objective.require)}" if objective.require else ""
    return f"No trial has a {objective.metric}{require}."


def render_leaders(console: Console, session: Session, n: int) -> None:
    """Best trials, best points across datasets, and buy and hold beside them."""
    objective = session.sweep.objective
    goal = f"{'highest' if objective.descending else 'lowest'} {objective.metric}"
    require = f" with {' and '.join(objective.require)}" if objective.require else ""
    rows = without_constants(session, leader_rows(session, n))
    if not rows:
        console.print(nobody(session))
    else:
        print_table(console, f"Best trials: {goal}{require}", rows)
    if len(session.datasets) > 1 and session.status == "done":
        points = without_constants(session, point_rows(session, min(n, 5)))
        if points:
            console.print()
            title = f"Best points: {goal}, {objective.across} of {len(session.datasets)} datasets"
            print_table(console, title, points)
    console.print()
    print_table(console, "Buy and hold, same span and costs", held_rows(session))
    console.print()
