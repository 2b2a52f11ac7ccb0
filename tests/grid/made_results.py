"""A small world of result rows, made without a backtest: what each trial number has to come out as."""

from typing import Any

import numpy as np
import pyarrow as pa

from grid.engine import METRICS
from grid.ranges import Ranges
from grid.results import BLOCK_COLUMNS, FAILED, OK, ResultBatch, batch_of, decode, result_schema
from grid.space import SearchSpace
from grid.spec import Objective

NUMBERS, KEEP = 120, 5
OBJECTIVE = Objective(maximize="sharpe", require=("total_trades >= 10",))


def _world() -> pa.Table:
    """One row for each trial number but the holes; ties, NaN scores and failures among them."""
    random = np.random.default_rng(5)
    ids = np.array([n for n in range(NUMBERS) if n % 7 != 3 and not 40 <= n < 48], dtype=np.int64)
    n = len(ids)
    metrics = random.normal(size=(n, len(METRICS)))
    metrics[:, METRICS.index("sharpe")] = np.where(random.random(n) < 0.1, np.nan, random.integers(-4, 5, n))
    metrics[:, METRICS.index("total_trades")] = random.integers(0, 100, n)
    failed = random.random(n) < 0.1
    metrics[failed] = np.nan
    schema = result_schema(SearchSpace({"a": range(NUMBERS), "b": [None, 0.5]}), 2)
    columns = [ids, ["X"] * n, ["1D"] * n, ids, [None if i % 2 else 0.5 for i in ids], *metrics.T]
    columns += [np.where(failed, FAILED, OK), [f"Boom: {i}" if bad else None for i, bad in enumerate(failed)]]
    columns += [list(random.normal(size=(n, 2))) for _ in BLOCK_COLUMNS]
    columns += [[None if i % 5 else f"earlier-{i % 2}" for i in ids]]
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)


WORLD = _world()
_IDS = WORLD["trial_id"].to_numpy()


def batch(start: int, stop: int, objective: Objective = OBJECTIVE) -> ResultBatch:
    """The answer to the trial numbers [start, stop)."""
    first, last = np.searchsorted(_IDS, [start, stop])
    return batch_of(WORLD.slice(first, last - first), (start, stop), objective, KEEP)


def bits(table: pa.Table) -> dict[str, tuple[list[bool], list[Any]]]:
    """A table by column, as what is null and every bit of what is not."""
    found = {}
    for name, column in zip(table.schema.names, table.combine_chunks().columns, strict=True):
        nested = pa.types.is_fixed_size_list(column.type)
        flat = pa.concat_arrays(column.chunks).flatten() if nested and table.num_rows else column
        exact = pa.types.is_floating(flat.type)
        values = flat.fill_null(0.0).to_numpy().view(np.int64).tolist() if exact else flat.to_pylist()
        found[name] = column.is_null().to_pylist(), values
    return found


def rows_of(batches: list[ResultBatch]) -> pa.Table:
    """All rows of the batches, by trial number."""
    table = pa.concat_tables([decode(b.parquet) for b in batches] or [WORLD.slice(0, 0)])
    return table.take(np.argsort(table["trial_id"].to_numpy(), kind="stable"))


def world_in(ranges: Ranges) -> pa.Table:
    """The rows of the trial numbers in `ranges`."""
    return WORLD.filter(pa.array([int(i) in ranges for i in _IDS]))
