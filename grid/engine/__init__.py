"""Signals to fills to equity to metrics."""

import strategies  # noqa: F401 - decides where kernels are kept
from grid.engine.backtest import Backtest, Engine, backtest, buy_and_hold
from grid.engine.execution import Execution
from grid.engine.metrics import METRICS

__all__ = ["METRICS", "Backtest", "Engine", "Execution", "backtest", "buy_and_hold"]
