"""Slow, obvious twins of the engine: one bar at a time, in plain Python, straight from the conventions.

Nothing here is shared with `grid.engine`, so that an error would have to be made twice to go unseen.
Prices, cash and fees are in the quote currency, rates are fractions, times are bar indices.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

LONG, SHORT = 1, -1
NAN = math.nan


@dataclass
class NaiveResult:
    """What one backtest leaves; the lists have one value a bar, and `trades` holds closed trades only."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    open_trade: dict[str, Any] | None = None
    equity: list[float] = field(default_factory=list)
    in_market: list[bool] = field(default_factory=list)
    fees: float = 0.0
    traded_value: float = 0.0


@dataclass
class Rules:
    """The execution model of one backtest."""

    cash: float
    fee: float
    slippage: float
    fill: str
    side: str
    size: float | tuple[str, float]
    stop_loss: float | None
    take_profit: float | None
    trailing_stop: float | None
    hold: int | None
    cooldown: int
    preset: str
    opposite: str


@dataclass
class Order:
    """What was decided at a close: leave the position, enter one (LONG or SHORT), both, or neither."""

    leave: bool = False
    enter: int | None = None


@dataclass
class Position:
    direction: int
    units: float  # always positive
    entry_bar: int
    entry_price: float
    entry_fee: float
    live_from: int  # the first bar whose range can trigger a stop or target
    stop_base: float  # what stop loss and take profit are fractions of: the fill price, or the signal's close
    extreme: float  # best price so far, for the trailing stop: fill price, then highs (lows) of completed bars


def simulate(
    open_: Iterable[float],
    high: Iterable[float],
    low: Iterable[float],
    close: Iterable[float],
    entries: Iterable[bool],
    exits: Iterable[bool],
    short_entries: Iterable[bool],
    short_exits: Iterable[bool],
    *,
    cash: float = 10_000_000.0,
    fee: float = 0.0,
    slippage: float = 0.0,
    fill: str = "next_open",
    side: str = "long",
    size: float | tuple[str, float] = 1.0,
    stop_loss: float | None = None,
    take_profit: float | None = None,
    trailing_stop: float | None = None,
    hold: int | None = None,
    cooldown: int = 0,
    preset: str = "grid",
    opposite: str = "reverse",
) -> NaiveResult:
    """One backtest. `fill` is next_open, next_close or close; `side` long, short or both; `size` a fraction
    of the cash or ("units", n). A trade is a dict of direction (1 or -1), units (> 0), entry_bar,
    entry_price, exit_bar, exit_price, fees (both sides), pnl (net), return (pnl / entry value) and reason
    (signal, hold, stop, target or ruin; a reversal is a signal)."""
    bars = tuple(_floats(prices) for prices in (open_, high, low, close))
    masks = tuple(_bools(mask) for mask in (entries, exits, short_entries, short_exits))
    common = (cash, fee, slippage, fill, side, size, stop_loss, take_profit, trailing_stop, hold)
    rules = Rules(*common, cooldown, preset, opposite)
    return _Simulation(bars, masks, rules).run()


