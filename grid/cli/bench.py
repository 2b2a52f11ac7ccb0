"""`grid bench`: how fast this machine is, and what that means for a sweep."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from grid.budget import Estimate, estimate
from grid.cli.output import emit, tell
from grid.measure import Measured, measure
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.specfile import load_sweep

File = Annotated[Path | None, typer.Argument(help="A sweep to estimate: YAML, TOML or JSON.", metavar="SWEEP")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Seconds = Annotated[float, typer.Option(help="How long each figure is measured.", min=0.05, max=60.0)]


def bench(file: File = None, seconds: Seconds = 1.0, as_json: Json = False) -> None:
    """Measure this machine: ns per bar, trials a second, how well its CPUs work together; and estimate a sweep."""
    expected = None
    if file is not None:
        resolved = resolve(load_sweep(file))
        expected = estimate(resolved, rehearse(resolved))
    tell("measuring; what else runs on this machine counts in")
    found = measure(seconds)
    payload = asdict(found) | {"sweep": None if expected is None else asdict(expected)}
    emit(payload, as_json, lambda console: _render(console, found, expected))


def _render(console: Console, found: Measured, expected: Estimate | None) -> None:
    table = Table(title=f"{found.bars:,} bars, one process, all metrics, indicators warm", title_justify="left")
    table.add_column("trial")
    for name in ("ns per bar", "trials/s"):
        table.add_column(name, justify="right")
    for speed in found.speeds:
        table.add_row(speed.what, f"{speed.ns_per_bar:.2f}", f"{speed.trials_per_second:,.0f}")
    console.print(table)
    console.print(
        f"{found.cpus} CPUs together: {found.rate_together:,.0f} trials/s, {found.efficiency:.0%} of as many times the "
        f"{found.rate_alone:,.0f} of one alone."
    )
    if expected is not None:
        trials = f"{'' if expected.exact else 'about '}{expected.trials:,} trials"
        console.print(
            f"the sweep: {trials}, {expected.cpu_seconds:,.1f} CPU seconds, about {expected.wall_seconds:,.1f} s on "
            f"{expected.cpus} CPUs; start-up comes on top."
        )
