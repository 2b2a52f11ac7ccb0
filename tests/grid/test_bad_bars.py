"""Bars and settings that make no sense: an error that says what, or a defined result; never an infinity or a crash."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from grid.engine import Engine, Execution, backtest
from grid.errors import BadInput
from strategies import Bars, registry
from strategies.check import sample_bars
from strategies.sma_cross import SmaCross

PRICES = ("open", "high", "low", "close")
EXECUTIONS: list[dict[str, Any]] = [
    {},
    {"side": "both", "size": 0.5},
    {"side": "both", "fill": "close", "stop_loss": 0.05, "trailing_stop": 0.1},
]


def changed(value: float, where: slice) -> Bars:
    """300 sound bars, and one value for all prices of some."""
    bars = sample_bars(300)
    columns = {name: getattr(bars, name).copy() for name in PRICES}
    for row in columns.values():
        row[where] = value
    return dataclasses.replace(bars, **columns)


def scaled(factor: float) -> Bars:
    bars = sample_bars(300)
    return dataclasses.replace(bars, **{name: getattr(bars, name) * factor for name in PRICES})


ODD = {
    "zero": changed(0.0, slice(100, 120)),
    "negative": changed(-5.0, slice(100, 120)),
    "empty": sample_bars(300).slice(0, 0),
    "one bar": sample_bars(300).slice(0, 1),
    "fewer than any window": sample_bars(300).slice(0, 5),
    "huge": scaled(1e305),
    "tiny": scaled(1e-310),
    "no volume": dataclasses.replace(sample_bars(300), volume=np.zeros(300)),
}


@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("kind", ODD)
def test_odd_bars_give_no_infinity(kind: str, name: str, execution: dict[str, Any]) -> None:
    bars = ODD[kind]
    result = backtest(bars, registry.get(name)(), **execution)
    for numbers in (result.row, result.blocks, result.curve, result.trade_rows):
        assert not np.isinf(numbers).any()
    if len(bars) <= 5:
        assert result.metrics["total_trades"] == 0
        assert np.isnan(result.metrics["sharpe"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_prices_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(BadInput, match=rf"SAMPLE 1D: open of bar 100 is {value}"):
        Engine(changed(value, slice(100, 101)), Execution())


@pytest.mark.parametrize(
    "setting",
    [
        {"fee": 1.5},
        {"fee": -0.1},
        {"slippage": -0.001},
        {"size": 0},
        {"size": {"units": 0}},
        {"stop_loss": 0},
        {"take_profit": 0},
        {"trailing_stop": 0},
        {"trailing_stop": float("nan")},
        {"cash": 0},
        {"hold": 0},
        {"preset": "zipline"},
    ],
)
def test_settings_out_of_bounds_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(setting))):
        Execution.model_validate(setting)
    with pytest.raises(BadInput, match=f"^{next(iter(setting))}[a-z.]* is .*: it should be .*"):
        backtest(sample_bars(), SmaCross(), **setting)


def test_a_setting_that_there_is_not_is_told_with_the_nearest_one() -> None:
    with pytest.raises(BadInput, match=r"stop_los is no known field \(did you mean 'stop_loss'\?\)"):
        backtest(sample_bars(), SmaCross(), stop_los=0.1)
