"""Bit masks over bars, and the comparisons that make them.

A mask of n bars is ceil(n / 64) words; bar i is bit i % 64 of word i // 64. A comparison of two rows reads 64
bars at a time into one word, so that its cost is the memory it reads. Comparing with NaN is false.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strategies.comparing import (
    ALL,
    GREATER,
    GREATER_EQUAL,
    LESS,
    LESS_EQUAL,
    WORD,
    compare_narrow,
    compare_rows,
    cross_narrow,
    cross_rows,
)
from strategies.errors import SignalError
from strategies.narrow import copies, judge

Row = NDArray[np.float64]
Words = NDArray[np.uint64]

DOUBLE, UNSIGNED = np.dtype(np.float64), np.dtype(np.uint64)
CONTIGUOUS, CONTIGUOUS_OR_WRITEABLE = 0x1, 0x401  # of numpy's flags
_MIRRORED = (LESS, GREATER, LESS_EQUAL, GREATER_EQUAL)  # a > b is b < a


class Bits:
    """An immutable mask over `n` bars.

    `words`: read-only uint64[ceil(n / 64)], little bit order, the bits beyond `n` zero.
    """

    __slots__ = ("_n", "_words")

    _words: Words
    _n: int

    def __init__(self, words: Words, n: int) -> None:
        """Copies `words`. Raises SignalError where they are not uint64[ceil(n / 64)] with a zero tail."""
        if words.dtype != np.uint64 or words.shape != (words_of(n),):
            raise SignalError(f"a mask of {n} bars needs uint64[{words_of(n)}], got {words.dtype}{list(words.shape)}")
        if n % WORD and int(words[-1]) >> (n % WORD):
            raise SignalError(f"a mask of {n} bars has bits set beyond its last bar")
        self._words = words.copy()
        self._words.setflags(write=False)
        self._n = n

    @staticmethod
    def _own(words: Words, n: int) -> Bits:
        """Wrap words that nobody else holds and that are known to be sound."""
        words.setflags(write=False)
        bits = object.__new__(Bits)
        bits._words = words
        bits._n = n
        return bits

    @staticmethod
    def pack(mask: NDArray[np.bool_]) -> Bits:
        """The mask of a bool[n] array. Raises SignalError for any other dtype or shape."""
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.ndim != 1:
            raise SignalError(f"a mask is a one-dimensional bool array, got {describe_array(mask)}")
        octets = np.zeros(words_of(mask.size) * 8, np.uint8)
        packed = np.packbits(mask, bitorder="little")
        octets[: packed.size] = packed
        return Bits._own(octets.view("<u8").astype(np.uint64, copy=False), mask.size)

    @staticmethod
    def zeros(n: int) -> Bits:
        """The mask of `n` bars with none set; shared, as masks are immutable."""
        return _zeros(n)

    def unpack(self) -> NDArray[np.bool_]:
        """The mask as bool[n]."""
        octets = self._words.astype("<u8", copy=False).view(np.uint8)
        return np.unpackbits(octets, count=self._n, bitorder="little").view(np.bool_)

    @property
    def words(self) -> Words:
        return self._words

    @property
    def n(self) -> int:
        return self._n

    @property
    def nbytes(self) -> int:
        return self._words.nbytes

    def count(self) -> int:
        """How many bars are set."""
        return int(np.bitwise_count(self._words).sum())

    def indices(self) -> NDArray[np.int64]:
        """The bars that are set, ascending."""
        return np.flatnonzero(self.unpack())

    def __len__(self) -> int:
        return self._n

    def __and__(self, other: Bits) -> Bits:
        return Bits._own(self._words & self._other(other), self._n)

    def __or__(self, other: Bits) -> Bits:
        return Bits._own(self._words | self._other(other), self._n)

    def __invert__(self) -> Bits:
        words = ~self._words
        if self._n % WORD:
            words[-1] &= ALL >> np.uint64(WORD - self._n % WORD)
        return Bits._own(words, self._n)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bits):
            return NotImplemented
        return self._n == other._n and bool(np.array_equal(self._words, other._words))

    def __hash__(self) -> int:
        return hash((self._n, self._words.tobytes()))

    def __repr__(self) -> str:
        return f"Bits({self.count()} of {self._n})"

    def __reduce__(self) -> tuple[type[Bits], tuple[Words, int]]:
        return Bits, (self._words, self._n)

    def _other(self, other: Bits) -> Words:
        if not isinstance(other, Bits):
            raise TypeError(f"a mask combines with a mask, not with {type(other).__name__}")
        if other._n != self._n:
            raise SignalError(f"masks of {self._n} and {other._n} bars cannot be combined")
        return other._words


def words_of(n: int) -> int:
    """Words that hold `n` bits."""
    return (n + WORD - 1) // WORD


def describe_array(value: object) -> str:
    """`float64[3, 2]` for an array, else the name of the type; for error texts."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


