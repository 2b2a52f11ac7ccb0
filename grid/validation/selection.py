"""What choosing would have brought: the best trial of each train set, and what it made of the test set.

Sharpe ratios come from block moments, so nothing is run again. A trial is one run over all blocks: blocks cut its
returns and not its positions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Chunk, Chunks, Floats, over, sharpe
from grid.validation.splits import Split, mask, paths

Piece = tuple[int, NDArray[np.bool_]]
"""A split, and the blocks (bool[S]) on which its chosen trial is looked at."""


@dataclass(frozen=True)
class Chosen:
    """One entry a split. best: int64[F], the trial with the largest Sharpe ratio in the train set (ties go to the
    lower number; -1 where no trial has one). in_sample, out_of_sample: float64[F], its annual Sharpe ratios; NaN where
    it has none. moments: float64[F, 3, S], bars, sum r and sum r^2 of its blocks; periods: float64[F], its bars a year.
    """

    splits: tuple[Split, ...]
    best: NDArray[np.int64]
    in_sample: Floats
    out_of_sample: Floats
    moments: Floats
    periods: Floats

    def stitched(self, pieces: Iterable[Piece]) -> float:
        """Annual Sharpe ratio of these pieces, one behind the other; NaN where there is no variance."""
        total, years = np.zeros(3), 0.0
        for f, blocks in pieces:
            own = self.moments[f][:, blocks].sum(axis=1)
            total += own
            years += own[0] / self.periods[f]
        if years <= 0:
            return float("nan")
        return float(sharpe(total[0], total[1], total[2], total[0] / years))

    def walked(self, splits: Iterable[int]) -> float:
        """`stitched` over the whole test sets of these splits."""
        blocks = self.moments.shape[2]
        return self.stitched((f, mask(self.splits[f].test, blocks)) for f in splits)

    def path_ratios(self, first: int, groups: int) -> list[float]:
        """`stitched` along each path of the combinatorial splits from number `first` on."""
        blocks = self.moments.shape[2]
        parts = [mask([(int(p[0]), int(p[-1]) + 1)], blocks) for p in np.array_split(np.arange(blocks), groups)]
        found = paths(self.splits[first:], groups)
        return [self.stitched((first + split, parts[g]) for g, split in enumerate(path)) for path in found]


def choose(chunks: Chunks, splits: Sequence[Split], blocks: int) -> Chosen:
    """The best of all trials in each train set, gone through once. blocks: S, what the splits are splits of."""
    train = np.array([mask(split.train, blocks) for split in splits])
    best, lead = np.full(len(splits), -1, np.int64), np.full(len(splits), -np.inf)
    moments, periods = np.zeros((len(splits), 3, blocks)), np.ones(len(splits))
    for chunk in chunks():
        ratios = over(chunk, train)
        ratios = np.where(np.isfinite(ratios), ratios, -np.inf)
        top = ratios.max(axis=0, initial=-np.inf)
        for f in np.flatnonzero((top >= lead) & (top > -np.inf)):
            at = _first(chunk, ratios[:, f] == top[f])
            if top[f] > lead[f] or chunk.ids[at] < best[f]:
                best[f], lead[f], periods[f] = chunk.ids[at], top[f], chunk.periods
                moments[f] = chunk.bars, chunk.sums[at], chunk.squares[at]
    tests = [moments[f][:, mask(split.test, blocks)].sum(axis=1) for f, split in enumerate(splits)]
    out = np.array([float(sharpe(t[0], t[1], t[2], p)) for t, p in zip(tests, periods, strict=True)])
    return Chosen(tuple(splits), best, np.where(best >= 0, lead, np.nan), out, moments, periods)


def _first(chunk: Chunk, ties: NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(ties)
    return int(rows[chunk.ids[rows].argmin()])