class _Simulation:
    def __init__(self, bars: tuple[list[float], ...], masks: tuple[list[bool], ...], rules: Rules) -> None:
        self.open, self.high, self.low, self.close = bars
        self.entries, self.exits, self.short_entries, self.short_exits = masks
        self.rules = rules
        self.cash = rules.cash
        self.position: Position | None = None
        self.pending = Order()
        self.last_exit: int | None = None
        self.ruined = False
        self.result = NaiveResult()

    def run(self) -> NaiveResult:
        for t in range(len(self.close)):
            self.bar(t)
        if self.position is not None:
            self.result.open_trade = self.describe_open(self.position)
        return self.result

    def bar(self, t: int) -> None:
        """The order of events within one bar."""
        fill, stops_first = self.rules.fill, self.rules.preset == "vectorbt"
        if fill == "next_open" and not stops_first:
            self.execute(self.pending, t, self.open[t])
        stopped = self.stop_or_target(t)
        if fill == "next_open" and stops_first and not stopped:
            self.execute(self.pending, t, self.open[t])
        if fill == "next_close" and not stopped:
            self.execute(self.pending, t, self.close[t])
        self.pending = self.decide(t)
        never = self.rules.preset == "backtesting_py" and t == len(self.close) - 1
        if fill == "close" and not stopped and not never:
            self.execute(self.pending, t, self.close[t])
        self.mark(t)

    # Decisions: from the signals of bar t and the position as it is at the close of bar t.

    def decide(self, t: int) -> Order:
        if self.ruined:
            return Order()
        if self.position is None:
            return Order(enter=self.wanted_entry(t))
        return self.decide_in_position(t, self.position.direction)

    def wanted_entry(self, t: int) -> int | None:
        """The entry of one who is flat at bar t; contradicting signals are no entry."""
        if self.last_exit is not None and t < self.last_exit + self.rules.cooldown:
            return None
        wants_long, wants_short = self.wants(LONG, t), self.wants(SHORT, t)
        if wants_long == wants_short:
            return None
        return LONG if wants_long else SHORT

    def decide_in_position(self, t: int, direction: int) -> Order:
        leave = self.exits[t] if direction == LONG else self.short_exits[t]
        if self.rules.cooldown > 0:
            return Order(leave=leave)
        if leave:
            return Order(leave=True, enter=self.wanted_entry(t))
        if self.rules.opposite == "reverse" and self.wants(-direction, t):
            return Order(leave=True, enter=-direction)
        return Order()

    def wants(self, direction: int, t: int) -> bool:
        if direction == LONG:
            return self.rules.side in ("long", "both") and self.entries[t]
        return self.rules.side in ("short", "both") and self.short_entries[t]

    # Fills.

    def execute(self, order: Order, t: int, price: float) -> None:
        """Fill an order, and a hold that is over, at one price point; the exit comes first."""
        position = self.position
        if position is not None:
            hold = self.rules.hold
            due = hold is not None and t == position.entry_bar + hold
            if order.leave or due:
                self.leave(t, self.against(-position.direction, price), "signal" if order.leave else "hold")
        if order.enter is not None:
            self.enter(order.enter, t, self.against(order.enter, price))

    def against(self, direction: int, price: float) -> float:
        """The price of a market fill: a buyer (1) pays more, a seller (-1) gets less."""
        slippage = self.rules.slippage
        return price * (1 + slippage) if direction == LONG else price * (1 - slippage)

    def enter(self, direction: int, t: int, price: float) -> None:
        units = self.affordable(price)
        if units is None:
            return
        fee = self.pay_fee(units * price)
        self.cash -= direction * units * price
        rules = self.rules
        if direction == LONG and rules.size == 1.0:
            self.cash = 0.0  # all of it: what rounding leaves would count where the account has next to nothing
        live_from = t if rules.fill == "next_open" and rules.preset != "vectorbt" else t + 1
        signal_bar = t if rules.fill == "close" else t - 1
        base = self.close[signal_bar] if rules.preset == "backtesting_py" else price
        self.position = Position(direction, units, t, price, fee, live_from, base, price)

    def affordable(self, price: float) -> float | None:
        """Units of an entry at this fill price, or None for an entry that is refused."""
        size, fee = self.rules.size, self.rules.fee
        if self.cash <= 1e-9 * self.rules.cash or price <= 0:
            return None
        if isinstance(size, tuple):
            units = size[1]
            return None if units * price * (1 + fee) > self.cash else units
        units = self.cash * size / (price * (1 + fee))
        return units if math.isfinite(units) else None

    def leave(self, t: int, price: float, reason: str) -> None:
        position = self.position
        assert position is not None
        fees = position.entry_fee + self.pay_fee(position.units * price)
        self.cash += position.direction * position.units * price
        gross = position.direction * position.units * (price - position.entry_price)
        trade = {
            "direction": position.direction,
            "units": position.units,
            "entry_bar": position.entry_bar,
            "entry_price": position.entry_price,
            "exit_bar": t,
            "exit_price": price,
            "fees": fees,
            "pnl": gross - fees,
            "return": (gross - fees) / (position.units * position.entry_price),
            "reason": reason,
        }
        self.result.trades.append(trade)
        self.position, self.last_exit = None, t

    def pay_fee(self, value: float) -> float:
        fee = self.rules.fee * value
        self.cash -= fee
        self.result.fees += fee
        self.result.traded_value += value
        return fee

    # Stops and targets inside a bar.

    def stop_or_target(self, t: int) -> bool:
        """Whether the position was closed inside bar t; the stop is looked at before the target."""
        position = self.position
        if position is None or t < position.live_from:
            return False
        hit = self.long_hit(position, t) if position.direction == LONG else self.short_hit(position, t)
        if hit is not None:
            self.leave(t, *hit)
            return True
        best = max(position.extreme, self.high[t])
        position.extreme = best if position.direction == LONG else min(position.extreme, self.low[t])
        return False

    def long_hit(self, position: Position, t: int) -> tuple[float, str] | None:
        rules, base = self.rules, position.stop_base
        levels = []
        if rules.stop_loss is not None:
            levels.append(base * (1 - rules.stop_loss))
        if rules.trailing_stop is not None:
            levels.append(position.extreme * (1 - rules.trailing_stop))
        if levels and self.low[t] <= max(levels):
            return self.against(SHORT, min(self.open[t], max(levels))), "stop"
        if rules.take_profit is not None and self.high[t] >= base * (1 + rules.take_profit):
            return self.target(SHORT, max(self.open[t], base * (1 + rules.take_profit))), "target"
        return None

    def short_hit(self, position: Position, t: int) -> tuple[float, str] | None:
        rules, base = self.rules, position.stop_base
        levels = []
        if rules.stop_loss is not None:
            levels.append(base * (1 + rules.stop_loss))
        if rules.trailing_stop is not None:
            levels.append(position.extreme * (1 + rules.trailing_stop))
        if levels and self.high[t] >= min(levels):
            return self.against(LONG, max(self.open[t], min(levels))), "stop"
        if rules.take_profit is not None and self.low[t] <= base * (1 - rules.take_profit):
            return self.target(LONG, min(self.open[t], base * (1 - rules.take_profit))), "target"
        return None

    def target(self, direction: int, price: float) -> float:
        """The price at which a target is filled: it does not slip, but for vectorbt."""
        return self.against(direction, price) if self.rules.preset == "vectorbt" else price

    # The close.

    def mark(self, t: int) -> None:
        position = self.position
        if position is not None and self.worth(t) <= 1e-9 * self.rules.cash:
            self.leave(t, self.against(-position.direction, self.close[t]), "ruin")
            self.ruined, self.pending = True, Order()
        self.result.equity.append(self.worth(t))
        self.result.in_market.append(self.position is not None)

    def worth(self, t: int) -> float:
        if self.position is None:
            return self.cash
        return self.cash + self.position.direction * self.position.units * self.close[t]

    @staticmethod
    def describe_open(position: Position) -> dict[str, Any]:
        return {
            "direction": position.direction,
            "units": position.units,
            "entry_bar": position.entry_bar,
            "entry_price": position.entry_price,
            "fees": position.entry_fee,
        }


