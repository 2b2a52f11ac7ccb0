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
    BLOCK,
    CASH,
    DEPTH,
    DEPTH_BARS,
    DOWNSIDE,
    EQUITY,
    HELD_BARS,
    INLINE,
    LOW,
    MARKED_BARS,
    PEAK,
    PEAK_BAR,
    PEAK_CASH,
    PEAK_FROM,
    PEAK_TO,
    PEAK_UNITS,
    RUINED,
    SUM3,
    SUM4,
    SUM_EQUITY,
    UNITS,
)
from grid.engine.lanes import close_range, held_sums
from grid.engine.tables import between

QUIET = 1e-12  # mean square return below which the rounding of the equity would show in its returns
NEARLY = 1.0 - 1e-12  # a fall this near to the deepest is looked at exactly


@njit(**INLINE)
def mark_held(a, market, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) in a position; returns `stop`, or the bar whose close ruined the account."""
    close, sums = market
    all_in = sums.shape[0] > 0 and a[CASH] == 0.0
    bar = start
    while bar < stop:
        advance_block(a, bar, edges)
        until = min(stop, edges[np.int64(a[BLOCK]) + 1])
        if rules.fast_path and all_in:
            marked = mark_sums(a, close, sums, bar, until, blocks, rules)
        elif rules.fast_path:
            marked = mark_lanes(a, close, bar, until, blocks, rules)
        else:
            marked = mark_each(a, close, bar, until, blocks, rules)
        if curve.shape[0] > 0:
            for t in range(bar, marked):
                curve[t] = a[CASH] + a[UNITS] * close[t]
        a[HELD_BARS] += marked - bar
        a[MARKED_BARS] += marked - bar
        if marked < until:
            return marked
        bar = until
    return bar


@njit(**INLINE)
def mark_sums(a, close, sums, start, stop, blocks, rules):
    """Mark closes within one block where the equity is so many units and no cash: its returns are those of closes."""
    units, before = a[UNITS], a[EQUITY]
    most, least = close_range(close, (start, stop))
    most, least = units * most, units * least
    if not least > RUINED * rules.cash:
        return mark_each(a, close, start, stop, blocks, rules)
    now, then = units * close[start], start + 1
    squares = between(sums, 1, then, stop)
    if 0.0 < squares < QUIET * (stop - then):
        return mark_lanes(a, close, start, stop, blocks, rules)
    r = now / before - 1.0
    r2 = r * r
    below = min(r - rules.risk_free_per_bar, 0.0)
    block = np.int64(a[BLOCK])
    blocks[0, block] += r + between(sums, 0, then, stop)
    blocks[1, block] += r2 + squares
    a[SUM3] += r2 * r + between(sums, 2, then, stop)
    a[SUM4] += r2 * r2 + between(sums, 3, then, stop)
    a[DOWNSIDE] += below * below + between(sums, 4, then, stop)
    a[SUM_EQUITY] += now + units * between(sums, 5, then, stop)
    a[EQUITY] = units * close[stop - 1]
    follow_equity(a, close, start, stop, most, least)
    return stop


@njit(**INLINE)
def mark_lanes(a, close, start, stop, blocks, rules):
    """Mark closes within one block."""
    account = (a[CASH], a[UNITS], a[EQUITY])
    free = rules.risk_free_per_bar
    sum1, sum2, sum3, sum4, downside, sum_equity, most, least = held_sums(close, (start, stop), account, free)
    if not least > RUINED * rules.cash:
        return mark_each(a, close, start, stop, blocks, rules)
    block = np.int64(a[BLOCK])
    blocks[0, block] += sum1
    blocks[1, block] += sum2
    a[SUM3] += sum3
    a[SUM4] += sum4
    a[DOWNSIDE] += downside
    a[SUM_EQUITY] += sum_equity
    a[EQUITY] = a[CASH] + a[UNITS] * close[stop - 1]
    follow_equity(a, close, start, stop, most, least)
    return stop


@njit(**INLINE)
def mark_each(a, close, start, stop, blocks, rules):
    """Mark closes within one block bar by bar; returns `stop`, or the bar whose close ruined the account."""
    cash, units, equity, nothing = a[CASH], a[UNITS], a[EQUITY], RUINED * rules.cash
    free, block = rules.risk_free_per_bar, np.int64(a[BLOCK])
    sum1, sum2, bar = 0.0, 0.0, start
    while bar < stop:
        now = cash + units * close[bar]
        if now <= nothing:
            break
        r = now / equity - 1.0
        r2 = r * r
        equity = now
        sum1 += r
        sum2 += r2
        a[SUM3] += r2 * r
        a[SUM4] += r2 * r2
        below = min(r - free, 0.0)
        a[DOWNSIDE] += below * below
        a[SUM_EQUITY] += now
        bar += 1
    blocks[0, block] += sum1
    blocks[1, block] += sum2
    a[EQUITY] = equity
    look_up_peak(a, close)
    follow_each(a, close, start, bar)
    return bar


@njit(**INLINE)
def mark_flat(a, close, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) without a position: only the first can differ from the close before it."""
    if start >= stop:
        return
    now, before = a[CASH], a[EQUITY]
    if before > 0.0 and now != before:
        advance_block(a, start, edges)
        r = now / before - 1.0
        r2 = r * r
        block = np.int64(a[BLOCK])
        blocks[0, block] += r
        blocks[1, block] += r2
        a[SUM3] += r2 * r
        a[SUM4] += r2 * r2
        below = min(r - rules.risk_free_per_bar, 0.0)
        a[DOWNSIDE] += below * below
        a[MARKED_BARS] += 1
    if now >= a[PEAK]:
        end_drawdown(a, close, start)
        a[PEAK] = a[LOW] = now
        a[PEAK_BAR], a[PEAK_FROM] = stop - 1, -1.0
    a[LOW] = min(a[LOW], now)
    a[AFTER] = min(a[AFTER], now)
    a[SUM_EQUITY] += now * (stop - start)
    a[EQUITY] = now
    if curve.shape[0] > 0:
        curve[start:stop] = now


