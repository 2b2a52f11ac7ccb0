"""The engine equals its naive twin on random input: every fill to the bar, every metric, every block.

Small markets are drawn value by value, so that a failure shrinks to a few bars. Larger ones come from a
seed, and reach over the 64 bars of a word of the masks.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_twin import Floats, Mask, Trial, differences

LENGTHS = st.sampled_from([1, 2, 3, 7, 20, 63, 64, 65, 100, 127, 128, 129, 150])
KINDS = st.sampled_from(["walk", "flat", "grid", "tiny", "steep", "smooth", "rising"])
SPREAD = {"walk": 0.02, "tiny": 1e-9, "steep": 0.6, "smooth": 1e-7, "rising": 0.01}
DRIFT = {"smooth": 0.001, "rising": 0.005}
DENSITY = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.6, 1.0])
STOPS = st.none() | st.sampled_from([0.01, 0.05, 0.1, 0.5, 1e-9])
TARGETS = STOPS | st.just(2.0)
PALETTES = ([100, 99, 101], [100, 95, 105], [100, 99, 101, 95, 105, 90, 110], [100, 50, 150, 200])

EXECUTIONS = st.fixed_dictionaries(
    {
        "cash": st.sampled_from([1000.0, 100.0, 1.0, 1e7]),
        "fee": st.sampled_from([0.0, 0.0005, 0.01, 0.2]),
        "slippage": st.sampled_from([0.0, 0.0003, 0.02]),
        "fill": st.sampled_from(["next_open", "next_close", "close"]),
        "side": st.sampled_from(["both", "long", "short"]),
        "size": st.sampled_from([1.0, 0.5, 0.1, ("units", 1.0), ("units", 0.013)]),
        "stop_loss": STOPS,
        "take_profit": TARGETS,
        "trailing_stop": STOPS,
        "hold": st.none() | st.integers(1, 9),
        "cooldown": st.sampled_from([0, 0, 0, 1, 2, 5]),
        "preset": st.sampled_from(["grid", "grid", "vectorbt", "backtesting_py"]),
        "opposite": st.sampled_from(["reverse", "reverse", "ignore"]),
    }
)
PERIODS = st.sampled_from([365.0, 252.0, 2190.0, 525_600.0])
RISK_FREE = st.sampled_from([0.0, 0.0, 0.03, -0.01])


@st.composite
def small_trials(draw: st.DrawFn) -> Trial:
    """Up to 16 bars of few prices around 100, full of ties with levels, peaks and each other."""
    n = draw(st.sampled_from([12, 16, 8, 5, 4, 3, 2, 1]))
    price = st.sampled_from(draw(st.sampled_from(PALETTES)))
    bars = draw(st.lists(st.lists(price, min_size=4, max_size=4), min_size=n, max_size=n))
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    masks = [np.array(draw(flags), dtype=bool) for _ in range(4)]
    return trial_of(draw, ordered(np.array(bars, dtype=float)), masks)


def ordered(bars: Floats) -> list[Floats]:
    """Open, high, low and close from four prices of a bar."""
    return [bars[:, 0].copy(), bars.max(axis=1), bars.min(axis=1), bars[:, 1].copy()]


@st.composite
def seeded_trials(draw: st.DrawFn) -> Trial:
    n, kind = draw(LENGTHS), draw(KINDS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks: list[Mask] = [rng.random(n) < draw(DENSITY) for _ in range(4)]
    return trial_of(draw, ordered(market(rng, kind, n, wicks=draw(st.booleans()))), masks)


def market(rng: np.random.Generator, kind: str, n: int, wicks: bool) -> Floats:
    """float64[n, 4]: open, close and two more prices of each bar."""
    if kind == "flat":
        return np.full((n, 4), 97.0)
    if kind == "grid":
        return rng.integers(90, 111, (n, 4)).astype(float)
    steps = rng.normal(DRIFT.get(kind, 0.0), SPREAD[kind], (n, 2))
    path = 100 * np.exp(np.cumsum(steps.ravel())).reshape(n, 2)  # gaps between close and open
    wick = rng.normal(0.0, SPREAD[kind], (n, 2)) if wicks else np.zeros((n, 2))
    return np.hstack([path, path * np.exp(wick)])


def trial_of(draw: st.DrawFn, prices: list[Floats], masks: list[Mask]) -> Trial:
    n = len(prices[0])
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    execution: dict[str, Any] = draw(EXECUTIONS)
    return Trial(prices, masks, execution, draw(PERIODS), draw(RISK_FREE), (0, *cuts, n), draw(st.booleans()))


PLAIN = {"side": "long", "size": 1.0, "hold": None, "cooldown": 0} | dict.fromkeys(
    ("stop_loss", "take_profit", "trailing_stop")
)


@st.composite
def masked_trials(draw: st.DrawFn) -> Trial:
    """All in and long, no exit but by signal, and none on the bar of an entry: what goes by chunks of trades."""
    trial = draw(small_trials() | seeded_trials() | long_trials())
    entries, exits, *short = trial.masks
    return replace(trial, masks=[entries, exits & ~entries, *short], execution=trial.execution | PLAIN)


@st.composite
def long_trials(draw: st.DrawFn) -> Trial:
    """Hundreds of trades: several chunks of them."""
    n, kind = draw(st.sampled_from([1100, 1216, 2500])), draw(KINDS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    masks: list[Mask] = [rng.random(n) < draw(st.sampled_from([0.3, 0.6, 0.9])) for _ in range(4)]
    return trial_of(draw, ordered(market(rng, kind, n, wicks=False)), masks)


@settings(max_examples=600, derandomize=True, deadline=None)
@given(masked_trials())
def test_trades_that_masks_alone_decide_equal_the_twin(trial: Trial) -> None:
    assert differences(trial) == []


@settings(max_examples=1200, derandomize=True, deadline=None)
@given(small_trials())
def test_the_engine_equals_its_twin_on_small_markets(trial: Trial) -> None:
    assert differences(trial) == []


@settings(max_examples=1200, derandomize=True, deadline=None)
@given(seeded_trials())
def test_the_engine_equals_its_twin(trial: Trial) -> None:
    assert differences(trial) == []


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(small_trials() | seeded_trials() | masked_trials())
def test_the_engine_equals_its_twin_on_new_input_each_time(trial: Trial) -> None:
    assert differences(trial) == []
