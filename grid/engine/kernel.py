"""The compiled backtest: four signal masks and prices in, one row of metrics and block moments out.

One pass over the events of a trial. While flat it jumps from one set bit of the entry masks to the next; while in a
position it knows the bar of the exit beforehand, so the loop over bars only marks the equity. It takes arrays and
scalars and knows no objects; `grid/engine/backtest.py` has the manners. The same semantics one bar at a time, slow
and obvious, are in `tests/naive.py`.

One long file on purpose: Numba's disk cache notices changes to the file of `simulate` only, and would go on using old
helpers from another one.

Accounts live in one float64 array `a`, indexed by the names below, so that helpers can share them.
"""

from typing import Any

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers

trailing_zeros: Any = numbers.trailing_zeros

# _nrt=False: nothing here allocates, and counting references to arrays (an atomic operation each) took half the time.
OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False, "_nrt": False}
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True}  # passing arrays costs more than most of these helpers do

ZERO_VARIANCE = 1e-12  # a variance below this times the mean square is rounding
ZERO_FALL = 1e-12  # so is a drawdown below this, and a downside below this times the root mean square return
RUINED = 1e-9  # an account at or below this times the starting cash is lost

# accounts: money and position
CASH, UNITS, ENTRY_PRICE, ENTRY_FEE, ENTRY_BAR = 0, 1, 2, 3, 4
# marks: equity at the last close, sums over bars
EQUITY, SUM3, SUM4, DOWNSIDE, SUM_EQUITY, HELD_BARS, MARKED_BARS = 5, 6, 7, 8, 9, 10, 11
# drawdown: peak so far, its bar, lowest close since, deepest fall and its duration
PEAK, PEAK_BAR, LOW, DEPTH, DEPTH_BARS = 12, 13, 14, 15, 16
# closed trades
TRADES, WINS, GAINS, LOSSES, WIN_RETURNS, LOSS_RETURNS, BEST, WORST, HOLD_BARS = (
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
)
FEES, TRADED, BLOCK, RECORDED = 26, 27, 28, 29
ACCOUNTS = 30

# columns of a recorded trade
T_UNITS, T_ENTRY_BAR, T_EXIT_BAR, T_ENTRY_PRICE, T_EXIT_PRICE, T_FEES, T_PNL, T_RETURN, T_REASON = range(9)
TRADE_COLUMNS = 9
OPEN, SIGNAL, HOLD, STOP, TARGET, RUIN = 0, 1, 2, 3, 4, 5
REASONS = ("open", "signal", "hold", "stop", "target", "ruin")

# rows of the inputs
OPENS, HIGHS, LOWS, CLOSES = 0, 1, 2, 3
ENTRIES, EXITS, SHORT_ENTRIES, SHORT_EXITS = 0, 1, 2, 3

ONE, SIX, LOW_BITS = np.uint64(1), np.uint64(6), np.uint64(63)


@njit(**INLINE)
def next_bit(masks, one, other, start, n):
    """The first bar >= start set in mask row `one` or in row `other` (the same row twice for one alone), or n."""
    if start >= n:
        return n
    word = np.uint64(start) >> SIX
    last = np.uint64(masks.shape[1])
    keep = ~np.uint64(0) << (np.uint64(start) & LOW_BITS)
    while word < last:
        bits = (masks[one, word] | masks[other, word]) & keep
        if bits != 0:
            return np.int64((word << SIX) + np.uint64(trailing_zeros(bits)))
        word += ONE
        keep = ~np.uint64(0)
    return n


@njit(**INLINE)
def bit(masks, row, bar):
    return (masks[row, np.uint64(bar) >> SIX] >> (np.uint64(bar) & LOW_BITS)) & ONE != 0


@njit(**INLINE)
def wanted(masks, bar, rules):
    """+1 long, -1 short, 0 nothing: what the entry signals of a bar ask of a flat account."""
    long = rules.longs and bit(masks, ENTRIES, bar)
    short = rules.shorts and bit(masks, SHORT_ENTRIES, bar)
    return int(long) - int(short)


