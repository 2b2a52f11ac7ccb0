"""The engine of one dataset, and the result of one backtest: the manners around the kernel."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from grid.engine import kernel
from grid.engine.execution import Execution, rules, terms
from grid.engine.metrics import METRICS
from grid.engine.tables import tables
from grid.errors import BadInput
from grid.explain import Origins, explain
from strategies import Bars, SignalError, Signals, Strategy
from strategies.bits import words_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
NO_TRADES = np.empty((0, kernel.TRADE_COLUMNS))
NO_CURVE = np.empty(0)
RULES_KEPT = 1_000
EPOCH = datetime.fromtimestamp(0, UTC)
TRADE_NAMES = (
    "units",
    "entry_bar",
    "exit_bar",
    "entry_price",
    "exit_price",
    "fees",
    "pnl",
    "return",
    "reason",
)


class Engine:
    """Backtests on one dataset under one execution model.

    edges: int64[S + 1] row numbers that cut the bars into blocks, from 0 to n; one block by default.
    Not for several threads at once: the scratch arrays are its own. Raises BadInput for prices that are not finite.
    """

    def __init__(self, bars: Bars, execution: Execution, edges: NDArray[np.int64] | None = None) -> None:
        n = self._count = len(bars)
        self.bars = bars
        self.execution = execution
        self.edges = _frozen(np.array([0, n]) if edges is None else edges, np.int64)
        _check_finite(bars)
        lookup = _frozen(tables(bars.open, bars.close), np.float64)
        self._prices = (bars.open, bars.high, bars.low, bars.close, _returns(bars.close), lookup)
        self._inner = np.empty(words_of(n), np.uint64)
        self._rules: dict[tuple[Any, ...], Floats] = {}

    def evaluate(self, signals: Signals, row: Floats, blocks: Floats) -> None:
        """Write the metrics of METRICS to `row` and, per block, sum r, sum r^2 and closed trades to `blocks` (3, S).

        An empty block is NaN. Raises SignalError on masks of the wrong shape or type.
        """
        self._simulate(signals, row, blocks, NO_TRADES, NO_CURVE)

    def backtest(self, signals: Signals) -> "Backtest":
        """Metrics, trades and the equity curve. Raises SignalError on masks of the wrong shape or type."""
        n = len(self.bars)
        row, blocks = np.empty(len(METRICS)), np.empty((3, len(self.edges) - 1))
        trades, curve = np.empty((n + 1, kernel.TRADE_COLUMNS)), np.empty(n)
        recorded = self._simulate(signals, row, blocks, trades, curve)
        return Backtest(self.bars, self.execution.cash, row, blocks, trades[:recorded].copy(), curve)

    def _simulate(self, signals: Signals, row: Floats, blocks: Floats, trades: Floats, curve: Floats) -> int:
        if not isinstance(signals, Signals):
            raise SignalError(f"a strategy's signals() must return Signals, not {type(signals).__name__}")
        masks = signals.words(self._count)
        recorded = kernel.simulate(
            self._prices, masks, self.edges, self._rules_of(signals), self._inner, row, blocks, trades, curve
        )
        return int(recorded)

    def _rules_of(self, signals: Signals) -> Floats:
        key = signals[4:]
        found = self._rules.get(key)
        if found is None:
            if len(self._rules) >= RULES_KEPT:
                self._rules.clear()
            plain = rules(self.execution, signals, self.bars.periods_per_year)
            found = np.array([*plain, *terms(plain)], np.float64)
            self._rules[key] = found
        return found


@dataclass(frozen=True, eq=False, repr=False)
class Backtest:
    """One trial in full.

    row: float64[len(METRICS)]; blocks: float64[3, S]; trade_rows: the closed trades in order of their exits, then the
    open one if there is one; curve: float64[n], equity at each close.
    """

    bars: Bars
    cash: float
    row: Floats
    blocks: Floats
    trade_rows: Floats
    curve: Floats

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.metrics[name]:.4g}" for name in ("total_return", "sharpe", "total_trades"))
        return f"Backtest({self.bars!r}, {shown})"

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics by name; NaN where undefined."""
        return dict(zip(METRICS, self.row.tolist(), strict=True))

    @cached_property
    def trades(self) -> "pd.DataFrame":
        """One row a trade: side, units, bars, times and fill prices of entry and exit, fees, pnl, return, reason.

        `reason` is signal, hold, stop, target, ruin or open; an open trade is marked at the last close.
        """
        import pandas as pd

        frame = pd.DataFrame(self.trade_rows, columns=list(TRADE_NAMES))
        frame = frame.astype({"entry_bar": "int64", "exit_bar": "int64"})
        frame["reason"] = [kernel.REASONS[int(code)] for code in frame["reason"]]
        frame.insert(0, "side", np.where(frame["units"] > 0, "long", "short"))
        times = pd.DatetimeIndex(self.bars.timestamp, tz="UTC")
        frame.insert(2, "entry_time", times[frame["entry_bar"]])
        frame.insert(4, "exit_time", times[frame["exit_bar"]])
        return frame

    def trade_records(self) -> list[dict[str, Any]]:
        """`trades` as plain records, times as text; without pandas, which takes long to import."""
        return [
            {
                "side": "long" if units > 0 else "short",
                "units": units,
                "entry_time": self._time(entry),
                "entry_bar": int(entry),
                "exit_time": self._time(leave),
                "exit_bar": int(leave),
                **dict(zip(TRADE_NAMES[3:8], numbers, strict=True)),
                "reason": kernel.REASONS[int(code)],
            }
            for units, entry, leave, *numbers, code in self.trade_rows.tolist()
        ]

    def _time(self, bar: float) -> str:
        return str(EPOCH + timedelta(microseconds=int(self.bars.timestamp[int(bar)]) // 1000))

    @cached_property
    def equity(self) -> "pd.DataFrame":
        """Equity and drawdown (positive fraction of the highest equity so far, start cash included) by bar."""
        import pandas as pd

        peak = np.maximum(np.maximum.accumulate(self.curve), self.cash)
        times = pd.DatetimeIndex(self.bars.timestamp, tz="UTC", name="timestamp")
        return pd.DataFrame({"equity": self.curve, "drawdown": 1.0 - self.curve / peak}, index=times)


def backtest(bars: Bars, strategy: Strategy, execution: Execution | None = None, **settings: Any) -> Backtest:
    """Backtest one strategy: `backtest(bars, SmaCross(fast=5, slow=20), fee=0.001)`.

    `settings` are fields of `Execution`, for the common case of changing one or two. Raises BadInput for anything but
    Bars and a strategy with its parameters, and for settings that are no execution model.
    """
    if not isinstance(bars, Bars):
        raise BadInput(f"backtest takes Bars, such as grid.load_bars(...) gives, and no {type(bars).__name__}.")
    if not isinstance(strategy, Strategy):
        raise BadInput(
            f"backtest takes a strategy with its parameters, such as SmaCross(fast=5), and not {strategy!r}."
        )
    given = {} if execution is None else execution.model_dump()
    try:
        model = Execution.model_validate({**given, **settings})
    except ValidationError as error:
        raise BadInput(explain(error, Execution, settings, Origins())) from None
    if bars.narrow and not model.fast_path:
        bars = replace(bars, narrow=False)
    return Engine(bars, model).backtest(strategy.signals(bars))


def buy_and_hold(bars: Bars, execution: Execution, edges: NDArray[np.int64] | None = None) -> Backtest:
    """Long from the first possible fill to the end, at the same costs and size; no stops."""
    first = np.zeros(len(bars), np.bool_)
    first[:1] = True
    plain = execution.model_copy(
        update={"side": "long", "stop_loss": None, "take_profit": None, "trailing_stop": None, "hold": None}
    )
    return Engine(bars, plain, edges).backtest(Signals(entries=first))


def _returns(close: Floats) -> Floats:
    """The change to each close from the one before it; 0 at the first, and what a division by 0 gives."""
    changes = np.zeros(len(close))
    with np.errstate(divide="ignore", invalid="ignore"):
        changes[1:] = close[1:] / close[:-1] - 1.0
    return _frozen(changes, np.float64)  # type: ignore[no-any-return]


def _check_finite(bars: Bars) -> None:
    for name in ("open", "high", "low", "close"):
        row = bars.column(name)
        if not np.isfinite(row).all():
            i = int(np.flatnonzero(~np.isfinite(row))[0])
            raise BadInput(f"bars of {bars.symbol} {bars.timeframe}: {name} of bar {i} is {row[i]}, and no price.")


def _frozen(values: Any, dtype: type) -> Any:
    array: NDArray[Any] = np.ascontiguousarray(values, dtype=dtype).view()
    array.flags.writeable = False
    return array
