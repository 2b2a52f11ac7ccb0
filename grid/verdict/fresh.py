"""A strategy on a stretch of bars with a fresh start: indicators know the bars before it, the account does not."""

from grid.engine import Backtest, Engine
from grid.engine.execution import Execution
from strategies import Bars, Bits, Strategy
from strategies.base import Mask


def fresh_start(bars: Bars, strategy: Strategy, execution: Execution, start: int, stop: int) -> Backtest:
    """Rows [start, stop) of `bars`, with the cash at their beginning and no position.

    Signals are made over the bars up to `stop`, so that indicators are warm. Those of bars before `start` are not
    acted on: the first fill can be that of the first bar's own signal.
    """
    given = strategy.signals(bars.slice(0, stop)).normalised(stop)
    cut = given._replace(
        entries=_rows(given.entries, start),
        exits=_rows(given.exits, start),
        short_entries=_rows(given.short_entries, start),
        short_exits=_rows(given.short_exits, start),
    )
    return Engine(bars.slice(start, stop), execution).backtest(cut)


def _rows(mask: Mask | None, start: int) -> Bits | None:
    return Bits.pack(mask.unpack()[start:].copy()) if isinstance(mask, Bits) else None
