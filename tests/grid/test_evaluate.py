"""Evaluating units: the same rows however they are cut, and whatever a strategy does is a row."""

import re
import signal
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from grid.engine import METRICS
from grid.evaluate import ERROR_LENGTH, Evaluator, in_tiles
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, ResolvedSweep, reopen
from grid.results import BLOCK_COLUMNS, decode, summarise
from grid.spec import Sweep
from grid.windows import bars_per_block
from storage.ohlcv import DatasetKey
from strategies.cache import ENTRY_BYTES
from strategies.check import sample_bars
from tests.grid.made_results import bits
from tests.grid.wild import WAYS

KEYS = [DatasetKey("A", "1D"), DatasetKey("B", "1D")]
SPACE: dict[str, Any] = {"fast": {"range": [2, 13, 1]}, "slow": [5, 10, 20], "stop": [None, 0.03], "bad": 7}


def opened(space: dict[str, Any] = SPACE, **changes: Any) -> ResolvedSweep:
    sweep = {
        "strategy": "tests.grid.wild:Wild",
        "data": {"symbols": ["A", "B"], "timeframes": ["1D"], "start": "1970-01-01", "end": "1971-06-01"},
        "space": space,
        "constraints": ["fast < slow"] if "slow" in space else [],
        "validation": {"blocks": 6, "holdout": 0.2},
        **changes,
    }
    return reopen(Sweep(**sweep), KEYS)


def loaded_of(resolved: ResolvedSweep, dataset: int) -> LoadedBars:
    bars = sample_bars(400, seed=dataset)
    return LoadedBars(bars, bars_per_block(bars.timestamp, resolved.edges), "")


def rows_by(size: int, seed: int | None = None) -> pa.Table:
    """All rows of the sweep from units of `size`, in another order for a seed, as they come back from storage."""
    resolved = opened()
    evaluator, loaded = Evaluator(resolved), [loaded_of(resolved, d) for d in (0, 1)]
    units = list(resolved.plan.units(lambda _: size))
    if seed is not None:
        units = [units[i] for i in np.random.default_rng(seed).permutation(len(units))]
    batches = [evaluator.evaluate(unit, loaded[unit.dataset]) for unit in units]
    assert [(b.start, b.stop) for b in batches] == [(u.start, u.stop) for u in units]
    tables = [decode(b.parquet) for b in batches]
    for b, table in zip(batches, tables, strict=True):
        assert b.rows == table.num_rows
        assert b.summary == summarise(table, resolved.sweep.objective, 20)
    table = pa.concat_tables(tables)
    return table.take(np.argsort(table["trial_id"].to_numpy(), kind="stable"))


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    return rows_by(10**6)


@pytest.mark.parametrize(("size", "seed"), [(1, None), (7, None), (1000, None), (7, 1), (1, 2)])
def test_rows_are_the_same_however_units_are_cut(whole: pa.Table, size: int, seed: int | None) -> None:
    assert bits(rows_by(size, seed)) == bits(whole)


def test_there_is_a_row_for_every_point_that_is_no_hole(whole: pa.Table) -> None:
    points = opened().points
    valid = [p for p in range(len(points)) if points[p]["fast"] < points[p]["slow"]]
    assert 0 < len(valid) < len(points)
    assert whole["trial_id"].to_pylist() == [d * len(points) + p for d in (0, 1) for p in valid]
    for row in whole.to_pylist():
        dataset, point = divmod(row["trial_id"], len(points))
        assert (row["symbol"], row["timeframe"]) == ("AB"[dataset], "1D")
        assert {name: row[name] for name in points.names} == points[point]


def test_rows_that_failed_say_so_and_hold_no_number(whole: pa.Table) -> None:
    rows = whole.to_pylist()
    assert {row["fast"] for row in rows if row["status"] == "failed"} == {7}
    for row in rows:
        assert row["status"] == ("failed" if row["fast"] == 7 else "ok")
        if row["status"] == "failed":
            assert row["error"].startswith("ValueError: 7 is bad (wild.py:")
            numbers = [row[name] for name in METRICS] + [value for name in BLOCK_COLUMNS for value in row[name]]
            assert np.isnan(numbers).all()
        else:
            assert row["error"] is None
            assert row["final_equity"] > 0


def test_a_unit_of_holes_has_no_row() -> None:
    resolved = opened()
    batch = Evaluator(resolved).evaluate(WorkUnit(0, 60, 62), loaded_of(resolved, 0))
    assert resolved.points[60]["fast"] >= resolved.points[60]["slow"]
    assert (batch.rows, decode(batch.parquet).num_rows) == (0, 0)


