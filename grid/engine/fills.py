"""Signals to fills: what is entered and left, when, and at which price."""

from typing import Any

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers

from grid.engine.accounts import (
    BEST,
    CASH,
    CLOSES,
    ENTER,
    ENTRIES,
    ENTRY_BAR,
    ENTRY_PRICE,
    EXITS,
    FEES,
    FILL_IN,
    FILL_OUT,
    FILL_UNITS,
    GAINS,
    HIGHS,
    HOLD,
    INLINE,
    LANES,
    LEAVE,
    LONG,
    LOSS_RETURNS,
    LOSSES,
    LOWS,
    OPEN,
    OPENS,
    PROCEEDS,
    RECORDED,
    REST,
    RUINED,
    SHORT,
    SHORT_ENTRIES,
    SHORT_EXITS,
    SIDE,
    SIGN,
    SIGNAL,
    STOP,
    T_ENTRY_BAR,
    T_ENTRY_PRICE,
    T_EXIT_BAR,
    T_EXIT_PRICE,
    T_FEES,
    T_PNL,
    T_REASON,
    T_RETURN,
    T_UNITS,
    TARGET,
    TRADED,
    TRADES,
    UNITS,
    WIN_RETURNS,
    WINS,
    WORST,
)

trailing_zeros: Any = numbers.trailing_zeros
ONE, SIX, LOW_BITS = np.uint64(1), np.uint64(6), np.uint64(63)


@njit(**INLINE)
def next_bit(one, other, start, n):
    """The first bar in [start, n) set in either mask (one mask twice for one alone), else some >= n."""
    if start >= n:
        return n
    word = np.uint64(start) >> SIX
    last = (np.uint64(n) + LOW_BITS) >> SIX
    bits = (one[word] | other[word]) & (~np.uint64(0) << (np.uint64(start) & LOW_BITS))
    while bits == 0:
        word += ONE
        if word >= last:
            return n
        bits = one[word] | other[word]
    return np.int64((word << SIX) + np.uint64(trailing_zeros(bits)))


@njit(**INLINE)
def bit(mask, bar):
    return (mask[np.uint64(bar) >> SIX] >> (np.uint64(bar) & LOW_BITS)) & ONE != 0


@njit(**INLINE)
def wanted(masks, bar, rules):
    """+1 long, -1 short, 0 nothing: what the entry signals of a bar ask of a flat account."""
    long = rules.longs and bit(masks[ENTRIES], bar)
    short = rules.shorts and bit(masks[SHORT_ENTRIES], bar)
    return int(long) - int(short)


@njit(**INLINE)
def next_entry(masks, start, n, rules):
    """(bar, direction) of the first signal at or after `start` that an idle account follows; bar n without one."""
    one = masks[ENTRIES] if rules.longs else masks[SHORT_ENTRIES]
    other = masks[SHORT_ENTRIES] if rules.shorts else masks[ENTRIES]
    bar = next_bit(one, other, start, n)
    if not (rules.longs and rules.shorts):
        return bar, 1 if rules.longs else -1
    while bar < n:
        direction = wanted(masks, bar, rules)
        if direction != 0:
            return bar, direction
        bar = next_bit(one, other, bar + 1, n)
    return n, 0


@njit(**INLINE)
def buy_or_sell(a, c, terms, direction, price, bar, rules):
    """Open a position at a raw price; False when the cash does not cover it, or the price gives no number of units."""
    if price <= 0.0:
        return False
    side = LONG if direction > 0 else SHORT
    sign, fill = terms[side + SIGN], price * terms[side + ENTER]
    cost = fill * (1.0 + rules.fee)
    units = rules.size if rules.fixed_units else a[CASH] * (rules.size / cost)
    if a[CASH] <= RUINED * rules.cash or units == np.inf or (rules.fixed_units and units * cost > a[CASH]):
        return False
    a[UNITS], c[SIDE] = sign * units, side
    a[CASH] = terms[side + REST] * (a[CASH] - sign * units * fill - units * fill * rules.fee)
    a[ENTRY_PRICE], c[ENTRY_BAR] = fill, bar
    return True