@njit(**INLINE)
def advance_block(a, bar, edges):
    """Move the current block on to the one that holds `bar`."""
    block = np.int64(a[BLOCK])
    while edges[block + 1] <= bar:
        block += 1
    a[BLOCK] = block


@njit(**INLINE)
def follow_equity(a, close, start, stop, most, least):
    """Peak, low and deepest fall over closes in a position whose highest and lowest equity are known."""
    peak, low = a[PEAK], min(a[LOW], least)
    if most < peak:
        a[LOW] = low
        a[AFTER] = min(a[AFTER], least)
        return
    depth = a[DEPTH] * NEARLY
    if peak - low > depth * peak or most - least > depth * most:
        look_up_peak(a, close)
        follow_each(a, close, start, stop)
        return
    a[PEAK], a[LOW], a[AFTER] = most, least, np.inf
    a[PEAK_FROM], a[PEAK_TO], a[PEAK_CASH], a[PEAK_UNITS] = start, stop, a[CASH], a[UNITS]


@njit(**INLINE)
def follow_each(a, close, start, stop):
    """The same bar by bar."""
    cash, units = a[CASH], a[UNITS]
    peak, peak_bar, low, depth, depth_bars = a[PEAK], a[PEAK_BAR], a[LOW], a[DEPTH], a[DEPTH_BARS]
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
    a[PEAK], a[PEAK_BAR], a[LOW], a[DEPTH], a[DEPTH_BARS] = peak, peak_bar, low, depth, depth_bars


@njit(**INLINE)
def look_up_peak(a, close):
    """Find the last bar at the peak, and the low after it, in the position where the peak was reached."""
    if a[PEAK_FROM] < 0.0:
        return
    bar, low = np.int64(a[PEAK_TO]) - 1, min(a[AFTER], a[PEAK])
    now = a[PEAK_CASH] + a[PEAK_UNITS] * close[bar]
    while now < a[PEAK] and bar > a[PEAK_FROM]:  # lanes and scalars may round apart
        low = min(low, now)
        bar -= 1
        now = a[PEAK_CASH] + a[PEAK_UNITS] * close[bar]
    a[PEAK_BAR], a[LOW], a[PEAK_FROM] = bar, low, -1.0


@njit(**INLINE)
def end_drawdown(a, close, bar):
    """A peak regained (or the data's end) at `bar` settles the fall from the last peak."""
    if a[PEAK] - a[LOW] > a[DEPTH] * NEARLY * a[PEAK]:
        look_up_peak(a, close)
        fall = (a[PEAK] - a[LOW]) / a[PEAK]
        if fall > a[DEPTH]:
            a[DEPTH] = fall
            a[DEPTH_BARS] = bar - a[PEAK_BAR]
