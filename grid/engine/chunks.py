"""Trials that are all in on the long side, or flat, by masks alone: hundreds of trades at a time.

What a trade does to such an account does not depend on what the account has: it multiplies it. So trades are planned
first (plans.py), then the cash is multiplied from trade to trade, and then all else is reckoned, eight trades or eight
bars at a time and with few branches that a processor has to guess:

- The return of a bar that is held as the one before it is that of the price. These are a row, made once for the data,
  and are summed up under a mask. The returns to the bar of an entry, and to that of an exit, are divided for.
- The highest and the lowest close of a position are looked up as bounds: those of whole stretches of 32 bars. Only
  where they could make a new peak, a deeper fall, or the loss of the account, are the closes themselves looked at.

Peaks and falls are as in marks.py, and to the bit those of the loop over every bar.
"""

import numpy as np
from numba import njit

from grid.engine.accounts import (
    ACCOUNTS,
    AFTER,
    BLOCK_END,
    CASH,
    CLOSES,
    COUNTS,
    DEALS,
    ENTRY_BAR,
    ENTRY_PRICE,
    EQUITY,
    HELD_BARS,
    INLINE,
    LANES,
    LEAVE,
    LONG,
    MARKED_BARS,
    NEVER,
    OPTIONS,
    PEAK,
    PROCEEDS,
    RETURNS,
    RUIN,
    RUINED,
    SIGNAL,
    SUM_EQUITY,
    SUMS,
    TABLES,
    TRADES,
    UNITS,
)
from grid.engine.execution import RULES
from grid.engine.fills import book, record
from grid.engine.lanes import bar_sums, change_sums, equity_sums, most_and_least, room
from grid.engine.marks import end_block, follow_peak, lowest, mark_cash
from grid.engine.plans import CHUNK, MORE, TURNS, ZERO, Plan, clear_from, plan_trades
from grid.engine.tables import bounds
from grid.engine.trial import begin_trial, end_trial, rules_of

LARGEST = 1e150
"""Cash with which nothing overflows, at tame prices."""


@njit(**OPTIONS)
def run_by_chunks(prices, masks, edges, numbers, inner, row, blocks, trades, curve):
    """See `simulate`; for trials of `follows_masks`. -1 where the account overflows, and is to go by positions.

    Not compiled into `simulate`, as nothing would be gained.
    """
    close, rules, terms = prices[CLOSES], rules_of(numbers), numbers[RULES:]
    a, c, sums = room(ACCOUNTS, np.float64), room(COUNTS, np.int64), room(SUMS, np.float64)
    deals = room(DEALS, np.float64)
    begin_trial(a, c, sums, deals, rules.cash, edges)
    if not run_chunks(a, c, deals, terms, sums, prices, masks, inner, edges, blocks, rules, trades, curve):
        return -1
    return end_trial(a, c, sums, deals, close, edges, blocks, rules, row, trades)


