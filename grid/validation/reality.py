"""White's Reality Check and Hansen's test for superior predictive ability: is the best of many better than nothing?

White, "A reality check for data snooping", Econometrica 68(5), 2000; Hansen, "A test for superior predictive ability",
J. Business and Economic Statistics 23(4), 2005. Both bootstrap all trials together, so that what they share is kept.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.validation.bootstrap import autocovariances, bootstrap_means, mean_block
from grid.validation.moments import Floats


@dataclass(frozen=True)
class Reality:
    """p-values of "none of the trials has a mean above 0", and the statistics.

    best: column with the largest mean. white, white_statistic: Reality Check, sqrt(T) x largest mean. lower,
    consistent, upper: SPA with the three centrings, `consistent` being the one to read. spa_statistic: largest
    sqrt(T) x mean / omega, at least 0. omega: float64[m], standard deviation of sqrt(T) x mean. each: float64[m],
    p-value of each trial alone, by the same resamples.
    """

    best: int
    white: float
    white_statistic: float
    lower: float
    consistent: float
    upper: float
    spa_statistic: float
    omega: Floats
    each: Floats


def reality_check(excess: Floats, block: float | None = None, reps: int = 1000, seed: int = 0) -> Reality:
    """Both tests over float64[T, m]: returns of m trials less those of the benchmark, one row a day.

    block: mean length of the bootstrap's blocks, chosen from the data by default. Columns without variance are no
    rivals. Raises ValueError when no column has any, or T is below 3.
    """
    t = len(excess)
    moving = excess.std(axis=0) > 0
    if t < 3 or not moving.any():
        raise ValueError("the tests need three days or more, and a trial whose returns vary")
    block = mean_block(excess) if block is None else block
    values, root = excess[:, moving], math.sqrt(t)
    means, omega = values.mean(axis=0), np.sqrt(long_run_variance(values, 1 / block))
    drawn = bootstrap_means(values, reps, block, seed)
    white = root * means.max()
    spa = max(0.0, float((root * means / omega).max()))
    threshold = -omega / root * math.sqrt(2 * math.log(math.log(t)))
    centres = {
        "lower": np.maximum(means, 0.0),
        "consistent": np.where(means >= threshold, means, 0.0),
        "upper": means,
    }
    spas = {
        name: _share(np.maximum((root * (drawn - centre) / omega).max(axis=1), 0.0) >= spa)
        for name, centre in centres.items()
    }
    each, everyone = (1 + np.sum(drawn - means >= means, axis=0)) / (1 + reps), np.ones(len(moving))
    spread = np.zeros(len(moving))
    everyone[moving], spread[moving] = each, omega
    return Reality(
        best=int(np.flatnonzero(moving)[means.argmax()]),
        white=_share((root * (drawn - means)).max(axis=1) >= white),
        white_statistic=float(white),
        spa_statistic=spa,
        omega=spread,
        each=everyone,
        **spas,
    )


def _share(as_good: NDArray[np.bool_]) -> float:
    """The p-value of so many resamples; what is observed counts as one, so that it is never 0."""
    return float((1 + as_good.sum()) / (1 + len(as_good)))


def long_run_variance(values: Floats, q: float) -> Floats:
    """Variance of sqrt(T) x mean of each column under the stationary bootstrap with jump probability q (Hansen, 2005).

    gamma_0 + 2 sum_i kappa_i gamma_i, kappa_i = (T - i) / T (1 - q)^i + i / T (1 - q)^(T - i).
    """
    t, i = len(values), np.arange(len(values))
    weights = 2 * ((t - i) / t * (1 - q) ** i + i / t * (1 - q) ** (t - i))
    weights[0] = 1.0
    total = weights @ autocovariances(values, t - 1)
    return np.asarray(np.maximum(total, 1e-12 * (values * values).mean(axis=0)), dtype=np.float64)
