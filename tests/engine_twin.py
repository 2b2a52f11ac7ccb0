"""The engine and its naive twin on the same input, and where they differ.

Fills must agree to the bar. The metrics of the engine are compared with the twin's definitions applied to the
engine's own equity and trades, which in turn must agree with the twin's: so a tolerance for rounding in the
curve is not one for an error in a formula.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from grid.engine import METRICS, Backtest, Engine, Execution
from strategies import Bars, Signals
from tests import naive

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
REASONS = ("open", "signal", "hold", "stop", "target", "ruin")
EXACT = ("direction", "entry_bar", "exit_bar", "reason")
ROUNDED = {"entry_price": 1e-12, "exit_price": 1e-12, "units": 1e-10, "fees": 1e-10}
TRADE_METRICS = METRICS[METRICS.index("win_rate") : METRICS.index("avg_hold_bars") + 1]
DAY_NS = 86_400_000_000_000
OF_A_STRATEGY = ("hold", "stop_loss", "take_profit", "trailing_stop", "cooldown")


@dataclass(frozen=True)
class Trial:
    """What both simulate. `execution` holds keyword arguments of `naive.simulate`."""

    prices: Sequence[Floats]  # open, high, low, close
    masks: Sequence[Mask]  # entries, exits, short entries, short exits
    execution: dict[str, Any]
    periods_per_year: float = 365.0
    risk_free: float = 0.0
    edges: tuple[int, ...] = ()
    by_strategy: bool = False  # stops and hold come from the signals and not from the execution model

    @property
    def block_edges(self) -> tuple[int, ...]:
        return self.edges or (0, len(self.prices[0]))


def engine_of(trial: Trial, fast_path: bool = True) -> Engine:
    n = len(trial.prices[0])
    stamps = np.arange(n, dtype=np.int64) * DAY_NS
    bars = Bars("TEST", "1D", "24/7", trial.periods_per_year, stamps, *trial.prices, np.ones(n))
    settings = {k: v for k, v in trial.execution.items() if not (trial.by_strategy and k in OF_A_STRATEGY)}
    if isinstance(settings.get("size"), tuple):
        settings["size"] = {"units": settings["size"][1]}
    execution = Execution(**{"fee": 0.0, **settings}, risk_free=trial.risk_free, fast_path=fast_path)
    return Engine(bars, execution, np.array(trial.block_edges, dtype=np.int64))


def signals_of(trial: Trial) -> Signals:
    own = {k: trial.execution[k] for k in OF_A_STRATEGY if trial.by_strategy and k in trial.execution}
    return Signals(*trial.masks, **own)


def as_naive(backtest: Backtest) -> naive.NaiveResult:
    """The engine's trades and equity as the twin writes them; what it keeps as metrics only is left out."""
    rows = [_trade_of(row) for row in backtest.trade_rows.tolist()]
    opened = rows.pop() if rows and rows[-1]["reason"] == "open" else None
    return naive.NaiveResult(rows, opened, backtest.curve.tolist())


def _trade_of(row: list[float]) -> dict[str, Any]:
    units, entry_bar, exit_bar, entry_price, exit_price, fees, pnl, gain, reason = row
    return {
        "direction": 1 if units > 0 else -1,
        "units": abs(units),
        "entry_bar": int(entry_bar),
        "entry_price": entry_price,
        "exit_bar": int(exit_bar),
        "exit_price": exit_price,
        "fees": fees,
        "pnl": pnl,
        "return": gain,
        "reason": REASONS[int(reason)],
    }


def differences(trial: Trial) -> list[str]:
    """Where the engine and the twin differ, in words; empty when they agree."""
    engine = engine_of(trial)
    backtest = engine.backtest(signals_of(trial))
    twin = naive.simulate(*trial.prices, *trial.masks, **trial.execution)
    ours = as_naive(backtest)
    found = [*_in_evaluate(engine, trial, backtest), *_in_plain_loop(trial, backtest), *_in_trades(ours, twin)]
    if not found:
        found += _in_equity(ours, twin, trial)
    if not found:
        mixed = replace(twin, trades=ours.trades, equity=ours.equity)
        found += [*_in_metrics(backtest, mixed, trial), *_in_blocks(backtest, mixed, trial)]
    return found


