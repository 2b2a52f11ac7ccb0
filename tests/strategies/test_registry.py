import json
import sys
from importlib.metadata import EntryPoint

import pytest

from strategies import StrategyError, registry
from strategies.sma_cross import SmaCross
from tests.strategies.bad_strategies import Good

SHIPPED = {
    "bollinger_reversion",
    "donchian_breakout",
    "macd_trend",
    "rsi_reversion",
    "sma_cross",
    "volume_long_candle",
    "volume_zone_breakout",
}


@pytest.fixture
def entry_points(monkeypatch):
    """Registers these `name: target` pairs and nothing else."""

    def register(*pairs):
        entries = [EntryPoint(name, target, registry.GROUP) for name, target in pairs]
        monkeypatch.setattr(registry, "entry_points", lambda group: [e for e in entries if e.group == group])

    return register


def test_the_shipped_strategies_are_registered():
    assert set(registry.names()) >= SHIPPED
    assert registry.names() == sorted(registry.names())
    assert registry.get("sma_cross") is SmaCross
    assert registry.name_of(SmaCross) == "sma_cross"


def test_a_class_outside_the_registry_is_named_by_its_module():
    name = "tests.strategies.bad_strategies:Good"
    assert registry.get(name) is Good
    assert registry.name_of(Good) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sma_crss", "there is no strategy 'sma_crss'; did you mean 'sma_cross'?"),
        ("qqq", "there is no strategy 'qqq'; known: bollinger_reversion, "),
        ("nowhere_at_all:X", "importing nowhere_at_all failed with ModuleNotFoundError"),
        ("strategies.sma_cross:Sma", "strategies.sma_cross has no Sma"),
        ("strategies.bars:Bars", "Bars is not a subclass of strategies.Strategy"),
        (":", "a class outside the registry is named module:Class"),
    ],
)
def test_what_cannot_be_found_is_said(name, text):
    with pytest.raises(StrategyError) as raised:
        registry.get(name)
    assert text in str(raised.value)


def test_an_error_in_the_module_is_said(tmp_path, monkeypatch):
    (tmp_path / "broken_strategy.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StrategyError, match="importing broken_strategy failed with ZeroDivisionError: division"):
        registry.get("broken_strategy:X")
    assert "broken_strategy" not in sys.modules


def test_a_distribution_seen_twice_is_one(entry_points):
    entry_points(("mine", "strategies.sma_cross:SmaCross"), ("mine", "strategies.sma_cross:SmaCross"))
    assert registry.names() == ["mine"]
    assert registry.get("mine") is SmaCross


def test_a_name_registered_by_two_is_refused(entry_points):
    entry_points(("mine", "strategies.sma_cross:SmaCross"), ("mine", "other.module:Class"))
    with pytest.raises(StrategyError, match=r"more than once: other\.module:Class, strategies\.sma"):
        registry.get("mine")


def test_a_description_says_what_may_vary():
    described = registry.describe(SmaCross)
    assert json.loads(json.dumps(described)) == described
    assert described["name"] == "sma_cross"
    assert described["doc"].startswith("Long from a cross of the fast average above the slow one")
    assert described["parameters"][0] == {
        "name": "fast",
        "type": "integer",
        "default": 10,
        "description": "Window of the fast average, in bars.",
        "minimum": 1,
        "maximum": 100_000,
    }


@pytest.mark.parametrize("code", ["0", "3", "'no'"])
def test_a_module_that_ends_the_process_is_an_error(tmp_path, monkeypatch, code):
    (tmp_path / "ends_it.py").write_text(f"raise SystemExit({code})\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StrategyError, match=r"importing ends_it ended the process \(SystemExit"):
        registry.get("ends_it:Channel")
