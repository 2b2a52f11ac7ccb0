"""A cache of indicator rows, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from weakref import ref

import numpy as np

from strategies.narrow import Narrow, worth_copying

T = TypeVar("T")

ENTRY_BYTES = 512  # what a key, the array's header and the cache's own records cost, roughly


class RowCache:
    """Keeps what was used last, up to `limit` bytes of arrays; an entry above the limit is never kept.

    narrow: rows of it may come to have copies (narrow.py), which count as part of their entry.
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
            kept: T = self._entries[key].value
            return kept
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
        size = size_of(value)
        if size > self.limit:
            return
        with self._lock:
            if key in self._entries:
                return
            entry = self._entries[key] = _Entry(value)
            self._charge(entry, size)
        rows = [part for part in parts_of(value) if worth_copying(part, self.limit)] if self.narrow else []
        if size + sum(row.nbytes // 2 for row in rows) <= self.limit:
            charge = partial(_charge_if_there, ref(self), ref(entry))
            entry.narrow = [Narrow(row, charge) for row in rows]

    def _charge(self, entry: _Entry, size: int) -> None:
        """An entry takes more; the lock is held."""
        entry.size += size
        self.bytes += size
        while self.bytes > self.limit:
            gone = self._entries.popitem(last=False)[1]
            self.bytes -= gone.size
            gone.kept, gone.narrow = False, []


@dataclass(eq=False)
class _Entry:
    value: Any
    size: int = 0
    narrow: list[Narrow] = field(default_factory=list)
    kept: bool = True


def _charge_if_there(cache: ref[RowCache], entry: ref[_Entry], size: int) -> None:
    """A row of the entry has a copy now. By weak references: a cache goes as soon as nobody has it any more."""
    charged, to = cache(), entry()
    if charged is not None and to is not None:
        with charged._lock:
            if to.kept:
                charged._charge(to, size)


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