# Metrics.


def bar_returns(equity: Sequence[float], cash: float) -> list[float]:
    """Simple returns of the equity, the first against the cash; 0 after an equity that is not positive."""
    before = [cash, *equity[:-1]]
    return [now / then - 1 if then > 0 else 0.0 for now, then in zip(equity, before, strict=True)]


def metrics(result: NaiveResult, cash: float, periods_per_year: float, risk_free: float = 0.0) -> dict[str, float]:
    """Every metric by its definition; undefined is NaN."""
    equity, n = result.equity, len(result.equity)
    returns = bar_returns(equity, cash)
    total_return = equity[-1] / cash - 1
    cagr = growth(equity[-1] / cash, periods_per_year / n)
    drawdown, drawdown_bars = deepest_drawdown(equity, cash)
    mean_equity = math.fsum(equity) / n
    figures = {
        "total_return": total_return,
        "cagr": cagr,
        "calmar": cagr / drawdown if drawdown > 0 else NAN,
        "max_drawdown": drawdown,
        "max_drawdown_bars": float(drawdown_bars),
        "exposure": sum(result.in_market) / n,
        "turnover": result.traded_value / mean_equity if mean_equity > 0 else NAN,
        "fees": result.fees,
        "final_equity": equity[-1],
    }
    figures |= return_metrics(returns, periods_per_year, risk_free)
    figures |= trade_metrics(result.trades)
    return {name: value if math.isfinite(value) else NAN for name, value in figures.items()}


