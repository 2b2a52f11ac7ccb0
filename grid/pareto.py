"""The Pareto front: what cannot be made better in one objective without making it worse in another."""

import numpy as np
from numpy.typing import NDArray


def front(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rows of scores[n, m] that no other row dominates, best in the first column first; higher is better.

    A row dominates another one that is nowhere better and somewhere worse, so equal rows stand or fall together; ties
    go to the lower row. Rows with a NaN or an infinity are not ranked. Takes n x front steps.
    """
    rows = np.flatnonzero(np.isfinite(scores).all(axis=1))
    rows = rows[np.lexsort(-scores[rows].T[::-1])]
    found: list[NDArray[np.int64]] = []
    while len(rows):
        best = scores[rows[0]]  # nothing that follows dominates it
        same = (scores[rows] == best).all(axis=1)
        found.append(rows[same])
        rows = rows[(scores[rows] > best).any(axis=1) & ~same]
    return np.concatenate(found) if found else rows
