"""The compiled backtest: four signal masks and prices in, one row of metrics and block moments out.

One pass over the events of a trial. While flat it jumps from one set bit of the entry masks to the next; while in a
position it knows the bar of the exit beforehand, so that all between is marked in one go. It takes arrays and scalars
and knows no objects; `grid/engine/backtest.py` has the manners. The same semantics one bar at a time, slow and obvious,
are in `tests/naive.py`.

Money lives in one float64 array `a` and counts in one int64 array `c`, indexed by the names of accounts.py, so that
helpers can share them.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from grid.engine import accounts, all_in, execution, fills, lanes, marks, plans, summary, vectors
from grid.engine.accounts import (
    ACCOUNTS,
    AFTER,
    BEFORE,
    BEST,
    BLOCK_END,
    CASH,
    CLOSES,
    COUNTS,
    DEALS,
    ENTRY_BAR,
    ENTRY_PRICE,
    EQUITY,
    INLINE,
    LANES,
    LEAVE,
    LONG,
    LOW,
    LOWS_HELD,
    NEVER,
    OPEN,
    OPENS,
    OPTIONS,
    PEAK,
    PEAK_BAR,
    PEAK_FROM,
    REASONS,
    RECORDED,
    REST,
    RUIN,
    SIDE,
    SUMS,
    TABLES,
    TRADE_COLUMNS,
    TRADES,
    UNITS,
    WORST,
)
from grid.engine.all_in import run_all_in
from grid.engine.execution import RULES, Rules
from grid.engine.fills import book_waiting, buy_or_sell, close_position, plan_entry, plan_exit, plan_next, record
from grid.engine.lanes import room
from grid.engine.marks import advance_block, mark_flat, mark_held
from grid.engine.plans import follows_masks
from grid.engine.summary import summarise

__all__ = ["REASONS", "TRADE_COLUMNS", "simulate"]


def _sources() -> int:
    """A number made of the files that `simulate` is compiled from."""
    digest = hashlib.sha256()
    for module in (accounts, all_in, execution, fills, lanes, marks, plans, summary, vectors):
        digest.update(Path(str(module.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:7])


@njit(**INLINE)
def hold_position(
    a, c, deals, terms, sums, prices, masks, decision, direction, entry_bar, edges, blocks, rules, trades, curve
):
    """Carry one position to its end: (exit bar or n, next deciding bar, direction that follows at once or 0)."""
    close = prices[CLOSES]
    n = close.shape[0]
    exit_bar, fill, reason, decided = plan_exit(
        prices, masks, (decision, direction, entry_bar), a[ENTRY_PRICE], terms, rules
    )
    marked = mark_held(a, c, sums, close, entry_bar, exit_bar, edges, blocks, rules, curve)
    if marked < exit_bar:
        exit_bar, fill, reason = marked, close[marked] * terms[c[SIDE] + LEAVE], RUIN
    if exit_bar >= n:
        return n, n, 0
    advance_block(a, c, sums, exit_bar, edges, blocks, rules)
    close_position(a, c, deals, terms, fill, exit_bar, reason, rules, trades)
    if reason == RUIN:
        return exit_bar, n, 0
    next_decision, follow = plan_next(masks, exit_bar, reason, decided, direction, rules)
    return exit_bar, next_decision, follow


@njit(**INLINE)
def rules_of(x):
    """The rules as they were before `Engine` made an array of them, which costs less to pass.

    Flags become integers first: a test of one is two instructions then, and four where it stays a float. Without a
    holding time, one that never ends spares testing for it.
    """
    return Rules(
        x[0],
        x[1],
        x[2],
        x[3],
        int(x[4]) != 0,
        int(x[5]) != 0,
        int(x[6]),
        int(x[7]) != 0,
        int(x[8]) != 0,
        x[9],
        x[10],
        x[11],
        int(x[12]) if x[12] > 0 else NEVER,
        int(x[13]),
        x[14],
        x[15],
        int(x[16]) != 0,
        int(x[17]) != 0,
        int(x[18]),
        int(x[19]) != 0,
        int(x[20]) != 0,
        int(x[21]) != 0,
        int(x[22]) != 0,
    )


@njit(**INLINE)
def run_trial(prices, masks, edges, numbers, inner, row, blocks, trades, curve):
    """See `simulate`."""
    close, rules, terms = prices[CLOSES], rules_of(numbers), numbers[RULES:]
    a, c, sums = room(ACCOUNTS, np.float64), room(COUNTS, np.int64), room(SUMS, np.float64)
    deals = room(DEALS, np.float64)
    a[:], c[:], sums[:], deals[:] = 0.0, 0, 0.0, 0.0
    a[CASH] = a[EQUITY] = a[BEFORE] = a[PEAK] = a[LOW] = rules.cash
    c[PEAK_BAR] = c[PEAK_FROM] = -1
    a[AFTER] = sums[LOWS_HELD : LOWS_HELD + LANES] = np.inf
    deals[BEST : BEST + LANES], deals[WORST : WORST + LANES] = -np.inf, np.inf
    c[BLOCK_END] = edges[1]
    tabled = rules.fast_path and terms[LONG + REST] == 0.0 and prices[TABLES].shape[0] > 0
    if tabled and follows_masks(masks, rules):
        run_all_in(a, c, deals, terms, sums, prices, masks, inner, edges, blocks, rules, trades, curve)
    else:
        run_any(a, c, deals, terms, sums, prices, masks, edges, blocks, rules, trades, curve)
    if a[UNITS] != 0.0:
        n = close.shape[0]
        record(c, trades, (a[UNITS], a[ENTRY_PRICE], c[ENTRY_BAR]), (close[n - 1], n - 1, OPEN), rules)
    summarise(a, c, sums, deals, close, edges, blocks, rules, row)
    return c[RECORDED]


@njit(**INLINE)
def run_any(a, c, deals, terms, sums, prices, masks, edges, blocks, rules, trades, curve):
    """Go through a trial position by position."""
    close = prices[CLOSES]
    n = close.shape[0]
    unmarked, decision, follow = 0, 0, 0
    while unmarked < n:
        bar, direction, decision = plan_entry(masks, decision, follow, unmarked, n, rules)
        mark_flat(a, c, sums, close, unmarked, bar, edges, blocks, rules, curve)
        unmarked = bar
        if bar == n:
            break
        price = prices[CLOSES if rules.at_close else OPENS][np.uint64(bar)]
        follow = 0
        if buy_or_sell(a, c, terms, direction, price, bar, rules):
            unmarked, decision, follow = hold_position(
                a, c, deals, terms, sums, prices, masks, decision, direction, bar, edges, blocks, rules, trades, curve
            )
        else:
            decision += 1
    book_waiting(deals, c[TRADES] % LANES, rules.fee)


def _compiled(sources: int) -> Any:
    """`simulate`, compiled anew where one of its files changed.

    Numba's disk cache looks at the file of the function alone, and would go on using old helpers from others. It also
    looks at what the function closes over: so it closes over a number made of those files.
    """

    @njit(cache=True, **OPTIONS)
    def simulate(prices, masks, edges, numbers, inner, row, blocks, trades, curve):
        """Backtest one trial; returns the number of trades recorded.

        prices: open, high, low, close, and the return to each close from the one before it, float64[n] each; then the
        tables of all_in.py, or nothing, where trials are to go position by position. masks: entries, exits, short
        entries and short exits, uint64[words] each, little bit order, no bit beyond n; those of a side that is not
        traded are not read. inner: uint64[words], scratch.
        edges: int64[S + 1] row numbers, from 0 to n. numbers: the Rules as floats, and the terms of fills after them.
        Written: row float64[len(METRICS)]; blocks float64[3, S] (sum of r, sum of r^2, closed trades); trades
        float64[k, TRADE_COLUMNS], the first k trades, the open one last; curve float64[n] (or [0]), the equity.
        """
        _ = sources
        return run_trial(prices, masks, edges, numbers, inner, row, blocks, trades, curve)

    return simulate


simulate = _compiled(_sources())
