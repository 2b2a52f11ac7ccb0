"""Block moments of made returns, as the rows of a session keep them."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Chunk, Floats


def moments_of(returns: Floats, edges: NDArray[np.int64], periods: float = 1.0) -> Chunk:
    """Returns of trials in the columns of float64[T, n], cut at rows `edges` (S + 1 of them), as a chunk."""
    sums = np.stack([returns[a:b].sum(axis=0) for a, b in pairwise(edges)], axis=1)
    squares = np.stack([(returns[a:b] ** 2).sum(axis=0) for a, b in pairwise(edges)], axis=1)
    return Chunk(np.arange(returns.shape[1]), sums, squares, np.diff(edges).astype(np.float64), periods)
