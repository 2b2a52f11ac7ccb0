"""Trials that are all in on the long side, or flat: many trades at a time.

What a trade does to such an account does not depend on what the account has: it multiplies it. So some hundred trades are
planned first, from masks and prices alone; then the cash is multiplied from trade to trade; and then all else is
reckoned, eight trades or eight bars at a time, without a branch that a processor has to guess:

- Returns of a bar after another in the same position are those of the price. They are a row, made once for the data, and
  are summed under the mask of such bars. The return to the bar of an entry, and to that of an exit, are divided for.
- The highest and the lowest close of a position are looked up as bounds: those of whole stretches of 16 bars. Only where
  they could make a new peak, a deeper fall, or the loss of the account, are the closes themselves looked at.

The rest is as in marks.py, whose falls these are to the bit.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers
from numpy.typing import NDArray

from grid.engine.accounts import (
    AFTER,
    BLOCK_END,
    CASH,
    CLOSES,
    ENTRY_BAR,
    ENTRY_PRICE,
    EQUITY,
    HELD_BARS,
    INLINE,
    LEAVE,
    LONG,
    MARKED_BARS,
    NEVER,
    PEAK,
    PROCEEDS,
    RETURNS,
    RUIN,
    RUINED,
    SUM_EQUITY,
    TABLES,
    TRADES,
    UNITS,
)
from grid.engine.fills import book, record
from grid.engine.lanes import LANES, bar_sums, change_sums, most_and_least, part_sum, scratch
from grid.engine.marks import end_block, follow_peak, lowest, mark_cash
from grid.engine.plans import CHUNK, ROOM, TURNS, Plan, follows_bits, plan_bits, plan_trades

STRETCH, LEVELS = 16, 6
leading_zeros: Any = numbers.leading_zeros
ONE, TWO = np.uint64(1), np.uint64(2)
TAME = 1e100
"""Prices up to it, and down to its inverse, can be multiplied and divided without a thought."""


def tables(close: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `run_all_in` looks up: float64, or nothing where a price is not tame.

    First the sums of all closes before each eighth bar; then, for 1, 2, 4 up to 32 stretches of 16 bars, from each on,
    the highest close in them and the lowest.
    """
    n = len(close)
    if n == 0 or not 1 / TAME < close.min() <= close.max() < TAME:
        return np.empty(0)
    eights = np.add.reduceat(close, np.arange(0, n, LANES))
    parts = [np.concatenate([[0.0], np.cumsum(eights)])]
    high, low = (join.reduceat(close, np.arange(0, n, STRETCH)) for join in (np.maximum, np.minimum))
    for k in range(LEVELS):
        parts.append(np.column_stack([high, low]).ravel())
        later = np.minimum(np.arange(len(high)) + 2**k, len(high) - 1)
        high, low = np.maximum(high, high[later]), np.minimum(low, low[later])
    return np.concatenate(parts)


@njit(**INLINE)
def bounds(table, n, start, stop):
    """Bounds of the closes in [start, stop): none is higher than the first, none lower than the second."""
    eights, count = (n + LANES - 1) // LANES + 1, (n + STRETCH - 1) // STRETCH
    first, last = start // STRETCH, (stop - 1) // STRETCH
    level = min(63 - leading_zeros(last - first + 1), LEVELS - 1)
    step, pairs = 2 << level, eights + 2 * level * count
    first, last = pairs + 2 * first, pairs + 2 * (last + 1) - step
    most, least = table[np.uint64(last)], table[np.uint64(last + 1)]
    while True:
        most, least = max(most, table[np.uint64(first)]), min(least, table[np.uint64(first + 1)])
        first += step
        if first >= last:
            break
    return most, least


@njit(**INLINE)
def set_bits(mask, start, stop):
    """Set the bits [start, stop)."""
    word = start >> 6
    ahead = ~np.uint64(0) << np.uint64(start & 63)
    while word << 6 < stop:
        left = stop - (word << 6)
        bits = ahead if left >= 64 else ahead & ((np.uint64(1) << np.uint64(left)) - np.uint64(1))
        mask[np.uint64(word)] |= bits
        ahead = ~np.uint64(0)
        word += 1


