"""Designs that fill a space evenly, whatever the results: Sobol sequences and Latin hypercubes, drawn by SciPy."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from grid.methods.base import Cells, Told

DRAWS_PER_POINT = 200
"""Points of a design that are looked at for each that is wanted, before chance fills what constraints leave open."""
BLOCK = 1 << 16
MOST_DIMENSIONS = 21_201
"""Of the published direction numbers (Joe and Kuo, 2008)."""


class Sobol:
    """A Sobol sequence, scrambled by the seed (Owen, 1998; Matousek, 1998): every stretch of it is spread evenly."""

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:
        engine = qmc.Sobol(len(told.lattice.sizes), bits=60, rng=np.random.default_rng(seed))
        block = min(1 << (count - 1).bit_length(), BLOCK)  # a power of two, which keeps the balance
        for _ in range(0, DRAWS_PER_POINT * count, block):
            yield told.lattice.scaled(engine.random(block))


class LatinHypercube:
    """Latin hypercubes of `count` points (McKay, Beckman and Conover, 1979): each dimension alone is covered evenly.

    One hypercube where no constraint forbids a point and none falls into a cell that is taken; else as many as needed.
    """

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:
        engine = qmc.LatinHypercube(len(told.lattice.sizes), rng=np.random.default_rng(seed))
        for _ in range(DRAWS_PER_POINT):
            yield told.lattice.scaled(engine.random(count))