def _in_evaluate(engine: Engine, trial: Trial, backtest: Backtest) -> Iterator[str]:
    """A second run on the same engine, without recording, has the same bits."""
    row, blocks = np.full(len(METRICS), -1.0), np.full(backtest.blocks.shape, -1.0)
    engine.evaluate(signals_of(trial), row, blocks)
    if row.tobytes() != backtest.row.tobytes():
        yield f"evaluate: row {row} backtest {backtest.row}"
    if blocks.tobytes() != backtest.blocks.tobytes():
        yield f"evaluate: blocks {blocks} backtest {backtest.blocks}"


def _in_plain_loop(trial: Trial, backtest: Backtest) -> Iterator[str]:
    """The loop over every bar has the same trades, equity and deepest fall to the bit, and sums but for rounding."""
    plain = engine_of(trial, fast_path=False).backtest(signals_of(trial))
    if plain.trade_rows.tobytes() != backtest.trade_rows.tobytes():
        yield f"plain loop: trades {plain.trade_rows} fast {backtest.trade_rows}"
    if plain.curve.tobytes() != backtest.curve.tobytes():
        yield f"plain loop: curve {plain.curve} fast {backtest.curve}"
    yield from differences_of_metrics(backtest.metrics, plain.metrics, plain.curve, trial.execution["cash"])


def differences_of_metrics(got: dict[str, float], plain: dict[str, float], curve: Floats, cash: float) -> Iterator[str]:
    """Where metrics differ from those of the plain loop by more than rounding; its equity says how much that is."""
    slack = tolerances(naive.bar_returns(curve.tolist(), cash), plain["max_drawdown"])
    for name in METRICS:
        exact = name in ("max_drawdown", "max_drawdown_bars", *TRADE_METRICS)
        limits = (0.0, 0.0) if exact else slack.get(name, (1e-9, 1e-12))
        if not close(got[name], plain[name], *limits):
            yield f"plain loop: {name} {plain[name]!r} fast {got[name]!r}"


def _in_trades(ours: naive.NaiveResult, twin: naive.NaiveResult) -> Iterator[str]:
    got, want = _all_trades(ours), _all_trades(twin)
    if [_fills(trade) for trade in got] != [_fills(trade) for trade in want]:
        yield f"trades: engine {[_fills(t) for t in got]} twin {[_fills(t) for t in want]}"
        return
    for a, b in zip(got, want, strict=True):
        where = f"trade of bar {b['entry_bar']}"
        for name in ROUNDED.keys() & b.keys():
            if not close(a[name], b[name], ROUNDED[name]):
                yield f"{where}: {name} engine {a[name]!r} twin {b[name]!r}"
        if "return" in b and not close(a["return"], b["return"], 1e-10, 1e-12):
            yield f"{where}: return engine {a['return']!r} twin {b['return']!r}"
        if "pnl" in b and not close(a["pnl"], b["pnl"], 1e-10, 1e-12 * b["units"] * b["entry_price"]):
            yield f"{where}: pnl engine {a['pnl']!r} twin {b['pnl']!r}"


def _all_trades(result: naive.NaiveResult) -> list[dict[str, Any]]:
    return result.trades + ([result.open_trade] if result.open_trade else [])


def _fills(trade: dict[str, Any]) -> tuple[Any, ...]:
    """Direction, bars and reason; of an open trade the direction and the bar of its entry."""
    if trade.get("reason", "open") == "open":
        return trade["direction"], trade["entry_bar"], "open"
    return tuple(trade[name] for name in EXACT)


