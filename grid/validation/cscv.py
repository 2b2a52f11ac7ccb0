"""Combinatorially symmetric cross-validation: how often the best in sample is below the median out of sample.

Bailey, Borwein, Lopez de Prado and Zhu, "The probability of backtest overfitting", J. Comput. Finance 20(4), 2017.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from grid.validation.cscv_kernel import TILE, scan
from grid.validation.moments import Chunk, Chunks, Floats

MOST_GROUPS = 16
"""More blocks than this are joined to this many neighbouring groups, which make 12,870 splits."""


@dataclass(frozen=True)
class Cscv:
    """One entry a split, in the lexicographic order of the blocks in sample.

    trials: how many there were. best: int64[C], the trial that leads in sample (ties go to the lower number).
    rank: int64[C], 1 + how many trials are strictly worse out of sample. in_sample, out_of_sample: float64[C], annual
    Sharpe ratios of the best; 0 where it did not trade.
    """

    trials: int
    best: NDArray[np.int64]
    rank: NDArray[np.int64]
    in_sample: Floats
    out_of_sample: Floats

    @property
    def pbo(self) -> float:
        """Share of splits whose best is at or below the median out of sample.

        That is where ln(w / (1 - w)) <= 0, with w = rank / (trials + 1).
        """
        return float(np.mean(2 * self.rank <= self.trials + 1))

    @property
    def probability_of_loss(self) -> float:
        """Share of splits whose best has a Sharpe ratio below 0 out of sample."""
        return float(np.mean(self.out_of_sample < 0))

    @property
    def degradation(self) -> tuple[float, float]:
        """(slope, intercept) of the out-of-sample Sharpe ratio of the best over the in-sample one; NaN if constant."""
        x, y = self.in_sample - self.in_sample.mean(), self.out_of_sample
        spread = float(x @ x)
        if spread <= 0:
            return float("nan"), float("nan")
        slope = float(x @ y) / spread
        return slope, float(y.mean() - slope * self.in_sample.mean())


def cscv(chunks: Chunks, blocks: int, threads: int = 2) -> Cscv:
    """CSCV over all trials of `chunks`, which are gone through twice and held one at a time.

    blocks: S, how many blocks the chunks have; even, and at least 4. Raises ValueError for any other number, and for no
    trial. Trials of datasets with different bars a year are compared by their annual Sharpe ratios.
    """
    if blocks % 2 or blocks < 4:
        raise ValueError(f"CSCV needs an even number of blocks, at least 4, and not {blocks}")
    groups = min(blocks, MOST_GROUPS)
    splits = _splits(groups)
    count = len(splits)
    leads = np.tile(np.array([-np.inf, 1.0, 0.0, 1.0]), (count, 1))
    ids = np.full(count, np.iinfo(np.int64).max)
    trials = 0
    for chunk in chunks():
        trials += len(chunk.ids)
        _scan(_grouped(chunk, groups), splits, leads, ids, np.empty(0, np.int64), threads)
    if trials == 0:
        raise ValueError("CSCV needs at least one trial")
    below = np.zeros(count, np.int64)
    for chunk in chunks():
        _scan(_grouped(chunk, groups), splits, leads, ids, below, threads)
    ratios = np.sign(leads[:, ::2]) * np.sqrt(np.abs(leads[:, ::2]) / leads[:, 1::2])
    return Cscv(trials, ids, below + 1, ratios[:, 0], ratios[:, 1])


def _splits(groups: int) -> NDArray[np.int64]:
    half = groups // 2
    chosen = np.array([sum(1 << b for b in blocks) for blocks in combinations(range(groups), half)], np.int64)
    other = (1 << groups) - 1 - chosen
    low = (1 << half) - 1
    return np.stack([chosen & low, chosen >> half, other & low, other >> half], axis=1)


def _grouped(chunk: Chunk, groups: int) -> Chunk:
    if chunk.sums.shape[1] == groups:
        return chunk
    starts = [int(part[0]) for part in np.array_split(np.arange(chunk.sums.shape[1]), groups)]
    joined = [np.add.reduceat(values, starts, axis=-1) for values in (chunk.sums, chunk.squares, chunk.bars)]
    return Chunk(chunk.ids, joined[0], joined[1], joined[2], chunk.periods)


def _scales(chunk: Chunk, splits: NDArray[np.int64]) -> Floats:
    groups = len(chunk.bars)
    low, high = (_subset_bars(part) for part in (chunk.bars[: groups // 2], chunk.bars[groups // 2 :]))
    inside, outside = low[splits[:, 0]] + high[splits[:, 1]], low[splits[:, 2]] + high[splits[:, 3]]
    each = [(chunk.periods * (n - 1) / np.maximum(n, 1) ** 2, 1 / np.maximum(n, 1)) for n in (inside, outside)]
    return np.stack([*each[0], *each[1]], axis=1)


def _subset_bars(bars: Floats) -> Floats:
    bits = (np.arange(1 << len(bars))[:, None] >> np.arange(len(bars))) & 1
    return np.asarray(bits @ bars, dtype=np.float64)


def _scan(
    chunk: Chunk,
    splits: NDArray[np.int64],
    leads: Floats,
    ids: NDArray[np.int64],
    below: NDArray[np.int64],
    threads: int,
) -> None:
    """One chunk into all splits, each thread having splits of its own."""
    sums, squares = np.ascontiguousarray(chunk.sums.T), np.ascontiguousarray(chunk.squares.T)
    scales, half = _scales(chunk, splits), sums.shape[0] // 2
    cuts = np.linspace(0, len(splits), threads + 1).astype(int)

    def one(part: tuple[int, int]) -> None:
        tables = np.empty((4, 1 << half, TILE))
        scan(sums, squares, chunk.ids, splits, scales, leads, ids, below, part[0], part[1], tables)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)))
