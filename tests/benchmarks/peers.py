"""`python -m tests.benchmarks.peers [quick]`: one sweep here, in vectorbt and in backtesting.py, one core, CPU time.

`sma_cross`, long, all the cash, next open, fee and slippage; return, Sharpe, drawdown, trades, win rate and profit
factor of every combination. The results are compared before any time is told. Prints a Markdown table.

Different on purpose: backtesting.py trades whole units and takes its spread at the entry alone, so it is compared by
trades only, on an account large enough for the rounding not to matter.
"""

import gc
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from grid.engine import METRICS, Engine, Execution
from strategies import Bars
from strategies.sma_cross import SmaCross

from .machine import processor

FEE, SLIPPAGE, CASH = 0.0005, 0.0002, 1e6
COMPARED = ("total_return", "sharpe", "max_drawdown", "total_trades", "win_rate", "profit_factor")
CHUNK = 100  # combinations a call, at which vectorbt is fastest
Pairs = list[tuple[int, int]]


def made_bars(count: int) -> Bars:
    """Hourly bars: a seeded geometric Brownian motion with a yearly volatility of 55 %, and small gaps."""
    rng = np.random.default_rng(2)
    step = 0.55 * np.sqrt(1 / 8760)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, step, count)))
    opens = np.append(100.0, close[:-1]) * np.exp(rng.normal(0.0, step / 7, count))
    high, low = np.maximum(opens, close) * 1.001, np.minimum(opens, close) * 0.999
    stamps = 1_577_836_800 * 10**9 + np.arange(count, dtype=np.int64) * 3_600 * 10**9
    return Bars("MADE", "1H", "24/7", 8760.0, stamps, opens, high, low, close, rng.uniform(1.0, 100.0, count))


def pairs(count: int) -> Pairs:
    """Evenly out of fast 5..104 x slow 20..219, fast below slow."""
    every = [(f, s) for f in range(5, 105) for s in range(20, 220) if f < s]
    return [every[i] for i in np.linspace(0, len(every) - 1, count).round().astype(int)]


def frame_of(bars: Bars) -> pd.DataFrame:
    columns = {name.capitalize(): bars.column(name) for name in ("open", "high", "low", "close", "volume")}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(bars.timestamp, tz="UTC"))


def grid_sweep(bars: Bars, combinations: Pairs) -> pd.DataFrame:
    engine = Engine(bars, Execution(cash=CASH, fee=FEE, slippage=SLIPPAGE), np.linspace(0, len(bars), 17).astype(int))
    rows, blocks = np.empty((len(combinations), len(METRICS))), np.empty((3, 16))
    for row, (fast, slow) in zip(rows, combinations, strict=True):
        engine.evaluate(SmaCross(fast=fast, slow=slow).signals(bars), row, blocks)
    return pd.DataFrame(rows, columns=list(METRICS))[list(COMPARED)]


def vectorbt_sweep(bars: Bars, combinations: Pairs) -> pd.DataFrame:
    frame, found = frame_of(bars), []
    for start in range(0, len(combinations), CHUNK):
        found.append(_vectorbt_chunk(frame, combinations[start : start + CHUNK]))
        gc.collect()  # its portfolios sit in cycles; without it memory grows and it is slower
    return pd.concat(found, ignore_index=True)


