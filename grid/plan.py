"""The deterministic order of a sweep's trials, and how it is cut into work.

`trial_id = dataset_index * len(points) + point_index`. A plan is arithmetic: it stores neither trials nor
units.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from grid.dimensions import INT64_MAX
from grid.errors import BadInput
from grid.halving import Rung
from grid.ranges import Ranges
from grid.search import Asked, rungs_of
from grid.space import Indices, Points, TrialCount, scan

FIRST_TRIALS_SCAN = 20_000_000

Span = tuple[int, int]
"""Points [first, stop)."""


@dataclass(frozen=True)
class WorkUnit:
    """The trials [start, stop), holes included, all on one dataset."""

    dataset: int
    start: int
    stop: int


class Plan:
    """Every point on every dataset, numbered. `datasets` come in the order of (symbol, timeframe).

    The numbers of points on datasets that a rung of successive halving leaves out belong to no trial.

    Raises BadInput when there is no dataset, or when the trials are too many to be numbered in 64 bits.
    """

    def __init__(self, datasets: Sequence[Any], points: Points) -> None:
        if not datasets:
            raise BadInput("the sweep has no dataset: name at least one symbol and timeframe of the store.")
        self.datasets = tuple(datasets)
        self.points = points
        if len(self.datasets) * len(points) > INT64_MAX:
            raise BadInput(
                f"{len(self.datasets)} datasets x {len(points):.3g} points are more trials than can be numbered "
                "(9.2e18): thin out the space or use fewer datasets."
            )
        rungs = rungs_of(points) or (Rung(0, len(points), tuple(range(len(datasets))), 1, 1),)
        self._rungs = [(rung, frozenset(rung.datasets)) for rung in rungs]

    @cached_property
    def total(self) -> int:
        """How many trial numbers are to be worked off, holes included."""
        return self.numbers((0, len(self.points)))

    @property
    def end(self) -> int:
        """The number after the last one."""
        return len(self.datasets) * len(self.points)

    def locate(self, trial_id: int) -> tuple[int, int]:
        """`(dataset index, point index)` of a trial; IndexError outside [0, end)."""
        if not 0 <= trial_id < self.end:
            raise IndexError(f"no trial {trial_id} in a plan up to {self.end}")
        return divmod(trial_id, len(self.points))

    def has(self, trial_id: int) -> bool:
        """Whether there is a trial of that number, of those below `end`: it is no hole, and no rung leaves it out."""
        dataset, point = self.locate(trial_id)
        known = bool(self.points.valid(np.array([point], dtype=np.int64))[0])
        return known and any(self.parts(dataset, (point, point + 1)))

    def asked(self, unit: WorkUnit) -> Indices | None:
        """What whoever evaluates a unit must `learn` of its points first; None where they follow from the sweep."""
        if not isinstance(self.points, Asked):
            return None
        first = unit.dataset * len(self.points)
        return self.points.numbers(unit.start - first, unit.stop - first)

    def learn(self, unit: WorkUnit, asked: Indices | None) -> None:
        """Take in what `asked` told of a unit, in another process."""
        if isinstance(self.points, Asked) and asked is not None:
            self.points.learn(unit.start - unit.dataset * len(self.points), asked)

    def points_of(self, unit: WorkUnit) -> Indices:
        """The points of a unit's trial numbers, holes left out."""
        first = unit.dataset * len(self.points)
        numbers = np.arange(unit.start - first, unit.stop - first, dtype=np.int64)
        return numbers[self.points.valid(numbers)]

    def dataset_trials(self, dataset: int) -> tuple[int, int]:
        """The trial numbers [start, stop) of one dataset."""
        first = dataset * len(self.points)
        return first, first + len(self.points)

    def parts(self, dataset: int, span: Span) -> Iterator[tuple[int, int]]:
        """The trial numbers [start, stop) of a span of points on one dataset, rung by rung where there are rungs."""
        first = dataset * len(self.points)
        for rung, datasets in self._rungs:
            start, stop = max(rung.first, span[0]), min(rung.stop, span[1])
            if start < stop and dataset in datasets:
                yield first + start, first + stop

    def _all_parts(self, span: Span) -> Iterator[tuple[int, int]]:
        return (part for dataset in range(len(self.datasets)) for part in self.parts(dataset, span))

    def numbers(self, span: Span) -> int:
        """How many trial numbers of a span of points are to be worked off."""
        return sum(stop - start for start, stop in self._all_parts(span))

    def missing(self, span: Span, done: Ranges) -> int:
        """How many of them are not in `done`."""
        return sum(stop - start - done.overlap(start, stop) for start, stop in self._all_parts(span))

    def whole_trials(self, trials: float) -> list[float]:
        """How many trials over the whole history the work on each dataset amounts to, of so many trials in all."""
        whole = np.zeros(len(self.datasets))
        for rung, _ in self._rungs:
            whole[list(rung.datasets)] += (rung.stop - rung.first) * rung.share
        return [float(trials / max(self.total, 1) * own) for own in whole]

    def work_done(self, numbers: float) -> float:
        """The part of all work that the first so many trial numbers are, in the order of the rungs; from 0 to 1."""
        many = np.array([(rung.stop - rung.first) * len(rung.datasets) for rung, _ in self._rungs], float)
        work = many * [rung.share for rung, _ in self._rungs]
        return float(np.interp(numbers, [0, *np.cumsum(many)], [0, *np.cumsum(work)]) / max(work.sum(), 1e-9))

    def units(
        self, size: Callable[[int], int], done: Ranges | None = None, span: Span | None = None
    ) -> Iterator[WorkUnit]:
        """The work that `done` leaves over of a span of points (by default all), in order, cut lazily.

        `size(dataset)` is asked before each cut for the most trial numbers the next unit may have (less
        than 1 counts as 1), so the answer may change as the sweep learns what a trial costs. `done` is read
        as each dataset is begun.
        """
        done, span = Ranges() if done is None else done, span or (0, len(self.points))
        for dataset in range(len(self.datasets)):
            left = [piece for part in self.parts(dataset, span) for piece in done.subtract(*part)]
            for position, end in left:
                while position < end:
                    cut = min(position + max(size(dataset), 1), end)
                    yield WorkUnit(dataset, position, cut)
                    position = cut

    def count(self) -> TrialCount:
        """How many trials there are, holes left out: exact, or an estimate with its standard error."""
        if isinstance(self.points, Asked):
            return TrialCount(True, self.total)
        return self.points.count().times(len(self.datasets))

    def first_trials(self, n: int) -> list[int]:
        """The numbers of the first `n` trials, in order; fewer when there are fewer. Not for successive halving.

        Looks through the first 20,000,000 points at most, so that a space of almost nothing but holes
        cannot stall it.
        """
        if n <= 0:
            return []
        found: list[int] = []
        for first, valid in scan(self.points, 0, min(len(self.points), FIRST_TRIALS_SCAN)):
            found += [first + int(i) for i in np.flatnonzero(valid)[: n - len(found)]]
            if len(found) == n:
                return found
        everywhere = (d * len(self.points) + p for d in range(len(self.datasets)) for p in found)
        return [trial for trial, _ in zip(everywhere, range(n), strict=False)]
