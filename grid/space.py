"""The points of a sweep: a product of dimensions, indexed and never stored.

Point numbers run over the full product with the last parameter varying fastest; a point that a constraint
forbids keeps its number and is a hole.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from grid.dimensions import INT64_MAX, Axis, Dimension, Scalar, axis_of
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

    def spots(self, indices: Indices) -> Indices:
        """The numbers in the space of the points at `indices`."""
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
    the number of points, which may reach 2**63 - 1. `conditions` maps a parameter to a comparison of others: where it
    does not hold the parameter has no part, and only its first value is a point. Raises BadInput for no dimension, a
    dimension that is empty or repeats a value, too many points, and a constraint or a condition that cannot be read or
    that compares text with numbers.
    """

    def __init__(
        self,
        dimensions: Mapping[str, Sequence[Any] | Axis],
        constraints: Iterable[str | Constraint] = (),
        conditions: Mapping[str, str | Constraint] = MappingProxyType({}),
    ) -> None:
        if not dimensions:
            raise BadInput("space is empty: name at least one parameter and its values, like fast: [5, 10].")
        self.axes: dict[str, Axis] = {name: _axis(name, values) for name, values in dimensions.items()}
        self.constraints = tuple(
            c if isinstance(c, Constraint) else compile_constraint(c, self.axes) for c in constraints
        )
        self.conditions = {name: _condition(name, c, self.axes) for name, c in conditions.items()}
        _check_order(self.conditions)
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

    def spots(self, indices: Indices) -> Indices:
        """The numbers in the space, which are `indices` themselves."""
        return indices

    def numbers(self, columns: Mapping[str, Sequence[Any]]) -> Indices:
        """The numbers of points given as columns of values, as `columns` gives them; -1 for what is no point."""
        some = len(next(iter(columns.values())))
        numbers, unknown = np.zeros(some, dtype=np.int64), np.zeros(some, dtype=np.bool_)
        for name, axis in self.axes.items():
            places = axis.find(columns[name])
            numbers, unknown = numbers * len(axis) + places, unknown | (places < 0)
        return np.where(unknown, -1, numbers)

    def valid(self, indices: Indices) -> NDArray[np.bool_]:
        """True where every constraint holds, and where what has no part stands at its first value.

        Only the parameters that constraints and conditions name are computed.
        """
        used = [name for name in self.names if any(name in tied for tied in self._tied())]
        positions = self._positions(indices, used)
        columns = {name: self.axes[name].take(at) for name, at in positions.items()}
        passed = np.ones(len(indices), dtype=np.bool_)
        for constraint in self.constraints:
            passed &= constraint.evaluate(columns)
        for name, condition in self.conditions.items():
            passed &= condition.evaluate(columns) | (positions[name] == 0)
        return passed

    def settled(self, indices: Indices) -> Indices:
        """The same points with every parameter that has no part at its first value."""
        moved = bool(self.conditions)
        while moved:  # what stands at its first value may take the part of others
            moved = False
            for name, condition in self.conditions.items():
                columns = self.columns(indices)
                idle = np.where(condition.evaluate(columns), 0, self._positions(indices, [name])[name])
                indices = indices - idle * self._stride(name)
                moved = moved or bool(idle.any())
        return indices

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
        for names in self._tied():
            tied = [g for g in groups if g & names]
            groups = [g for g in groups if not g & names] + [set().union(*tied)]
        for group in groups:
            axes = {name: axis for name, axis in self.axes.items() if name in group}
            conditions = {name: c for name, c in self.conditions.items() if name in group}
            yield SearchSpace(axes, [c for c in self.constraints if c.names <= group], conditions)

    def _tied(self) -> list[frozenset[str]]:
        """The parameters of each constraint and condition."""
        return [c.names for c in self.constraints] + [c.names | {name} for name, c in self.conditions.items()]

    def _count_whole(self) -> TrialCount:
        if not self._tied():
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
        return {name: indices // self._stride(name) % len(self.axes[name]) for name in wanted}

    def _stride(self, wanted: str) -> int:
        """How many numbers lie between two neighbours that differ in one parameter only."""
        names = self.names
        return math.prod(len(self.axes[name]) for name in names[names.index(wanted) + 1 :])


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


def space_from(dimensions: Mapping[str, Dimension], constraints: Iterable[str]) -> SearchSpace:
    """The space of dimensions as they are written, those with `when` under that condition."""
    axes = {name: dimension.axis() for name, dimension in dimensions.items()}
    return SearchSpace(axes, constraints, {name: d.when for name, d in dimensions.items() if d.when is not None})


def _condition(name: str, given: str | Constraint, names: Collection[str]) -> Constraint:
    if isinstance(given, Constraint):
        return given
    try:
        return compile_constraint(given, {other for other in names if other != name})
    except BadInput as error:
        raise BadInput(f"space.{name}.when: {error}") from None


def _check_order(conditions: Mapping[str, Constraint]) -> None:
    """Raise BadInput where conditions go in a circle."""
    try:
        TopologicalSorter({name: condition.names for name, condition in conditions.items()}).prepare()
    except CycleError as error:
        circle = " <- ".join(error.args[1])
        raise BadInput(f"space: the conditions `when` go in a circle ({circle}): take one of them out.") from None


def _axis(name: str, values: Sequence[Any] | Axis) -> Axis:
    try:
        return axis_of(values)
    except ValueError as error:
        raise BadInput(f"space.{name}: {error}.") from None
