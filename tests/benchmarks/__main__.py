"""`python -m tests.benchmarks [quick]`: measure and write docs/benchmarks.md (quick: small, printed only)."""

import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import ray

from . import engine, scale, store, verdict
from .machine import processor

TARGET = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> None:
    quick = "quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cost = engine.table(folder / "engine")
        scale.start_ray()
        grid = scale.efficiency(folder, 0.02 if quick else 1.0)
        tools = [] if quick else scale.others(folder)
        ray.shutdown()
        stored = store.table(folder / "store", quick)
        judged = verdict.table(folder / "verdict", quick)
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "numba", "ray", "pyarrow"))
    text = "\n".join(
        [
            "# Benchmarks",
            "",
            f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` on {processor()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, {packages}. Machines differ: compare the ratios.",
            "",
            "## One process",
            "",
            "CPU time, through `Strategy.signals`, all metrics and 16 blocks, in steady state: indicators and their "
            f"float32 copies are there. Median of {engine.ROUNDS} rounds over 100 points.",
            "",
            *cost,
            "",
            "## The grid on two cores",
            "",
            "`sma_cross` sweeps. Plain: two processes that evaluate and encode the same units with no grid around "
            "them. Efficiency: CPU seconds in units / (wall x 2 cores), each with those of its own run; medians of "
            "rounds in which the two alternate. All times include starting the workers; Ray itself was running. By "
            "wall alone: the ratio of the walls, which a neighbour on the machine moves by 5 % from one minute to the "
            "next.",
            "",
            *grid,
            *(["", "## Small trials in other tools", "", *tools] if tools else []),
            "",
            "## Storage",
            "",
            "Medians. S3 is SeaweedFS on the same machine, so there is no network in these figures: what counts is how "
            "many requests there are ([storage.md](storage.md)).",
            "",
            *stored,
            "",
            "## The verdict",
            "",
            "Peak is the memory of the process that does it, Python and its packages included.",
            "",
            *judged,
            "",
        ]
    )
    if quick:
        sys.stdout.write(text)
    else:
        TARGET.write_text(text)
        sys.stdout.write(f"wrote {TARGET.name}\n")


if __name__ == "__main__":
    main()
