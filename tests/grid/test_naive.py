"""The naive twin reproduces the reference engines, so that the real engine may be tested against it.

Their rules for stops are the presets of the execution model. Other differences are listed in `tests.golden_checks`.
"""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests import naive
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
from tests.goldens import case, case_bars, golden

pytestmark = pytest.mark.shared


def outcome(run: Run) -> Outcome:
    result = naive.simulate(*run.bars.prices, *run.masks, **run.execution)
    return Outcome(result, naive.metrics(result, run.execution["cash"], run.periods_per_year))


@pytest.mark.parametrize("case_id", VECTORBT)
def test_trades_of_vectorbt(shared: Path, case_id: str) -> None:
    run = vectorbt_run(shared, case_id)
    check_vectorbt(outcome(run), run)


@pytest.mark.parametrize("case_id", BACKTESTING_PY)
def test_trades_of_backtesting_py(shared: Path, case_id: str) -> None:
    run = backtesting_py_run(shared, case_id)
    check_backtesting_py(outcome(run), run)


def test_a_signal_of_the_last_bar_fills_at_its_close(shared: Path) -> None:
    """By the conventions; not so by the preset."""
    run = backtesting_py_run(shared, "btc_1d_sma_10_30_longshort_on_close")
    trades = outcome(replace(run, execution=run.execution | {"preset": "grid"})).result.trades
    assert len(trades) == len(run.golden["trades"]) + 1
    assert trades[-1]["exit_bar"] == len(run.bars) - 1


def test_the_surface_of_sma_cross(shared: Path) -> None:
    for run in surface_runs(shared, "btc_1d_sma_36"):
        check_surface_row(outcome(run), run)


def test_the_surface_of_donchian(shared: Path) -> None:
    for run in surface_runs(shared, "eth_4h_donchian_sl_tp"):
        check_surface_row(outcome(run), run)


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("case_id", VOLUME_ZONE)
def test_the_held_trades_of_volume_zone_breakout(shared: Path, case_id: str, fill: str) -> None:
    run = volume_zone_run(shared, case_id, fill)
    check_volume_zone(outcome(run), run)


@pytest.mark.parametrize("case_id", METRICS)
def test_metrics_by_hand(shared: Path, case_id: str) -> None:
    entry = case(shared, "metrics", case_id)
    close = case_bars(shared, entry).close.tolist()
    result = curve_of(close, held_bars(case_id, close))
    got = naive.metrics(result, 1.0, entry["periods_per_year"], entry["risk_free_annual"])
    check_hand_metrics(got, entry["expected"]["hand"])


def curve_of(close: list[float], held: list[bool]) -> naive.NaiveResult:
    """An equity curve and nothing else: the growth of 1 over the bars that are held, without costs."""
    equity, worth = [], 1.0
    for (before, now), inside in zip(pairwise(close), held, strict=True):
        worth *= 1 + (now / before - 1) * inside
        equity.append(worth)
    return naive.NaiveResult(equity=equity, in_market=held)


def held_bars(case_id: str, close: list[float]) -> list[bool]:
    """Whether each bar but the first is held: always, or while SMA(20) > SMA(50) at the close before it."""
    before = range(len(close) - 1)
    if case_id != "btc_1d_sma20_50_ppy365":
        return [True for _ in before]
    return [t >= 49 and sma_at(close, t, 20) > sma_at(close, t, 50) for t in before]


def sma_at(close: list[float], t: int, window: int) -> float:
    return math.fsum(close[t - window + 1 : t + 1]) / window


def test_every_case_is_used(shared: Path) -> None:
    for name, used in (("trades_vectorbt", VECTORBT), ("trades_backtesting_py", BACKTESTING_PY), ("metrics", METRICS)):
        assert {entry["id"] for entry in golden(shared, name)["cases"]} == set(used)
