"""What a verdict costs: CSCV over many trials from their Parquet parts, and the permutation test of a whole search."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from grid.begin import begin
from grid.conditions import machine_kind
from grid.engine import METRICS
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.results import BLOCK_COLUMNS, OK, encode, result_schema, summarise
from grid.search import space_of
from grid.session import Session
from grid.spec import Sweep
from grid.sweep import run
from grid.validation.cscv import cscv
from grid.verdict.evidence import Evidence
from grid.verdict.permutation import permute
from storage.sessions import CommitRecord

from .made import cross_sweep, store_bars

ROWS_A_PART = 50_000
BLOCKS = 16


def table(folder: Path, quick: bool) -> list[str]:
    """Lines of a Markdown table."""
    store_bars(folder / "data", "1D", 2_000)
    lines = ["| what | size | wall s | CPU s | peak MB |", "|---|---|---|---|---|"]
    side = 100 if quick else 1_000
    session_id = _made_session(folder, side)
    command = [sys.executable, "-m", "tests.benchmarks.verdict", session_id, str(folder / "results")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    lines.append(f"| CSCV from Parquet parts | {side * side:,} trials x 12,870 splits | {told} |")
    searched = run(cross_sweep(folder, "1D", 100, 100), executor="serial")
    n, began, cpu = (4 if quick else 200), time.perf_counter(), _cpu()
    permute(searched, n, processes=2)
    wall = time.perf_counter() - began
    size = f"{n} x {len(searched.points):,} trials on 2,000 daily bars"
    lines.append(f"| `grid permute` on two cores | {size} | {wall:.1f} | {_cpu() - cpu:.1f} | |")
    return lines


def _made_session(folder: Path, side: int) -> str:
    """A session of side x side trials whose rows are noise; its parts hold what real ones hold."""
    sweep = Sweep(**cross_sweep(folder, "1D", side, side))  # type: ignore[arg-type]
    resolved = resolve(sweep)
    session = begin(resolved, rehearse(resolved)).folder
    schema, random = result_schema(space_of(sweep), BLOCKS), np.random.default_rng(1)
    total = len(resolved.points)
    for n, first in enumerate(range(0, total, ROWS_A_PART)):
        ids = np.arange(first, min(first + ROWS_A_PART, total))
        rows = _rows(schema, ids, resolved.points.columns(ids), random)
        summary = {**summarise(rows, sweep.objective, 5).to_json(), "machine": machine_kind()}
        part = session.write_part(encode(rows), len(ids), [(first, first + len(ids))], summary)
        session.commit(CommitRecord(n, "made", (part,)))
    return session.session_id


def _rows(schema: pa.Schema, ids: np.ndarray, points: dict[str, np.ndarray], random: np.random.Generator) -> pa.Table:
    n = len(ids)
    columns = [pa.array(ids), pa.repeat("MADE", n), pa.repeat("1D", n)]
    columns += [pa.array(values.tolist(), schema.field(name).type) for name, values in points.items()]
    columns += [pa.array(random.normal(size=n)) for _ in METRICS]
    columns += [pa.repeat(OK, n), pa.nulls(n, pa.string())]
    for name in BLOCK_COLUMNS:
        moments = (
            random.normal(0, 0.1, n * BLOCKS) if name == BLOCK_COLUMNS[0] else random.uniform(0.01, 0.02, n * BLOCKS)
        )
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(moments), type=schema.field(name).type))
    columns.append(pa.nulls(n, pa.string()))
    return pa.Table.from_arrays(columns, schema=schema)


def _cpu() -> float:
    """CPU seconds of this process and of those it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def main() -> None:
    session_id, store = sys.argv[1:]
    evidence = Evidence(Session.open(session_id, store))
    began, cpu = time.perf_counter(), _cpu()
    cscv(evidence.chunks, evidence.blocks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"{time.perf_counter() - began:.1f} | {_cpu() - cpu:.1f} | {peak:,.0f}\n")


if __name__ == "__main__":
    main()
