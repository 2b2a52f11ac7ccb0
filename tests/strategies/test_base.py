import math
import sys
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from strategies import Bars, Bits, SignalError, Signals, StrategyError, cross
from strategies.macd_trend import MacdTrend
from strategies.sma_cross import SmaCross
from tests.strategies.bad_strategies import Good


def test_normalised_masks_are_bits_and_the_rest_stays():
    given = Signals(entries=np.array([True, False, True]), exits=Bits.zeros(3), hold=2, stop_loss=0.1, cooldown=4)
    got = given.normalised(3)
    assert got.entries == Bits.pack(np.array([True, False, True]))
    assert got.exits == got.short_entries == got.short_exits == Bits.zeros(3)
    assert (got.hold, got.stop_loss, got.take_profit, got.trailing_stop, got.cooldown) == (2, 0.1, None, None, 4)


@pytest.mark.parametrize(
    ("signals", "text"),
    [
        (Signals(entries=np.zeros(4, bool)), r"entries must be Bits or bool\[3\], got bool\[4\]"),
        (Signals(exits=np.zeros(3)), r"exits must be Bits or bool\[3\], got float64\[3\]"),
        (Signals(short_entries=[True] * 3), r"short_entries must be Bits or bool\[3\], got list"),
        (Signals(short_exits=Bits.zeros(4)), "short_exits has 4 bars, the data has 3"),
        (Signals(hold=0), "hold must be a whole number of at least 1, got 0"),
        (Signals(hold=1.5), "hold must be a whole number of at least 1, got 1.5"),
        (Signals(hold=np.array([1, 2])), "hold must be a whole number of at least 1, got array"),
        (Signals(cooldown=-1), "cooldown must be a whole number of at least 0, got -1"),
        (Signals(stop_loss=1.0), "stop_loss must be a finite fraction between 0 and 1, both excluded, got 1.0"),
        (Signals(trailing_stop=0.0), "trailing_stop must be a finite fraction"),
        (Signals(take_profit=math.inf), "take_profit must be a finite fraction above 0, got inf"),
        (Signals(take_profit=math.nan), "take_profit must be a finite fraction above 0, got nan"),
    ],
)
def test_unsound_signals_are_refused(signals, text):
    with pytest.raises(SignalError, match=text):
        signals.normalised(3)
    with pytest.raises(SignalError, match=text):
        signals.words(3)


def test_cross_gives_both_sides():
    signals = cross(np.array([1.0, 3.0, 1.0]), 2.0)
    assert signals.entries.indices().tolist() == signals.short_exits.indices().tolist() == [1]
    assert signals.exits.indices().tolist() == signals.short_entries.indices().tolist() == [2]


def test_a_strategy_is_frozen_and_refuses_unknown_parameters():
    strategy = SmaCross(fast=3)
    with pytest.raises(ValidationError, match="frozen"):
        strategy.fast = 4
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        SmaCross(fats=3)
    assert strategy == SmaCross(fast=3)
    assert len({strategy, SmaCross(fast=3)}) == 1


def test_the_source_hash_is_that_of_the_module_and_what_it_depends_on():
    class WithHelper(Good):
        depends_on: ClassVar[tuple[ModuleType, ...]] = (sys.modules["strategies.cache"],)

    hashes = {cls.source_hash() for cls in (SmaCross, MacdTrend, Good, WithHelper)}
    assert len(hashes) == 4
    assert SmaCross.source_hash() == SmaCross.source_hash()


def test_a_class_without_source_is_refused():
    typed = type("Typed", (Good,), {"__module__": "typed_at_a_prompt"})
    with pytest.raises(StrategyError, match="the source of Typed cannot be found; define it in a module"):
        typed.source_hash()


def test_signals_are_asked_of_bars(monkeypatch):
    monkeypatch.setattr(Bars, "sma", lambda self, n: np.full(len(self), float(n)))
    bars = Bars("A", "1D", "XNYS", 252.0, np.arange(3), *[np.ones(3)] * 5)
    assert SmaCross().signals(bars).entries.count() == 0
