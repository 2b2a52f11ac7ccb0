"""`grid bench`: how fast this machine or a cluster is, and what that means for a sweep."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from grid.addresses import jobs_address
from grid.auth import use_token
from grid.budget import Estimate, cpus_here, estimate
from grid.cli.options import TokenFile
from grid.cli.output import emit, tell
from grid.cli.tables import print_table
from grid.measure import Measured, measure
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.specfile import load_sweep

File = Annotated[Path | None, typer.Argument(help="A sweep to estimate: YAML, TOML or JSON.", metavar="SWEEP")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Address = Annotated[
    str | None, typer.Option(help="Measure a cluster instead, by its Dashboard (http://HOST:8265).", metavar="URL")
]
Seconds = Annotated[float, typer.Option(help="How long each figure is measured.", min=0.05, max=60.0)]


def bench(
    file: File = None,
    seconds: Seconds = 1.0,
    address: Address = None,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """How fast this machine, or a cluster, is.

    Nanoseconds per bar, trials a second, how well its CPUs work together; and what a sweep will take on them.
    """
    expected = None
    if file is not None:
        resolved = resolve(load_sweep(file))
        expected = estimate(resolved, rehearse(resolved))
    tell("measuring; what else runs there counts in")
    found, cpus = (measure(seconds), cpus_here()) if address is None else _measured_there(address, seconds)
    if expected is not None and address is not None:
        expected = replace(expected, cpus=found.cpus, wall_seconds=expected.cpu_seconds / found.cpus)
    payload = asdict(found) | {"sweep": None if expected is None else asdict(expected)}
    if found.cpus < cpus:
        tell(f"{found.cpus} of the {cpus} CPUs are free, and measured", "yellow")
    emit(payload, as_json, lambda console: _render(console, found, expected))


def _measured_there(address: str, seconds: float) -> tuple[Measured, int]:
    use_token()
    from grid.cluster.bench import measure_there

    return measure_there(jobs_address(address), seconds)


def _render(console: Console, found: Measured, expected: Estimate | None) -> None:
    rows = [
        {"trial": s.what, "ns a bar": round(s.ns_per_bar, 2), "trials/s": round(s.trials_per_second)}
        for s in found.speeds
    ]
    print_table(console, f"{found.bars:,} bars, one process, all metrics, indicators warm", rows)
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
