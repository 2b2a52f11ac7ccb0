"""Sums over all bars of a dataset from its start, so that those over any position are two rows of a table apart.

Each sum is kept in two doubles, whole and rest: their difference is as exact as adding the bars between, however large
the sums before them are.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from grid.engine.accounts import INLINE

SUMS = 6
ROW = 16  # doubles: six wholes, two unused, six rests, two unused; two lines of the processor's cache
LARGEST = 1_000_000  # bars; beyond it the table would be too much for a worker's memory


def sums_of(close: NDArray[np.float64], free: float) -> NDArray[np.float64]:
    """float64[n + 1, ROW]: sums over the bars before each of r, r^2, r^3, r^4, min(r - free, 0)^2 and the close.

    r is that of closes; 0 for bar 0. No row at all where there are too many bars, or a close is not positive.
    """
    if not 0 < close.size <= LARGEST or not close.min() > 0.0:
        return np.empty((0, ROW))
    table = np.zeros((close.size + 1) * ROW + 8)
    aligned = (-table.ctypes.data // 8) % 8
    rows = table[aligned : aligned + (close.size + 1) * ROW].reshape(-1, ROW)
    _fill(close, free, rows)
    return rows if np.isfinite(rows[-1]).all() else np.empty((0, ROW))


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(close, free, rows):
    """Two-sum: what an addition loses goes into the rest."""
    for i in range(close.size):
        r = close[i] / close[i - 1] - 1.0 if i > 0 else 0.0
        below = min(r - free, 0.0) if i > 0 else 0.0
        values = (r, r * r, r * r * r, r * r * (r * r), below * below, close[i])
        for k in range(SUMS):
            before, value = rows[i, k], values[k]
            total = before + value
            part = total - before
            error = (before - (total - part)) + (value - part) + rows[i, 8 + k]
            rows[i + 1, k] = total + error
            rows[i + 1, 8 + k] = error - (rows[i + 1, k] - total)


@njit(**INLINE)
def between(sums, k, start, stop):
    """Sum `k` over the bars [start, stop)."""
    first, last = np.uint64(start), np.uint64(stop)
    return (sums[last, np.uint64(k)] - sums[first, np.uint64(k)]) + (
        sums[last, np.uint64(8 + k)] - sums[first, np.uint64(8 + k)]
    )