@lru_cache(maxsize=64)
def _zeros(n: int) -> Bits:
    return Bits._own(np.zeros(words_of(n), np.uint64), n)


def above(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i] > b[i]`. Each side is float64[n] or a number, not both; NaN compares false."""
    return _compare(GREATER, a, b)


def below(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i] < b[i]`; see `above`."""
    return _compare(LESS, a, b)


def at_least(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i] >= b[i]`; see `above`."""
    return _compare(GREATER_EQUAL, a, b)


def at_most(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i] <= b[i]`; see `above`."""
    return _compare(LESS_EQUAL, a, b)


def crosses_above(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i-1] <= b[i-1]` and `a[i] > b[i]`, both defined at both bars; never bar 0."""
    return crosses(a, b)[0]


def crosses_below(a: ArrayLike, b: ArrayLike) -> Bits:
    """Bars where `a[i-1] >= b[i-1]` and `a[i] < b[i]`, both defined at both bars; never bar 0."""
    return crosses(a, b)[1]


def crosses(a: ArrayLike, b: ArrayLike) -> tuple[Bits, Bits]:
    """`(crosses_above, crosses_below)` in one pass; a number on either side is a level."""
    left, right = _operands(a, b)
    if isinstance(left, float):
        up, down = crosses(right, left)
        return down, up
    n = left.size
    count = words_of(n)
    over, under = np.empty(count, UNSIGNED), np.empty(count, UNSIGNED)
    pair = copies(left, right)
    if pair is None:
        cross_rows(left, right, over, under)
    elif tied := cross_narrow(left, right, *pair, over, under):
        judge(left, right, tied)
    return Bits._own(over, n), Bits._own(under, n)


def words_of_all(masks: Iterable[object], n: int) -> tuple[Words, ...] | None:
    """The words of each mask; None unless all are Bits of `n` bars. Made for every trial, so without a detour."""
    words = []
    for mask in masks:
        if type(mask) is not Bits or mask._n != n:
            return None
        words.append(mask._words)
    return tuple(words)


def read_only(values: ArrayLike) -> Row:
    """`values` as a read-only contiguous float64 array, without a copy where it is one but for the flag.

    Kernels are compiled for read-only arrays alone: a writable one would compile a second copy of each.
    """
    if _is_row(values):
        return values
    row = np.ascontiguousarray(values, dtype=np.float64)
    if row.flags.writeable:
        row = row.view()
        row.setflags(write=False)
    return row


def _is_row(values: ArrayLike) -> TypeGuard[Row]:
    return (
        type(values) is np.ndarray
        and values.dtype == DOUBLE
        and values.ndim == 1
        and values.flags.num & CONTIGUOUS_OR_WRITEABLE == CONTIGUOUS
    )


def _operands(a: ArrayLike, b: ArrayLike) -> tuple[Row | float, Row | float]:
    if _is_row(a) and (type(b) is float or (_is_row(b) and a.size == b.size)):
        return a, b
    left, right = _operand(a), _operand(b)
    if isinstance(left, float):
        if isinstance(right, float):
            raise SignalError("a comparison needs a row of bars on at least one side, got two numbers")
    elif not isinstance(right, float) and left.size != right.size:
        raise SignalError(f"rows of {left.size} and {right.size} bars cannot be compared")
    return left, right


def _operand(value: ArrayLike) -> Row | float:
    if _is_row(value):
        return value
    if isinstance(value, (int, float)):
        return float(value)
    row = read_only(value)
    if row.ndim == 1 and np.ndim(value) == 1:
        return row
    if np.ndim(value) == 0:
        return float(row[0])
    raise SignalError(f"a comparison needs one-dimensional rows, got {describe_array(value)}")


def _compare(operator: int, a: ArrayLike, b: ArrayLike) -> Bits:
    left, right = _operands(a, b)
    if isinstance(left, float):
        left, right, operator = right, left, _MIRRORED[operator]
    assert not isinstance(left, float)  # noqa: S101 -- _operands has refused two numbers
    words = np.empty(words_of(left.size), UNSIGNED)
    pair = copies(left, right)
    if pair is None:
        compare_rows(operator, left, right, words)
    elif tied := compare_narrow(operator, left, right, *pair, words):
        judge(left, right, tied)
    return Bits._own(words, left.size)