def _vectorbt_chunk(frame: pd.DataFrame, combinations: Pairs) -> pd.DataFrame:
    import vectorbt as vbt

    vbt.settings.returns["year_freq"] = "365 days"
    fast, slow = ([pair[k] for pair in combinations] for k in (0, 1))
    quick = vbt.MA.run(frame["Close"], fast, short_name="fast", run_unique=True)
    calm = vbt.MA.run(frame["Close"], slow, short_name="slow", run_unique=True)
    entries = quick.ma_crossed_above(calm).vbt.signals.fshift(1)
    exits = quick.ma_crossed_below(calm).vbt.signals.fshift(1)
    portfolio = vbt.Portfolio.from_signals(
        frame["Close"],
        entries,
        exits,
        price=frame["Open"].to_numpy()[:, None],
        fees=FEE,
        slippage=SLIPPAGE,
        init_cash=CASH,
        freq="1h",
        max_orders=int((entries.to_numpy() | exits.to_numpy()).sum()) + 1,
    )
    closed = portfolio.trades.closed
    figures = {
        "total_return": portfolio.total_return(),
        "sharpe": portfolio.sharpe_ratio(),
        "max_drawdown": -portfolio.max_drawdown(),
        "total_trades": closed.count(),
        "win_rate": closed.win_rate(),
        "profit_factor": closed.profit_factor(),
    }
    return pd.DataFrame({name: np.asarray(values, np.float64) for name, values in figures.items()})


def backtesting_sweep(bars: Bars, combinations: Pairs) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from backtesting import Backtest, Strategy
        from backtesting.lib import crossover

        class Cross(Strategy):  # type: ignore[misc]
            fast, slow = 10, 50

            def init(self) -> None:
                self.quick = self.I(_mean, self.data.Close, self.fast)
                self.calm = self.I(_mean, self.data.Close, self.slow)

            def next(self) -> None:
                if crossover(self.quick, self.calm):
                    self.buy()
                elif crossover(self.calm, self.quick):
                    self.position.close()

        test = Backtest(frame_of(bars), Cross, cash=CASH * 1e3, commission=FEE, spread=2 * SLIPPAGE)
        trades = [test.run(fast=f, slow=s)["# Trades"] for f, s in combinations]
    return pd.DataFrame({"total_trades": np.array(trades, np.float64)})


def _mean(values: Any, n: int) -> Any:
    return pd.Series(values).rolling(n).mean()


def measured(sweep: Callable[[Bars, Pairs], pd.DataFrame], bars: Bars, some: Pairs) -> tuple[float, pd.DataFrame]:
    """CPU seconds a combination, compiled beforehand, and the results."""
    sweep(bars.slice(0, 1_000), some[:2])
    began = time.process_time()
    found = sweep(bars, some)
    return (time.process_time() - began) / len(some), found


def check_equal(ours: pd.DataFrame, theirs: pd.DataFrame, of: str) -> None:
    for name in theirs.columns:
        mine, other = ours[name].to_numpy()[: len(theirs)], theirs[name].to_numpy()
        if not np.allclose(mine, other, rtol=1e-9, atol=1e-11, equal_nan=True):
            raise SystemExit(f"{of}: {name} differs by up to {np.nanmax(np.abs(mine - other))}")


def main() -> None:
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")
    quick = "quick" in sys.argv[1:]
    bars, every = made_bars(3_000 if quick else 35_040), pairs(100 if quick else 10_000)
    ours, figures = measured(grid_sweep, bars, every)
    lines = [f"| backtest-grid, all 23 metrics and 16 blocks | {len(every)} | {_row(ours, bars)} | 1 |"]
    for name, package, sweep, some in (
        ("vectorbt", "vectorbt", vectorbt_sweep, every),
        ("backtesting.py", "backtesting", backtesting_sweep, every[:: len(every) // 10]),
    ):
        seconds, found = measured(sweep, bars, some)
        kept = figures if len(some) == len(every) else figures.iloc[:: len(every) // 10].reset_index(drop=True)
        check_equal(kept, found, name)
        lines.append(f"| {name} {version(package)} | {len(some)} | {_row(seconds, bars)} | {seconds / ours:,.0f} |")
    sys.stdout.write(
        f"{processor()}, one core, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"numba {version('numba')}; {len(bars):,} hourly bars, CPU time, indicators included, results equal.\n\n"
        "| engine | combinations | us a combination | ns per bar | backtests/s | times ours |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def _row(seconds: float, bars: Bars) -> str:
    return f"{seconds * 1e6:,.0f} | {seconds / len(bars) * 1e9:,.2f} | {1 / seconds:,.0f}"


if __name__ == "__main__":
    main()
