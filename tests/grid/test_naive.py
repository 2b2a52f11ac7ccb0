"""The naive twin reproduces the reference engines, so that the real engine may be tested against it.

The conventions' stops are nobody else's, so the references' rules are put into the twin for their cases: its
levels, gaps, priorities and prices are then shown to be right, and only the stated differences remain.

- vectorbt (`trades_vectorbt`, `sweep_surface`): live from the bar after the fill, looked at before the orders
  of the bar's open, slippage on targets too.
- backtesting.py: relative to the close of the signal bar; its donchian rule ignores opposite signals while
  in a position.

Other differences are listed in `tests.golden_checks`.
"""

import dataclasses
import math
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
    without_last_bar,
)
from tests.golden_runs import (
    BACKTESTING_PY_WITHOUT_STOPS,
    METRICS,
    VECTORBT_WITHOUT_STOPS,
    VOLUME_ZONE,
    Run,
    backtesting_py_run,
    surface_runs,
    vectorbt_run,
    volume_zone_run,
)
from tests.goldens import case, case_bars, golden

pytestmark = pytest.mark.shared


class VectorbtStops(naive._Simulation):
    def bar(self, t: int) -> None:
        stopped = self.stop_or_target(t)
        if not stopped:
            self.execute(self.pending, t, self.open[t])
        self.pending = self.decide(t)
        self.mark(t)

    def long_hit(self, position: naive.Position, t: int) -> tuple[float, str] | None:
        hit = super().long_hit(position, t)
        return (self.against(naive.SHORT, hit[0]), "target") if hit and hit[1] == "target" else hit


class BacktestingPyStops(naive._Simulation):
    def decide_in_position(self, t: int, direction: int) -> naive.Order:  # noqa: ARG002
        return naive.Order()

    def long_hit(self, position: naive.Position, t: int) -> tuple[float, str] | None:
        return super().long_hit(self.by_signal_close(position), t)

    def short_hit(self, position: naive.Position, t: int) -> tuple[float, str] | None:
        return super().short_hit(self.by_signal_close(position), t)

    def by_signal_close(self, position: naive.Position) -> naive.Position:
        return dataclasses.replace(position, entry_price=self.close[position.entry_bar - 1])


def outcome(run: Run) -> Outcome:
    result = naive.simulate(*run.bars.prices, *run.masks, **run.execution)
    return Outcome(result, naive.metrics(result, run.execution["cash"], run.periods_per_year))


@pytest.mark.parametrize("case_id", VECTORBT_WITHOUT_STOPS)
def test_trades_of_vectorbt(shared: Path, case_id: str) -> None:
    run = vectorbt_run(shared, case_id)
    check_vectorbt(outcome(run), run)


def test_stops_of_vectorbt(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive, "_Simulation", VectorbtStops)
    run = vectorbt_run(shared, "btc_4h_donchian_sl4_tp8_allin_slip")
    check_vectorbt(outcome(run), run)


@pytest.mark.parametrize("case_id", BACKTESTING_PY_WITHOUT_STOPS)
def test_trades_of_backtesting_py(shared: Path, case_id: str) -> None:
    run = without_last_bar(backtesting_py_run(shared, case_id))
    check_backtesting_py(outcome(run), run)


def test_a_signal_of_the_last_bar_fills_at_its_close(shared: Path) -> None:
    run = backtesting_py_run(shared, "btc_1d_sma_10_30_longshort_on_close")
    trades = outcome(run).result.trades
    assert len(trades) == len(run.golden["trades"]) + 1
    assert trades[-1]["exit_bar"] == len(run.bars) - 1


@pytest.mark.parametrize("case_id", ["btc_4h_donchian20_sl3_tp6_long", "btc_4h_donchian20_sl3_tp6_longshort"])
def test_stops_of_backtesting_py(shared: Path, monkeypatch: pytest.MonkeyPatch, case_id: str) -> None:
    monkeypatch.setattr(naive, "_Simulation", BacktestingPyStops)
    run = backtesting_py_run(shared, case_id)
    check_backtesting_py(outcome(run), run)


def test_the_surface_of_sma_cross(shared: Path) -> None:
    for run in surface_runs(shared, "btc_1d_sma_36"):
        check_surface_row(outcome(run), run)


def test_the_surface_of_donchian_without_stops(shared: Path) -> None:
    runs = [run for run in surface_runs(shared, "eth_4h_donchian_sl_tp") if not run.stops]
    assert len(runs) == 6
    for run in runs:
        check_surface_row(outcome(run), run)


def test_the_surface_of_donchian_with_stops(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive, "_Simulation", VectorbtStops)
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


def test_every_case_without_stops_is_used(shared: Path) -> None:
    cases = golden(shared, "trades_vectorbt")["cases"]
    without = {c["id"] for c in cases if c["params"]["stop_loss_pct_of_fill"] is None}
    assert without == set(VECTORBT_WITHOUT_STOPS)
    cases = golden(shared, "trades_backtesting_py")["cases"]
    without = {c["id"] for c in cases if c["params"]["stop_loss_pct_of_signal_close"] is None}
    assert without == set(BACKTESTING_PY_WITHOUT_STOPS)
    assert {c["id"] for c in golden(shared, "metrics")["cases"]} == set(METRICS)
