"""Local refinement: what lies around the leaders, in steps that get smaller."""

from collections.abc import Iterator

import numpy as np

from grid.methods.base import Cells, Lattice, Told

EXPLORED = 0.25
"""The share of the search that is left to chance, to find leaders."""
LEADERS = 10
WIDEST = 1 / 8
"""The first step along a dimension, as a share of it; each round halves it."""
BLOCKS = 20


class Local:
    """Around each of the best points so far: a step up and down along each dimension alone, then random steps in all.

    Text and booleans have no next value: all others are tried instead.
    """

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:  # noqa: ARG002
        done, explored = len(told.scores), EXPLORED * told.total
        if done < explored:
            return
        leaders = told.cells[np.argsort(-told.ranked[:, 0], kind="stable")[:LEADERS]]
        refined = int((done - explored) // told.round)
        steps = [max(1, int(size * WIDEST) >> refined) for size in told.lattice.sizes]
        while True:
            for leader in leaders:
                yield _crosswise(told.lattice, leader, steps)
            if max(steps) == 1:
                break
            steps = [max(1, step // 2) for step in steps]
        rng = np.random.default_rng([seed, done])
        for reach in range(1, BLOCKS + 1):
            yield _around(told.lattice, leaders, reach, rng)


def _crosswise(lattice: Lattice, leader: Cells, steps: list[int]) -> Cells:
    """The cells one step from a leader (int64[k]), along one dimension each; int64[m, k]."""
    found = []
    for i, (size, ordered) in enumerate(zip(lattice.sizes, lattice.ordered, strict=True)):
        other = [leader[i] + steps[i], leader[i] - steps[i]] if ordered else range(size)
        for position in other:
            if 0 <= position < size and position != leader[i]:
                found.append(np.concatenate([leader[:i], [position], leader[i + 1 :]]))
    return np.array(found, dtype=np.int64).reshape(-1, len(lattice.sizes))


def _around(lattice: Lattice, leaders: Cells, reach: int, rng: np.random.Generator) -> Cells:
    """Cells up to `reach` steps from a leader in all ordered dimensions at once, leader by leader."""
    ordered, last = np.array(lattice.ordered), np.array(lattice.sizes, dtype=np.int64) - 1
    moves = rng.integers(-reach, reach + 1, (8, *leaders.shape))
    return np.clip(leaders + np.where(ordered, moves, 0), 0, last).reshape(-1, len(lattice.sizes))
