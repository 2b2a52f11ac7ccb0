"""Float32 copies of rows that are compared again and again: half the memory to read, for the same masks to the bit.

Rounding keeps the order: where two rounded numbers differ, the numbers differ alike. Where they do not, a comparison
looks at the numbers themselves (comparing.py). A row has a copy only while a `RowCache` holds it, as nobody changes it
then.
"""

from __future__ import annotations

from typing import TypeGuard
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float64]
Copy = NDArray[np.float32]

FEWEST_BARS = 8_192
"""Shorter rows stay in the core's own cache anyway."""
LARGEST_PART = 16
"""Rows that take more than such a part of a cache have no copy: more rows are worth more than faster ones."""
WORTH = 3
"""At which comparison a copy is made: to make it costs what some two comparisons save."""


class Narrow:
    """What there is of a row's copy, for as long as whoever holds this."""

    __slots__ = ("__weakref__", "_copy", "_met", "_row")

    def __init__(self, row: Row) -> None:
        self._row, self._met = row, 0
        self._copy: Copy | None = None
        _KNOWN[id(row)] = self

    def met(self) -> Copy | None:
        """The copy, once its row was compared often enough for one."""
        if self._copy is None:
            self._met += 1
            if self._met < WORTH:
                return None
            with np.errstate(over="ignore"):  # to infinity, which is then equal to every other
                copy = self._row.astype(np.float32)
            copy.setflags(write=False)
            self._copy = copy
        return self._copy


_KNOWN: WeakValueDictionary[int, Narrow] = WeakValueDictionary()


def copied(bars: int, limit: int) -> bool:
    """Whether a row of so many bars may come to have a copy in a cache of `limit` bytes."""
    return bars >= FEWEST_BARS and 8 * bars <= limit // LARGEST_PART


def can_be_copied(value: object, limit: int) -> TypeGuard[Row]:
    """Whether a value is a row for which that is so."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 1:
        return False
    return value.flags.c_contiguous and copied(value.size, limit)


def copies(a: Row, b: Row | float) -> tuple[Copy, Copy | float] | None:
    """Copies of two rows, or of a row beside a number, which stays as it is; None unless all rows have theirs."""
    left = _KNOWN.get(id(a)) if a.size >= FEWEST_BARS else None
    if left is None:
        return None
    if isinstance(b, float):
        one = left.met()
        return None if one is None else (one, b)
    right = _KNOWN.get(id(b))
    if right is None:
        return None
    one, other = left.met(), right.met()
    return None if one is None or other is None else (one, other)
