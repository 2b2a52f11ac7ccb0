"""Result rows: their columns, and the batches that carry them from a worker to the aggregator."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from grid.conditions import machine_kind
from grid.dimensions import Axis
from grid.engine.metrics import METRICS
from grid.expressions import compile_constraint
from grid.ranges import Ranges
from grid.search import space_of
from grid.searchspec import HALVING
from grid.space import SearchSpace
from grid.spec import Objective, Sweep

OK, FAILED = "ok", "failed"
BLOCK_COLUMNS = ("block_return_sum", "block_return_sumsq", "block_trades")
REUSED_FROM = "reused_from"
"""The column that names the session which ran the trial; null for one that this session ran itself."""
HISTORY_SHARE = "history_share"
"""The column of successive halving that says which share of the blocks a trial's rung has; 1 for all of them, on all
datasets. A dataset that begins late has somewhat more of its own (`grid.halving.blocks_seen`).
"""
SMALL_ROWS = 4096
"""Batches below this are joined with their neighbours into one part."""


@dataclass(frozen=True)
class ResultBatch:
    """The answer to trial numbers [start, stop): Parquet bytes of the rows, and a summary of them.

    machine: `machine_kind` of the process that made the rows; empty where there were several kinds. A batch may arrive
    twice, or overlap another one where units were cut differently.
    """

    start: int
    stop: int
    rows: int
    parquet: bytes
    summary: "Summary"
    machine: str = ""

    @property
    def ran(self) -> int:
        """How many of the rows are of trials that were run, and not taken over."""
        return self.rows - sum(count for _, count in self.summary.reused)


@dataclass(frozen=True)
class Summary:
    """What is kept in memory of rows: counts, and the best (score, trial_id), best first.

    reused: how many were taken over, by the session that ran them.
    """

    ok: int = 0
    failed: int = 0
    best: tuple[tuple[float, int], ...] = ()
    reused: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        best = [list(pair) for pair in self.best]
        return {"ok": self.ok, "failed": self.failed, "best": best, "reused": dict(self.reused)}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "Summary":
        best = tuple((s, int(t)) for s, t in content["best"])
        reused = tuple(sorted(content["reused"].items()))
        return Summary(content["ok"], content["failed"], best, reused)

    def merged(self, other: "Summary", keep: int) -> "Summary":
        """Both together, the best `keep` kept; ties go to the lower trial number."""
        best = sorted({*self.best, *other.best}, key=lambda pair: (-pair[0], pair[1]))[:keep]
        reused = Counter(dict(self.reused)) + Counter(dict(other.reused))
        return Summary(self.ok + other.ok, self.failed + other.failed, tuple(best), tuple(sorted(reused.items())))


def result_schema(space: SearchSpace, blocks: int) -> pa.Schema:
    """trial_id, symbol, timeframe, a column a parameter, the metrics, status, error, the block moments, reused_from."""
    fields: dict[str, Any] = {"trial_id": pa.int64(), "symbol": pa.string(), "timeframe": pa.string()}
    fields |= {name: _arrow_type(axis) for name, axis in space.axes.items()}
    fields |= dict.fromkeys(METRICS, pa.float64())
    fields |= {"status": pa.string(), "error": pa.string()}
    element = pa.field("element", pa.float64())  # Parquet's name for it, so that a table read back is the same
    fields |= dict.fromkeys(BLOCK_COLUMNS, pa.list_(element, blocks))
    fields |= {REUSED_FROM: pa.string()}
    return pa.schema(fields)


def schema_of(sweep: Sweep) -> pa.Schema:
    """The columns of a sweep's rows."""
    schema = result_schema(space_of(sweep), sweep.validation.blocks)
    return schema.append(pa.field(HISTORY_SHARE, pa.float64())) if sweep.search.method == HALVING else schema


def history_shares(table: pa.Table) -> NDArray[np.float64]:
    """Over how much of the history each row's trial was run: 1 but in the first rungs of successive halving."""
    there = HISTORY_SHARE in table.column_names
    shares: NDArray[np.float64] = table[HISTORY_SHARE].to_numpy() if there else np.ones(table.num_rows)
    return shares


