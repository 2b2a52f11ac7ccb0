"""What choosing would have brought: the best trial of each train set, and what it made of the test set.

Sharpe ratios come from block moments, so nothing is run again. A trial is one run over all blocks: blocks cut its
returns and not its positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Chunk, Chunks, Floats, over, sharpe
from grid.validation.splits import Split, mask


@dataclass(frozen=True)
class Chosen:
    """One entry a split. best: int64[F], the trial with the largest Sharpe ratio in the train set (ties go to the
    lower number; -1 where no trial has one). in_sample, out_of_sample: float64[F], its annual Sharpe ratios; NaN where
    it has none. tests: float64[F, 4], bars, sum r, sum r^2 and bars a year of its test set.
    """

    best: NDArray[np.int64]
    in_sample: Floats
    out_of_sample: Floats
    tests: Floats

    def stitched(self, splits: Sequence[int] | None = None) -> float:
        """Annual Sharpe ratio of the test sets of these splits (all by default), one behind the other."""
        rows = self.tests if splits is None else self.tests[list(splits)]
        bars, sums, squares = rows[:, :3].sum(axis=0)
        years = float((rows[:, 0] / rows[:, 3]).sum())
        return float(sharpe(bars, sums, squares, bars / years)) if years > 0 else float("nan")

    @property
    def efficiency(self) -> float:
        """Mean Sharpe ratio out of sample over that in sample; NaN where the latter is not positive."""
        inside = float(np.nanmean(self.in_sample)) if np.isfinite(self.in_sample).any() else float("nan")
        outside = float(np.mean(np.nan_to_num(self.out_of_sample)))
        return outside / inside if inside > 0 else float("nan")


def choose(chunks: Chunks, splits: Sequence[Split], blocks: int) -> Chosen:
    """The best of all trials in each train set, gone through once. blocks: S, what the splits are splits of."""
    train = np.array([mask(split.train, blocks) for split in splits])
    test = np.array([mask(split.test, blocks) for split in splits])
    best, lead = np.full(len(splits), -1, np.int64), np.full(len(splits), -np.inf)
    tests = np.zeros((len(splits), 4))
    tests[:, 3] = 1.0
    for chunk in chunks():
        ratios = np.where(np.isfinite(ratios := over(chunk, train)), ratios, -np.inf)
        top = ratios.max(axis=0, initial=-np.inf)
        for f in np.flatnonzero(top >= lead):
            if top[f] == -np.inf:
                continue
            ties = np.flatnonzero(ratios[:, f] == top[f])
            at = int(ties[chunk.ids[ties].argmin()])
            if top[f] > lead[f] or chunk.ids[at] < best[f]:
                best[f], lead[f] = chunk.ids[at], top[f]
                tests[f] = _moments(chunk, at, test[f])
    out = sharpe(tests[:, 0], tests[:, 1], tests[:, 2], 1.0) * np.sqrt(tests[:, 3])
    return Chosen(best, np.where(best >= 0, lead, np.nan), out, tests)


def _moments(chunk: Chunk, at: int, blocks: NDArray[np.bool_]) -> Floats:
    own = chunk.bars[blocks].sum(), chunk.sums[at, blocks].sum(), chunk.squares[at, blocks].sum()
    return np.array([*own, chunk.periods])
