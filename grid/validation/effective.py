"""How many independent trials a search amounts to: neighbouring parameters trade alike and count as fewer."""

from dataclasses import dataclass

import numpy as np

from grid.validation.moments import Floats


@dataclass(frozen=True)
class Effective:
    """Estimates from the correlations of a sample of trials, extrapolated to all of them.

    mean_correlation: over pairs of the sample. by_mean: rho + (1 - rho) N (Bailey and Lopez de Prado, 2014, appendix).
    by_spectrum: N / (1 + (N - 1) m), m being the mean squared correlation less its expectation under independence,
    1 / (T - 1): the participation ratio of the eigenvalues of all N. sampled: trials with variance in the sample.
    """

    mean_correlation: float
    by_mean: float
    by_spectrum: float
    sampled: int


def effective_trials(returns: Floats, trials: int) -> Effective:
    """returns: float64[T, n], one column a sampled trial; those without variance are left out. trials: N, all of them.

    Below two columns with variance nothing can be said, and every trial counts.
    """
    moving = returns[:, returns.std(axis=0) > 0]
    n = moving.shape[1]
    if n < 2 or len(moving) < 3:
        return Effective(0.0, float(trials), float(trials), n)
    correlations = np.corrcoef(moving, rowvar=False)
    pairs = n * (n - 1)
    mean = float((correlations.sum() - n) / pairs)
    squared = float(((correlations**2).sum() - n) / pairs) - 1 / (len(moving) - 1)
    rho, m = min(max(mean, 0.0), 1.0), min(max(squared, 0.0), 1.0)
    return Effective(mean, rho + (1 - rho) * trials, trials / (1 + (trials - 1) * m), n)
