"""The fast path is another way to the same numbers: a random sample of a sweep's trials through the plain loop."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from grid.engine import METRICS, Engine, Execution
from strategies import Bars, Signals
from strategies.check import sample_bars
from strategies.donchian_breakout import DonchianBreakout
from strategies.narrow import FEWEST_BARS, WORTH, copies
from strategies.sma_cross import SmaCross
from strategies.volume_zone_breakout import VolumeZoneBreakout
from tests.engine_twin import differences_of_metrics

EXECUTIONS = [
    {},
    {"side": "both", "size": 0.5, "risk_free": 0.03},
    {"stop_loss": 0.05, "take_profit": 0.1, "cooldown": 2},
    {"side": "short", "trailing_stop": 0.05},
    {"fill": "close", "hold": 10},
]


def points() -> list[SmaCross | DonchianBreakout | VolumeZoneBreakout]:
    """10,200 of them."""
    crosses = [SmaCross(fast=f, slow=s) for f in range(2, 72) for s in range(f + 1, f + 141)]
    channels = [DonchianBreakout(window=w, exit_window=x) for w in range(10, 30) for x in range(2, 12)]
    zones = [VolumeZoneBreakout(volume_window=w, hold_period_bars=h) for w in (20, 60) for h in range(1, 101)]
    return [*crosses, *channels, *zones]


@pytest.mark.parametrize("settings", EXECUTIONS)
def test_one_in_a_hundred_trials_through_the_plain_loop(settings: dict[str, object]) -> None:
    rng = np.random.default_rng()  # another sample each time; a failure names its point
    bars, execution = sample_bars(FEWEST_BARS, seed=int(rng.integers(1_000))), Execution.model_validate(settings)
    edges = np.linspace(0, len(bars), 17).astype(np.int64)
    fast = Engine(bars, execution, edges)
    exact = dataclasses.replace(bars, narrow=False)
    plain = Engine(exact, execution.model_copy(update={"fast_path": False}), edges)
    everything, narrow = points(), False
    for chosen in rng.choice(len(everything), len(everything) // 100, replace=False):
        point = everything[chosen]
        for _ in range(WORTH):
            got = fast.backtest(point.signals(bars))
        want = plain.backtest(point.signals(exact))
        assert got.trade_rows.tobytes() == want.trade_rows.tobytes(), point
        assert list(differences_of_metrics(got.metrics, want.metrics, want.curve, execution.cash)) == [], point
        np.testing.assert_allclose(got.blocks, want.blocks, rtol=1e-9, atol=1e-13, err_msg=str(point))
        narrow |= isinstance(point, SmaCross) and copies(bars.sma(point.fast), bars.sma(point.slow)) is not None
    assert narrow, "some comparisons went by copies"


def test_an_account_beyond_all_bounds_is_that_of_the_loop() -> None:
    """Doubled with each trade, until no number holds it."""
    close, flags = np.tile([1.0, 2.0], 1100), np.tile([True, False], 1100)
    bars = dataclasses.replace(sample_bars(2200), open=close, high=close, low=close, close=close)
    both = [
        Engine(bars, Execution(fee=0.0, fill="close", fast_path=fast)).backtest(Signals(flags, ~flags))
        for fast in (True, False)
    ]
    assert both[0].row.tobytes() == both[1].row.tobytes()
    assert both[0].trade_rows.tobytes() == both[1].trade_rows.tobytes()
    assert both[0].metrics["total_trades"] > 900


def rows_of(bars: Bars, some: list[SmaCross | DonchianBreakout | VolumeZoneBreakout]) -> dict[str, bytes]:
    """Metrics and blocks of each point, as bytes, from an engine of its own."""
    engine = Engine(bars, Execution(side="both"), np.linspace(0, len(bars), 17).astype(np.int64))
    row, blocks, found = np.empty(len(METRICS)), np.empty((3, 16)), {}
    for point in some:
        engine.evaluate(point.signals(bars), row, blocks)
        found[repr(point)] = row.tobytes() + blocks.tobytes()
    return found


def test_order_cache_and_threads_change_no_bit() -> None:
    bars, some = sample_bars(FEWEST_BARS), points()[::100]
    expected = rows_of(bars, some)
    assert rows_of(dataclasses.replace(bars, cache_bytes=0), some[::-1]) == expected
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(rows_of, [bars] * 2, [some, some[::-1]])) == [expected] * 2
