"""A cache of indicator rows, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import NamedTuple, TypeVar, cast

import numpy as np

from strategies.narrow import Narrow, can_be_copied

T = TypeVar("T")

ENTRY_BYTES = 512  # what a key, the array's header and the cache's own records cost, roughly


class RowCache:
    """Keeps what was used last, up to `limit` bytes of arrays; an entry above the limit is never kept.

    narrow: rows of it may come to have copies (narrow.py), whose room counts from the beginning.
    Safe between threads: two that miss together both compute, and the same value is kept once.
    """

    def __init__(self, limit: int, narrow: bool = True) -> None:
        self.limit, self.narrow = limit, narrow
        self.bytes = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The entry of `key`, else what `compute()` returns, frozen: its arrays are made read-only."""
        try:
            self._entries.move_to_end(key)
            return cast(T, self._entries[key].value)
        except KeyError:
            pass  # computed outside the handler, so that an error of `compute` stands alone
        value = frozen(compute())
        self._keep(key, value)
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def _keep(self, key: Hashable, value: object) -> None:
        rows = [part for part in parts_of(value) if self.narrow and can_be_copied(part, self.limit)]
        size = size_of(value) + sum(row.nbytes // 2 for row in rows)
        if size > self.limit:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = _Entry(value, size, [Narrow(row) for row in rows])
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._entries.popitem(last=False)[1].size


class _Entry(NamedTuple):
    value: object
    size: int
    narrow: list[Narrow]


def frozen(value: T) -> T:
    """`value`, with its arrays (one, or a tuple of them) made read-only."""
    for part in parts_of(value):
        if isinstance(part, np.ndarray):
            part.setflags(write=False)
    return value


def size_of(value: object) -> int:
    """Bytes that an entry occupies: an array, a mask, or a tuple of them."""
    return ENTRY_BYTES + sum(int(getattr(part, "nbytes", 0)) for part in parts_of(value))


def parts_of(value: object) -> tuple[object, ...]:
    """What a value consists of: itself, unless it is a tuple."""
    return value if isinstance(value, tuple) else (value,)
