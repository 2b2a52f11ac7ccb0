"""Marking the equity at each close: returns and their moments, the peak, the low since, and the deepest fall.

In a position the moments come from `lanes.held_sums`, eight bars at a time. The fall does not need every bar: over a
stretch whose highest and lowest equity could not make a deeper fall than the deepest known, only these two count. The
bar of the peak, and the low after it, are then looked up when they are asked for, which is seldom. The falls found are
those of the loop over every bar, to the bit.

`rules.fast_path` false marks bar by bar instead.
"""

import numpy as np
from numba import njit

from grid.engine.accounts import (
    AFTER,
    BEFORE,
    BLOCK,
    BLOCK_END,
    CASH,
    DEPTH,
    DEPTH_BARS,
    DOWNSIDE,
    EQUITY,
    HELD_BARS,
    HELD_EQUITY,
    INLINE,
    LANES,
    LOW,
    LOWS_HELD,
    MARKED_BARS,
    NEVER,
    PEAK,
    PEAK_BAR,
    PEAK_CASH,
    PEAK_FROM,
    PEAK_TO,
    PEAK_UNITS,
    RUINED,
    SUM1,
    SUM2,
    SUM3,
    SUM4,
    SUM_EQUITY,
    TRADES,
    TRADES_BEFORE,
    UNITS,
    WAITS,
)
from grid.engine.lanes import held_sums, joined, smallest

NEARLY = 1.0 - 1e-12  # a fall this near to the deepest is looked at exactly


@njit(**INLINE)
def mark_held(a, c, sums, close, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) in a position; returns `stop`, or the bar whose close ruined the account."""
    bar = start
    while bar < stop:
        advance_block(a, c, sums, bar, edges, blocks, rules)
        until = min(stop, c[BLOCK_END])
        marked = mark_part(a, c, sums, close, bar, until, rules)
        if curve.shape[0] > 0:
            for t in range(bar, marked):
                curve[t] = a[CASH] + a[UNITS] * close[t]
        c[HELD_BARS] += marked - bar
        if marked < until:
            return marked
        bar = until
    return bar


@njit(**INLINE)
def mark_part(a, c, sums, close, start, stop, rules):
    """Mark closes within one block: eight at a time, but not where the account is near ruin."""
    if not rules.fast_path:
        return mark_each(a, c, sums, close, start, stop, rules)
    span, limits = (start, stop, c[WAITS]), (rules.risk_free_per_bar, RUINED * rules.cash, a[PEAK])
    account = (a[CASH], a[UNITS], a[EQUITY], a[BEFORE])
    most, least, alive = held_sums(close, sums, span, account, limits)
    if not alive:
        return mark_each(a, c, sums, close, start, stop, rules)
    c[MARKED_BARS] += stop - start + c[WAITS]
    c[WAITS] = 0
    a[EQUITY] = a[BEFORE] = a[CASH] + a[UNITS] * close[np.uint64(stop - 1)]
    if most >= a[PEAK]:
        follow_peak(a, c, sums, close, start, stop, most, least)
    return stop


@njit(**INLINE)
def mark_each(a, c, sums, close, start, stop, rules):
    """Mark closes within one block bar by bar; returns `stop`, or the bar whose close ruined the account."""
    add_waiting(a, c, sums, rules)
    cash, units, nothing = a[CASH], a[UNITS], RUINED * rules.cash
    bar = start
    while bar < stop:
        now = cash + units * close[bar]
        if now <= nothing:
            break
        a[EQUITY] = now
        c[WAITS] = 1
        add_waiting(a, c, sums, rules)
        sums[HELD_EQUITY] += now
        bar += 1
    look_up_peak(a, c, sums, close)
    follow_each(a, c, close, start, bar)
    return bar


@njit(**INLINE)
def add_waiting(a, c, sums, rules):
    """Sum up the return to the last equity, where that waits."""
    if c[WAITS] == 0:
        return
    r = a[EQUITY] / a[BEFORE] - 1.0
    r2 = r * r
    sums[SUM1] += r
    sums[SUM2] += r2
    sums[SUM3] += r2 * r
    sums[SUM4] += r2 * r2
    below = min(r - rules.risk_free_per_bar, 0.0)
    sums[DOWNSIDE] += below * below
    c[MARKED_BARS] += 1
    c[WAITS] = 0
    a[BEFORE] = a[EQUITY]


@njit(**INLINE)
def mark_flat(a, c, sums, close, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) without a position: only the first can differ from the close before it."""
    if start >= stop:
        return
    now = a[CASH]
    if now != a[EQUITY]:
        advance_block(a, c, sums, start, edges, blocks, rules)
        add_waiting(a, c, sums, rules)
        a[EQUITY] = now
        c[WAITS] = 1
    if now >= a[PEAK]:
        mark_cash(a, c, sums, close, start, stop)
    a[AFTER] = min(a[AFTER], now)
    a[SUM_EQUITY] += now * (stop - start)
    if curve.shape[0] > 0:
        curve[start:stop] = now


