"""Successive halving (Jamieson and Talwalkar, 2016): the rungs of a search, and who comes from one to the next.

All points are tried on a small part of history and datasets, the best third of them on three times as much, and so on;
the last rung is the whole. A rung is a round of `grid/rounds.py`, and a point that survives has a new number in the
next one, so every row is a trial of its own that was run over the part of its rung, and counts as tried. The trial
numbers of datasets that a rung leaves out belong to no trial, and no unit has them (`grid.plan.Plan`).

Rejected: going on with a survivor's backtest where it ended, which saves a third at most, as rungs cost alike, and
wants the engine's state in the rows. Rejected: a row that is replaced by that of the next rung, as commits are final.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.errors import BadInput

ETA = 3
"""One in so many points goes on, to so many times as much history x datasets."""
LEAST_POINTS = 8
"""Points of the last rung, at least."""


@dataclass(frozen=True)
class Rung:
    """The points [first, stop), the numbers of the `datasets` on which they are tried (ascending), and over how many
    `blocks`, out of `of`; the last rung alone has all.
    """

    first: int
    stop: int
    datasets: tuple[int, ...]
    blocks: int
    of: int

    @property
    def share(self) -> float:
        """Of the history."""
        return self.blocks / self.of


def rungs(points: int, blocks: int, order: Sequence[int]) -> tuple[Rung, ...]:
    """The rungs of a search of so many points: as many as leave LEAST_POINTS at the end, and a block at the beginning.

    order: the numbers of the datasets, of which each rung takes as many as it needs from the beginning on. Each rung
    costs about the same. Raises BadInput where there are no two.
    """
    if blocks == 1:
        raise BadInput(
            "search.method halving begins with a part of the history, and validation.blocks: 1 cuts it into none: ask "
            "for more blocks, 16 by default, or say method: random."
        )
    if points < ETA * LEAST_POINTS:
        raise BadInput(
            f"search.method halving keeps the best third of each rung, and {points} points are no two rungs with "
            f"{LEAST_POINTS} left: ask for {ETA * LEAST_POINTS} or more, of a space that has them (search.trials), or "
            "say method: random."
        )
    steps = 1
    while ETA ** (steps + 1) <= blocks * len(order) and points // ETA ** (steps + 1) >= LEAST_POINTS:
        steps += 1
    found: list[Rung] = []
    many, long = 1, 1
    for step in range(steps, -1, -1):
        many, long = _part(ETA**step, len(order), blocks, (many, long))
        first = found[-1].stop if found else 0
        stop = first + points // ETA ** (steps - step)
        found.append(Rung(first, stop, tuple(sorted(order[:many])), long, blocks))
    return tuple(found)


def _part(fewer: int, datasets: int, blocks: int, least: tuple[int, int]) -> tuple[int, int]:
    """How many datasets and blocks make one part in `fewer` of all: about as small a share of the one as of the other,
    so far as whole ones allow it, and of neither less than in the rung before.
    """
    if fewer == 1:
        return datasets, blocks
    many = max(int(np.ceil(datasets / np.sqrt(fewer))), least[0])
    long = min(max(round(blocks * datasets / fewer / many), least[1]), blocks - 1)
    return min(max(round(blocks * datasets / fewer / long), least[0]), datasets), long


def blocks_seen(bars: NDArray[np.int64], blocks: int) -> int:
    """How many blocks, from the beginning, a rung of so many gives to a dataset that has so many `bars` in each.

    Of the blocks in which it has bars at all it has the first ones, in proportion and rounded up: a symbol that was
    listed late is not left without any.
    """
    filled = np.flatnonzero(bars)
    return int(filled[-(-blocks * len(filled) // len(bars)) - 1]) + 1


def survivors(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The places of the best `count`, best first.

    scores: float64[n, k], higher is better, NaN for none; later columns decide between equals of the earlier ones, and
    then the lower place does.
    """
    worse = np.where(np.isfinite(scores), -scores, np.inf)
    return np.lexsort(worse.T[::-1])[:count]
