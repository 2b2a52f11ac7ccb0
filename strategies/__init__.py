"""What to trade: bars, indicators, the strategy contract and the shipped strategies."""

from strategies import compiling  # noqa: F401 - before the first kernel, for which it finds a place
from strategies.bars import Bars
from strategies.base import Signals, Strategy, cross
from strategies.bits import (
    Bits,
    above,
    at_least,
    at_most,
    below,
    crosses_above,
    crosses_below,
)
from strategies.check import check_strategy
from strategies.errors import SignalError, StrategyCheckError, StrategyError

__all__ = [
    "Bars",
    "Bits",
    "SignalError",
    "Signals",
    "Strategy",
    "StrategyCheckError",
    "StrategyError",
    "above",
    "at_least",
    "at_most",
    "below",
    "check_strategy",
    "cross",
    "crosses_above",
    "crosses_below",
]