@njit(**INLINE)
def run_chunks(a, c, deals, terms, sums, prices, masks, inner, edges, blocks, rules, trades, curve):
    """Go through a trial a chunk of trades at a time; False where the account grew too large for that."""
    close = prices[CLOSES]
    n = close.shape[0]
    turns = room(TURNS, np.int64)
    plan = Plan(
        room(MORE, np.int64),
        room(MORE, np.int64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(CHUNK, np.float64),
        room(MORE, np.float64),
        room(MORE, np.float64),
    )
    plan.leaves[0], plan.cash[0], plan.lasts[0] = 0, a[CASH], a[CASH]
    state, more = (ZERO, np.uint64(0), ZERO), True
    passed, summed, held = ZERO, ZERO, False
    while more:
        count, more, state = plan_trades(plan, turns, state, terms, prices, masks, inner, rules)
        look_up(plan, count, close, prices[TABLES])
        if carry_account(plan, count, terms, rules) > LARGEST:
            return False
        count, alive, ruined = follow_account(a, c, sums, plan, count, close, terms, rules)
        if not alive:
            more = False
            clear_from(inner, plan.leaves[count])
        held = plan.leaves[count] >= n
        idle = not (more or held)
        if idle:
            end_flat(a, c, sums, plan, count, close)
        sum_equity(a, c, sums, plan, count, close, prices[TABLES])
        write_down(c, plan, count, idle, ruined, close, rules, trades, curve)
        book_trades(deals, plan, count - held, rules)
        span = (passed, count, count + idle, summed)
        summed = sum_changes(a, c, sums, plan, span, prices[RETURNS], inner, edges, blocks, rules)
        passed += count
        plan.leaves[0], plan.cash[0], plan.lasts[0] = plan.leaves[count], plan.cash[count], plan.lasts[count]
    c[TRADES] = passed - held
    a[CASH], a[EQUITY], a[UNITS] = plan.cash[count], plan.cash[count], 0.0
    if held:
        a[CASH], a[EQUITY] = 0.0, plan.lasts[count]
        a[UNITS], a[ENTRY_PRICE], c[ENTRY_BAR] = plan.units[count - 1], plan.entries[count - 1], plan.starts[count - 1]
    while c[BLOCK_END] < NEVER:
        summed = end_summed(a, c, sums, summed, prices[RETURNS], inner, edges, blocks, rules)
    return True


@njit(**INLINE)
def look_up(plan, count, close, table):
    """What the data says of the planned trades, whatever the account has."""
    n = close.shape[0]
    for k in range(count):
        start, stop = plan.starts[k], plan.leaves[k + 1]
        plan.opening[k], plan.closing[k] = close[np.uint64(start)], close[np.uint64(stop - 1)]
        plan.highs[k], plan.lows[k] = bounds(table, n, start, stop)


@njit(**INLINE)
def carry_account(plan, count, terms, rules):
    """Carry the account through the planned trades; the most cash it has."""
    cash = most = plan.cash[0]
    for k in range(count):
        units = cash * (rules.size / (plan.entries[k] * (1.0 + rules.fee)))
        cash = units * (plan.exits[k] * terms[LONG + PROCEEDS])
        plan.units[k], plan.cash[k + 1] = units, cash
        most = max(most, cash)
    for k in range(count):
        plan.opening[k] *= plan.units[k]
        plan.lasts[k + 1] = plan.closing[k] * plan.units[k]
        plan.highs[k] *= plan.units[k]
        plan.lows[k] *= plan.units[k]
    return most


@njit(**INLINE)
def follow_account(a, c, sums, plan, count, close, terms, rules):
    """Follow the peak, and the low since: (how many trades the account goes through, whether it lives, if it is lost
    within the last of them)."""
    nothing, peak = RUINED * rules.cash, a[PEAK]
    first, bound = 0, np.inf  # of the lows that wait to be looked up
    for k in range(count):
        cash = plan.cash[k]
        a[AFTER] = min(a[AFTER], cash)
        if max(cash, plan.highs[k]) >= peak or min(cash, plan.lows[k]) <= nothing:
            if cash >= peak:
                settle_lows(a, sums, plan, (first, k, bound), close)
                first, bound, a[CASH] = k, np.inf, cash
                mark_cash(a, c, sums, close, plan.leaves[k], plan.starts[k])
            if cash <= nothing:
                settle_lows(a, sums, plan, (first, k, bound), close)
                return k, False, False
            lost = plan.lows[k] <= nothing and ruin(plan, k, close, nothing, terms)
            if plan.highs[k] >= a[PEAK]:
                settle_lows(a, sums, plan, (first, k, bound), close)
                first, bound, a[CASH], a[UNITS] = k + 1, np.inf, 0.0, plan.units[k]
                plan.lows[k] = np.inf
                mark_peak(a, c, sums, close, plan.starts[k], plan.leaves[k + 1])
            peak = a[PEAK]
            if lost:
                settle_lows(a, sums, plan, (first, k + 1, min(bound, plan.lows[k])), close)
                return k + 1, False, True
        bound = min(bound, plan.lows[k])
    settle_lows(a, sums, plan, (first, count, bound), close)
    return count, True, False


@njit(**INLINE)
def ruin(plan, k, close, nothing, terms):
    """Whether the account is lost at a close of trade k, which ends there then."""
    start, stop, units = plan.starts[k], plan.leaves[k + 1], plan.units[k]
    bar = start
    while bar < stop and units * close[bar] > nothing:
        bar += 1
    if bar == stop:
        return False
    plan.leaves[k + 1], plan.exits[k] = bar, close[bar] * terms[LONG + LEAVE]
    plan.cash[k + 1] = units * (plan.exits[k] * terms[LONG + PROCEEDS])
    plan.lasts[k + 1] = units * close[bar - 1] if bar > start else plan.cash[k]
    plan.opening[k] = plan.opening[k] if bar > start else plan.cash[k]
    return True


@njit(**INLINE)
def settle_lows(a, sums, plan, waiting, close):
    """Look up the lowest equity of the trades [first, stop) that wait for it, where it could be below the lowest known.

    waiting: first, stop, and the lowest of the bounds. That one is looked up first, so that few others need it.
    """
    first, stop, bound = waiting
    low = lowest(a, sums)
    if bound >= low:
        return
    for k in range(first, stop):
        if plan.lows[k] == bound:
            low = min(low, low_of(plan, k, close))
    for k in range(first, stop):
        if plan.lows[k] < low:
            low = min(low, low_of(plan, k, close))
    a[AFTER] = min(a[AFTER], low)


@njit(**INLINE)
def low_of(plan, k, close):
    """The lowest equity in a trade."""
    return plan.units[k] * most_and_least(close, (plan.starts[k], plan.leaves[k + 1]))[1]


@njit(**INLINE)
def mark_peak(a, c, sums, close, start, stop):
    """Mark a position that may reach the peak."""
    most, least = most_and_least(close, (start, stop))
    most, least = a[UNITS] * most, a[UNITS] * least
    if most >= a[PEAK]:
        follow_peak(a, c, sums, close, start, stop, most, least)
    else:
        a[AFTER] = min(a[AFTER], least)


@njit(**INLINE)
def end_flat(a, c, sums, plan, count, close):
    """The bars after the last trade: as before a trade that comes when all is over."""
    bar, n, a[CASH] = plan.leaves[count], close.shape[0], plan.cash[count]
    plan.starts[count] = n
    c[MARKED_BARS] += 1
    a[SUM_EQUITY] += a[CASH] * (n - bar)
    if a[CASH] >= a[PEAK]:
        mark_cash(a, c, sums, close, bar, n)
    a[AFTER] = min(a[AFTER], a[CASH])


@njit(**INLINE)
def sum_equity(a, c, sums, plan, count, close, table):
    """Sum up the equity, and count the bars and their returns.

    There are two returns at a trade's turns even where it has no bar, as the account is lost at once; and one at bar 0.
    Those are 0, and the downside takes them off again as it does bars without a return.
    """
    flat, bars, marked = 0.0, 0, 0
    for k in range(count):
        start, stop, units = plan.starts[k], plan.leaves[k + 1], plan.units[k]
        flat += plan.cash[k] * (start - plan.leaves[k])
        equity_sums(close, table, sums, (start, stop), units)
        bars += stop - start
        marked += max(stop - start, 1) + 1
    a[SUM_EQUITY] += flat
    c[HELD_BARS] += bars
    c[MARKED_BARS] += marked


@njit(**INLINE)
def book_trades(deals, plan, count, rules):
    """Book the first trades of a chunk, which are closed."""
    for first in range(0, count, LANES):
        book(deals, plan.entries[first:], plan.exits[first:], plan.units[first:], min(LANES, count - first), rules.fee)


@njit(**INLINE)
def sum_changes(a, c, sums, plan, span, returns, inner, edges, blocks, rules):
    """Sum up the returns to the bars of exits and entries, and those of the price in all blocks that end before them.

    span: how many trades came before the chunk, the entries of it, its exits with that before it, and the first bar
    whose returns are not summed up; returns the latter.
    """
    passed, entries, exits, summed = span
    free, i, j = rules.risk_free_per_bar, ZERO, ZERO
    while True:
        next_i = first_from(plan.starts, i, entries, c[BLOCK_END])
        next_j = first_from(plan.leaves, j, exits, c[BLOCK_END])
        change_sums(plan.cash, plan.lasts, sums, (j, next_j), free)
        change_sums(plan.opening, plan.cash, sums, (i, next_i), free)
        i, j = next_i, next_j
        if i == entries and j == exits:
            return summed
        c[TRADES] = max(passed + j - 1, 0)
        summed = end_summed(a, c, sums, summed, returns, inner, edges, blocks, rules)


@njit(**INLINE)
def end_summed(a, c, sums, summed, returns, inner, edges, blocks, rules):
    """Sum up the returns of the price from a bar on to the end of the block, which is returned, and end that."""
    stop = c[BLOCK_END]
    bar_sums(returns, inner, sums, (summed, stop), rules.risk_free_per_bar)
    end_block(a, c, sums, edges, blocks, rules)
    return stop


@njit(**INLINE)
def first_from(bars, start, stop, bar):
    """The first place in [start, stop) that holds `bar` or a later one, by halving."""
    while start < stop:
        middle = (start + stop) // 2
        if bars[middle] < bar:
            start = middle + 1
        else:
            stop = middle
    return start


@njit(**INLINE)
def write_down(c, plan, count, idle, ruined, close, rules, trades, curve):
    """Write down the trades of a chunk and the equity, where the caller gave room for them."""
    n = close.shape[0]
    for k in range(count if trades.shape[0] > 0 else 0):
        if plan.leaves[k + 1] < n:
            reason = RUIN if ruined and k == count - 1 else SIGNAL
            bought = (plan.units[k], plan.entries[k], plan.starts[k])
            record(c, trades, bought, (plan.exits[k], plan.leaves[k + 1], reason), rules)
    if curve.shape[0] == 0:
        return
    for k in range(count):
        curve[plan.leaves[k] : plan.starts[k]] = plan.cash[k]
        for bar in range(plan.starts[k], plan.leaves[k + 1]):
            curve[bar] = plan.units[k] * close[bar]
    if idle:
        curve[plan.leaves[count] :] = plan.cash[count]
