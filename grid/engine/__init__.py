"""Signals to fills to equity to metrics."""

from grid.engine.backtest import Backtest, Engine, backtest, buy_and_hold
from grid.engine.execution import Execution
from grid.engine.metrics import METRICS

__all__ = ["METRICS", "Backtest", "Engine", "Execution", "backtest", "buy_and_hold"]