def _arrow_type(axis: Axis) -> Any:
    values = axis.take(np.zeros(1, np.int64))
    if values.dtype == object:  # null is among them; the others have one type
        values = np.array([value for value in axis if value is not None])
    kinds: dict[str, Any] = {"i": pa.int64(), "u": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    return kinds.get(values.dtype.kind, pa.string())


def encode(table: pa.Table) -> bytes:
    """Parquet bytes; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    text: Any = ["symbol", "timeframe", "status", "error", REUSED_FROM]  # the stubs know a bool only
    pq.write_table(
        table, sink, compression="zstd", compression_level=1, use_dictionary=text, write_statistics=["trial_id"]
    )
    return bytes(sink.getvalue())


def decode(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows, or some of their columns.

    Read on this thread alone: the threads behind `pq.read_table` may let go of `data` last, and abort a Python that is
    just ending.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns, use_threads=False)


def summarise(table: pa.Table, objective: Objective, keep: int) -> Summary:
    """Counts and the best `keep` trials that fulfil `objective.require`; NaN scores are never best, nor is what was run
    over a part.
    """
    ok = np.asarray(table["status"].to_numpy() == OK, dtype=bool)
    scores = signed_scores(table, objective)
    ids = table["trial_id"].to_numpy()
    candidates = np.flatnonzero(ok & np.isfinite(scores) & (history_shares(table) == 1))
    order = candidates[np.lexsort((ids[candidates], -scores[candidates]))][:keep]
    best = tuple((float(scores[i]), int(ids[i])) for i in order)
    return Summary(int(ok.sum()), int(len(ok) - ok.sum()), best, _reused(table))


def _reused(table: pa.Table) -> tuple[tuple[str, int], ...]:
    counts = pc.value_counts(table[REUSED_FROM].drop_null()).to_pylist()
    return tuple(sorted((found["values"], found["counts"]) for found in counts))


def signed_scores(table: pa.Table, objective: Objective) -> NDArray[np.float64]:
    """The objective's metric, higher being better (negated where it is minimised); NaN where `require` fails."""
    return _signed(table, objective, objective.metric, objective.descending)


def goal_scores(table: pa.Table, objective: Objective) -> NDArray[np.float64]:
    """float64[n, m]: `signed_scores` of each of the objective's goals, the one that ranks first."""
    return np.stack([_signed(table, objective, *goal) for goal in objective.goals], axis=1)


def _signed(table: pa.Table, objective: Objective, metric: str, descending: bool) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = table[metric].to_numpy().astype(np.float64)
    if not descending:
        scores = -scores
    for text in objective.require:
        rule = compile_constraint(text, METRICS)
        columns = {name: table[name].to_numpy() for name in rule.names}
        scores = np.where(rule.evaluate(columns), scores, np.nan)
    return scores


def batch_of(
    table: pa.Table, span: tuple[int, int], objective: Objective, keep: int, machine: str | None = None
) -> ResultBatch:
    """Encode rows as the answer to the trial numbers [span[0], span[1]). machine: that made them, by default this."""
    made_on = machine_kind() if machine is None else machine
    return ResultBatch(*span, table.num_rows, encode(table), summarise(table, objective, keep), made_on)


def without(batch: ResultBatch, done: Ranges, objective: Objective, keep: int) -> list[ResultBatch]:
    """The batch without the trials in `done`: itself, nothing, or a new batch for each part that is left."""
    left = done.subtract(batch.start, batch.stop)
    if left == [(batch.start, batch.stop)]:
        return [batch]
    if not left:
        return []
    table = decode(batch.parquet)
    ids = table["trial_id"].to_numpy()
    parts = [(span, table.filter(pa.array((ids >= span[0]) & (ids < span[1])))) for span in left]
    return [batch_of(rows, span, objective, keep, batch.machine) for span, rows in parts]


def join_small(batches: Sequence[ResultBatch], keep: int) -> list[tuple[Ranges, ResultBatch]]:
    """Batches as parts to store: large ones as they are, small ones together, each with the trials it answers."""
    large = [b for b in batches if b.rows >= SMALL_ROWS]
    small = sorted((b for b in batches if b.rows < SMALL_ROWS), key=lambda b: b.start)
    parts = [(Ranges([(b.start, b.stop)]), b) for b in large]
    if len(small) == 1:
        parts.append((Ranges([(small[0].start, small[0].stop)]), small[0]))
    elif small:
        table = pa.concat_tables([decode(b.parquet) for b in small])
        summary = Summary()
        for b in small:
            summary = summary.merged(b.summary, keep)
        machines = {b.machine for b in small}
        machine = machines.pop() if len(machines) == 1 else ""
        joined = ResultBatch(small[0].start, small[-1].stop, table.num_rows, encode(table), summary, machine)
        parts.append((Ranges([(b.start, b.stop) for b in small]), joined))
    return parts
