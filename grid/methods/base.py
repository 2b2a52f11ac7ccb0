"""What a search method is asked, and what it answers.

A method knows no parameter and no value: it sees a lattice of cells, the positions of values in their dimensions. It
keeps nothing between two questions. Whatever it knows it is told with the question, and that is what is committed, so
its answer is a pure function of seed, count and told rounds: the same for any number of workers, and after a resume.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from grid.space import Indices, SearchSpace

Cells = NDArray[np.int64]
"""int64[n, k]: n points, each a position in each of the k dimensions of a lattice."""


class Lattice:
    """The dimensions of a space that vary.

    sizes: how many values each has. ordered: whether they are numbers, so that neighbours are alike.
    """

    def __init__(self, space: SearchSpace) -> None:
        varied = [axis for axis in space.axes.values() if len(axis) > 1]
        self.sizes = tuple(len(axis) for axis in varied)
        self.ordered = tuple(axis.take(np.zeros(1, np.int64)).dtype.kind in "iuf" for axis in varied)

    def numbers(self, cells: Cells) -> Indices:
        """The numbers that cells have in the space."""
        numbers = np.zeros(len(cells), dtype=np.int64)
        for size, positions in zip(self.sizes, cells.T, strict=True):
            numbers = numbers * size + positions
        return numbers

    def cells(self, numbers: Indices) -> Cells:
        """The cells of numbers of the space."""
        columns = []
        for size in reversed(self.sizes):
            numbers, positions = np.divmod(numbers, size)
            columns.append(positions)
        return np.stack(columns[::-1], axis=1)

    def scaled(self, unit: NDArray[np.float64]) -> Cells:
        """The cells that points of the unit cube lie in, each of a dimension's cells being as wide as the others."""
        sizes = np.array(self.sizes, dtype=np.float64)
        return np.minimum((unit * sizes).astype(np.int64), np.array(self.sizes, dtype=np.int64) - 1)


@dataclass(frozen=True)
class Told:
    """What is known when a method is asked: all points of the rounds before, in the order of their numbers.

    cells: of each point. scores: float64[n, goals], higher is better, the goal that ranks comes first; NaN for a point
    that is not ranked (it failed, or breaks `objective.require`). round: points a round, which every round before had.
    total: points of the whole search.
    """

    lattice: Lattice
    cells: Cells
    scores: NDArray[np.float64]
    round: int
    total: int

    @property
    def ranked(self) -> NDArray[np.float64]:
        """The scores, with worse ones than all others for a point of which one is missing."""
        known: NDArray[np.bool_] = np.all(np.isfinite(self.scores), axis=1)
        worst = self.scores[known].min(axis=0) - 1.0 if known.any() else 0.0
        return np.where(known[:, None], self.scores, worst)


class Method(Protocol):
    """One way to choose points. The implementations are told nothing but what they are asked with."""

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:
        """Blocks of cells that are worth trying, the best first; `count` of them are wanted.

        Whoever asks takes the first `count` that no constraint forbids and that were not tried before, and stops
        reading then; so there may be more, repeated and forbidden ones. Where the blocks end too early, points drawn at
        random take the place of those that are missing. seed: the same in all rounds, below 2**32.
        """
        ...
