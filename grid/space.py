"""The points of a sweep: a product of dimensions, indexed and never stored.

Point numbers run over the full product with the last parameter varying fastest; a point that a constraint
forbids keeps its number and is a hole.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from grid.dimensions import INT64_MAX, Axis, Scalar, axis_of
from grid.errors import BadInput
from grid.expressions import Constraint, compile_constraint

EXACT_LIMIT = 2_000_000
"""Products up to this size are counted point by point; larger ones are sampled."""
SAMPLE = 200_000
SLICE = 1 << 16

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class TrialCount:
    """How many trials (or points) pass the constraints: `trials` is exact, or an estimate +- `error` (1 sigma)."""

    exact: bool
    trials: int
    error: float = 0.0

    def times(self, factor: int) -> "TrialCount":
        """The count of `factor` copies that stand or fall together."""
        return TrialCount(self.exact, self.trials * factor, self.error * factor)


class Points(Protocol):
    """A lazy sequence of parameter points with holes: what a plan numbers. A SearchSpace, RandomSearch or Asked."""

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in the order of the file."""
        ...

    def __len__(self) -> int:
        """How many numbers there are, holes included."""
        ...

    def __getitem__(self, index: int) -> dict[str, Scalar]:
        """The point with this number, hole or not; IndexError outside [0, len)."""
        ...

    def columns(self, indices: Indices) -> dict[str, NDArray[Any]]:
        """One array per parameter with its values at `indices` (shape (n,), each in [0, len))."""
        ...

    def valid(self, indices: Indices) -> NDArray[np.bool_]:
        """True where the point passes every constraint."""
        ...

    def count(self) -> TrialCount:
        """How many points are no holes."""
        ...