PLACES = r" \(wild\.py:\d+ in .+\)"
TOLD = {
    "raises": "ZeroDivisionError: division by zero" + PLACES,
    "in a library": r"StrategyError: .*" + PLACES,
    "path": r"FileNotFoundError: \[Errno 2\] No such file or directory: 'x-1\.csv'" + PLACES,
    "folder": "ValueError: see a.py: 1/2, and/or https://x.org/a/b" + PLACES,
    "address": "KeyError: <object object>" + PLACES,
    "long": "ValueError: x{" + str(ERROR_LENGTH - len("ValueError: ")) + "}" + PLACES,
    "surrogate": r"ValueError: a\?b" + PLACES,
    "unreadable": r"UnreadableError: \(its message cannot be read\)" + PLACES,
    "shape": r"SignalError: signals\.entries must be Bits or bool\[400\], got .*",
    "type": r"SignalError: signals\.entries must be Bits or bool\[400\], got .*",
    "none": r"SignalError: a strategy's signals\(\) must return Signals, not NoneType",
    "exit": "SystemExit: 3" + PLACES,
    "odd": "Odd: odd" + PLACES,
    "memory": "MemoryError: " + PLACES,
    "recursion": r"RecursionError: maximum recursion depth exceeded \(wild\.py:\d+ in signals\)",
}


def one_row(way: str) -> dict[str, Any]:
    resolved = opened({"way": [way]})
    row: dict[str, Any] = Evaluator(resolved).rows(WorkUnit(1, 1, 2), loaded_of(resolved, 1)).to_pylist()[0]
    return row


@pytest.mark.parametrize("way", TOLD)
def test_whatever_a_strategy_raises_is_its_row(way: str) -> None:
    row = one_row(way)
    assert (row["trial_id"], row["way"], row["status"]) == (1, way, "failed")
    assert re.fullmatch(TOLD[way], row["error"]), row["error"]
    assert "0x" not in row["error"]


def test_every_way_to_fail_is_told() -> None:
    assert WAYS.keys() - TOLD.keys() == {"keyboard", "signal"}


def deeper(depth: int, way: str) -> dict[str, Any]:
    return deeper(depth - 1, way) if depth else one_row(way)


@pytest.mark.parametrize("way", ["recursion", "raises"])
def test_an_error_is_the_same_wherever_it_is_called_from(way: str) -> None:
    assert [deeper(depth, way)["error"] for depth in (1, 2, 3, 50)] == [one_row(way)["error"]] * 4


def test_parameters_the_strategy_refuses_are_a_failed_row() -> None:
    resolved = opened({"fast": [0, 5]})
    rows = Evaluator(resolved).rows(WorkUnit(0, 0, 2), loaded_of(resolved, 0)).to_pylist()
    assert [(row["fast"], row["status"]) for row in rows] == [(0, "failed"), (5, "ok")]
    assert rows[0]["error"].startswith("ValidationError: 1 validation error for Wild\nfast\n")


def test_the_keyboard_and_signals_stop_the_work() -> None:
    with pytest.raises(KeyboardInterrupt):
        one_row("keyboard")

    def leave(number: int, _: Any) -> None:
        raise SystemExit(number)

    before = signal.signal(signal.SIGUSR1, leave)
    try:
        with pytest.raises(SystemExit, match=str(int(signal.SIGUSR1))):
            one_row("signal")
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_rows_of_trials_that_killed_their_worker() -> None:
    resolved = opened()
    evaluator = Evaluator(resolved)
    size = len(resolved.points)
    table = evaluator.failed_rows(WorkUnit(1, size, 2 * size), "its worker died, 2 times")
    usual = evaluator.rows(WorkUnit(1, size, 2 * size), loaded_of(resolved, 1))
    kept = ["trial_id", "symbol", "timeframe", *resolved.points.names]
    assert table.schema == usual.schema
    assert bits(table.select(kept)) == bits(usual.select(kept))
    assert set(zip(table["status"].to_pylist(), table["error"].to_pylist(), strict=True)) == {
        ("failed", "its worker died, 2 times")
    }
    assert np.isnan(table["sharpe"].to_numpy()).all()


def test_points_are_tried_in_tiles_of_what_the_cache_keeps() -> None:
    trials = [(fast, slow, 7) for fast in "ab" for slow in range(5)]
    assert in_tiles(trials, 15) == list(range(10))
    assert [trials[i] for i in in_tiles(trials, 6)] == [
        (fast, slow, 7) for slows in ((0, 1), (2, 3), (4,)) for fast in "ab" for slow in slows
    ]
    for kept in range(18):
        assert sorted(in_tiles(trials, kept)) == list(range(10))
    assert in_tiles([("a", 1)], 0) == [0]
    assert in_tiles([], 0) == []


def test_tiles_compute_indicators_less_often_and_give_the_same_rows() -> None:
    """Ten fast and twenty slow averages, of which six rows are kept."""
    space = {"fast": {"range": [2, 11, 1]}, "slow": {"range": [20, 39, 1]}}
    resolved = opened(space, strategy="sma_cross")
    unit = WorkUnit(0, 0, 200)
    computed: dict[int, int] = {}
    tables = {}
    for kept in (6, 1000):
        loaded = loaded_of(resolved, 0)
        bars = replace(loaded.bars, cache_bytes=kept * (8 * len(loaded.bars) + ENTRY_BYTES))
        compute = Counter()
        bars.cache._keep = lambda key, value, keep=bars.cache._keep, told=compute: (
            told.update([key]),
            keep(key, value),
        )
        tables[kept] = Evaluator(resolved).rows(unit, replace(loaded, bars=bars))
        computed[kept] = sum(times for key, times in compute.items() if key[0] == "sma")
    assert bits(tables[6]) == bits(tables[1000])
    assert computed[1000] == 30
    assert computed[6] <= 130, "and 210 in the order of numbers"
