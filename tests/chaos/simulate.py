"""`python -m tests.chaos.simulate`: what `scale.py` finds, written to docs/scale.md."""

import os
import sys
from datetime import UTC, datetime

from grid.cluster.collect import MOST_UNCOMMITTED
from grid.dispatch import DEPTH
from grid.pace import LONGEST_EVER_S, MOST_NUMBERS
from tests.benchmarks.machine import processor
from tests.chaos.scale import BLOCKS, CORES_A_NODE, Costs, Outcome, Scene, measured, simulate
from tests.conftest import REPOSITORY

TARGET = REPOSITORY / "docs" / "scale.md"
NODES = (1, 10, 100, 1000)
TRIALS_S = (0.002, 0.02, 0.2)


def row_of(scene: Scene, out: Outcome) -> str:
    objects = out.parts + out.commits
    requests = (objects + out.reads * 5) / out.seconds
    return (
        f"| {scene.nodes:,} | {1000 * scene.trial_s:g} ms | {scene.trials / 1e6:,.1f} M | {busy(scene, out):.1%} | "
        f"{out.units / out.seconds:,.1f} | {out.driver / out.seconds:.0%} | {out.aggregator / out.seconds:.0%} | "
        f"{objects:,.0f} | {requests:,.1f} | {out.lost_nodes} | {out.wasted / out.useful:.2%} |"
    )


def busy(scene: Scene, out: Outcome) -> float:
    """The part of all core seconds that went into units that were finished."""
    return out.useful / (out.seconds * scene.workers)


def table(costs: Costs) -> tuple[list[str], dict[float, int]]:
    """The rows, and for each length of a trial the most nodes at which cores are busy for 80 % of the time."""
    rows, reached = [], dict.fromkeys(TRIALS_S, 0)
    for trial_s in TRIALS_S:
        for nodes in NODES:
            scene = Scene(nodes, trial_s)
            out = simulate(scene, costs)
            if busy(scene, out) > 0.8:
                reached[trial_s] = nodes
            rows.append(row_of(scene, out))
            sys.stdout.write(rows[-1] + "\n")
            sys.stdout.flush()
    return rows, reached


def page(costs: Costs) -> str:
    rows, reached_by = table(costs)
    a_core = costs.bytes_a_row / costs.upload_bytes_a_second + costs.fold_a_row
    most = [f"{1000 * t:g} ms: {1 / (a_core / t) / CORES_A_NODE:,.0f} nodes" for t in TRIALS_S]
    reached = [f"{1000 * t:g} ms: {n or 'none'}" for t, n in reached_by.items()]
    unit_s = costs.dispatch + costs.ray_call
    return "\n".join(
        [
            "# Scale on paper",
            "",
            "What one driver and one aggregator can feed, by a discrete simulation with the costs below. No such",
            "cluster was there to be measured. `make simulate` measures what this machine can tell, and rewrites it.",
            "",
            f"Simulated {datetime.now(UTC):%Y-%m-%d} on {processor()}, {os.cpu_count()} cores. Each sweep is as large",
            "as would keep all cores busy for half an hour, and includes the start of its workers.",
            "",
            "## Costs",
            "",
            "| cost | value | where from |",
            "|---|---|---|",
            f"| a unit in the dispatcher | {costs.dispatch * 1e6:.1f} us | measured here |",
            f"| a batch in the aggregator, store left out | {costs.fold * 1e6:,.0f} us | measured here |",
            f"| a row in the aggregator, store left out | {costs.fold_a_row * 1e9:,.0f} ns | measured here |",
            f"| a row in Parquet, {BLOCKS} blocks, random numbers | {costs.bytes_a_row:,.0f} bytes | measured here |",
            f"| a call of an actor, in the driver | {costs.ray_call * 1e6:,.0f} us | measured on Ray 2.60, two cores |",
            f"| upload of one process to S3 | {costs.upload_bytes_a_second / 1e6:,.0f} MB/s | assumed |",
            f"| a request to S3 | {costs.request * 1000:.0f} ms | assumed; two a commit |",
            f"| starts of workers by the control plane | {costs.starts_a_second:,.0f} a second | assumed |",
            f"| nodes lost to the spot market | {costs.lost_an_hour:.0%} an hour | assumed |",
            f"| until a lost node is replaced | {costs.back_after:.0f} s | assumed |",
            f"| units a worker has, batches that may wait | {DEPTH}, {MOST_UNCOMMITTED} | the code |",
            f"| trial numbers in a unit at most | {MOST_NUMBERS:,} | the code |",
            "",
            "## Results",
            "",
            "Nodes have 64 cores. Busy: core seconds in units that were committed, of all core seconds. Objects: parts",
            "and commit records. Requests: of results, and five for each dataset's files on each node. Lost: nodes;",
            "wasted: their work, of all.",
            "",
            "| nodes | trial | trials | busy | units/s | driver | aggregator | objects | requests/s | lost | wasted |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
            "## What breaks first",
            "",
            "- The aggregator, because every row passes through it. A row takes",
            f"  {a_core * 1e6:.1f} us of it, most of that the upload: it keeps up with {'; '.join(most)}, by trial.",
            f"- In the simulation cores are busy for 80 % of the time up to {'; '.join(reached)} nodes, by trial.",
            f"- The driver comes next: {unit_s * 1e6:,.0f} us a unit are {1 / unit_s:,.0f} units a second. Units",
            f"  last up to {LONGEST_EVER_S:.0f} s in a large sweep: then a driver can feed",
            f"  {LONGEST_EVER_S / unit_s / CORES_A_NODE:,.0f} nodes and no more.",
            "- The control plane needs ten minutes until the last of 64,000 workers has started, at 100 a second:",
            "  a third of a sweep of half an hour, and most of what is missing in the last line of the table.",
            "- S3 does not break: at most some hundred requests a second, most of them the first reads of bars.",
            "- Not in the model: the driver's loop looks at every worker whenever a unit comes back, and Ray's own",
            "  limits on actors and connections of one driver. Above some thousand workers they may well come first.",
            "- The way on, if it is needed: several sessions at once, each with a driver and an aggregator of its own",
            "  and a part of the symbols. Nothing is shared between sessions but the store.",
            "",
        ]
    )


def main() -> None:
    TARGET.write_text(page(measured()))
    sys.stdout.write(f"wrote {TARGET.name}\n")


if __name__ == "__main__":
    main()
