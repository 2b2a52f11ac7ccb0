"""Result rows: what is written comes back bit for bit, and what is kept in memory agrees with a slow twin."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import results
from grid.engine import METRICS
from grid.ranges import Ranges
from grid.results import Summary, decode, encode, join_small, result_schema, signed_scores, summarise, without
from grid.space import SearchSpace
from grid.spec import Objective
from tests.grid.made_results import KEEP, NUMBERS, OBJECTIVE, WORLD, batch, bits, rows_of, world_in

SPANS = st.tuples(st.integers(0, NUMBERS), st.integers(0, NUMBERS)).map(lambda s: (min(s), max(s)))
REQUIRED = {
    "total_trades >= 30": lambda row: row["total_trades"] >= 30,
    "total_trades != 11": lambda row: row["total_trades"] not in (11, math.inf) and not math.isnan(row["total_trades"]),
    "sharpe < 3": lambda row: math.isfinite(row["sharpe"]) and row["sharpe"] < 3,
}
OBJECTIVES = st.builds(
    lambda metric, down, require: Objective(**{"minimize" if down else "maximize": metric}, require=tuple(require)),
    st.sampled_from(["sharpe", "total_trades", "skew"]),
    st.booleans(),
    st.sets(st.sampled_from(sorted(REQUIRED))),
)


def naive_score(row: dict[str, Any], objective: Objective) -> float:
    """What ranks a row, or NaN."""
    fulfilled = row["status"] == "ok" and all(REQUIRED[text](row) for text in objective.require)
    score = row[objective.metric] * (1 if objective.maximize else -1)
    return score if fulfilled and math.isfinite(score) else math.nan


def with_metrics(**columns: object) -> pa.Table:
    """The first rows of the world with other numbers in some metrics."""
    table = WORLD.slice(0, len(next(iter(columns.values()))))
    for name, values in columns.items():
        table = table.set_column(table.schema.names.index(name), name, pa.array(values, pa.float64()))
    return table


@given(SPANS)
def test_rows_come_back_as_they_were(span: tuple[int, int]) -> None:
    table = WORLD.slice(span[0], span[1] - span[0])
    back = decode(encode(table))
    assert back.schema.equals(table.schema, check_metadata=True)
    assert bits(back) == bits(table)
    assert encode(back) == encode(table)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_every_bit_of_a_number_comes_back(patterns: list[int]) -> None:
    """Infinities, negative zeros and the many NaNs: all are 64 bits."""
    nan = [0x7FF8000000000000, 0x7FF0000000000001, -1, -(2**63)]
    numbers = np.array([*patterns, *nan], np.int64)
    table = with_metrics(sharpe=numbers.view(np.float64))
    assert decode(encode(table))["sharpe"].to_numpy().view(np.int64).tolist() == numbers.tolist()


@given(SPANS, st.lists(st.integers(0, NUMBERS), max_size=4))
def test_the_same_rows_give_the_same_bytes(span: tuple[int, int], cuts: list[int]) -> None:
    """However the table is made up of pieces."""
    table = WORLD.slice(span[0], span[1] - span[0])
    edges = sorted({0, *(min(cut, table.num_rows) for cut in cuts), table.num_rows})
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    assert encode(pa.concat_tables(pieces or [table])) == encode(table)


@given(
    st.lists(st.sampled_from([1.0, 2.0, -0.0, 0.0, math.nan, math.inf, -math.inf, 31.0]), min_size=1, max_size=30),
    st.lists(st.sampled_from([1.0, 11.0, 30.0, math.nan]), min_size=30, max_size=30),
    OBJECTIVES,
    st.integers(1, 8),
)
def test_a_summary_agrees_with_its_twin(
    sharpe: list[float], trades: list[float], objective: Objective, keep: int
) -> None:
    table = with_metrics(sharpe=sharpe, total_trades=trades[: len(sharpe)])
    rows = table.to_pylist()
    scores = [(naive_score(row, objective), row["trial_id"]) for row in rows]
    ranked = sorted((pair for pair in scores if not math.isnan(pair[0])), key=lambda pair: (-pair[0], pair[1]))
    ok = sum(row["status"] == "ok" for row in rows)
    others = [row["reused_from"] for row in rows if row["reused_from"]]
    reused = tuple((name, others.count(name)) for name in sorted(set(others)))
    assert summarise(table, objective, keep) == Summary(ok, len(rows) - ok, tuple(ranked[:keep]), reused)


def test_scores_are_turned_so_that_more_is_better() -> None:
    table = with_metrics(max_drawdown=[0.1, 0.5, math.nan])
    assert signed_scores(table, Objective(minimize="max_drawdown")).tolist()[:2] == [-0.1, -0.5]
    strict = signed_scores(table, Objective(minimize="max_drawdown", require=("max_drawdown > 0.2",)))
    assert np.isnan(strict).tolist() == [True, False, True]


@given(st.lists(SPANS, max_size=5), OBJECTIVES)
def test_summaries_merge_as_their_rows_do(spans: list[tuple[int, int]], objective: Objective) -> None:
    done, merged = Ranges(), Summary()
    for span in spans:
        for start, stop in done.subtract(*span):
            merged = merged.merged(batch(start, stop, objective).summary, KEEP)
        done.add(*span)
    assert merged == summarise(world_in(done), objective, KEEP)
    assert Summary.from_json(merged.to_json()) == merged


@given(SPANS, st.lists(SPANS, max_size=4))
def test_without_keeps_the_rows_that_are_not_done(span: tuple[int, int], spans: list[tuple[int, int]]) -> None:
    done = Ranges(spans)
    whole, left = batch(*span), Ranges(done.subtract(*span))
    parts = without(whole, done, OBJECTIVE, KEEP)
    assert Ranges([(part.start, part.stop) for part in parts]) == left
    assert bits(rows_of(parts)) == bits(world_in(left))
    for part in parts:
        assert part == batch(part.start, part.stop)
    if left.to_list() == [span]:
        assert parts == [whole]


@given(st.sets(st.integers(0, NUMBERS), max_size=8), st.sets(st.integers(0, 8)), st.integers(1, 40))
def test_joining_keeps_every_row_and_leaves_large_batches_alone(cuts: set[int], drop: set[int], small: int) -> None:
    edges = sorted({0, *cuts, NUMBERS})
    batches = [batch(a, b) for i, (a, b) in enumerate(pairwise(edges)) if i not in drop]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "SMALL_ROWS", small)
        parts = join_small(batches, KEEP)
    assert sum(part.rows < small or ranges.total() != part.stop - part.start for ranges, part in parts) <= 1
    everything = Ranges()
    for ranges, part in parts:
        assert all(everything.overlap(*span) == 0 for span in ranges)
        for span in ranges:
            everything.add(*span)
        rows = decode(part.parquet)
        assert part.rows == rows.num_rows
        assert bits(rows) == bits(world_in(ranges))
        assert part.summary == summarise(rows, OBJECTIVE, KEEP)
    assert everything == Ranges([(b.start, b.stop) for b in batches])
    assert [part for _, part in parts if part in batches] == [b for b in batches if b.rows >= small] + (
        [b for b in batches if b.rows < small] if sum(b.rows < small for b in batches) == 1 else []
    )


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, False], pa.bool_()),
        (["a", "bc"], pa.string()),
        ([None, 5], pa.int64()),
        ([5, None], pa.int64()),
        ([None, 1, 0.5], pa.float64()),
        ([None, True], pa.bool_()),
        ([None, "a"], pa.string()),
        ([None], pa.float64()),
    ],
)
def test_a_parameter_has_a_column_of_its_type(values: list[object], kind: pa.DataType) -> None:
    space = SearchSpace({"p": values})
    field = result_schema(space, 4).field("p")
    assert field.type == kind
    assert pa.array(space.columns(np.arange(len(values)))["p"].tolist(), field.type).to_pylist() == values


def test_the_columns_of_a_row() -> None:
    schema = result_schema(SearchSpace({"b": [1], "a": [1]}), 4)
    blocks = ["block_return_sum", "block_return_sumsq", "block_trades"]
    assert schema.names == [
        "trial_id",
        "symbol",
        "timeframe",
        "b",
        "a",
        *METRICS,
        "status",
        "error",
        *blocks,
        "reused_from",
    ]
    assert schema.field("block_trades").type == pa.list_(pa.float64(), 4)