class SearchSpace:
    """The product of `dimensions` under `constraints`, as a sequence of points.

    `dimensions` maps a parameter to its values (any sequence, or a lazy Axis). Memory does not depend on
    the number of points, which may reach 2**63 - 1. Raises BadInput for no dimension, a dimension that is
    empty or repeats a value, too many points, and a constraint that cannot be read or that compares text
    with numbers.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Sequence[Any] | Axis],
        constraints: Iterable[str | Constraint] = (),
    ) -> None:
        if not dimensions:
            raise BadInput("space is empty: name at least one parameter and its values, like fast: [5, 10].")
        self.axes: dict[str, Axis] = {name: _axis(name, values) for name, values in dimensions.items()}
        self.constraints = tuple(
            c if isinstance(c, Constraint) else compile_constraint(c, self.axes) for c in constraints
        )
        self._length = math.prod(len(axis) for axis in self.axes.values())
        if self._length > INT64_MAX:
            raise BadInput(f"space holds {self._length:.3g} points and 9.2e18 can be numbered: thin it out.")
        self.valid(np.zeros(1, dtype=np.int64))  # text against numbers fails here, not in a worker

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.axes)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Scalar]]:
        """Every point in order, holes included."""
        return (self[i] for i in range(self._length))

    def __getitem__(self, index: int) -> dict[str, Scalar]:
        if not 0 <= index < self._length:
            raise IndexError(f"no point {index} in a space of {self._length}")
        point: dict[str, Scalar] = {}
        for name, axis in reversed(self.axes.items()):
            index, position = divmod(index, len(axis))
            point[name] = axis[position]
        return {name: point[name] for name in self.axes}

    def columns(self, indices: Indices) -> dict[str, NDArray[Any]]:
        """The points at `indices`, one array per parameter; equal to `self[i]` value by value."""
        return {name: self.axes[name].take(at) for name, at in self._positions(indices, self.names).items()}

    def numbers(self, columns: Mapping[str, Sequence[Any]]) -> Indices:
        """The numbers of points given as columns of values, as `columns` gives them; -1 for what is no point."""
        some = len(next(iter(columns.values())))
        numbers, unknown = np.zeros(some, dtype=np.int64), np.zeros(some, dtype=np.bool_)
        for name, axis in self.axes.items():
            places = axis.find(columns[name])
            numbers, unknown = numbers * len(axis) + places, unknown | (places < 0)
        return np.where(unknown, -1, numbers)

    def valid(self, indices: Indices) -> NDArray[np.bool_]:
        """True where every constraint holds; only the parameters the constraints name are computed."""
        used = [name for name in self.names if any(name in c.names for c in self.constraints)]
        columns = {name: self.axes[name].take(at) for name, at in self._positions(indices, used).items()}
        passed = np.ones(len(indices), dtype=np.bool_)
        for constraint in self.constraints:
            passed &= constraint.evaluate(columns)
        return passed

    def count(self) -> TrialCount:
        """How many points pass: exact while each group of parameters that constraints tie together is small.

        Groups multiply, so `fast < slow` among ten parameters costs len(fast) * len(slow) evaluations. A
        group of more than EXACT_LIMIT combinations is sampled, with a fixed seed.
        """
        return self._count

    @cached_property
    def _count(self) -> TrialCount:
        groups = [group._count_whole() for group in self._groups()]
        total = math.prod(group.trials for group in groups)
        if all(group.exact for group in groups) or TrialCount(True, 0) in groups:
            return TrialCount(True, total)
        return TrialCount(False, total, math.prod(group.trials + group.error for group in groups) - total)

    def _groups(self) -> Iterator["SearchSpace"]:
        """Subspaces that no constraint ties to each other; their product is this space."""
        groups: list[set[str]] = [{name} for name in self.names]
        for constraint in self.constraints:
            tied = [g for g in groups if g & constraint.names]
            groups = [g for g in groups if not g & constraint.names] + [set().union(*tied)]
        for group in groups:
            axes = {name: axis for name, axis in self.axes.items() if name in group}
            yield SearchSpace(axes, [c for c in self.constraints if c.names <= group])

    def _count_whole(self) -> TrialCount:
        if not self.constraints:
            return TrialCount(True, self._length)
        if self._length <= EXACT_LIMIT:
            return TrialCount(True, sum(int(valid.sum()) for _, valid in scan(self)))
        drawn = np.random.default_rng(0).integers(0, self._length, SAMPLE)
        hits = int(self.valid(drawn).sum())
        rate = (hits + 1) / (SAMPLE + 2)  # never 0 or 1: a sample without a hit proves nothing
        error = self._length * math.sqrt(rate * (1 - rate) / SAMPLE)
        return TrialCount(False, self._length * hits // SAMPLE, error)

    def _positions(self, indices: Indices, wanted: Sequence[str]) -> dict[str, Indices]:
        """Where each wanted parameter stands in its dimension, at each of `indices`."""
        strides, stride = {}, 1
        for name, axis in reversed(self.axes.items()):
            strides[name] = stride
            stride *= len(axis)
        return {name: indices // strides[name] % len(self.axes[name]) for name in wanted}


def scan(points: Points, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """`(first number, valid)` for slices of `points` in order, computed as they are asked for."""
    stop = len(points) if stop is None else stop
    for first in range(start, stop, SLICE):
        yield first, points.valid(np.arange(first, min(first + SLICE, stop), dtype=np.int64))


def check_not_empty(points: Points) -> None:
    """Raise BadInput when the constraints leave no point; says whether all were counted or a sample was drawn."""
    count = points.count()
    if count.trials == 0:
        how = "all were tried" if count.exact else f"none of {SAMPLE:,} drawn at random passed"
        raise BadInput(
            f"constraints exclude every point of the {len(points):,} in the space ({how}): "
            "widen the dimensions or loosen a constraint."
        )


def _axis(name: str, values: Sequence[Any] | Axis) -> Axis:
    try:
        return axis_of(values)
    except ValueError as error:
        raise BadInput(f"space.{name}: {error}.") from None
