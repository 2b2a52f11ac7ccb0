"""What every registered strategy has to pass."""

import json

import numpy as np
import pytest

from strategies import check_strategy
from strategies.check import MASKS, sample_bars
from strategies.registry import BOUNDS, describe, get, name_of, names

WINDOWS = ("window", "fast", "slow", "signal")


@pytest.fixture(params=names())
def strategy_class(request):
    return get(request.param)


def shortest_window(cls):
    return min(value for name, value in cls().model_dump().items() if name.endswith(WINDOWS))


def empty(signals, n):
    normalised = signals.normalised(n)
    return not any(getattr(normalised, mask).count() for mask in MASKS)


def test_is_certified(strategy_class):
    check_strategy(strategy_class)


def test_is_certified_on_other_bars(strategy_class):
    check_strategy(strategy_class, sample_bars(700, seed=11))


def test_trades(strategy_class):
    signals = strategy_class().signals(sample_bars()).normalised(len(sample_bars()))
    assert signals.entries.count() > 0
    assert signals.exits.count() > 0 or signals.hold is not None


def test_describes_itself_in_json(strategy_class):
    described = describe(strategy_class)
    assert json.loads(json.dumps(described)) == described
    assert get(described["name"]) is strategy_class
    assert described["name"] == name_of(strategy_class)
    assert described["doc"].splitlines()[0].endswith((".", ","))
    assert [entry["name"] for entry in described["parameters"]] == list(strategy_class.model_fields)


def test_every_parameter_has_a_default_a_text_and_bounds(strategy_class):
    for entry in describe(strategy_class)["parameters"]:
        assert "default" in entry
        assert entry["description"].endswith(".")
        if entry["type"] != "boolean":
            assert sum(bound in entry for bound in BOUNDS) == 2


def test_too_few_bars_give_no_signal(strategy_class):
    for size in (0, 1, 2, shortest_window(strategy_class) - 1):
        assert empty(strategy_class().signals(sample_bars().slice(0, size)), size)


def test_flat_prices_give_no_breakdown(strategy_class):
    bars = sample_bars(200)
    still = type(bars)("FLAT", "1D", "24/7", 365.0, bars.timestamp, *[np.full(200, 50.0)] * 5)
    strategy_class().signals(still).normalised(200)


def test_a_second_point_on_the_same_bars_computes_nothing_again(strategy_class):
    bars = sample_bars()
    strategy_class().signals(bars)
    kept = len(bars.cache)
    strategy_class().signals(bars)
    assert len(bars.cache) == kept
    if "hold_period_bars" in strategy_class.model_fields:
        strategy_class(hold_period_bars=7).signals(bars)
        assert len(bars.cache) == kept