def growth(factor: float, power: float) -> float:
    if factor < 0:
        return NAN
    try:
        return float(factor**power - 1)
    except OverflowError:
        return NAN


def return_metrics(returns: list[float], periods_per_year: float, risk_free: float) -> dict[str, float]:
    n, yearly = len(returns), math.sqrt(periods_per_year)
    mean, floor = math.fsum(returns) / n, risk_free / periods_per_year
    downside = math.sqrt(math.fsum(min(r - floor, 0.0) ** 2 for r in returns) / n)
    figures = {"volatility": NAN, "sharpe": NAN, "skew": NAN, "kurtosis": NAN}
    rms = math.sqrt(math.fsum(r * r for r in returns) / n)
    figures["sortino"] = (mean - floor) / downside * yearly if downside > 1e-12 * rms else NAN
    if n < 2:
        return figures
    squares = math.fsum((r - mean) ** 2 for r in returns)
    if squares <= 1e-12 * math.fsum(r * r for r in returns):
        return figures | {"volatility": 0.0}
    std, spread = math.sqrt(squares / (n - 1)), math.sqrt(squares / n)
    figures["volatility"] = std * yearly
    figures["sharpe"] = (mean - floor) / std * yearly
    figures["skew"] = math.fsum(((r - mean) / spread) ** 3 for r in returns) / n
    figures["kurtosis"] = math.fsum(((r - mean) / spread) ** 4 for r in returns) / n
    return figures


def trade_metrics(trades: list[dict[str, Any]]) -> dict[str, float]:
    returns = [trade["return"] for trade in trades]
    gains = math.fsum(trade["pnl"] for trade in trades if trade["pnl"] > 0)
    losses = -math.fsum(trade["pnl"] for trade in trades if trade["pnl"] < 0)
    return {
        "total_trades": float(len(trades)),
        "win_rate": mean_of([1.0 if trade["pnl"] > 0 else 0.0 for trade in trades]),
        "profit_factor": gains / losses if losses > 0 else NAN,
        "expectancy": mean_of(returns),
        "avg_win": mean_of([trade["return"] for trade in trades if trade["pnl"] > 0]),
        "avg_loss": mean_of([trade["return"] for trade in trades if trade["pnl"] <= 0]),
        "best_trade": max(returns, default=NAN),
        "worst_trade": min(returns, default=NAN),
        "avg_hold_bars": mean_of([float(trade["exit_bar"] - trade["entry_bar"]) for trade in trades]),
    }


def mean_of(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else NAN


def deepest_drawdown(equity: Sequence[float], cash: float) -> tuple[float, int]:
    """Depth as a positive fraction of the peak, and bars from that peak to its recovery or the last bar."""
    deepest, from_bar, from_level = 0.0, -1, cash
    peak, peak_bar = cash, -1
    for t, value in enumerate(equity):
        if value >= peak:
            peak, peak_bar = value, t
        elif (peak - value) / peak > deepest:
            deepest, from_bar, from_level = (peak - value) / peak, peak_bar, peak
    if deepest < 1e-12:
        return 0.0, 0
    later = range(from_bar + 1, len(equity))
    recovered = next((t for t in later if equity[t] >= from_level), len(equity) - 1)
    return deepest, recovered - from_bar


def block_moments(
    result: NaiveResult, cash: float, edges: Sequence[int]
) -> tuple[list[float], list[float], list[float]]:
    """Per block from one edge to the next: sum and sum of squares of bar returns, and closed trades by their
    exit bar; all three are NaN for a block without bars."""
    returns = bar_returns(result.equity, cash)
    sums, squares, trades = [], [], []
    for start, stop in pairwise(edges):
        block = returns[start:stop]
        closed = [trade for trade in result.trades if start <= trade["exit_bar"] < stop]
        sums.append(math.fsum(block) if block else NAN)
        squares.append(math.fsum(r * r for r in block) if block else NAN)
        trades.append(float(len(closed)) if block else NAN)
    return sums, squares, trades


def _floats(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values]


def _bools(values: Iterable[bool]) -> list[bool]:
    return [bool(value) for value in values]
