"""check_strategy has to notice each strategy that is wrong, and to say what and where."""

import pytest
from pydantic import Field

from strategies import Bars, Signals, Strategy, StrategyCheckError, check_strategy, cross
from strategies.check import doubt, find_faults, sample_bars
from strategies.registry import get, names
from strategies.sma_cross import SmaCross
from tests.strategies import bad_strategies as bad

FAULTS = [
    (bad.SeesTomorrow, "look-ahead", "a signal of entries at bar"),
    (bad.SeesTomorrowInItsExits, "look-ahead", "a signal of exits at bar"),
    (bad.KnowsTheMean, "look-ahead", "a signal of entries at bar"),
    (bad.KnowsTheNumberOfBars, "look-ahead", "a signal of entries at bar"),
    (bad.SetsItsStopByTheFuture, "look-ahead", "stop_loss is"),
    (bad.Random, "random", "a signal of entries at bar"),
    (bad.RemembersItsCalls, "random", "hold is 2 and no longer 1"),
    (bad.OneBarShort, "shape", r"signals.entries must be Bits or bool\[1500\], got bool\[1499\]"),
    (bad.SaysItInFloats, "shape", r"signals.exits must be Bits or bool\[1500\], got float64\[1500\]"),
    (bad.ReturnsAMask, "shape", "has to return Signals, got Bits"),
    (bad.HoldsForNothing, "shape", "signals.hold must be a whole number of at least 1, got 0"),
    (bad.NeedsTwoBars, "raises", "on 1 bars: IndexError: no bar before the first"),
    (bad.DividesByTheRange, "raises", "whose prices never move: ZeroDivisionError: a range of nothing"),
    (bad.LeavesPython, "raises", "whose prices never move: SystemExit: 3"),
    (bad.WritesOnTheBars, "raises", "read-only"),
    (bad.NeverTrades, "silent", "no signal on these bars"),
    (bad.HasNoBounds, "bounds", "n has no bounds; declare them"),
    (bad.CannotTravel, "pickle", "TypeError: holds an open socket"),
    (bad.CanBeChanged, "frozen", "frozen=True"),
    (bad.HasNoSignals, "build", "abstract"),
]


@pytest.mark.parametrize(("cls", "rule", "text"), FAULTS, ids=[cls.__name__ for cls, _, _ in FAULTS])
def test_each_fault_is_found_and_no_other(cls, rule, text):
    assert {fault.rule for fault in find_faults(cls)} == {rule}
    with pytest.raises(StrategyCheckError, match=text) as raised:
        check_strategy(cls)
    assert f"{cls.__qualname__} is not fit for a sweep:\n  {rule}: " in str(raised.value)


@pytest.mark.parametrize(("cls", "rule"), [(c, r) for c, r, _ in FAULTS if r != "build"], ids=lambda x: str(x))
def test_a_glance_finds_what_makes_results_mean_nothing_and_nothing_else(cls, rule):
    find_faults(cls)  # kernels are there then, as they are after the first trials
    found = doubt(cls(), sample_bars())
    assert (found.rule if found else None) == (rule if rule in ("look-ahead", "random") else None)


def test_a_glance_doubts_no_shipped_strategy():
    for strategy in map(get, names()):
        find_faults(strategy)
        assert doubt(strategy(), sample_bars(3_000)) is None


def test_every_numeric_parameter_needs_a_bound_and_no_other():
    texts = [fault.text for fault in find_faults(bad.HasNoBounds)]
    assert [text.split()[0] for text in texts] == ["n", "level"]


def test_what_is_lost_on_the_way_to_a_worker_is_noticed():
    assert not find_faults(bad.ForgetsOnTheWay)
    faults = find_faults(bad.ForgetsOnTheWay, n=20)
    assert [fault.rule for fault in faults] == ["pickle"]


def test_a_class_inside_a_function_cannot_travel():
    class Local(Strategy):
        n: int = Field(5, ge=1)

        def signals(self, bars: Bars) -> Signals:
            return cross(bars.close, bars.sma(self.n))

    assert [fault.rule for fault in find_faults(Local)] == ["pickle"]


@pytest.mark.parametrize("cls", [bad.Good, bad.BoolArraysWillDo])
def test_a_sound_strategy_passes(cls):
    check_strategy(cls)
    check_strategy(cls, sample_bars(300, seed=1), n=17)


def test_parameters_out_of_bounds_are_a_finding():
    with pytest.raises(StrategyCheckError, match=r"build: \{'fast': 0\} refused: fast: Input should be greater"):
        check_strategy(SmaCross, fast=0)


def test_the_bars_may_be_the_callers():
    assert [fault.rule for fault in find_faults(SmaCross, sample_bars(20))] == ["silent"]
    check_strategy(SmaCross, sample_bars(200), fast=2, slow=5)


def test_the_sample_is_always_the_same_and_sound():
    one, two = sample_bars(), sample_bars()
    assert one.close.tobytes() == two.close.tobytes()
    assert (one.low <= one.open).all()
    assert (one.low <= one.close).all()
    assert (one.high >= one.open).all()
    assert (one.high >= one.close).all()
    assert one.low.min() > 0
    assert (one.volume == 0).any()
    assert (one.close[1:] == one.close[:-1]).sum() > 20