@njit(**INLINE)
def close_position(a, c, deals, terms, fill, bar, reason, rules, trades):
    """Close the position at a fill price; eight trades are booked at a time."""
    k = np.uint64(c[TRADES] % LANES)
    deals[FILL_IN + k], deals[FILL_OUT + k], deals[FILL_UNITS + k] = a[ENTRY_PRICE], fill, a[UNITS]
    a[CASH] += a[UNITS] * (fill * terms[c[SIDE] + PROCEEDS])
    record(c, trades, (a[UNITS], a[ENTRY_PRICE], c[ENTRY_BAR]), (fill, bar, reason), rules)
    a[UNITS] = 0.0
    c[TRADES] += 1
    if k == LANES - 1:
        book_waiting(deals, LANES, rules.fee)


@njit(**INLINE)
def book_waiting(deals, count, fee):
    """Book the first closed trades of those that wait."""
    book(deals, deals[FILL_IN:], deals[FILL_OUT:], deals[FILL_UNITS:], count, fee)


@njit(**INLINE)
def book(deals, fills_in, fills_out, sizes, count, fee):
    """Book up to eight closed trades: their fill prices, and their units with a sign."""
    for k in range(count):
        entry, fill, units = fills_in[k], fills_out[k], sizes[k]
        cost, value = abs(units) * entry, abs(units) * fill
        fees = cost * fee + value * fee
        pnl = units * (fill - entry) - fees
        gain = pnl / cost
        deals[FEES + k] += fees
        deals[TRADED + k] += cost + value
        deals[GAINS + k] += max(pnl, 0.0)
        deals[LOSSES + k] -= min(pnl, 0.0)
        deals[WIN_RETURNS + k] += max(gain, 0.0)
        deals[LOSS_RETURNS + k] += min(gain, 0.0)
        deals[BEST + k] = max(deals[BEST + k], gain)
        deals[WORST + k] = min(deals[WORST + k], gain)
        deals[WINS + k] += 1.0 if pnl > 0.0 else 0.0


@njit(**INLINE)
def record(c, trades, position, leave, rules):
    """Write a trade down, where the caller gave room for it.

    position: units, fill price and bar of the entry. leave: fill price, bar and reason of the exit.
    """
    row = c[RECORDED]
    if row >= trades.shape[0]:
        return
    c[RECORDED] += 1
    units, entry, entry_bar = position
    price, bar, reason = leave
    cost, value = abs(units) * entry, abs(units) * price
    fees = cost * rules.fee + (value * rules.fee if reason != OPEN else 0.0)
    pnl = units * (price - entry) - fees
    trades[row, T_UNITS] = units
    trades[row, T_ENTRY_BAR] = entry_bar
    trades[row, T_EXIT_BAR] = bar
    trades[row, T_ENTRY_PRICE] = entry
    trades[row, T_EXIT_PRICE] = price
    trades[row, T_FEES] = fees
    trades[row, T_PNL] = pnl
    trades[row, T_RETURN] = pnl / cost
    trades[row, T_REASON] = reason


@njit(**INLINE)
def find_stop(prices, bars, direction, entry, rules):
    """(bar, raw price, reason) of the first stop or target hit on bars = (first, last); (last + 1, 0, OPEN) if none.

    prices: open, high, low, close rows. entry: the price that stop loss and take profit are fractions of, and that of
    the fill, where the best price begins. The trailing level of a bar knows the bars before it only.
    """
    first, last = bars
    base, fill = entry
    sign = 1.0 if direction > 0 else -1.0
    opens, highs, lows = prices[OPENS], prices[HIGHS], prices[LOWS]
    against, favour = (lows, highs) if direction > 0 else (highs, lows)
    stop = sign * base * (1.0 - sign * rules.stop_loss) if rules.stop_loss > 0 else -np.inf
    target = sign * base * (1.0 + sign * rules.take_profit) if rules.take_profit > 0 else np.inf
    best = sign * fill
    for bar in range(first, last + 1):
        level = stop
        if rules.trailing_stop > 0:
            level = max(level, best * (1.0 - sign * rules.trailing_stop))
        if sign * against[bar] <= level:
            return bar, sign * min(sign * opens[bar], level), STOP
        if sign * favour[bar] >= target:
            return bar, sign * max(sign * opens[bar], target), TARGET
        best = max(best, sign * favour[bar])
    return last + 1, 0.0, OPEN


