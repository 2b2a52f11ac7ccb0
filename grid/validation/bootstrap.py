"""Resampling: the stationary bootstrap, and intervals of what a trial shows.

Politis and Romano, "The stationary bootstrap", J. American Statistical Association 89, 1994.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Floats

AT_ONCE = 2_000_000
"""Resampled numbers held in memory at once."""
COLUMNS_AT_ONCE = 128
Interval = tuple[float, float]


def mean_block(values: Floats) -> float:
    """A mean block length for the stationary bootstrap of float64[T] or float64[T, m]; at least 1.

    The automatic choice of Politis and White, Econometric Reviews 23(1), 2004, with the correction of Patton, Politis
    and White, 28(4), 2009; of several columns the median. Columns without variance are left out.
    """
    columns = values.reshape(len(values), -1)
    moving = columns[:, columns.std(axis=0) > 0]
    if len(values) < 8 or moving.shape[1] == 0:
        return 1.0
    t = len(values)
    run = max(5, math.ceil(math.sqrt(math.log10(t))))
    most = min(math.ceil(math.sqrt(t)) + run, t - 1)
    gammas = autocovariances(moving, most)
    return max(1.0, float(np.median([_block(gamma, t, run) for gamma in gammas.T])))


def _block(gamma: Floats, t: int, run: int) -> float:
    """The choice for one series from its autocovariances: gamma[0] at lag 0, and so on to the last that may count."""
    most = len(gamma) - 1
    small = np.abs(gamma[1:] / gamma[0]) < 2 * math.sqrt(math.log10(t) / t)
    quiet = [m for m in range(most - run + 1) if small[m : m + run].all()]
    last = quiet[0] if quiet else int(np.flatnonzero(~small)[-1]) + 1
    m = min(2 * max(last, 1), most)
    lags = np.arange(-m, m + 1)
    weight = np.minimum(1.0, 2 * (1 - np.abs(lags) / m))
    slope = float((weight * np.abs(lags) * gamma[np.abs(lags)]).sum())
    spread = 2 * float((weight * gamma[np.abs(lags)]).sum()) ** 2
    longest = math.ceil(min(3 * math.sqrt(t), t / 3))
    return min((2 * slope**2 / spread) ** (1 / 3) * t ** (1 / 3), longest) if spread > 0 else float(longest)


def autocovariances(values: Floats, most: int) -> Floats:
    """Of float64[T, m] at lags 0 to `most`, divided by T: float64[most + 1, m]."""
    t = len(values)
    found = np.empty((most + 1, values.shape[1]))
    for first in range(0, values.shape[1], COLUMNS_AT_ONCE):
        part = values[:, first : first + COLUMNS_AT_ONCE]
        power = np.abs(np.fft.rfft(part - part.mean(axis=0), 2 * t, axis=0)) ** 2
        found[:, first : first + part.shape[1]] = np.fft.irfft(power, 2 * t, axis=0)[: most + 1] / t
    return found


def stationary(n: int, reps: int, block: float, seed: int) -> Iterator[NDArray[np.int64]]:
    """`reps` resamples of n observations as row numbers, in batches int64[b, n].

    A resample walks on from a random row, and jumps to another one with probability 1 / block; it wraps at the end.
    """
    random = np.random.default_rng(seed)
    size = max(1, min(reps, AT_ONCE // n))
    for first in range(0, reps, size):
        shape = (min(size, reps - first), n)
        jumps = random.random(shape) < 1 / block
        jumps[:, 0] = True
        last = np.maximum.accumulate(np.where(jumps, np.arange(n), 0), axis=1)
        starts = np.take_along_axis(random.integers(0, n, shape), last, axis=1)
        yield (starts + np.arange(n) - last) % n


def bootstrap_means(values: Floats, reps: int, block: float, seed: int) -> Floats:
    """Means of float64[T, m] by column over `reps` stationary resamples, the same rows for all: float64[reps, m]."""
    n = len(values)
    means = []
    for rows in stationary(n, reps, block, seed):
        flat = rows + n * np.arange(len(rows))[:, None]
        weights = np.bincount(flat.ravel(), minlength=rows.size).reshape(rows.shape)
        means.append(weights.astype(np.float64) @ values / n)
    return np.concatenate(means)


def block_intervals(
    returns: Floats, periods: float, confidence: float = 0.9, reps: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Percentile intervals of total_return, sharpe (annual) and max_drawdown of float64[T] bar returns.

    Resampled by the stationary bootstrap, so that what neighbouring bars share is kept. periods: bars a year.
    """
    found: dict[str, list[Floats]] = {"total_return": [], "sharpe": [], "max_drawdown": []}
    for rows in stationary(len(returns), reps, mean_block(returns), seed):
        drawn = returns[rows]
        total, fall = _path(drawn)
        spread = drawn.std(axis=1, ddof=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found["sharpe"].append(drawn.mean(axis=1) / spread * np.sqrt(periods))
        found["total_return"].append(total)
        found["max_drawdown"].append(fall)
    return {name: _interval(np.concatenate(parts), confidence) for name, parts in found.items()}


def trade_intervals(
    trades: Floats, confidence: float = 0.9, reps: int = 1000, seed: int = 0, per_year: float = 1.0
) -> dict[str, Interval]:
    """Percentile intervals of total_return, sharpe, max_drawdown and expectancy, trades being drawn one by one.

    trades: float64[k], what each closed trade made of the equity at its entry. per_year: closed trades a year, for an
    annual Sharpe ratio of trades. The drawdown is at exits. NaN below two trades.
    """
    names = ("total_return", "sharpe", "max_drawdown", "expectancy")
    if len(trades) < 2:
        return dict.fromkeys(names, (float("nan"), float("nan")))
    drawn = trades[np.random.default_rng(seed).integers(0, len(trades), (reps, len(trades)))]
    total, fall = _path(drawn)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1) * np.sqrt(per_year)
    values = (total, ratio, fall, drawn.mean(axis=1))
    return {name: _interval(each, confidence) for name, each in zip(names, values, strict=True)}


def _path(returns: Floats) -> tuple[Floats, Floats]:
    """Total return and largest drawdown of each row of returns, the start counting as a peak."""
    equity = np.asarray(np.cumprod(1 + returns, axis=1), dtype=np.float64)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return equity[:, -1] - 1, np.max(1 - equity / peak, axis=1)


def _interval(values: Floats, confidence: float) -> Interval:
    kept = values[np.isfinite(values)]
    if len(kept) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
