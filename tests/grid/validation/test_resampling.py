"""The bootstrap and what rests on it."""

import numpy as np
import pytest
from scipy import stats

from grid.validation.bootstrap import block_intervals, bootstrap_means, mean_block, stationary, trade_intervals
from grid.validation.reality import long_run_variance, reality_check


def test_resamples_walk_on_and_jump_once_in_a_block() -> None:
    rows = np.concatenate(list(stationary(50, 400, 5.0, seed=3)))
    assert rows.shape == (400, 50)
    steps = (np.diff(rows, axis=1) - 1) % 50
    assert (steps != 0).mean() == pytest.approx(0.2 * 49 / 50, abs=0.01)  # a jump may land on the next row
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=50)).statistic < 50 * 8  # rows of a block go together
    again = np.concatenate(list(stationary(50, 400, 5.0, seed=3)))
    assert (rows == again).all()


def test_means_are_those_of_the_resampled_rows() -> None:
    values = np.random.default_rng(1).normal(size=(30, 4))
    rows = np.concatenate(list(stationary(30, 25, 3.0, seed=9)))
    assert bootstrap_means(values, 25, 3.0, seed=9) == pytest.approx(values[rows].mean(axis=1))


def test_the_long_run_variance_is_that_of_the_bootstrap() -> None:
    """Politis and Romano: the kernel is the variance of the resampled mean, so many resamples show it."""
    random = np.random.default_rng(4)
    noise = random.normal(size=(300, 3))
    values = noise[1:] + 0.6 * noise[:-1]
    drawn = bootstrap_means(values, 20_000, 8.0, seed=2)
    assert len(values) * drawn.var(axis=0) == pytest.approx(long_run_variance(values, 1 / 8.0), rel=0.05)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    random, inside = np.random.default_rng(6), 0
    for seed in range(150):
        returns = random.normal(0.001, 0.01, 400)
        low, high = block_intervals(returns, 1.0, 0.9, reps=200, seed=seed)["sharpe"]
        inside += low <= 0.1 <= high
    assert 0.8 < inside / 150 < 0.97


def test_intervals_of_a_trial_that_always_makes_the_same() -> None:
    found = trade_intervals(np.full(12, 0.1))
    assert found["total_return"] == pytest.approx((1.1**12 - 1, 1.1**12 - 1))
    assert found["max_drawdown"] == (0.0, 0.0)
    assert np.isnan(trade_intervals(np.array([0.1]))["expectancy"]).all()
    falls = block_intervals(np.full(10, -0.1), 1.0)
    assert falls["max_drawdown"] == pytest.approx((1 - 0.9**10, 1 - 0.9**10))


def test_the_reality_check_sees_an_edge_and_no_edge() -> None:
    random = np.random.default_rng(8)
    nothing = random.normal(0, 0.01, (500, 40))
    assert reality_check(nothing, reps=500).consistent > 0.05
    edge = nothing.copy()
    edge[:, 17] += 0.0025
    found = reality_check(edge, reps=500)
    assert found.best == 17
    assert max(found.white, found.consistent, found.upper) < 0.01
    assert found.lower <= found.consistent <= found.upper
    assert found.each.argmin() == 17


def test_trials_that_never_move_are_no_rivals() -> None:
    random = np.random.default_rng(8)
    moving = random.normal(0.0005, 0.01, (300, 5))
    with_flat = np.insert(moving, [0, 2], 0.0, axis=1)
    alone, beside = reality_check(moving, reps=300), reality_check(with_flat, reps=300)
    assert (alone.white, alone.consistent) == (beside.white, beside.consistent)
    assert beside.each[[0, 3]].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="returns vary"):
        reality_check(np.zeros((50, 3)))


def naive_block(x: np.ndarray) -> float:
    """Politis and White, lag by lag."""
    n = len(x)
    e = x - x.mean()
    lags = int(np.ceil(np.sqrt(n))) + max(5, int(np.ceil(np.sqrt(np.log10(n)))))
    r = [float((e[: n - k] * e[k:]).sum() / n) for k in range(lags + 1)]
    run, limit = max(5, int(np.ceil(np.sqrt(np.log10(n))))), 2 * np.sqrt(np.log10(n) / n)
    m = 0
    while m + run <= lags and any(abs(r[m + k] / r[0]) >= limit for k in range(1, run + 1)):
        m += 1
    assert m + run <= lags
    top = min(2 * max(m, 1), lags)
    g = d = 0.0
    for k in range(-top, top + 1):
        weight = 1.0 if abs(k) / top <= 0.5 else 2 * (1 - abs(k) / top)
        g += weight * abs(k) * r[abs(k)]
        d += weight * r[abs(k)]
    return max(1.0, min((g * g / (d * d)) ** (1 / 3) * n ** (1 / 3), float(np.ceil(min(3 * np.sqrt(n), n / 3)))))


def test_the_length_of_blocks_follows_the_memory_of_the_data() -> None:
    random = np.random.default_rng(5)
    noise = random.normal(size=1200)
    with_memory = np.zeros(1200)
    for i in range(1, 1200):
        with_memory[i] = 0.7 * with_memory[i - 1] + noise[i]
    assert mean_block(noise) == pytest.approx(naive_block(noise))
    assert mean_block(with_memory) == pytest.approx(naive_block(with_memory))
    assert mean_block(noise) < 8 < mean_block(with_memory)
    three = np.column_stack([noise, with_memory, np.zeros(1200), with_memory])
    assert mean_block(three) == pytest.approx(naive_block(with_memory))
    assert mean_block(np.zeros(50)) == 1.0
