"""How signals become fills: the execution model of a sweep, and its numbers as the kernel takes them."""

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from grid.engine.accounts import NEVER
from strategies.base import Signals

MARKET_FEES = {"upbit-krw": 0.0005, "upbit-btc": 0.0025, "binance-spot": 0.001, "none": 0.0}
"""Taker fee per side of a market, as a fraction of the traded value."""


def _fee(value: object) -> object:
    if isinstance(value, str):
        if value not in MARKET_FEES:
            raise ValueError(f"no fee preset {value!r}; presets are {', '.join(MARKET_FEES)}, or give a fraction")
        return MARKET_FEES[value]
    return value


class Units(BaseModel):
    """Trade a fixed number of units, and only when the cash covers them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    units: float = Field(gt=0, allow_inf_nan=False)


Fraction = Annotated[float, Field(gt=0, lt=1)]


class Conventions(NamedTuple):
    """What other engines do in another way than docs/conventions.md.

    stops_wait: bars after a fill at the open before its stops and targets are live.
    stops_first: the stops of a bar come before a fill at its open, which is then void.
    targets_slip: a target slips as a stop does.
    stops_on_signal: stop loss and take profit are fractions of the close of the signal's bar, not of the fill price.
    last_close: whether a signal of the last bar is filled at its close.
    """

    stops_wait: int = 0
    stops_first: bool = False
    targets_slip: bool = False
    stops_on_signal: bool = False
    last_close: bool = True


PRESETS = {
    "grid": Conventions(),
    "vectorbt": Conventions(stops_wait=1, stops_first=True, targets_slip=True),
    "backtesting_py": Conventions(stops_on_signal=True, last_close=False),
}


class Execution(BaseModel):
    """The execution model: costs and stops are fractions, `hold` and `cooldown` are bars.

    A strategy's own `Signals.hold`, `stop_loss`, ... take precedence over the ones given here.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    preset: Literal["grid", "vectorbt", "backtesting_py"] = Field("grid", description="whose rules for stops")
    cash: float = Field(10_000_000.0, gt=0, allow_inf_nan=False)
    fee: Annotated[float, BeforeValidator(_fee), Field(ge=0, lt=1)] = 0.0005
    slippage: float = Field(0.0, ge=0, lt=1)
    fill: Literal["next_open", "next_close", "close"] = "next_open"
    side: Literal["long", "short", "both"] = "long"
    opposite: Literal["reverse", "ignore"] = Field("reverse", description="what an opposite entry does in a position")
    size: Annotated[float, Field(gt=0, le=1)] | Units = Field(
        1.0, description="the fraction of the cash that an entry spends, or units of the instrument: {units: 3}"
    )
    stop_loss: Fraction | None = None
    take_profit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    trailing_stop: Fraction | None = None
    hold: Annotated[int, Field(ge=1)] | None = None
    cooldown: int = Field(0, ge=0)
    risk_free: float = Field(0.0, gt=-1, lt=1)
    fast_path: bool = Field(True, description="false goes bar by bar, without short cuts; the same but for rounding")


class Rules(NamedTuple):
    """An execution model as plain numbers; 0 stands for "none"."""

    cash: float
    fee: float
    slippage: float
    size: float
    fixed_units: bool
    at_close: bool
    lag: int
    longs: bool
    shorts: bool
    stop_loss: float
    take_profit: float
    trailing_stop: float
    hold: int
    cooldown: int
    risk_free_per_bar: float
    periods_per_year: float
    fast_path: bool
    reverses: bool
    stops_wait: int
    stops_first: bool
    targets_slip: bool
    stops_on_signal: bool
    last_fill: bool


RULES = len(Rules._fields)


def terms(of: Rules) -> list[float]:
    """What fills of either side are reckoned with: see SIGN to REST of accounts.py, for LONG and then for SHORT."""
    both: list[float] = []
    for sign in (1.0, -1.0):
        rest = 0.0 if sign > 0 and of.size == 1.0 and not of.fixed_units else 1.0
        both += [sign, 1.0 + sign * of.slippage, 1.0 - sign * of.slippage, 1.0 - sign * of.fee, rest]
    return both


def rules(execution: Execution, signals: Signals, periods_per_year: float) -> Rules:
    """The rules of one trial: the sweep's execution model with the strategy's own stops and holding time."""
    fixed, preset = isinstance(execution.size, Units), PRESETS[execution.preset]
    cooldown = min(int(_first(signals.cooldown, execution.cooldown)), NEVER)
    return Rules(
        cash=execution.cash,
        fee=execution.fee,
        slippage=execution.slippage,
        size=execution.size.units if isinstance(execution.size, Units) else execution.size,
        fixed_units=fixed,
        at_close=execution.fill != "next_open",
        lag=0 if execution.fill == "close" else 1,
        longs=execution.side != "short",
        shorts=execution.side != "long",
        stop_loss=float(_first(signals.stop_loss, execution.stop_loss)),
        take_profit=float(_first(signals.take_profit, execution.take_profit)),
        trailing_stop=float(_first(signals.trailing_stop, execution.trailing_stop)),
        hold=min(int(_first(signals.hold, execution.hold)), NEVER),
        cooldown=cooldown,
        risk_free_per_bar=execution.risk_free / periods_per_year,
        periods_per_year=periods_per_year,
        fast_path=execution.fast_path,
        reverses=execution.side == "both" and execution.opposite == "reverse" and cooldown == 0,
        stops_wait=preset.stops_wait,
        stops_first=preset.stops_first,
        targets_slip=preset.targets_slip,
        stops_on_signal=preset.stops_on_signal,
        last_fill=preset.last_close or execution.fill != "close",
    )


def _first(own: float | None, default: float | None) -> float:
    return own if own is not None else default if default is not None else 0
