"""How to search: sweeps of trading strategies over parameters and markets.

    import grid
    from strategies.sma_cross import SmaCross

    session = grid.run("sweep.yaml")              # or a dict, or a grid.Sweep
    session.trials().to_pandas(); session.top()   # every row; the best ones
    bars = grid.load_bars("AAPL", "1D", store="data")
    result = grid.backtest(bars, SmaCross(fast=5, slow=20))
    result.metrics, result.trades, result.equity

Names are imported when they are first used, so that `import grid` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grid.engine import Backtest, Execution, backtest, buy_and_hold
    from grid.errors import BadInput, Refused
    from grid.resolve import load_bars
    from grid.session import Session
    from grid.spec import Sweep
    from grid.specfile import load_sweep
    from grid.sweep import resume, run

_WHERE = {
    "Backtest": "grid.engine",
    "Execution": "grid.engine",
    "backtest": "grid.engine",
    "buy_and_hold": "grid.engine",
    "BadInput": "grid.errors",
    "Refused": "grid.errors",
    "load_bars": "grid.resolve",
    "Session": "grid.session",
    "Sweep": "grid.spec",
    "load_sweep": "grid.specfile",
    "resume": "grid.sweep",
    "run": "grid.sweep",
}

__all__ = [
    "Backtest",
    "BadInput",
    "Execution",
    "Refused",
    "Session",
    "Sweep",
    "backtest",
    "buy_and_hold",
    "load_bars",
    "load_sweep",
    "resume",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'grid' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
