"""Sharpe ratios over any set of blocks, from what every trial keeps: sums and sums of squares of its bar returns."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = Floats | float

NO_VARIANCE = 1e-12
"""A variance below this times the mean square is rounding, as in the engine."""


@dataclass(frozen=True)
class Chunk:
    """Block moments of n trials of one dataset.

    ids: int64[n] trial numbers. sums, squares: float64[n, S], sum r and sum r^2 of each block, 0 in a block without
    bars. bars: float64[S], how many bars a block has. periods: bars a year (1 leaves Sharpe ratios per bar).
    """

    ids: NDArray[np.int64]
    sums: Floats
    squares: Floats
    bars: Floats
    periods: float = 1.0


Chunks = Callable[[], Iterable[Chunk]]
"""All chunks of a search, as often as asked for: they need not fit in memory together."""


def sharpe(bars: Numbers, sums: Numbers, squares: Numbers, periods: float = 1.0) -> Floats:
    """Annual Sharpe ratio (ddof=1) of returns with these counts, sums and sums of squares; any shapes that broadcast.

    periods: bars a year. NaN below two bars and without variance.
    """
    bars = np.asarray(bars, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = squares - sums * sums / bars
        ratio = sums / bars / np.sqrt(spread / (bars - 1)) * np.sqrt(periods)
        return np.where((bars >= 2) & (spread > NO_VARIANCE * squares), ratio, np.nan)


def excess(chunk: Chunk, risk_free_per_bar: float) -> Chunk:
    """The moments of returns less a rate: sum (r - f) and sum (r - f)^2."""
    f, n = risk_free_per_bar, chunk.bars
    squares = chunk.squares - 2 * f * chunk.sums + n * f * f
    return Chunk(chunk.ids, chunk.sums - n * f, squares, n, chunk.periods)


def over(chunk: Chunk, blocks: NDArray[np.bool_]) -> Floats:
    """Annual Sharpe ratios of the n trials over each set of blocks: bool[F, S] to float64[n, F]."""
    bars = blocks @ chunk.bars
    return sharpe(bars[:, None], _joined(chunk.sums, blocks), _joined(chunk.squares, blocks), chunk.periods).T


def _joined(values: Floats, blocks: NDArray[np.bool_]) -> Floats:
    """Sums over each set of blocks, float64[F, n], in the order of blocks: those of a matrix product would depend, in
    their last digit, on how many other trials are in the chunk.
    """
    columns, found = np.ascontiguousarray(values.T), np.zeros((len(blocks), len(values)))
    for total, chosen in zip(found, blocks, strict=True):
        for block in np.flatnonzero(chosen):
            total += columns[block]
    return found