@njit(**INLINE)
def mark_cash(a, c, sums, close, start, stop):
    """The peak over the bars [start, stop) without a position, whose equity is at the peak or above it."""
    end_drawdown(a, c, sums, close, start)
    new_peak(a, sums, a[CASH], a[CASH])
    c[PEAK_BAR], c[PEAK_FROM] = stop - 1, -1


@njit(**INLINE)
def advance_block(a, c, sums, bar, edges, blocks, rules):
    """Move on to the block that holds `bar`."""
    while bar >= c[BLOCK_END]:
        end_block(a, c, sums, edges, blocks, rules)


@njit(**INLINE)
def end_block(a, c, sums, edges, blocks, rules):
    """Write down the current block and begin the next."""
    add_waiting(a, c, sums, rules)
    block = c[BLOCK]
    blocks[0, block] = joined(sums, SUM1)
    blocks[1, block] = joined(sums, SUM2)
    blocks[2, block] = c[TRADES] - c[TRADES_BEFORE]
    sums[SUM1 : SUM2 + LANES] = 0.0
    c[TRADES_BEFORE] = c[TRADES]
    c[BLOCK] = block + 1
    c[BLOCK_END] = edges[block + 2] if block + 2 < edges.shape[0] else NEVER


@njit(**INLINE)
def lowest(a, sums):
    """The lowest equity since the peak; until that is looked up, of all the position in which it was reached."""
    return min(min(a[LOW], a[AFTER]), smallest(sums, LOWS_HELD))


@njit(**INLINE)
def new_peak(a, sums, peak, low):
    """Note a peak, and the lowest equity since."""
    a[PEAK], a[LOW], a[AFTER] = peak, low, np.inf
    sums[LOWS_HELD : LOWS_HELD + LANES] = np.inf


@njit(**INLINE)
def follow_peak(a, c, sums, close, start, stop, most, least):
    """Peak, low and deepest fall over closes in a position whose highest equity is at the peak or above it."""
    peak, low, depth = a[PEAK], min(lowest(a, sums), least), a[DEPTH] * NEARLY
    if peak - low > depth * peak or most - least > depth * most:
        look_up_peak(a, c, sums, close)
        follow_each(a, c, close, start, stop)
        return
    new_peak(a, sums, most, least)
    c[PEAK_FROM], c[PEAK_TO], a[PEAK_CASH], a[PEAK_UNITS] = start, stop, a[CASH], a[UNITS]


@njit(**INLINE)
def follow_each(a, c, close, start, stop):
    """The same bar by bar."""
    cash, units = a[CASH], a[UNITS]
    peak, peak_bar, low, depth, depth_bars = a[PEAK], c[PEAK_BAR], a[LOW], a[DEPTH], c[DEPTH_BARS]
    for bar in range(start, stop):
        now = cash + units * close[bar]
        if now >= peak:
            fall = (peak - low) / peak
            if fall > depth:
                depth = fall
                depth_bars = bar - peak_bar
            peak = now
            peak_bar = bar
            low = now
        low = min(low, now)
    a[PEAK], c[PEAK_BAR], a[LOW], a[DEPTH], c[DEPTH_BARS] = peak, peak_bar, low, depth, depth_bars


@njit(**INLINE)
def look_up_peak(a, c, sums, close):
    """Find the last bar at the peak in the position where that was reached, and the lowest equity since."""
    if c[PEAK_FROM] >= 0:
        bar, a[LOW] = c[PEAK_TO] - 1, a[PEAK]
        now = a[PEAK_CASH] + a[PEAK_UNITS] * close[bar]
        while now < a[PEAK] and bar > c[PEAK_FROM]:  # lanes and scalars may round apart
            a[LOW] = min(a[LOW], now)
            bar -= 1
            now = a[PEAK_CASH] + a[PEAK_UNITS] * close[bar]
        c[PEAK_BAR], c[PEAK_FROM] = bar, -1
    new_peak(a, sums, a[PEAK], lowest(a, sums))


@njit(**INLINE)
def end_drawdown(a, c, sums, close, bar):
    """A peak regained (or the data's end) at `bar` settles the fall from the last peak."""
    if a[PEAK] - lowest(a, sums) > a[DEPTH] * NEARLY * a[PEAK]:
        look_up_peak(a, c, sums, close)
        fall = (a[PEAK] - a[LOW]) / a[PEAK]
        if fall > a[DEPTH]:
            a[DEPTH] = fall
            c[DEPTH_BARS] = bar - c[PEAK_BAR]