@njit(**INLINE)
def next_entry(masks, start, n, rules):
    """(bar, direction) of the first signal at or after `start` that an idle account follows; (n, 0) without one."""
    one = ENTRIES if rules.longs else SHORT_ENTRIES
    other = SHORT_ENTRIES if rules.shorts else ENTRIES
    bar = next_bit(masks, one, other, start, n)
    while bar < n:
        direction = wanted(masks, bar, rules)
        if direction != 0:
            return bar, direction
        bar = next_bit(masks, one, other, bar + 1, n)
    return n, 0


@njit(**INLINE)
def mark_held(a, close, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) in a position; returns `stop`, or the bar whose close ruined the account."""
    cash, units, equity = a[CASH], a[UNITS], a[EQUITY]
    peak, peak_bar, low = a[PEAK], a[PEAK_BAR], a[LOW]
    depth, depth_bars = a[DEPTH], a[DEPTH_BARS]
    sum3, sum4, downside, sum_equity = a[SUM3], a[SUM4], a[DOWNSIDE], a[SUM_EQUITY]
    free, record = rules.risk_free_per_bar, curve.shape[0] > 0
    nothing = RUINED * rules.cash
    block = np.int64(a[BLOCK])
    bar = np.uint64(start)
    end = np.uint64(stop)
    ruined = False
    while bar < end and not ruined:
        while edges[block + 1] <= bar:
            block += 1
        until = min(end, np.uint64(edges[block + 1]))
        sum1 = 0.0
        sum2 = 0.0
        while bar < until:
            now = cash + units * close[bar]
            if now <= nothing:
                ruined = True
                break
            r = now / equity - 1.0
            r2 = r * r
            equity = now
            sum1 += r
            sum2 += r2
            sum3 += r2 * r
            sum4 += r2 * r2
            below = min(r - free, 0.0)
            downside += below * below
            sum_equity += now
            if now >= peak:
                fall = (peak - low) / peak
                if fall > depth:
                    depth = fall
                    depth_bars = float(bar) - peak_bar
                peak = now
                peak_bar = float(bar)
                low = now
            low = min(low, now)
            if record:
                curve[bar] = now
            bar += ONE
        blocks[0, block] += sum1
        blocks[1, block] += sum2
    marked = np.int64(bar) - start
    a[EQUITY], a[PEAK], a[PEAK_BAR], a[LOW] = equity, peak, peak_bar, low
    a[DEPTH], a[DEPTH_BARS], a[BLOCK] = depth, depth_bars, block
    a[SUM3], a[SUM4], a[DOWNSIDE], a[SUM_EQUITY] = sum3, sum4, downside, sum_equity
    a[HELD_BARS] += marked
    a[MARKED_BARS] += marked
    return np.int64(bar)


@njit(**INLINE)
def mark_flat(a, start, stop, edges, blocks, rules, curve):
    """Mark the closes [start, stop) without a position: only the first can differ from the close before it."""
    if start >= stop:
        return
    now, before = a[CASH], a[EQUITY]
    advance_block(a, start, edges)
    if before > 0.0:
        r = now / before - 1.0
        block = np.int64(a[BLOCK])
        blocks[0, block] += r
        blocks[1, block] += r * r
        a[SUM3] += r * r * r
        a[SUM4] += r * r * r * r
        below = min(r - rules.risk_free_per_bar, 0.0)
        a[DOWNSIDE] += below * below
        a[MARKED_BARS] += 1
    if now >= a[PEAK]:
        end_drawdown(a, start)
        a[PEAK] = now
        a[LOW] = now
        a[PEAK_BAR] = stop - 1
    a[LOW] = min(a[LOW], now)
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
def end_drawdown(a, bar):
    """A peak regained (or the data's end) at `bar` settles the fall from the last peak."""
    fall = (a[PEAK] - a[LOW]) / a[PEAK]
    if fall > a[DEPTH]:
        a[DEPTH] = fall
        a[DEPTH_BARS] = bar - a[PEAK_BAR]


@njit(**INLINE)
def buy_or_sell(a, direction, price, bar, rules):
    """Open a position at a raw price; False when the cash does not cover it or the price is not positive."""
    if price <= 0.0:
        return False
    fill = price * (1.0 + direction * rules.slippage)
    cost = fill * (1.0 + rules.fee)
    units = rules.size if rules.fixed_units else a[CASH] * rules.size / cost
    if a[CASH] <= RUINED * rules.cash or (rules.fixed_units and units * cost > a[CASH]):
        return False
    fee = units * fill * rules.fee
    a[UNITS] = direction * units
    a[CASH] = (
        0.0
        if direction > 0 and rules.size == 1.0 and not rules.fixed_units
        else a[CASH] - direction * units * fill - fee
    )
    a[ENTRY_PRICE], a[ENTRY_FEE], a[ENTRY_BAR] = fill, fee, bar
    a[FEES] += fee
    a[TRADED] += units * fill
    return True


@njit(**INLINE)
def close_position(a, price, bar, reason, rules, edges, blocks, trades):
    """Close the position at a raw price and book the trade; targets are limit orders and slip not at all."""
    units, entry = a[UNITS], a[ENTRY_PRICE]
    direction = 1.0 if units > 0 else -1.0
    fill = price if reason == TARGET else price * (1.0 - direction * rules.slippage)
    value = abs(units) * fill
    fee = value * rules.fee
    pnl = units * (fill - entry) - fee - a[ENTRY_FEE]
    gain = pnl / (abs(units) * entry)
    a[CASH] += units * fill - fee
    a[FEES] += fee
    a[TRADED] += value
    a[TRADES] += 1
    if pnl > 0.0:
        a[WINS] += 1
        a[GAINS] += pnl
        a[WIN_RETURNS] += gain
    else:
        a[LOSSES] -= pnl
        a[LOSS_RETURNS] += gain
    a[BEST] = max(a[BEST], gain)
    a[WORST] = min(a[WORST], gain)
    a[HOLD_BARS] += bar - a[ENTRY_BAR]
    advance_block(a, bar, edges)
    blocks[2, np.int64(a[BLOCK])] += 1
    record(a, trades, fill, bar, a[ENTRY_FEE] + fee, pnl, gain, reason)
    a[UNITS] = 0.0


@njit(**INLINE)
def record(a, trades, price, bar, fees, pnl, gain, reason):
    """Write a trade down, where the caller gave room for it."""
    row = np.int64(a[RECORDED])
    if row >= trades.shape[0]:
        return
    a[RECORDED] += 1
    trades[row, T_UNITS] = a[UNITS]
    trades[row, T_ENTRY_BAR] = a[ENTRY_BAR]
    trades[row, T_EXIT_BAR] = bar
    trades[row, T_ENTRY_PRICE] = a[ENTRY_PRICE]
    trades[row, T_EXIT_PRICE] = price
    trades[row, T_FEES] = fees
    trades[row, T_PNL] = pnl
    trades[row, T_RETURN] = gain
    trades[row, T_REASON] = reason


@njit(**INLINE)
def find_stop(prices, first, last, direction, entry, rules):
    """(bar, raw price, reason) of the first stop or target hit on the bars [first, last]; (last + 1, 0, OPEN) if none.

    prices: open, high, low, close rows. The trailing level of a bar knows the bars before it only.
    """
    sign = 1.0 if direction > 0 else -1.0
    against = LOWS if direction > 0 else HIGHS
    favour = HIGHS if direction > 0 else LOWS
    stop = sign * entry * (1.0 - sign * rules.stop_loss) if rules.stop_loss > 0 else -np.inf
    target = sign * entry * (1.0 + sign * rules.take_profit) if rules.take_profit > 0 else np.inf
    best = sign * entry
    for bar in range(first, last + 1):
        level = stop
        if rules.trailing_stop > 0:
            level = max(level, best * (1.0 - sign * rules.trailing_stop))
        if sign * prices[against][bar] <= level:
            return bar, sign * min(sign * prices[OPENS][bar], level), STOP
        if sign * prices[favour][bar] >= target:
            return bar, sign * max(sign * prices[OPENS][bar], target), TARGET
        best = max(best, sign * prices[favour][bar])
    return last + 1, 0.0, OPEN


@njit(**INLINE)
def planned_exit(masks, decision, direction, entry_bar, n, rules):
    """(bar, reason, deciding bar) of the exit by signal, opposite entry or holding time; bar is n without one."""
    exits = EXITS if direction > 0 else SHORT_EXITS
    opposite = SHORT_ENTRIES if direction > 0 else ENTRIES
    reverses = rules.longs and rules.shorts and rules.cooldown == 0
    decided = next_bit(masks, exits, opposite if reverses else exits, decision + 1, n)
    bar = min(decided + rules.lag, n)
    if rules.hold > 0 and entry_bar + rules.hold < bar:
        return entry_bar + rules.hold, HOLD, n
    return bar, SIGNAL, decided


@njit(**INLINE)
def next_direction(masks, decided, direction, rules):
    """What follows at once on an exit that a signal of bar `decided` asked for: +1, -1 or 0."""
    if rules.cooldown > 0:
        return 0
    if bit(masks, EXITS if direction > 0 else SHORT_EXITS, decided):
        return wanted(masks, decided, rules)
    return -direction


@njit(**INLINE)
def hold_position(a, prices, close, masks, decision, direction, entry_bar, edges, blocks, rules, trades, curve):
    """Carry one position to its end: (exit bar or n, next deciding bar, direction that follows at once or 0)."""
    n = prices[CLOSES].shape[0]
    exit_bar, reason, decided = planned_exit(masks, decision, direction, entry_bar, n, rules)
    price = 0.0
    if exit_bar < n:
        price = prices[CLOSES][exit_bar] if rules.at_close else prices[OPENS][exit_bar]
    if rules.stop_loss > 0 or rules.take_profit > 0 or rules.trailing_stop > 0:
        first = entry_bar + 1 if rules.at_close else entry_bar
        last = min(exit_bar if rules.at_close else exit_bar - 1, n - 1)
        hit, level, why = find_stop(prices, first, last, direction, a[ENTRY_PRICE], rules)
        if why != OPEN:
            exit_bar, price, reason = hit, level, why
    marked = mark_held(a, close, entry_bar, exit_bar, edges, blocks, rules, curve)
    if marked < exit_bar:
        exit_bar, price, reason = marked, prices[CLOSES][marked], RUIN
    if exit_bar >= n:
        return n, n, 0
    close_position(a, price, exit_bar, reason, rules, edges, blocks, trades)
    if reason == RUIN:
        return exit_bar, n, 0
    follow = next_direction(masks, decided, direction, rules) if reason == SIGNAL else 0
    next_decision = exit_bar + 1 - rules.lag
    if rules.cooldown > 0:
        next_decision = max(next_decision, exit_bar + rules.cooldown)
    return exit_bar, next_decision, follow


@njit(**OPTIONS)
def simulate(prices, masks, edges, rules, a, row, blocks, trades, curve):
    """Backtest one trial; returns the number of trades recorded.

    prices: float64[n] open, high, low and close. masks: uint64[4, words] entries, exits, short entries, short exits,
    little bit order, no bit beyond n. edges: int64[S + 1] row numbers, from 0 to n. a: float64[ACCOUNTS], scratch.
    Written: row float64[len(METRICS)]; blocks float64[3, S] (sum of r, sum of r^2, closed trades); trades float64[k,
    TRADE_COLUMNS], the first k trades, the open one last; curve float64[n] (or [0]), the equity at each close.
    """
    n = prices[CLOSES].shape[0]
    close = prices[CLOSES]
    a[:] = 0.0
    a[CASH] = a[EQUITY] = a[PEAK] = a[LOW] = rules.cash
    a[PEAK_BAR] = -1.0
    a[BEST], a[WORST] = -np.inf, np.inf
    blocks[:] = 0.0
    unmarked, decision, follow = 0, 0, 0
    while unmarked < n:
        if follow != 0:
            bar, direction = unmarked, follow
            decision = bar - rules.lag
        else:
            decision, direction = next_entry(masks, decision, n, rules)
            bar = min(decision + rules.lag, n)
            mark_flat(a, unmarked, bar, edges, blocks, rules, curve)
            unmarked = bar
            if bar == n:
                break
        price = prices[CLOSES][bar] if rules.at_close else prices[OPENS][bar]
        follow = 0
        if buy_or_sell(a, direction, price, bar, rules):
            unmarked, decision, follow = hold_position(
                a, prices, close, masks, decision, direction, bar, edges, blocks, rules, trades, curve
            )
        else:
            decision += 1
    if a[UNITS] != 0.0:
        pnl = a[UNITS] * (prices[CLOSES][n - 1] - a[ENTRY_PRICE]) - a[ENTRY_FEE]
        gain = pnl / (abs(a[UNITS]) * a[ENTRY_PRICE])
        record(a, trades, prices[CLOSES][n - 1], n - 1, a[ENTRY_FEE], pnl, gain, OPEN)
    summarise(a, n, edges, blocks, rules, row)
    return np.int64(a[RECORDED])


@njit(**OPTIONS)
def summarise(a, n, edges, blocks, rules, row):
    """The metrics row, in the order of METRICS, from the accounts."""
    end_drawdown(a, n - 1)
    if a[DEPTH] < ZERO_FALL:
        a[DEPTH] = a[DEPTH_BARS] = 0.0
    sum1, sum2 = 0.0, 0.0
    for block in range(edges.shape[0] - 1):
        if edges[block] == edges[block + 1]:
            blocks[:, block] = np.nan
        else:
            sum1 += blocks[0, block]
            sum2 += blocks[1, block]
    ppy = rules.periods_per_year
    growth = a[EQUITY] / rules.cash
    total = growth - 1.0
    row[0] = total
    row[1] = growth ** (ppy / n) - 1.0 if n > 0 and growth >= 0 else np.nan
    mean = sum1 / n if n > 0 else np.nan
    square = sum2 / n if n > 0 else np.nan
    variance = square - mean * mean
    if variance <= ZERO_VARIANCE * square:
        variance = 0.0
    sample = variance * n / (n - 1) if n > 1 else np.nan
    excess = mean - rules.risk_free_per_bar
    row[2] = np.sqrt(sample * ppy)
    row[3] = excess / np.sqrt(sample) * np.sqrt(ppy) if variance > 0 else np.nan
    idle = min(-rules.risk_free_per_bar, 0.0)
    downside = a[DOWNSIDE] + (n - a[MARKED_BARS]) * idle * idle
    falls = downside > ZERO_FALL * ZERO_FALL * sum2
    row[4] = excess / np.sqrt(downside / n) * np.sqrt(ppy) if falls else np.nan
    row[6] = a[DEPTH]
    row[5] = row[1] / a[DEPTH] if a[DEPTH] > 0 else np.nan
    row[7] = a[DEPTH_BARS]
    trade_metrics(a, row)
    row[17] = a[HELD_BARS] / n if n > 0 else np.nan
    row[18] = a[TRADED] * n / a[SUM_EQUITY] if a[SUM_EQUITY] > 0 else np.nan
    row[19] = a[FEES]
    row[20] = a[EQUITY]
    row[21], row[22] = np.nan, np.nan
    if variance > 0 and n > 1:
        third = a[SUM3] / n - 3.0 * mean * square + 2.0 * mean**3
        fourth = a[SUM4] / n - 4.0 * mean * a[SUM3] / n + 6.0 * mean * mean * square - 3.0 * mean**4
        row[21] = third / variance**1.5
        row[22] = fourth / (variance * variance)
    for metric in range(row.shape[0]):
        if np.isinf(row[metric]):
            row[metric] = np.nan


@njit(**OPTIONS)
def trade_metrics(a, row):
    """Metrics 8 to 16: those over closed trades."""
    trades, wins = a[TRADES], a[WINS]
    losses = trades - wins
    row[8:17] = np.nan
    row[15] = trades
    if trades > 0:
        row[8] = wins / trades
        row[10] = (a[WIN_RETURNS] + a[LOSS_RETURNS]) / trades
        row[13] = a[BEST]
        row[14] = a[WORST]
        row[16] = a[HOLD_BARS] / trades
    if a[LOSSES] > 0:
        row[9] = a[GAINS] / a[LOSSES]
    if wins > 0:
        row[11] = a[WIN_RETURNS] / wins
    if losses > 0:
        row[12] = a[LOSS_RETURNS] / losses
