"""Float32 copies of rows that are compared again and again: half the memory to read, for the same masks to the bit.

Rounding keeps the order: where two rounded numbers differ, the numbers differ alike. Where they do not, a comparison
looks at the numbers themselves (comparing.py). A row has a copy only while a `RowCache` holds it, as what that holds is
changed by nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeGuard
from weakref import ref

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
MOST_TIES = 0.5
"""Part of the words in which some copies tied, beyond which the rows are better off without them."""


class Narrow:
    """What there is of a row's copy, for as long as whoever holds this."""

    __slots__ = ("__weakref__", "_charge", "_copy", "_lock", "_met", "_over", "_row")

    def __init__(self, row: Row, charge: Callable[[int], None]) -> None:
        """charge: told the bytes of the copy once there is one, and less as many when it is given up."""
        self._row, self._charge, self._met, self._over = row, charge, 0, False
        self._copy: Copy | None = None
        self._lock = Lock()
        place = id(row)
        _KNOWN[place] = ref(self, lambda gone: _forget(place, gone))

    def meet(self) -> Copy | None:
        """Count a comparison; the copy, which is made once the row was compared often enough."""
        copy = self._copy
        if copy is not None:
            return copy
        with self._lock:
            if self._copy is None and not self._over:
                self._met += 1
                if self._met < WORTH:
                    return None
                with np.errstate(all="ignore"):  # what becomes infinite or 0 is equal to others that do
                    copy = self._row.astype(np.float32)
                copy.setflags(write=False)
                self._copy = copy
                self._charge(copy.nbytes)
            return self._copy

    def give_up(self) -> None:
        """Let the copy go, for good."""
        with self._lock:
            self._over = True
            if self._copy is not None:
                self._charge(-self._copy.nbytes)
                self._copy = None


_KNOWN: dict[int, ref[Narrow]] = {}


def _forget(place: int, gone: ref[Narrow]) -> None:
    if _KNOWN.get(place) is gone:  # and not of another row that is there now
        del _KNOWN[place]


def _known(row: Row) -> Narrow | None:
    found = _KNOWN.get(id(row))
    return None if found is None else found()


def worth_copying(value: object, limit: int) -> TypeGuard[Row]:
    """Whether a value in a cache of `limit` bytes is a row that may come to have a copy, and is not known yet."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64 or value.ndim != 1:
        return False
    if value.size < FEWEST_BARS or value.nbytes > limit // LARGEST_PART or not value.flags.c_contiguous:
        return False
    return _known(value) is None and not _can_change(value)


def _can_change(row: Row) -> bool:
    """Whether it is a view of an array that somebody may write to."""
    base = row.base
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return True
        base = base.base
    return False


def copies(a: Row, b: Row | float) -> tuple[Copy, Copy | float] | None:
    """Copies of two rows that are about to be compared, or of a row beside a number, which stays as it is.

    None unless all rows have theirs; it counts how often they meet, and makes them.
    """
    left = _known(a) if a.size >= FEWEST_BARS else None
    if left is None:
        return None
    if isinstance(b, float):
        one = left.meet()
        return None if one is None else (one, b)
    right = _known(b)
    if right is None:
        return None
    one, other = left.meet(), right.meet()
    return None if one is None or other is None else (one, other)


def judge(a: Row, b: Row | float, tied: int) -> None:
    """After a comparison by copies, of which `tied` words of 64 bars tied: rows that mostly do lose their copies."""
    if tied * 64 <= MOST_TIES * a.size:
        return
    for row in (a, b):
        known = None if isinstance(row, float) else _known(row)
        if known is not None:
            known.give_up()
