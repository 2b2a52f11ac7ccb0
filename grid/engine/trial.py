"""What trials of either kind begin and end with."""

import numpy as np
from numba import njit

from grid.engine.accounts import (
    AFTER,
    BEFORE,
    BEST,
    BLOCK_END,
    CASH,
    ENTRY_BAR,
    ENTRY_PRICE,
    EQUITY,
    INLINE,
    LANES,
    LOW,
    LOWS_HELD,
    NEVER,
    OPEN,
    PEAK,
    PEAK_BAR,
    PEAK_FROM,
    RECORDED,
    UNITS,
    WORST,
)
from grid.engine.execution import Rules
from grid.engine.fills import record
from grid.engine.summary import summarise


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
def begin_trial(a, c, sums, deals, cash, edges):
    """The accounts before the first bar: see accounts.py."""
    a[:], c[:], sums[:], deals[:] = 0.0, 0, 0.0, 0.0
    a[CASH] = a[EQUITY] = a[BEFORE] = a[PEAK] = a[LOW] = cash
    c[PEAK_BAR] = c[PEAK_FROM] = -1
    a[AFTER] = sums[LOWS_HELD : LOWS_HELD + LANES] = np.inf
    deals[BEST : BEST + LANES], deals[WORST : WORST + LANES] = -np.inf, np.inf
    c[BLOCK_END] = edges[1]


@njit(**INLINE)
def end_trial(a, c, sums, deals, close, edges, blocks, rules, row, trades):
    """Write down the open trade and the metrics; the number of trades recorded."""
    if a[UNITS] != 0.0:
        n = close.shape[0]
        record(c, trades, (a[UNITS], a[ENTRY_PRICE], c[ENTRY_BAR]), (close[n - 1], n - 1, OPEN), rules)
    summarise(a, c, sums, deals, close, edges, blocks, rules, row)
    return c[RECORDED]
