"""What `grid plan` shows."""

from rich.console import Console

from grid.budget import Estimate, amounts
from grid.cli.tables import costs_text, counted, print_facts, reuse_text, rung_facts
from grid.rehearse import Rehearsal
from grid.resolve import ResolvedSweep
from grid.search import Asked
from grid.searchspec import SearchSpec
from grid.spec import Sweep
from grid.sweep import RAY_START_S, sooner


def render_plan(console: Console, expected: Estimate, resolved: ResolvedSweep, rehearsal: Rehearsal) -> None:
    """What a sweep is, and what it will take."""
    count = f"{expected.trials:,}" if expected.exact else f"about {expected.trials:,} +- {expected.error:,.0f}"
    rows = {
        **_asked(resolved.sweep),
        "search": _search(resolved.sweep.search, expected.rounds),
        **rung_facts(expected.rungs, expected.share),
        "trials": f"{count} on {counted(expected.datasets, 'dataset')}",
        **_reused(expected, resolved),
        "units": f"{expected.units:,}",
        "to read": f"{expected.bytes_read / 1e6:,.1f} MB",
        "CPU time": _seconds(expected.cpu_seconds),
        "wall time": _wall_time(expected, resolved.sweep.cluster.address is not None or rehearsal.deadly),
    }
    earlier = f", and {expected.tried:,} tried earlier," if expected.tried else ""
    needed = f"so many trials{earlier} need {expected.least_years:.2f} (docs/verdict.md)"
    rows["history"] = f"{expected.years:.2f} years; {needed}"
    if expected.cost is not None:
        (rows["cost"],) = amounts(expected.cost)
    print_facts(console, rows)


def _asked(sweep: Sweep) -> dict[str, str]:
    """What is asked for: the strategy, on what, over which span, at which costs."""
    data, symbols = sweep.data, list(sweep.data.symbols)
    more = f" and {len(symbols) - 5:,} more" if len(symbols) > 5 else ""
    return {
        "strategy": sweep.strategy,
        "data": f"{', '.join(symbols[:5])}{more} x {', '.join(data.timeframes)}",
        "span": f"{data.start} to {data.end} (excluded)",
        "costs": costs_text(sweep.execution),
    }


def _reused(expected: Estimate, resolved: ResolvedSweep) -> dict[str, str]:
    """What is in the store already."""
    if not expected.reused:
        return {}
    as_asked = ", as far as the search asks for them" if isinstance(resolved.points, Asked) else ""
    return {"reused": f"{reuse_text(expected.reused)}{as_asked}"}


def _search(search: SearchSpec, rounds: int) -> str:
    """Which points are tried."""
    if search.method == "grid":
        return "grid, every point"
    rounds_text = f", {counted(rounds, 'round')} of {search.round:,} points" if search.round else ""
    return f"{search.method}, seed {search.seed}{rounds_text}"


def _wall_time(expected: Estimate, on_ray: bool) -> str:
    """Where `auto` runs it, and how long that takes."""
    if not on_ray and sooner(expected.cpu_seconds, expected.cpus) == "serial":
        return f"{_seconds(expected.cpu_seconds)} in this process, without Ray"
    start = f"about {RAY_START_S:.0f} s to start a Ray where none runs"
    return f"{_seconds(expected.wall_seconds)} on Ray with {counted(expected.cpus, 'CPU')}, and {start}"


def _seconds(seconds: float) -> str:
    """A duration for people: 0.8 s, 12 min, 3.4 h."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"
