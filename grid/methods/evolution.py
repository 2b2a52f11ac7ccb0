"""CMA-ES with margin, as the package `cmaes` implements it, which is the one that Optuna samples with.

Optuna itself is passed by: it keeps the state of the optimiser pickled beside its trials. Here the state is found again
by telling a new optimiser the rounds so far, which takes microseconds a point.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from cmaes import CMAwM
from numpy.typing import NDArray

from grid.methods.base import Cells, Lattice, Told

SIGMA = 0.3
"""The first standard deviation, of a dimension scaled to [0, 1]."""
MOST_STEPS = 1_000
"""A dimension of more values counts as continuous."""
ASKS_PER_POINT = 20

Vector = NDArray[np.float64]


class CmaEs:
    """CMA-ES with margin (Hamano et al., 2022): a normal distribution that moves and turns towards better points.

    A round is a population. The method's own suggestions are what it learns from, repeated ones with the score that is
    known, and those that a constraint forbids as worst of all. Text and booleans have the order of the file.
    """

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:  # noqa: ARG002
        optimizer, lattice = _optimizer(told, seed), told.lattice
        known = {cell: i for i, cell in reversed(list(enumerate(map(tuple, told.cells.tolist()))))}
        for stop in range(told.round, len(told.scores) + 1, told.round):
            population = [optimizer.ask() for _ in range(told.round)]
            cells = _cells(lattice, [seen for seen, _ in population])
            costs = [_cost(told, known.get(tuple(cell)), stop) for cell in cells.tolist()]
            optimizer.tell([(own, cost) for (_, own), cost in zip(population, costs, strict=True)])
        for _ in range(ASKS_PER_POINT):
            yield _cells(lattice, [optimizer.ask()[0] for _ in range(told.round)])


def _cost(told: Told, point: int | None, stop: int) -> float:
    """What is minimised, as it was known after `stop` points."""
    known = point is not None and point < stop and np.isfinite(told.scores[point, 0])
    return -float(told.scores[point, 0]) if known else np.inf


def _optimizer(told: Told, seed: int) -> Any:
    sizes = np.array(told.lattice.sizes, dtype=np.float64)
    return CMAwM(
        mean=np.full(len(sizes), 0.5),
        sigma=SIGMA,
        bounds=np.tile([0.0, 1.0], (len(sizes), 1)),
        steps=np.where(sizes <= MOST_STEPS, 1 / (sizes - 1), 0.0),
        seed=seed,
        population_size=told.round,
    )


def _cells(lattice: Lattice, vectors: Sequence[Vector]) -> Cells:
    """The cells nearest to vectors of the unit cube, whose ends are the first and the last cell."""
    last = np.array(lattice.sizes, dtype=np.float64) - 1
    return np.clip(np.rint(np.stack(vectors) * last), 0, last).astype(np.int64)