@njit(**INLINE)
def plan_entry(masks, decision, follow, bar, n, rules):
    """(bar, direction, deciding bar) of the next entry: at `bar` where one follows at once, bar n without one."""
    if follow != 0:
        return bar, follow, bar - rules.lag
    decision, direction = next_entry(masks, decision, n, rules)
    bar = decision + rules.lag
    return n if bar >= n - 1 + rules.last_fill else bar, direction, decision


@njit(**INLINE)
def plan_exit(prices, masks, entry, entry_fill, terms, rules):
    """(bar, fill price, reason, deciding bar) of an exit, at the prices alone; bar is n without one.

    entry: the deciding bar, the direction, and the bar of the fill.
    """
    decision, direction, entry_bar = entry
    close = prices[CLOSES]
    n = close.shape[0]
    exit_bar, reason, decided = signalled_exit(masks, decision, direction, entry_bar, n, rules)
    if exit_bar >= n - 1 + rules.last_fill:
        exit_bar = n
    price = prices[CLOSES if rules.at_close else OPENS][np.uint64(min(exit_bar, n - 1))]
    leave = terms[(LONG if direction > 0 else SHORT) + LEAVE]
    if rules.stop_loss > 0 or rules.take_profit > 0 or rules.trailing_stop > 0:
        first = entry_bar + (1 if rules.at_close else rules.stops_wait)
        last = min(exit_bar if rules.at_close or rules.stops_first else exit_bar - 1, n - 1)
        base = close[decision] if rules.stops_on_signal else entry_fill
        hit, level, why = find_stop(prices, (first, last), direction, (base, entry_fill), rules)
        if why != OPEN:
            exit_bar, price, reason = hit, level, why
            if why == TARGET and not rules.targets_slip:  # a limit order does not slip by itself
                leave = 1.0
    return exit_bar, price * leave, reason, decided


@njit(**INLINE)
def plan_next(masks, exit_bar, reason, decided, direction, rules):
    """After an exit: the next deciding bar, and the direction that follows at once, or 0."""
    follow = next_direction(masks, decided, direction, rules) if reason == SIGNAL else 0
    decision = exit_bar + 1 - rules.lag
    if rules.cooldown > 0:
        decision = max(decision, exit_bar + rules.cooldown)
    return decision, follow


@njit(**INLINE)
def signalled_exit(masks, decision, direction, entry_bar, n, rules):
    """(bar, reason, deciding bar) of the exit by signal, opposite entry or holding time; bar is n without one."""
    exits = masks[EXITS] if direction > 0 else masks[SHORT_EXITS]
    opposite = masks[SHORT_ENTRIES] if direction > 0 else masks[ENTRIES]
    left = entry_bar + rules.hold
    until = min(n, left - rules.lag + 1)  # a later signal would come too late
    decided = next_bit(exits, opposite if rules.reverses else exits, decision + 1, until)
    if decided >= until:
        decided = n
    bar = min(decided + rules.lag, n)
    if left < bar:
        return left, HOLD, n
    return bar, SIGNAL, decided


@njit(**INLINE)
def next_direction(masks, decided, direction, rules):
    """What follows at once on an exit that a signal of bar `decided` asked for: +1, -1 or 0."""
    if rules.cooldown > 0:
        return 0
    if bit(masks[EXITS] if direction > 0 else masks[SHORT_EXITS], decided):
        return wanted(masks, decided, rules)
    return -direction