def _in_equity(ours: naive.NaiveResult, twin: naive.NaiveResult, trial: Trial) -> Iterator[str]:
    for t, (a, b) in enumerate(zip(ours.equity, twin.equity, strict=True)):
        if not close(a, b, 1e-11, 1e-11 * trial.execution["cash"]):
            yield f"equity at bar {t}: engine {a!r} twin {b!r}"


def _in_metrics(backtest: Backtest, twin: naive.NaiveResult, trial: Trial) -> Iterator[str]:
    cash, got = trial.execution["cash"], backtest.metrics
    want = naive.metrics(twin, cash, trial.periods_per_year, trial.risk_free)
    assert set(got) == set(want)
    slack = tolerances(naive.bar_returns(twin.equity, cash), want["max_drawdown"])
    for name, value in got.items():
        if name == "max_drawdown_bars":
            agree = value in drawdown_durations(twin.equity, cash, want["max_drawdown"])
        else:
            agree = close(value, want[name], *slack.get(name, (1e-9, 1e-12)))
        if not agree:
            yield f"{name}: engine {value!r} twin {want[name]!r}"


YEARLY = 1e3  # above the root of the periods in a year, by which a mean over a deviation is multiplied


def tolerances(returns: list[float], drawdown: float) -> dict[str, tuple[float, float]]:
    """(relative, absolute) where a formula in one pass, or 1 - low / peak, amplifies the rounding of 1e-16.

    So does a return: a ratio of two rounded equities, less 1, is right to 4 x 2^-53 whichever way it is made, which
    counts where prices hardly move.
    """
    mean, n = math.fsum(returns) / len(returns), len(returns)
    square = math.fsum(r * r for r in returns) / n
    variance = math.fsum((r - mean) ** 2 for r in returns) / n
    worse = square / variance if variance > 1e-12 * square else 1.0  # 1 + (mean / std)^2: near 1 in real life
    falls = math.fsum(min(r, 0.0) ** 2 for r in returns) / n
    grain, downward = (4 * 2**-53 / math.sqrt(x) if x > 0 else 0.0 for x in (variance, falls))
    return {
        "volatility": (1e-9 + 1e-14 * worse + grain, 0.0),
        "sharpe": (1e-9 + 1e-14 * worse + grain, 1e-12 + YEARLY * grain),
        "sortino": (1e-9 + downward, 1e-12 + YEARLY * downward),
        "skew": (1e-9, 1e-9 + 1e-13 * worse**1.5 + 6 * grain * math.sqrt(worse)),
        "kurtosis": (1e-9 + 1e-13 * worse**2 + 8 * grain * worse, 0.0),
        "max_drawdown": (1e-9, 1e-12),
        "calmar": (1e-9 + (1e-15 / drawdown if drawdown > 0 else 0.0), 0.0),
    }


def drawdown_durations(equity: list[float], cash: float, deepest: float) -> set[float]:
    """The durations of all falls that are the deepest one but for rounding."""
    found = {0.0} if deepest < 1e-12 else set()
    peak, peak_bar, low = cash, -1, cash
    for t, value in enumerate(equity):
        if value >= peak:
            if (peak - low) / peak >= deepest - 1e-12:
                found.add(float(t - peak_bar))
            peak, peak_bar, low = value, t, value
        low = min(low, value)
    if (peak - low) / peak >= deepest - 1e-12:
        found.add(float(len(equity) - 1 - peak_bar))
    return found


def _in_blocks(backtest: Backtest, twin: naive.NaiveResult, trial: Trial) -> Iterator[str]:
    want = naive.block_moments(twin, trial.execution["cash"], trial.block_edges)
    for name, got_row, want_row in zip(("sum", "squares", "trades"), backtest.blocks, want, strict=True):
        for k, (a, b) in enumerate(zip(got_row.tolist(), want_row, strict=True)):
            if not close(a, b, 1e-9, 1e-13):
                yield f"block {k}: {name} engine {a!r} twin {b!r}"


def close(a: float, b: float, relative: float, absolute: float = 0.0) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=relative, abs_tol=absolute)