@njit(**INLINE)
def run_all_in(a, c, deals, terms, sums, prices, masks, held, edges, blocks, rules, trades, curve):
    """Go through a trial a chunk of trades at a time."""
    n = prices[CLOSES].shape[0]
    plan = Plan(
        scratch(ROOM, np.int64),
        scratch(CHUNK, np.int64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(CHUNK, np.float64),
        scratch(TURNS, np.float64),
        scratch(TURNS, np.float64),
    )
    held[:] = 0
    state, bits = (0, 0, 0, True), follows_bits(masks, rules)
    passed, summed = 0, 0
    while True:
        if bits:
            count, state = plan_bits(plan, state, terms, prices, masks, rules)
        else:
            count, state = plan_trades(plan, state, terms, prices, masks, rules)
        look_up(plan, count, prices[CLOSES], prices[TABLES])
        count, alive = reckon_trades(a, c, sums, plan, count, terms, prices[CLOSES], rules)
        mask_trades(c, plan, count, held)
        if trades.shape[0] > 0 or curve.shape[0] > 0:
            write_down(c, plan, count, prices[CLOSES], rules, trades, curve)
        bar = plan.turns[2 * count]
        ends = not (alive and state[3])
        if ends and bar < n:
            end_flat(a, c, sums, plan, count, prices[CLOSES], rules, curve)
        turns = 2 * count + (1 if ends and bar < n else 0)
        book_trades(deals, plan, count - (1 if bar >= n else 0), rules)
        summed = sum_turns(a, c, sums, plan, (passed, turns, summed), prices[RETURNS], held, edges, blocks, rules)
        passed += turns
        if ends:
            break
        plan.turns[0] = bar
    c[TRADES] = max(passed - 1, 0) // 2
    while c[BLOCK_END] < NEVER:
        bar_sums(prices[RETURNS], held, sums, (summed, c[BLOCK_END]), rules.risk_free_per_bar)
        summed = c[BLOCK_END]
        end_block(a, c, sums, edges, blocks, rules)


@njit(**INLINE)
def look_up(plan, count, close, table):
    """What the data says of the planned trades, whatever the account has."""
    n = close.shape[0]
    for k in range(count):
        start, stop = plan.turns[np.uint64(2 * k + 1)], plan.turns[np.uint64(2 * k + 2)]
        plan.opening[k], plan.closing[k] = close[np.uint64(start)], close[np.uint64(max(stop, 1) - 1)]
        plan.highs[k], plan.lows[k] = bounds(table, n, start, max(stop, start + 1))
        eights = table[np.uint64(stop // LANES)] - table[np.uint64(start // LANES)]
        plan.sums[k] = eights + part_sum(close, (start, stop))


@njit(**INLINE)
def reckon_trades(a, c, sums, plan, count, terms, close, rules):
    """Carry the account through the planned trades: (how many it went through, whether it still lives)."""
    n = close.shape[0]
    nothing = RUINED * rules.cash
    cash, last, bar = a[CASH], a[EQUITY], plan.turns[0]
    first, bound, alive = 0, np.inf, True  # of the lows that wait to be looked up
    k = 0
    while k < count and alive:
        if cash <= nothing:
            alive = False
            break
        at, turn = np.uint64(k), np.uint64(2 * k)
        entry, leave = plan.turns[turn + ONE], plan.turns[turn + TWO]
        plan.before[turn] = last
        if entry > bar:
            last = cash
            a[SUM_EQUITY] += cash * (entry - bar)
            if cash >= a[PEAK]:
                settle_lows(a, sums, plan, (first, k, bound), close)
                first, bound = k, np.inf
                a[CASH] = cash
                mark_cash(a, c, sums, close, bar, entry)
            a[AFTER] = min(a[AFTER], cash)
        plan.now[turn] = last
        units = cash * (rules.size / (plan.entries[at] * (1.0 + rules.fee)))
        plan.units[at] = units
        low = units * plan.lows[at]
        if low <= nothing:
            alive = not ruined(plan, k, close, nothing, terms[LONG + LEAVE])
            leave = plan.turns[turn + TWO]
        opened = leave > entry
        plan.now[turn + ONE] = units * plan.opening[at] if opened else 1.0
        plan.before[turn + ONE] = last if opened else 1.0
        last = units * plan.closing[at] if opened else last
        plan.lows[at] = low if opened else np.inf
        if opened and units * plan.highs[at] >= a[PEAK]:
            settle_lows(a, sums, plan, (first, k, bound), close)
            first, bound = k + 1, np.inf
            a[CASH], a[UNITS], plan.lows[at] = 0.0, units, np.inf
            mark_peak(a, c, sums, close, entry, leave)
        bound = min(bound, plan.lows[at])
        a[SUM_EQUITY] += units * plan.sums[at]
        cash = units * (plan.exits[at] * terms[LONG + PROCEEDS])
        bar = leave
        k += 1
    settle_lows(a, sums, plan, (first, k, bound), close)
    a[EQUITY] = last
    a[CASH], a[UNITS] = cash, 0.0
    if bar >= n:
        a[CASH], a[UNITS], a[ENTRY_PRICE], c[ENTRY_BAR] = 0.0, units, plan.entries[k - 1], entry
    return k, alive


@njit(**INLINE)
def ruined(plan, k, close, nothing, leave):
    """Whether the account is lost at a close of trade k, which ends there then."""
    start, stop, units = plan.turns[2 * k + 1], plan.turns[2 * k + 2], plan.units[k]
    bar = start
    while bar < stop and units * close[bar] > nothing:
        bar += 1
    if bar == stop:
        return False
    plan.turns[2 * k + 2], plan.exits[k], plan.reasons[k] = bar, close[bar] * leave, RUIN
    plan.closing[k] = close[max(bar, 1) - 1]
    plan.sums[k] = 0.0
    for held in range(start, bar):
        plan.sums[k] += close[held]
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
    return plan.units[k] * most_and_least(close, (plan.turns[2 * k + 1], plan.turns[2 * k + 2]))[1]


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
def mask_trades(c, plan, count, held):
    """Put the bars after another in the same position into the mask of those whose returns are the price's."""
    for k in range(count):
        start, stop = plan.turns[np.uint64(2 * k + 1)], plan.turns[np.uint64(2 * k + 2)]
        c[HELD_BARS] += stop - start
        c[MARKED_BARS] += max(stop - start - 1, 0) + 2
        set_bits(held, start + 1, stop)


@njit(**INLINE)
def end_flat(a, c, sums, plan, count, close, rules, curve):
    """Mark the bars after the last trade."""
    n, bar, cash = close.shape[0], plan.turns[2 * count], a[CASH]
    plan.before[2 * count], plan.now[2 * count] = a[EQUITY], cash
    c[MARKED_BARS] += 1
    a[SUM_EQUITY] += cash * (n - bar)
    if cash >= a[PEAK]:
        mark_cash(a, c, sums, close, bar, n)
    a[AFTER] = min(a[AFTER], cash)
    a[EQUITY] = cash
    if curve.shape[0] > 0:
        curve[bar:] = cash


@njit(**INLINE)
def book_trades(deals, plan, count, rules):
    """Book the first trades of a chunk, which are closed."""
    for first in range(0, count, LANES):
        book(deals, plan.entries[first:], plan.exits[first:], plan.units[first:], min(LANES, count - first), rules.fee)


@njit(**INLINE)
def sum_turns(a, c, sums, plan, span, returns, held, edges, blocks, rules):
    """Sum up the returns at a chunk's turns, and the price's of all blocks that end before the last; the bar of that end.

    span: the turns before those of the chunk, how many it has, and the first bar whose returns are not summed up.
    """
    passed, count, summed = span
    free, k = rules.risk_free_per_bar, 0
    while k < count:
        if plan.turns[k] >= c[BLOCK_END]:
            c[TRADES] = max(passed + k - 1, 0) // 2
            bar_sums(returns, held, sums, (summed, c[BLOCK_END]), free)
            summed = c[BLOCK_END]
            end_block(a, c, sums, edges, blocks, rules)
            continue
        stop = turn_from(plan.turns, k, count, c[BLOCK_END])
        change_sums(plan.now, plan.before, sums, (k, stop), free)
        k = stop
    return summed


@njit(**INLINE)
def turn_from(turns, start, stop, bar):
    """The first turn in [start, stop) at `bar` or later, by halving."""
    while start < stop:
        middle = (start + stop) // 2
        if turns[middle] < bar:
            start = middle + 1
        else:
            stop = middle
    return start


@njit(**INLINE)
def write_down(c, plan, count, close, rules, trades, curve):
    """Write down the trades of a chunk and the equity until its last exit, where the caller gave room for them."""
    for k in range(count):
        bar, entry, leave = plan.turns[2 * k], plan.turns[2 * k + 1], plan.turns[2 * k + 2]
        units = plan.units[k]
        if leave < close.shape[0]:
            out = (plan.exits[k], leave, plan.reasons[k])
            record(c, trades, (units, plan.entries[k], entry), out, rules)
        if curve.shape[0] > 0:
            curve[bar:entry] = plan.now[2 * k]
            for t in range(entry, leave):
                curve[t] = units * close[t]
