"""Fills worked out by hand from the conventions, for the engine and for its naive twin.

A case gives the bars as (open, high, low, close), the bars of the signals, the execution model, and what must
come out: closed trades as (direction, entry bar, entry price, exit bar, exit price, reason), and the entry
bar of a position that is still open.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tests import naive
from tests.engine_twin import Trial, as_naive, differences, engine_of, signals_of

LONG, SHORT = 1, -1
Fill = tuple[int, int, float, int, float, str]


def flat(*prices: float) -> list[tuple[float, float, float, float]]:
    """Bars that open, trade and close at one price."""
    return [(price, price, price, price) for price in prices]


@dataclass(frozen=True)
class Case:
    about: str
    bars: list[tuple[float, float, float, float]]
    trades: list[Fill]
    opened: int | None = None
    entries: tuple[int, ...] = ()
    exits: tuple[int, ...] = ()
    short_entries: tuple[int, ...] = ()
    short_exits: tuple[int, ...] = ()
    execution: dict[str, Any] = field(default_factory=dict)

    def trial(self) -> Trial:
        prices = [np.array(column, dtype=float) for column in zip(*self.bars, strict=True)]
        masks = [np.zeros(len(self.bars), dtype=bool) for _ in range(4)]
        for flags, bars in zip(masks, self.signals, strict=True):
            flags[list(bars)] = True
        return Trial(prices, masks, {"cash": 1000.0, **self.execution})

    @property
    def signals(self) -> tuple[tuple[int, ...], ...]:
        return self.entries, self.exits, self.short_entries, self.short_exits


WALK = flat(10, 11, 12, 13, 14, 15)
FALL = [(100, 100, 100, 100), (100, 103, 99, 102), (102, 110, 101, 104), (104, 105, 97, 98)]
RISE = [(100, 100, 100, 100), (100, 101, 97, 98), (98, 99, 90, 96), (96, 102, 95, 101)]

CASES = [
    *(
        Case(f"{hold} bars are no end", WALK, [], opened=1, entries=(0,), execution={"hold": hold})
        for hold in (10**6, 2**63 - 1, 10**30)
    ),
    Case(
        "nothing is entered before the cooldown ends, which is beyond all bars",
        WALK,
        [(LONG, 1, 11, 2, 12, "signal")],
        entries=(0, 2, 3),
        exits=(1,),
        execution={"cooldown": 10**30},
    ),
    Case("next_open fills at the next open", WALK, [(LONG, 1, 11, 3, 13, "signal")], entries=(0,), exits=(2,)),
    Case(
        "next_close fills at the next close",
        [(10, 12, 9, 11), (20, 22, 19, 21), (30, 32, 29, 31), (40, 42, 39, 41)],
        [(LONG, 1, 21, 3, 41, "signal")],
        entries=(0,),
        exits=(2,),
        execution={"fill": "next_close"},
    ),
    Case(
        "close fills at the close of the signal's bar, also the last",
        [(10, 12, 9, 11), (20, 22, 19, 21)],
        [(LONG, 0, 11, 1, 21, "signal")],
        entries=(0,),
        exits=(1,),
        execution={"fill": "close"},
    ),
    Case("a signal of the last bar never fills at the next open", WALK, [], None, entries=(5,)),
    Case("an exit of the last bar neither", WALK, [], 1, entries=(0,), exits=(5,)),
    Case("an entry while in a position is ignored", WALK, [(LONG, 1, 11, 5, 15, "signal")], None, (0, 2), (4,)),
    Case(
        "exit before entry: both on one bar re-enter at the same open",
        WALK,
        [(LONG, 1, 11, 3, 13, "signal")],
        3,
        entries=(0, 2),
        exits=(2,),
    ),
    Case("an exit and an entry while flat enter", WALK, [], 1, entries=(0,), exits=(0,)),
    Case(
        "an opposite entry reverses with side both, without an exit signal",
        WALK,
        [(LONG, 1, 11, 3, 13, "signal")],
        3,
        entries=(0,),
        short_entries=(2,),
        execution={"side": "both"},
    ),
    Case("with side long it does not", WALK, [], 1, entries=(0,), short_entries=(2,)),
    Case("side short takes no longs", WALK, [], None, entries=(0,), execution={"side": "short"}),
    Case(
        "contradicting entries while flat are none",
        WALK,
        [],
        3,
        entries=(0, 2),
        short_entries=(0,),
        execution={"side": "both"},
    ),
    Case(
        "with a position and no exit, the entry of its own side is ignored and the other reverses",
        WALK,
        [(LONG, 1, 11, 3, 13, "signal")],
        3,
        entries=(0, 2),
        short_entries=(2,),
        execution={"side": "both"},
    ),
    Case(
        "with an exit, contradicting entries are none",
        WALK,
        [(LONG, 1, 11, 3, 13, "signal")],
        None,
        entries=(0, 2),
        exits=(2,),
        short_entries=(2,),
        execution={"side": "both"},
    ),
    Case(
        "hold leaves at the open of entry bar + hold; a signal of that bar is taken, of the bar before not",
        WALK,
        [(LONG, 1, 11, 3, 13, "hold")],
        4,
        entries=(0, 2, 3),
        execution={"hold": 2},
    ),
    Case(
        "hold at closes: a signal of the exit bar is not taken, of the next it is",
        WALK,
        [(LONG, 0, 10, 2, 12, "hold"), (LONG, 3, 13, 5, 15, "hold")],
        entries=(0, 2, 3),
        execution={"hold": 2, "fill": "close"},
    ),
    Case(
        "hold at next closes: a signal of the exit bar is taken",
        WALK,
        [(LONG, 1, 11, 3, 13, "hold")],
        4,
        entries=(0, 2, 3),
        execution={"hold": 2, "fill": "next_close"},
    ),
    Case(
        "an exit signal that fills with the end of the hold makes room for an entry",
        WALK,
        [(LONG, 1, 11, 3, 13, "signal"), (LONG, 3, 13, 5, 15, "hold")],
        entries=(0, 2),
        exits=(2,),
        execution={"hold": 2},
    ),
    Case(
        "cooldown 2 ignores entries of the exit bar and of one bar more",
        WALK,
        [(LONG, 1, 11, 2, 12, "signal")],
        5,
        entries=(0, 2, 3, 4),
        exits=(1,),
        execution={"cooldown": 2},
    ),
    Case(
        "cooldown 1 ignores those of the exit bar only",
        WALK,
        [(LONG, 1, 11, 2, 12, "signal")],
        4,
        entries=(0, 2, 3),
        exits=(1,),
        execution={"cooldown": 1},
    ),
    Case(
        "a cooldown suspends reversals and re-entries on the bar of an exit",
        WALK,
        [(LONG, 1, 11, 4, 14, "signal")],
        None,
        entries=(0, 3),
        exits=(3,),
        short_entries=(1, 3),
        execution={"side": "both", "cooldown": 1},
    ),
    Case(
        "a stop is live on the bar of an open fill",
        [(100, 100, 100, 100), (100, 100, 94, 99)],
        [(LONG, 1, 100, 1, 95, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05},
    ),
    Case(
        "after a close fill from the next bar on",
        [(100, 100, 94, 100), (100, 100, 94, 99)],
        [(LONG, 0, 100, 1, 95, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05, "fill": "close"},
    ),
    Case(
        "a gap beyond the stop fills at the open",
        [*flat(100, 100), (90, 92, 89, 91)],
        [(LONG, 1, 100, 2, 90, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05},
    ),
    Case(
        "a gap beyond the target fills at the open",
        [*flat(100, 100), (110, 112, 109, 111)],
        [(LONG, 1, 100, 2, 110, "target")],
        entries=(0,),
        execution={"take_profit": 0.05},
    ),
    Case(
        "stop before target",
        [*flat(100, 100), (100, 106, 94, 100)],
        [(LONG, 1, 100, 2, 95, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05, "take_profit": 0.05},
    ),
    Case(
        "a low at the very level is a hit",
        [*flat(100, 100), (100, 100, 95, 100)],
        [(LONG, 1, 100, 2, 95, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05},
    ),
    Case(
        "a high at the very target too",
        [*flat(100, 100), (100, 150, 100, 100)],
        [(LONG, 1, 100, 2, 150, "target")],
        entries=(0,),
        execution={"take_profit": 0.5},
    ),
    Case(
        "a short's stop at the very high",
        [*flat(100, 100), (100, 150, 100, 100)],
        [(SHORT, 1, 100, 2, 150, "stop")],
        short_entries=(0,),
        execution={"stop_loss": 0.5, "side": "short"},
    ),
    Case(
        "slippage on the fill and the stop, which is relative to the fill",
        [*flat(100, 100), (100, 100, 90, 95)],
        [(LONG, 1, 101, 2, 101 * 0.95 * 0.99, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.05, "slippage": 0.01},
    ),
    Case(
        "none on the target",
        [*flat(100, 100), (100, 120, 100, 110)],
        [(LONG, 1, 101, 2, 101 * 1.05, "target")],
        entries=(0,),
        execution={"take_profit": 0.05, "slippage": 0.01},
    ),
    Case(
        "a stop nearer than the slippage of the fill is hit at once, at the open",
        flat(100, 100),
        [(LONG, 1, 101, 1, 99, "stop")],
        entries=(0,),
        execution={"stop_loss": 0.005, "slippage": 0.01},
    ),
    Case(
        "the trailing stop follows the highs of earlier bars: 110 x 0.9 on bar 3",
        FALL,
        [(LONG, 1, 100, 3, 99, "stop")],
        entries=(0,),
        execution={"trailing_stop": 0.1},
    ),
    Case(
        "and never its own bar's high: 103 x 0.99 on bar 2, not 110 x 0.99",
        FALL,
        [(LONG, 1, 100, 1, 99, "stop")],
        entries=(0,),
        execution={"trailing_stop": 0.01},
    ),
    Case(
        "the higher of stop and trailing stop counts",
        FALL,
        [(LONG, 1, 100, 3, 99, "stop")],
        entries=(0,),
        execution={"trailing_stop": 0.1, "stop_loss": 0.04},
    ),
    Case(
        "after a close fill the high of the fill bar does not count for the trailing stop",
        [(100, 200, 100, 100), (100, 100, 95, 96), (96, 96, 89, 90)],
        [(LONG, 0, 100, 2, 90, "stop")],
        entries=(0,),
        execution={"trailing_stop": 0.1, "fill": "close"},
    ),
    Case(
        "a short's trailing stop follows the lows: 90 x 1.1 on bar 3",
        RISE,
        [(SHORT, 1, 100, 3, 99, "stop")],
        short_entries=(0,),
        execution={"trailing_stop": 0.1, "side": "short"},
    ),
    Case(
        "a short's stop with slippage: sold at 99, bought back above 99 x 1.05",
        [*flat(100, 100), (100, 110, 100, 105)],
        [(SHORT, 1, 99, 2, 99 * 1.05 * 1.01, "stop")],
        short_entries=(0,),
        execution={"stop_loss": 0.05, "slippage": 0.01, "side": "short"},
    ),
    Case(
        "a short's target",
        RISE,
        [(SHORT, 1, 100, 2, 95, "target")],
        short_entries=(0,),
        execution={"take_profit": 0.05, "side": "short"},
    ),
    Case(
        "an exit at the open comes before a stop inside the bar",
        [*flat(100, 100), (99, 99, 80, 85)],
        [(LONG, 1, 100, 2, 99, "signal")],
        entries=(0,),
        exits=(1,),
        execution={"stop_loss": 0.05},
    ),
    Case(
        "a stop inside the bar cancels the reversal at its close",
        [*flat(100, 100), (100, 100, 90, 95), *flat(95)],
        [(LONG, 1, 100, 2, 95, "stop")],
        None,
        entries=(0,),
        short_entries=(1,),
        execution={"stop_loss": 0.05, "fill": "next_close", "side": "both"},
    ),
    Case(
        "fill close: an entry signal of the bar of a stop is ignored",
        [*flat(100), (100, 100, 90, 95), *flat(95, 95)],
        [(LONG, 0, 100, 1, 95, "stop")],
        3,
        entries=(0, 1, 3),
        execution={"stop_loss": 0.05, "fill": "close"},
    ),
    Case(
        "next_open: it is for the next bar, and taken",
        [*flat(100, 100), (100, 100, 90, 95), *flat(95)],
        [(LONG, 1, 100, 2, 95, "stop")],
        3,
        entries=(0, 2),
        execution={"stop_loss": 0.05},
    ),
    Case(
        "units that the cash does not cover with the fee are not bought",
        flat(1000, 1000, 999, 999),
        [],
        3,
        entries=(0, 2),
        execution={"size": ("units", 1.0), "fee": 0.001},
    ),
    Case(
        "units that take all the cash are",
        flat(1000, 1000, 999),
        [],
        1,
        entries=(0,),
        execution={"size": ("units", 1.0)},
    ),
    Case(
        "a reversal that cannot be paid for is an exit",
        flat(600, 600, 1200, 1200, 300, 300),
        [(SHORT, 1, 600, 3, 1200, "signal")],
        5,
        entries=(2, 4),
        short_entries=(0,),
        execution={"side": "both", "size": ("units", 1.0)},
    ),
    Case(
        "a short whose loss reaches the equity is closed at that close, and nothing trades afterwards",
        flat(100, 100, 150, 200, 100, 100),
        [(SHORT, 1, 100, 3, 200, "ruin")],
        None,
        entries=(4,),
        short_entries=(0, 3, 4),
        execution={"side": "both"},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.about)
def test_fills(case: Case) -> None:
    trial = case.trial()
    twin = naive.simulate(*trial.prices, *trial.masks, **trial.execution)
    engine = as_naive(engine_of(trial).backtest(signals_of(trial)))
    assert_fills(twin, case)
    assert_fills(engine, case)
    assert differences(trial) == []


def assert_fills(result: naive.NaiveResult, case: Case) -> None:
    assert len(result.trades) == len(case.trades)
    for trade, (direction, entry_bar, entry_price, exit_bar, exit_price, reason) in zip(
        result.trades, case.trades, strict=True
    ):
        assert (trade["direction"], trade["entry_bar"], trade["exit_bar"]) == (direction, entry_bar, exit_bar)
        assert trade["entry_price"] == pytest.approx(entry_price, rel=1e-12)
        assert trade["exit_price"] == pytest.approx(exit_price, rel=1e-12)
        assert trade["reason"] == reason
    assert (result.open_trade["entry_bar"] if result.open_trade else None) == case.opened


def test_money_of_a_ruined_short() -> None:
    """1000 short 10 units at 100 with fee 0: worth 500 at 150 and 0 at 200, bought back at 200."""
    case = CASES[-1]
    trial = case.trial()
    backtest = engine_of(trial).backtest(signals_of(trial))
    assert backtest.curve.tolist() == [1000.0, 1000.0, 500.0, 0.0, 0.0, 0.0]
    assert backtest.metrics["max_drawdown"] == 1.0
    assert backtest.metrics["exposure"] == 2 / 6
    assert backtest.metrics["cagr"] == -1.0
    assert backtest.blocks[0].tolist() == [-1.5]


def test_money_of_costs() -> None:
    """1001 buys 10 units at 100 with a fee of 0.1 %, which sell at 110 for 1100 less 1.1."""
    prices = [np.array([100.0, 100.0, 110.0])] * 4
    masks = [np.array(flags, dtype=bool) for flags in ([1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0])]
    trial = Trial(prices, masks, {"cash": 1001.0, "fee": 0.001})
    backtest = engine_of(trial).backtest(signals_of(trial))
    assert backtest.curve.tolist() == pytest.approx([1001.0, 1000.0, 1098.9])
    expected = {
        "fees": 2.1,
        "final_equity": 1098.9,
        "turnover": 2100 / ((1001 + 1000 + 1098.9) / 3),
        "expectancy": 97.9 / 1000,
        "avg_hold_bars": 1.0,
        "exposure": 1 / 3,
        "max_drawdown": 1 / 1001,
        "max_drawdown_bars": 2.0,
    }
    assert {name: backtest.metrics[name] for name in expected} == pytest.approx(expected)


def test_no_metric_is_infinite() -> None:
    """A yearly growth near the largest number over a drawdown of a millionth is undefined, not infinite."""
    close = np.array([100.0, 99.9999, 100.40034261763444])
    prices = [np.full(3, 100.0), np.maximum(close, 100.0), np.minimum(close, 100.0), close]
    masks = [np.array([True, False, False]), *(np.zeros(3, dtype=bool) for _ in range(3))]
    trial = Trial(prices, masks, {"cash": 100.0, "fill": "close"}, periods_per_year=525_600.0)
    backtest = engine_of(trial).backtest(signals_of(trial))
    assert not np.isinf(backtest.row).any()
