"""Sets of whole numbers kept as disjoint half-open ranges."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of whole numbers as sorted, disjoint, non-touching ranges `[start, stop)`.

    Every operation costs the logarithm of the number of ranges and the ranges it touches (adding in the
    middle also moves the list's tail), whatever the sizes of the numbers. Equal when the sets are equal.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Put [start, stop) into the set; ranges that overlap or touch become one. ValueError when start > stop."""
        if start >= stop:
            _check_order(start, stop)
            return
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._stops[at]

    def overlap(self, start: int, stop: int) -> int:
        """How many numbers of [start, stop) are in the set."""
        return sum(b - a for a, b in self.intersect(start, stop))

    def intersect(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of [start, stop) that are in the set, in order."""
        if start >= stop:
            _check_order(start, stop)
            return []
        first, last = bisect_right(self._stops, start), bisect_left(self._starts, stop)
        parts = zip(self._starts[first:last], self._stops[first:last], strict=True)
        return [(max(start, a), min(stop, b)) for a, b in parts]

    def subtract(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of [start, stop) that are not in the set, in order."""
        left, position = [], start
        for a, b in self.intersect(start, stop):
            if a > position:
                left.append((position, a))
            position = b
        return [*left, (position, stop)] if position < stop else left

    def total(self) -> int:
        """How many numbers are in the set."""
        return sum(self._stops) - sum(self._starts)

    def to_list(self) -> list[tuple[int, int]]:
        """The ranges in order; `Ranges(x.to_list()) == x`."""
        return list(self)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """How many ranges the set is made of (`total` counts its numbers)."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.to_list() == other.to_list()

    __hash__ = None  # type: ignore[assignment] # it is mutable

    def __repr__(self) -> str:
        return f"Ranges({self.to_list()})"


def _check_order(start: int, stop: int) -> None:
    if start > stop:
        raise ValueError(f"range [{start}, {stop}) ends before it starts")
