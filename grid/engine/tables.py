"""What is made once of a dataset's closes for the trials of chunks.py: sums of eights, and bounds of stretches."""

from typing import Any

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers
from numpy.typing import NDArray

from grid.engine.accounts import INLINE, LANES

STRETCH, LEVELS = 32, 5
leading_zeros: Any = numbers.leading_zeros
TAME = 1e50
"""Prices up to it, and down to its inverse, can be multiplied and divided without a thought."""


def tables(open_: NDArray[np.float64], close: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `run_chunks` looks up: float64, or nothing where a price is not tame.

    First the sums of the closes of each eight bars; then, for 1, 2, 4 up to 16 stretches of 32 bars, from each on,
    the highest close in them and the lowest.
    """
    n = len(close)
    if n == 0 or any(not 1 / TAME < row.min() <= row.max() < TAME for row in (open_, close)):
        return np.empty(0)
    parts = [np.add.reduceat(close, np.arange(0, n, LANES))]
    high, low = (join.reduceat(close, np.arange(0, n, STRETCH)) for join in (np.maximum, np.minimum))
    for k in range(LEVELS):
        parts.append(np.column_stack([high, low]).ravel())
        later = np.minimum(np.arange(len(high)) + 2**k, len(high) - 1)
        high, low = np.maximum(high, high[later]), np.minimum(low, low[later])
    return np.concatenate(parts)


@njit(**INLINE)
def bounds(table, n, start, stop):
    """Bounds of the closes in [start, stop): none is higher than the first, none lower than the second."""
    eights, count = (n + LANES - 1) // LANES, (n + STRETCH - 1) // STRETCH
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
