"""What the reference engines say of a run, compared with an outcome of ours: of the naive twin or of the engine.

Where a reference and its preset differ:

- backtesting.py books a fill at the close one bar later: its equity on those bars is not compared.
- vectorbt lists the open trade among the trades, and its drawdown has no start cash (equal in these cases).
- `longest_drawdown_bars` in `metrics` is of the longest drawdown; ours is of the deepest, not compared.
- `net_return` of volume_zone_breakout is on the money spent, fee included; ours on the entry value.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.golden_runs import Run
from tests.naive import NaiveResult


@dataclass(frozen=True)
class Outcome:
    """One backtest of a run, in the words of `tests.naive`."""

    result: NaiveResult
    metrics: dict[str, float]

    @property
    def open_entries(self) -> list[int]:
        return [self.result.open_trade["entry_bar"]] if self.result.open_trade else []


def check_vectorbt(outcome: Outcome, run: Run) -> None:
    expected = [trade for trade in run.golden["trades"] if trade["status"] == "Closed"]
    opened = [trade for trade in run.golden["trades"] if trade["status"] == "Open"]
    trades = outcome.result.trades
    assert len(trades) == len(expected)
    for got, want in zip(trades, expected, strict=True):
        check_fills(got, want)
        assert got["direction"] == {"Long": 1, "Short": -1}[want["direction"]]
        assert got["units"] == pytest.approx(want["size"], rel=1e-9)
        assert got["fees"] == pytest.approx(want["entry_fees"] + want["exit_fees"], rel=1e-9)
        assert got["pnl"] == pytest.approx(want["pnl"], rel=1e-7)
        assert got["return"] == pytest.approx(want["return"], rel=1e-7)
        assert got["reason"] == want["reason"]
    assert outcome.open_entries == [trade["entry_bar"] for trade in opened]
    check_equity(outcome, run, booked_late=False)
    check_vectorbt_stats(outcome, run)


def check_fills(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert (got["entry_bar"], got["exit_bar"]) == (want["entry_bar"], want["exit_bar"])
    assert got["entry_price"] == pytest.approx(want["entry_price"], rel=1e-9)
    assert got["exit_price"] == pytest.approx(want["exit_price"], rel=1e-9)


def check_equity(outcome: Outcome, run: Run, booked_late: bool) -> None:
    equity, sample = outcome.result.equity, run.golden["equity_sample"]
    fills = {trade[key] for trade in outcome.result.trades for key in ("entry_bar", "exit_bar")}
    compared = [t for t in range(0, len(equity), sample["step"]) if not (booked_late and t in fills)]
    expected = [sample["values"][t // sample["step"]] for t in compared]
    assert [equity[t] for t in compared] == pytest.approx(expected, rel=1e-9)
    assert equity[-1] == pytest.approx(sample["last"], rel=1e-9)


def check_vectorbt_stats(outcome: Outcome, run: Run) -> None:
    hand, peer = run.golden["hand_stats"], run.golden["vectorbt_stats"]
    expected = {
        "total_return": hand["total_return"],
        "sharpe": hand["sharpe_365d_year_ddof1"],
        "max_drawdown": -hand["max_drawdown"],
        "win_rate": hand["win_rate_closed"],
        "profit_factor": hand["profit_factor_closed"],
        "sortino": peer["sortino_ratio_365d_year"],
        "cagr": peer["annualized_return_365d_year"],
        "calmar": peer["calmar_ratio_365d_year"],
        "volatility": peer["annualized_volatility_365d_year"],
        "fees": peer["total_fees_paid"],
        "exposure": peer["position_coverage"],
        "final_equity": peer["final_value"],
    }
    assert {name: outcome.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-7)


def check_backtesting_py(outcome: Outcome, run: Run) -> None:
    expected, trades = run.golden["trades"], outcome.result.trades
    opened, hand = run.golden["open_position_at_end"], run.golden["hand_stats"]
    assert len(trades) == len(expected)
    for got, want in zip(trades, expected, strict=True):
        check_fills(got, want)
        assert got["direction"] * got["units"] == want["size"]
        assert got["fees"] == pytest.approx(want["commission"], rel=1e-9)
        assert got["pnl"] == pytest.approx(want["pnl"], rel=1e-9)
        assert got["reason"] == want["exit_reason"].replace("reverse", "signal")
    assert outcome.open_entries == ([opened["entry_bar"]] if opened else [])
    check_equity(outcome, run, booked_late=run.execution["fill"] == "close")
    stats = {
        "total_trades": hand["trades"],
        "win_rate": hand["win_rate"],
        "profit_factor": hand["profit_factor_by_pnl"],
        "avg_hold_bars": hand["bars_held_mean"],
    }
    assert {name: outcome.metrics[name] for name in stats} == pytest.approx(stats, rel=1e-7)


def check_surface_row(outcome: Outcome, run: Run) -> None:
    got, row = outcome.metrics, run.golden
    assert got["total_trades"] == row["trades_closed"]
    assert got["total_return"] == pytest.approx(row["total_return"], rel=1e-7)
    assert got["sharpe"] == pytest.approx(row["sharpe"], rel=1e-7)
    assert got["max_drawdown"] == pytest.approx(-row["max_drawdown"], rel=1e-7)
    assert got["win_rate"] == pytest.approx(row["win_rate"], rel=1e-7)


def check_volume_zone(outcome: Outcome, run: Run) -> None:
    listed = run.golden["trades_next_open" if run.execution["fill"] == "next_open" else "trades_at_close"]
    closed = [trade for trade in listed if trade["exit_bar"] is not None]
    trades = outcome.result.trades
    assert len(trades) == len(closed)
    for got, want in zip(trades, closed, strict=True):
        check_fills(got, want)
        spent = got["units"] * got["entry_price"] * (1 + run.execution["fee"])
        assert got["pnl"] / spent == pytest.approx(want["net_return"], rel=1e-9)
        assert got["reason"] == "hold"
    assert outcome.open_entries == [trade["entry_bar"] for trade in listed if trade["exit_bar"] is None]


def check_hand_metrics(got: dict[str, float], hand: dict[str, float]) -> None:
    """Figures of a bar-by-bar equity curve; exposure and trades are not among them."""
    expected = {
        "total_return": hand["total_return"],
        "cagr": hand["cagr_by_bar_count"],
        "volatility": hand["ann_volatility_ddof1"],
        "sharpe": hand["sharpe_ddof1"],
        "sortino": hand["sortino_full_n"],
        "max_drawdown": -hand["max_drawdown"],
        "calmar": hand["calmar_by_bar_count"],
        "skew": hand["skew_pop"],
        "kurtosis": hand["kurt_pop_non_excess"],
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)
