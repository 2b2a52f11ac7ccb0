"""Worked examples of the papers, by name, and properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from grid.validation.effective import effective_trials
from grid.validation.multiple import benjamini_hochberg, holm
from grid.validation.sharpe import (
    Record,
    deflated_sharpe,
    expected_maximum,
    minimum_backtest_years,
    minimum_track_record,
    no_skill_sharpe,
    probabilistic_sharpe,
)


def test_the_numerical_example_of_the_deflated_sharpe_ratio() -> None:
    """Bailey and Lopez de Prado (2014): 100 trials, 5 years of 250 days, an annual Sharpe ratio of 2.5."""
    daily = 0.5 / 250
    record = Record(2.5 / math.sqrt(250), 1250, skew=-3, kurtosis=10)
    assert round(no_skill_sharpe(daily, 100), 4) == 0.1132
    assert round(deflated_sharpe(record, daily, 100), 4) == 0.9004


def test_the_hedge_fund_of_the_sharpe_ratio_efficient_frontier() -> None:
    """Bailey and Lopez de Prado (2012): 24 months at 0.458 a month, as if normal and as they are."""
    assert round(probabilistic_sharpe(Record(0.458, 24)), 3) == 0.982
    assert round(probabilistic_sharpe(Record(0.458, 24, -2.448, 10.164)), 3) == 0.913


@pytest.mark.parametrize(("periods", "years"), [(252, 2.73), (52, 2.83)])
def test_the_minimum_track_record_of_the_efficient_frontier(periods: int, years: float) -> None:
    """The same: an annual Sharpe ratio of 2 against 1 at 95 %, by daily and by weekly returns."""
    record = Record(2 / math.sqrt(periods), 1000)
    assert round(minimum_track_record(record, 1 / math.sqrt(periods)) / periods, 2) == years


def test_pseudo_mathematics_and_financial_charlatanism() -> None:
    """Bailey, Borwein, Lopez de Prado and Zhu (2014): ten trials show 1.57; five years bear 45 trials."""
    assert round(expected_maximum(10), 2) == 1.57
    assert round(minimum_backtest_years(45), 1) == 5.0


@given(st.floats(-0.3, 0.3), st.integers(3, 5000), st.floats(-0.3, 0.3))
def test_the_probabilistic_sharpe_ratio_of_a_normal(ratio: float, bars: int, benchmark: float) -> None:
    error = math.sqrt((1 + ratio**2 / 2) / (bars - 1))
    expected = stats.norm.cdf((ratio - benchmark) / error)
    assert probabilistic_sharpe(Record(ratio, bars), benchmark) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(st.floats(1.5, 1e12))
def test_the_expected_maximum_by_another_normal(trials: float) -> None:
    gamma = np.euler_gamma
    expected = (1 - gamma) * stats.norm.isf(1 / trials) + gamma * stats.norm.isf(1 / (trials * math.e))
    assert expected_maximum(trials) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_what_cannot_be_said_is_nan_and_one_trial_is_no_search() -> None:
    assert math.isnan(minimum_track_record(Record(-0.1, 100)))
    assert math.isnan(probabilistic_sharpe(Record(0.1, 1)))
    assert math.isnan(probabilistic_sharpe(Record(2.0, 100, skew=9)))
    assert expected_maximum(1) == expected_maximum(0) == 0.0
    assert deflated_sharpe(Record(0.1, 100), 0.5, 1) == probabilistic_sharpe(Record(0.1, 100))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_by_their_definitions(values: list[float]) -> None:
    p_values = np.array(values)
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    order, n, stepped = sorted(range(len(values)), key=lambda i: values[i]), len(values), 0.0
    for rank, i in enumerate(order):
        stepped = min(1.0, max(stepped, (n - rank) * values[i]))
        assert holm(p_values)[i] == pytest.approx(stepped)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 200))
def test_tests_whose_p_value_is_1_need_not_be_given(values: list[float], others: int) -> None:
    p_values = np.array(values)
    given_all = np.concatenate((p_values, np.ones(others)))
    for adjusted in (holm, benjamini_hochberg):
        assert adjusted(p_values, len(given_all)).tolist() == adjusted(given_all)[: len(values)].tolist()
    assert holm(np.array([1e-13]), 57_000_000_000).tolist() == [57_000_000_000 * 1e-13]


def test_effective_trials_of_copies_of_independent_ones_and_of_a_mixture() -> None:
    random = np.random.default_rng(1)
    one = random.normal(size=(2000, 1))
    copies = effective_trials(np.repeat(one, 30, axis=1), 1000)
    assert copies.by_mean == pytest.approx(1.0)
    assert copies.by_spectrum == pytest.approx(1.0, rel=1e-3)
    apart = effective_trials(random.normal(size=(2000, 60)), 1000)
    assert apart.by_mean > 970
    assert apart.by_spectrum > 900
    ten = effective_trials(np.repeat(random.normal(size=(2000, 10)), 12, axis=1), 1000)
    assert 8 < ten.by_spectrum < 12
    flat = effective_trials(np.zeros((100, 5)), 1000)
    assert (flat.by_mean, flat.sampled) == (1000, 0)
