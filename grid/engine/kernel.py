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

from grid.engine import accounts, execution, fills, lanes, marks, summary
from grid.engine.accounts import (
    ACCOUNTS,
    AFTER,
    BEST,
    DEALS,
    LOWS_HELD,
    WORST,
    BEFORE,
    BLOCK_END,
    CASH,
    CLOSES,
    COUNTS,
    ENTRY_PRICE,
    EQUITY,
    INLINE,
    LEAVE,
    LOW,
    NEVER,
    OPEN,
    OPENS,
    OPTIONS,
    PEAK,
    PEAK_BAR,
    PEAK_FROM,
    REASONS,
    RECORDED,
    RETURNS,
    RUIN,
    SIDE,
    SIGNAL,
    SUMS,
    TARGET,
    TRADE_COLUMNS,
    UNITS,
)
from grid.engine.execution import RULES, Rules
from grid.engine.fills import (
    buy_or_sell,
    close_position,
    find_stop,
    next_direction,
    next_entry,
    planned_exit,
    record,
)
from grid.engine.lanes import LANES, scratch
from grid.engine.marks import advance_block, mark_flat, mark_held
from grid.engine.summary import summarise

__all__ = ["REASONS", "TRADE_COLUMNS", "simulate"]


def _sources() -> int:
    """A number made of the files that `simulate` is compiled from."""
    digest = hashlib.sha256()
    for module in (accounts, execution, fills, lanes, marks, summary):
        digest.update(Path(str(module.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:7])


@njit(**INLINE)
def hold_position(
    a, c, deals, terms, sums, prices, masks, decision, direction, entry_bar, edges, blocks, rules, trades, curve
):
    """Carry one position to its end: (exit bar or n, next deciding bar, direction that follows at once or 0)."""
    close = prices[CLOSES]
    n = close.shape[0]
    exit_bar, reason, decided = planned_exit(masks, decision, direction, entry_bar, n, rules)
    if exit_bar >= n - 1 + rules.last_fill:
        exit_bar = n
    price = prices[CLOSES if rules.at_close else OPENS][np.uint64(min(exit_bar, n - 1))]
    leave = terms[c[SIDE] + LEAVE]
    if rules.stop_loss > 0 or rules.take_profit > 0 or rules.trailing_stop > 0:
        first = entry_bar + (1 if rules.at_close else rules.stops_wait)
        last = min(exit_bar if rules.at_close or rules.stops_first else exit_bar - 1, n - 1)
        base = close[decision] if rules.stops_on_signal else a[ENTRY_PRICE]
        hit, level, why = find_stop(prices, (first, last), direction, (base, a[ENTRY_PRICE]), rules)
        if why != OPEN:
            exit_bar, price, reason = hit, level, why
            if why == TARGET and not rules.targets_slip:  # a limit order does not slip by itself
                leave = 1.0
    marked = mark_held(a, c, sums, close, prices[RETURNS], entry_bar, exit_bar, edges, blocks, rules, curve)
    if marked < exit_bar:
        exit_bar, price, reason, leave = marked, close[marked], RUIN, terms[c[SIDE] + LEAVE]
    if exit_bar >= n:
        return n, n, 0
    advance_block(a, c, sums, exit_bar, edges, blocks, rules)
    close_position(a, c, deals, terms, price * leave, exit_bar, reason, rules, trades)
    if reason == RUIN:
        return exit_bar, n, 0
    follow = next_direction(masks, decided, direction, rules) if reason == SIGNAL else 0
    next_decision = exit_bar + 1 - rules.lag
    if rules.cooldown > 0:
        next_decision = max(next_decision, exit_bar + rules.cooldown)
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
def run_trial(prices, masks, edges, numbers, row, blocks, trades, curve):
    """See `simulate`."""
    close, rules, terms = prices[CLOSES], rules_of(numbers), numbers[RULES:]
    n = close.shape[0]
    a, c, sums = scratch(ACCOUNTS, np.float64), scratch(COUNTS, np.int64), scratch(SUMS, np.float64)
    deals = scratch(DEALS, np.float64)
    a[CASH] = a[EQUITY] = a[BEFORE] = a[PEAK] = a[LOW] = rules.cash
    c[PEAK_BAR] = c[PEAK_FROM] = -1
    a[AFTER] = sums[LOWS_HELD : LOWS_HELD + LANES] = np.inf
    deals[BEST : BEST + LANES], deals[WORST : WORST + LANES] = -np.inf, np.inf
    c[BLOCK_END] = edges[1]
    unmarked, decision, follow = 0, 0, 0
    while unmarked < n:
        if follow != 0:
            bar, direction = unmarked, follow
            decision = bar - rules.lag
        else:
            decision, direction = next_entry(masks, decision, n, rules)
            bar = decision + rules.lag
            if bar >= n - 1 + rules.last_fill:
                bar = n
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
    if a[UNITS] != 0.0:
        record(a, c, trades, close[n - 1], n - 1, OPEN, rules)
    summarise(a, c, sums, deals, close, edges, blocks, rules, row)
    return c[RECORDED]


def _compiled(sources: int) -> Any:
    """`simulate`, compiled anew where one of its files changed.

    Numba's disk cache looks at the file of the function alone, and would go on using old helpers from others. It also
    looks at what the function closes over: so it closes over a number made of those files.
    """

    @njit(cache=True, **OPTIONS)
    def simulate(prices, masks, edges, numbers, row, blocks, trades, curve):
        """Backtest one trial; returns the number of trades recorded.

        prices: open, high, low, close, and the return to each close from the one before it, float64[n] each. masks:
        entries, exits, short entries and short exits, uint64[words] each, little bit order, no bit beyond n; those of a
        side that is not traded are not read.
        edges: int64[S + 1] row numbers, from 0 to n. numbers: the Rules as floats, and the terms of fills after them.
        Written: row float64[len(METRICS)]; blocks float64[3, S] (sum of r, sum of r^2, closed trades); trades
        float64[k, TRADE_COLUMNS], the first k trades, the open one last; curve float64[n] (or [0]), the equity.
        """
        _ = sources
        return run_trial(prices, masks, edges, numbers, row, blocks, trades, curve)

    return simulate


simulate = _compiled(_sources())
