"""The engine reproduces the reference engines on their own data, by the presets of its execution model.

The differences that remain are listed in `tests.golden_checks`.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.engine_twin import Trial, as_naive, differences, engine_of, signals_of
from tests.golden_checks import (
    Outcome,
    check_backtesting_py,
    check_hand_metrics,
    check_surface_row,
    check_vectorbt,
    check_volume_zone,
)
from tests.golden_runs import (
    BACKTESTING_PY,
    METRICS,
    VECTORBT,
    VOLUME_ZONE,
    Run,
    backtesting_py_run,
    surface_runs,
    vectorbt_run,
    volume_zone_run,
)
from tests.goldens import Floats, Mask, case, case_bars

pytestmark = pytest.mark.shared


def trial_of(run: Run) -> Trial:
    return Trial(run.bars.prices, run.masks, run.execution, run.periods_per_year)


def outcome(run: Run) -> Outcome:
    trial = trial_of(run)
    backtest = engine_of(trial).backtest(signals_of(trial))
    return Outcome(as_naive(backtest), backtest.metrics)


@pytest.mark.parametrize("case_id", VECTORBT)
def test_trades_of_vectorbt(shared: Path, case_id: str) -> None:
    run = vectorbt_run(shared, case_id)
    check_vectorbt(outcome(run), run)


@pytest.mark.parametrize("case_id", BACKTESTING_PY)
def test_trades_of_backtesting_py(shared: Path, case_id: str) -> None:
    run = backtesting_py_run(shared, case_id)
    check_backtesting_py(outcome(run), run)


def test_the_surface_of_sma_cross(shared: Path) -> None:
    for run in surface_runs(shared, "btc_1d_sma_36"):
        check_surface_row(outcome(run), run)


def test_the_surface_of_donchian(shared: Path) -> None:
    for run in surface_runs(shared, "eth_4h_donchian_sl_tp"):
        assert differences(trial_of(run)) == []
        check_surface_row(outcome(run), run)


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("case_id", VOLUME_ZONE)
def test_the_held_trades_of_volume_zone_breakout(shared: Path, case_id: str, fill: str) -> None:
    run = volume_zone_run(shared, case_id, fill)
    check_volume_zone(outcome(run), run)


@pytest.mark.parametrize("case_id", METRICS)
def test_metrics_by_hand(shared: Path, case_id: str) -> None:
    entry = case(shared, "metrics", case_id)
    bars, hand = case_bars(shared, entry), entry["expected"]["hand"]
    ppy, risk_free = float(entry["periods_per_year"]), entry["risk_free_annual"]
    held = above(bars.close, 20, 50) if case_id == "btc_1d_sma20_50_ppy365" else np.ones(len(bars), bool)
    never = np.zeros(len(bars), bool)
    execution = {"cash": 1e8, "fill": "close"}
    trial = Trial(bars.prices, (held, ~held, never, never), execution, ppy, risk_free)
    backtest = engine_of(trial).backtest(signals_of(trial))
    check_hand_metrics(backtest.metrics, after_a_flat_bar(hand, ppy, risk_free))


def above(close: Floats, fast: int, slow: int) -> Mask:
    """SMA(fast) > SMA(slow), False while they warm up."""
    flags = np.zeros(len(close), bool)
    for t in range(slow - 1, len(close)):
        flags[t] = math.fsum(close[t - fast + 1 : t + 1]) / fast > math.fsum(close[t - slow + 1 : t + 1]) / slow
    return flags


def after_a_flat_bar(hand: dict[str, float], ppy: float, risk_free: float) -> dict[str, float]:
    """The figures by hand with a return of 0 in front of the others.

    They begin with the second bar; the engine has the first one too, where nothing can be held yet.
    """
    n, mean, variance, floor = hand["n"], hand["mean"], hand["std_ddof0"] ** 2, risk_free / ppy
    third, fourth = hand["skew_pop"] * variance**1.5, hand["kurt_pop_non_excess"] * variance**2
    raw3 = third + 3 * mean * variance + mean**3
    raw4 = fourth + 4 * mean * third + 6 * mean**2 * variance + mean**4
    share = n / (n + 1)
    m1, m2, m3, m4 = share * mean, share * (variance + mean**2), share * raw3, share * raw4
    centred = m2 - m1**2
    std = math.sqrt(centred * (n + 1) / n)
    losses = share * hand["downside_deviation_ann_full_n"] ** 2 / ppy + min(-floor, 0) ** 2 / (n + 1)
    cagr = (1 + hand["total_return"]) ** (ppy / (n + 1)) - 1
    return hand | {
        "cagr_by_bar_count": cagr,
        "calmar_by_bar_count": cagr / -hand["max_drawdown"],
        "ann_volatility_ddof1": std * math.sqrt(ppy),
        "sharpe_ddof1": (m1 - floor) / std * math.sqrt(ppy),
        "sortino_full_n": (m1 - floor) / math.sqrt(losses) * math.sqrt(ppy),
        "skew_pop": (m3 - 3 * m1 * m2 + 2 * m1**3) / centred**1.5,
        "kurt_pop_non_excess": (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / centred**2,
    }
