"""Trials of any kind, position by position.

While flat it jumps from one set bit of the entry masks to the next; while in a position it knows the bar of the exit
beforehand, so that all between is marked in one go.
"""

import numpy as np
from numba import njit

from grid.engine.accounts import (
    ACCOUNTS,
    CLOSES,
    COUNTS,
    DEALS,
    ENTRY_PRICE,
    INLINE,
    LANES,
    LEAVE,
    OPENS,
    RUIN,
    SIDE,
    SUMS,
    TRADES,
)
from grid.engine.execution import RULES
from grid.engine.fills import book_waiting, buy_or_sell, close_position, plan_entry, plan_exit, plan_next
from grid.engine.lanes import room
from grid.engine.marks import advance_block, mark_flat, mark_held
from grid.engine.trial import begin_trial, end_trial, rules_of

ZERO = np.int64(0)


@njit(**INLINE)
def run_by_positions(prices, masks, edges, numbers, row, blocks, trades, curve):
    """See `simulate`."""
    close, rules, terms = prices[CLOSES], rules_of(numbers), numbers[RULES:]
    a, c, sums = room(ACCOUNTS, np.float64), room(COUNTS, np.int64), room(SUMS, np.float64)
    deals = room(DEALS, np.float64)
    begin_trial(a, c, sums, deals, rules.cash, edges)
    run_positions(a, c, deals, terms, sums, prices, masks, edges, blocks, rules, trades, curve)
    return end_trial(a, c, sums, deals, close, edges, blocks, rules, row, trades)


@njit(**INLINE)
def run_positions(a, c, deals, terms, sums, prices, masks, edges, blocks, rules, trades, curve):
    """Go through a trial position by position."""
    close = prices[CLOSES]
    n = close.shape[0]
    unmarked, decision, follow = ZERO, ZERO, ZERO
    while unmarked < n:
        bar, direction, decision = plan_entry(masks, decision, follow, unmarked, n, rules)
        mark_flat(a, c, sums, close, unmarked, bar, edges, blocks, rules, curve)
        unmarked = bar
        if bar == n:
            break
        price = prices[CLOSES if rules.at_close else OPENS][np.uint64(bar)]
        follow = ZERO
        if buy_or_sell(a, c, terms, direction, price, bar, rules):
            unmarked, decision, follow = hold_position(
                a, c, deals, terms, sums, prices, masks, decision, direction, bar, edges, blocks, rules, trades, curve
            )
        else:
            decision += 1
    book_waiting(deals, c[TRADES] % LANES, rules.fee)


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
