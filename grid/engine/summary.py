"""From the accounts of a trial to its metrics."""

import numpy as np
from numba import njit

from grid.engine.accounts import (
    BEST,
    BLOCK,
    DEPTH,
    DEPTH_BARS,
    DOWNSIDE,
    ENTRY_BAR,
    ENTRY_PRICE,
    EQUITY,
    FEES,
    GAINS,
    HELD_BARS,
    HELD_EQUITY,
    INLINE,
    LOSS_RETURNS,
    LOSSES,
    MARKED_BARS,
    SUM3,
    SUM4,
    SUM_EQUITY,
    TRADED,
    TRADES,
    UNITS,
    WIN_RETURNS,
    WINS,
    WORST,
    ZERO_FALL,
    ZERO_VARIANCE,
)
from grid.engine.lanes import joined, largest, smallest
from grid.engine.marks import end_block, end_drawdown


@njit(**INLINE)
def summarise(a, c, sums, deals, close, edges, blocks, rules, row):
    """The metrics row, in the order of METRICS, from the accounts."""
    n = close.shape[0]
    end_drawdown(a, c, sums, close, n - 1)
    if a[DEPTH] < ZERO_FALL:
        a[DEPTH], c[DEPTH_BARS] = 0.0, 0
    while c[BLOCK] < edges.shape[0] - 1:
        end_block(a, c, sums, edges, blocks, rules)
    sum1, sum2, sum3 = 0.0, 0.0, joined(sums, SUM3)
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
    downside = joined(sums, DOWNSIDE) + (n - c[MARKED_BARS]) * idle * idle
    falls = downside > ZERO_FALL * ZERO_FALL * sum2
    row[4] = excess / np.sqrt(downside / n) * np.sqrt(ppy) if falls else np.nan
    row[6] = a[DEPTH]
    row[5] = row[1] / a[DEPTH] if a[DEPTH] > 0 else np.nan
    row[7] = c[DEPTH_BARS]
    trade_metrics(c, deals, n - c[ENTRY_BAR] if a[UNITS] != 0.0 else 0, row)
    row[17] = c[HELD_BARS] / n if n > 0 else np.nan
    equity = a[SUM_EQUITY] + joined(sums, HELD_EQUITY)
    cost = abs(a[UNITS]) * a[ENTRY_PRICE]  # of the open position
    row[18] = (joined(deals, TRADED) + cost) * n / equity if equity > 0 else np.nan
    row[19] = joined(deals, FEES) + cost * rules.fee
    row[20] = a[EQUITY]
    row[21], row[22] = np.nan, np.nan
    if variance > 0 and n > 1:
        third = sum3 / n - 3.0 * mean * square + 2.0 * mean**3
        fourth = joined(sums, SUM4) / n - 4.0 * mean * sum3 / n + 6.0 * mean * mean * square - 3.0 * mean**4
        row[21] = third / variance**1.5
        row[22] = fourth / (variance * variance)
    for metric in range(row.shape[0]):
        if np.isinf(row[metric]):
            row[metric] = np.nan


@njit(**INLINE)
def trade_metrics(c, deals, open_bars, row):
    """Metrics 8 to 16: those over closed trades. open_bars: the bars that the open position has been held."""
    trades, wins = c[TRADES], joined(deals, WINS)
    losses = trades - wins
    row[8:17] = np.nan
    row[15] = trades
    won, lost = joined(deals, WIN_RETURNS), joined(deals, LOSS_RETURNS)
    if trades > 0:
        row[8] = wins / trades
        row[10] = (won + lost) / trades
        row[13] = largest(deals, BEST)
        row[14] = smallest(deals, WORST)
        row[16] = (c[HELD_BARS] - open_bars) / trades
    if joined(deals, LOSSES) > 0:
        row[9] = joined(deals, GAINS) / joined(deals, LOSSES)
    if wins > 0:
        row[11] = won / wins
    if losses > 0:
        row[12] = lost / losses
