"""Is a Sharpe ratio skill? What luck alone would have made of so many trials, and how long a record it takes to tell.

Sharpe ratios here are per bar unless a name says annual. skew and kurtosis are population moments, and a normal has
kurtosis 3.

Sources: Bailey and Lopez de Prado, "The Sharpe ratio efficient frontier", J. Risk 15(2), 2012 (probabilistic Sharpe
ratio, minimum track record); the same, "The deflated Sharpe ratio", J. Portfolio Management 40(5), 2014; Bailey,
Borwein, Lopez de Prado and Zhu, "Pseudo-mathematics and financial charlatanism", Notices AMS 61(5), 2014 (expected
maximum, minimum backtest length).
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

EULER_GAMMA = 0.5772156649015329
NORMAL = NormalDist()


@dataclass(frozen=True)
class Record:
    """A track record: Sharpe ratio per bar, number of bars, skew and kurtosis of the bar returns."""

    sharpe: float
    bars: int
    skew: float = 0.0
    kurtosis: float = 3.0

    @property
    def variance(self) -> float:
        """Variance of the estimated Sharpe ratio times (bars - 1); Mertens (2002)."""
        return 1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2


def probabilistic_sharpe(record: Record, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio is above `benchmark` (per bar). NaN where the variance is not positive."""
    if not record.variance > 0 or record.bars < 2:
        return math.nan
    return NORMAL.cdf((record.sharpe - benchmark) * math.sqrt(record.bars - 1) / math.sqrt(record.variance))


def expected_maximum(trials: float) -> float:
    """Expected largest of so many independent standard normals, approximately; 0 for one or fewer."""
    if trials <= 1:
        return 0.0
    near, far = -NORMAL.inv_cdf(1 / trials), -NORMAL.inv_cdf(1 / (trials * math.e))
    return (1 - EULER_GAMMA) * near + EULER_GAMMA * far


def no_skill_sharpe(variance: float, trials: float) -> float:
    """Expected best Sharpe ratio of `trials` without skill whose Sharpe ratios have this variance; unit as given."""
    return math.sqrt(variance) * expected_maximum(trials)


def deflated_sharpe(record: Record, variance: float, trials: float) -> float:
    """Probability that the true Sharpe ratio is above what the best of `trials` without skill would show.

    variance: of the trials' Sharpe ratios per bar (ddof=1).
    """
    return probabilistic_sharpe(record, no_skill_sharpe(variance, trials))


def minimum_track_record(record: Record, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """Bars it takes until the Sharpe ratio is above `benchmark` with this confidence; NaN if it is not above at all."""
    if not record.sharpe > benchmark:
        return math.nan
    return 1 + record.variance * (NORMAL.inv_cdf(confidence) / (record.sharpe - benchmark)) ** 2


def minimum_backtest_years(trials: float, annual_sharpe: float = 1.0) -> float:
    """Years below which the best of `trials` without skill is expected to show this annual Sharpe ratio."""
    return (expected_maximum(trials) / annual_sharpe) ** 2
