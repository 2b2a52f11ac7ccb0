"""The compiled backtest: four signal masks and prices in, one row of metrics and block moments out.

It takes arrays and scalars and knows no objects; `grid/engine/backtest.py` has the manners. The same semantics one bar
at a time, slow and obvious, are in `tests/naive.py`.

Money lives in float64 arrays and counts in an int64 one, indexed by the names of accounts.py, so that helpers can share
them.
"""

import hashlib
from pathlib import Path
from typing import Any

from numba import njit

from grid.engine import (
    accounts,
    chunks,
    execution,
    fills,
    lanes,
    marks,
    plans,
    positions,
    summary,
    tables,
    trial,
    vectors,
)
from grid.engine.accounts import OPTIONS, REASONS, TRADE_COLUMNS
from grid.engine.chunks import run_by_chunks
from grid.engine.plans import follows_masks
from grid.engine.positions import run_by_positions

__all__ = ["REASONS", "TRADE_COLUMNS", "simulate"]

COMPILED = (accounts, chunks, execution, fills, lanes, marks, plans, positions, summary, tables, trial, vectors)


def _sources() -> int:
    """A number made of the files that `simulate` is compiled from."""
    digest = hashlib.sha256()
    for module in COMPILED:
        digest.update(Path(str(module.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:7])


def _compiled(sources: int) -> Any:
    """`simulate`, compiled anew where one of its files changed.

    Numba's disk cache looks at the file of the function alone, and would go on using old helpers from others. It also
    looks at what the function closes over: so it closes over a number made of those files.
    """

    @njit(cache=True, **OPTIONS)
    def simulate(prices, masks, edges, numbers, inner, row, blocks, trades, curve):
        """Backtest one trial; returns the number of trades recorded.

        prices: open, high, low, close, and the return to each close from the one before it, float64[n] each; then the
        tables of tables.py, or nothing, where trials are to go position by position. masks: entries, exits, short
        entries and short exits, uint64[words] each, little bit order, no bit beyond n; those of a side that is not
        traded are not read. inner: uint64[words], scratch.
        edges: int64[S + 1] row numbers, from 0 to n. numbers: the Rules as floats, and the terms of fills after them.
        Written: row float64[len(METRICS)]; blocks float64[3, S] (sum of r, sum of r^2, closed trades); trades
        float64[k, TRADE_COLUMNS], the first k trades, the open one last; curve float64[n] (or [0]), the equity.
        """
        _ = sources
        if follows_masks(prices, masks, numbers):
            recorded = run_by_chunks(prices, masks, edges, numbers, inner, row, blocks, trades, curve)
            if recorded >= 0:
                return recorded
        return run_by_positions(prices, masks, edges, numbers, row, blocks, trades, curve)

    return simulate


simulate = _compiled(_sources())
