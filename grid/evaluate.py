"""WorkUnit in, ResultBatch out: the one place where trials are backtested, whatever the executor."""

import re
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.conditions import machine_kind
from grid.engine import METRICS, Engine
from grid.halving import Rung
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, ResolvedSweep
from grid.results import BLOCK_COLUMNS, FAILED, HISTORY_SHARE, OK, ResultBatch, batch_of, schema_of
from grid.reuse import Known
from grid.search import rung_of
from storage.ohlcv import DatasetKey
from strategies import Bars, Strategy

ERROR_LENGTH = 500
_FOLDERS = re.compile(r"(?<![\w./:-])(?:/[\w.+@-]+)+/(?=[\w.+@-])")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Evaluator:
    """Backtests units of one sweep. It keeps the engine of the dataset it saw last, and its indicators with it."""

    def __init__(self, resolved: ResolvedSweep) -> None:
        sweep = resolved.sweep
        self.resolved = resolved
        self.schema = schema_of(sweep)
        self._keep = max(sweep.results.keep_best, 1)
        self._engine: tuple[int, Rung | None, Bars, Engine] | None = None

    def evaluate(self, unit: WorkUnit, loaded: LoadedBars, known: Known | None = None) -> ResultBatch:
        """Backtest every trial of the unit. A strategy that raises is a failed row, not an error here.

        known: trials of it that are taken over and not run again, if rows of this machine are equal to them.
        """
        table = self.rows(unit, loaded, known)
        return batch_of(table, (unit.start, unit.stop), self.resolved.sweep.objective, self._keep)

    def rows(self, unit: WorkUnit, loaded: LoadedBars, known: Known | None = None) -> pa.Table:
        """The result rows of a unit, in the order of trial numbers; points that break a constraint have none."""
        if known is not None and known.machine != machine_kind():
            known = None
        return self.rows_of(unit.dataset, self.resolved.plan.points_of(unit), loaded, known)

    def rows_of(
        self, dataset: int, points: NDArray[np.int64], loaded: LoadedBars, known: Known | None = None
    ) -> pa.Table:
        """The result rows of these points on a dataset; int64[k], none of them a hole, all of one rung.

        known: some of them that are taken over; the points are ascending then.
        """
        columns = self.resolved.points.columns(points)
        rows = _Rows(len(points), self.resolved.sweep.validation.blocks)
        left = np.arange(len(points)) if known is None else rows.take_over(points, known)
        trials = list(zip(*(column[left].tolist() for column in columns.values()), strict=True))
        engine = self._engine_of(dataset, loaded, self._rung(points))
        for at in in_tiles(trials, engine.bars.rows_kept):
            parameters = dict(zip(columns, trials[at], strict=True))
            self._one(engine, parameters, rows, int(left[at]))
        return self._table(rows, dataset, points)

    def strategy_of(self, point: np.int64) -> Strategy:
        """The strategy with the parameters of a point."""
        columns = self.resolved.points.columns(np.array([point]))
        return self.resolved.strategy(**{name: column.tolist()[0] for name, column in columns.items()})

    def _table(self, rows: "_Rows", dataset: int, points: NDArray[np.int64]) -> pa.Table:
        key, first = self.resolved.datasets[dataset], dataset * len(self.resolved.points)
        columns = self.resolved.points.columns(points)
        rung = self._rung(points)
        return rows.table(self.schema, points + first, key, columns, 1.0 if rung is None else rung.share)

    def _rung(self, points: NDArray[np.int64]) -> Rung | None:
        return rung_of(self.resolved.points, int(points[0])) if len(points) else None

    def failed_rows(self, unit: WorkUnit, error: str) -> pa.Table:
        """Rows that say why the trials of a unit have no result (they killed their worker, ran out of time, ...)."""
        points = self.resolved.plan.points_of(unit)
        rows = _Rows(len(points), self.resolved.sweep.validation.blocks)
        for i in range(len(points)):
            rows.fail(i, error)
        return self._table(rows, unit.dataset, points)

    def _one(self, engine: Engine, parameters: dict[str, Any], rows: "_Rows", i: int) -> None:
        try:
            strategy = self.resolved.strategy(**parameters)
            engine.evaluate(strategy.signals(engine.bars), rows.metrics[i], rows.blocks[i])
        except BaseException as error:  # whatever a strategy raises becomes its row, sys.exit too
            if _stops_the_process(error):
                raise
            rows.fail(i, describe(error, self.resolved.strategy))

    def _engine_of(self, dataset: int, loaded: LoadedBars, rung: Rung | None) -> Engine:
        kept = self._engine
        if kept is None or kept[:2] != (dataset, rung) or kept[2] is not loaded.bars:
            part = loaded.upto(rung)
            kept = dataset, rung, loaded.bars, Engine(part.bars, self.resolved.sweep.execution, part.edges)
            self._engine = kept
        return kept[3]


def in_tiles(trials: Sequence[tuple[Any, ...]], rows_kept: int) -> list[int]:
    """The order in which to try points, given as tuples of values, so that indicators are met while they are kept.

    Points come with the last parameter varying fastest. Where it has more values than rows of indicators are kept, each
    row would be gone before it is asked for again: so the points of some of its values come first, of all the others'.
    """
    distinct = [list(dict.fromkeys(values)) for values in zip(*trials, strict=True)]
    varying = [place for place, values in enumerate(distinct) if len(values) > 1]
    tile = max(rows_kept // 3, 1)  # the others' rows, and what rows are computed from, want room too
    if not varying or len(distinct[varying[-1]]) <= tile:
        return list(range(len(trials)))
    last = varying[-1]
    tiles = {value: place // tile for place, value in enumerate(distinct[last])}
    return sorted(range(len(trials)), key=lambda i: tiles[trials[i][last]])


@dataclass
class _Rows:
    """Room for the results of n trials: metrics float64[n, M], blocks float64[n, 3, S]."""

    n: int
    block_count: int
    metrics: NDArray[np.float64] = field(init=False)
    blocks: NDArray[np.float64] = field(init=False)
    errors: dict[int, str] = field(default_factory=dict)
    ran_by: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metrics = np.empty((self.n, len(METRICS)))
        self.blocks = np.empty((self.n, 3, self.block_count))

    def take_over(self, points: NDArray[np.int64], known: Known) -> NDArray[np.int64]:
        """Put in what is known of the points; returns the places of the others."""
        at = np.searchsorted(points, known.points)
        self.metrics[at] = known.values[:, : len(METRICS)]
        self.blocks[at] = known.values[:, len(METRICS) :].reshape(len(at), 3, self.block_count)
        self.ran_by = dict(zip(at.tolist(), known.ran_by, strict=True))
        return np.setdiff1d(np.arange(self.n), at)

    def fail(self, i: int, error: str) -> None:
        self.metrics[i] = np.nan
        self.blocks[i] = np.nan
        self.errors[i] = error

    def table(
        self, schema: pa.Schema, ids: NDArray[np.int64], key: DatasetKey, columns: dict[str, NDArray[Any]], share: float
    ) -> pa.Table:
        """The rows under `schema`; `columns` holds the parameters, `share` is that of the history."""
        status = [FAILED if i in self.errors else OK for i in range(self.n)]
        arrays: list[Any] = [pa.array(ids), pa.repeat(key.symbol, self.n), pa.repeat(key.timeframe, self.n)]
        arrays += [pa.array(values.tolist(), schema.field(name).type) for name, values in columns.items()]
        arrays += [pa.array(self.metrics[:, m]) for m in range(len(METRICS))]
        arrays += [pa.array(status, pa.string()), pa.array([self.errors.get(i) for i in range(self.n)], pa.string())]
        for b, name in enumerate(BLOCK_COLUMNS):
            flat = pa.array(np.ascontiguousarray(self.blocks[:, b]).ravel())
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=schema.field(name).type))
        arrays.append(pa.array([self.ran_by.get(i) for i in range(self.n)], pa.string()))
        if HISTORY_SHARE in schema.names:
            arrays.append(pa.repeat(share, self.n))
        return pa.Table.from_arrays(arrays, schema=schema)


def describe(error: BaseException, strategy: type[Strategy]) -> str:
    """Type, message and the innermost place in the strategy's own code; the same on every machine.

    Folders and memory addresses are left out. Where a recursion breaks off depends on who called, so of that the
    outermost place is told.
    """
    own = {base.__module__ for base in strategy.__mro__ if base not in Strategy.__mro__}
    trace = traceback.walk_tb(error.__traceback__)
    frames = [(frame.f_code, line) for frame, line in trace if frame.f_globals.get("__name__") in own]
    message, place = _message(error), frames[-1:]
    if isinstance(error, RecursionError):
        message, place = "maximum recursion depth exceeded", frames[:1]
    where = "".join(f" ({PurePath(code.co_filename).name}:{line} in {code.co_name})" for code, line in place)
    return f"{type(error).__name__}: {message}"[:ERROR_LENGTH] + where


def _message(error: BaseException) -> str:
    try:
        text = str(error).encode(errors="replace").decode()
    except Exception:  # noqa: BLE001 - an exception of a strategy may be as wrong as the rest of it
        return "(its message cannot be read)"
    return _ADDRESS.sub("", _FOLDERS.sub("", text))


def _stops_the_process(error: BaseException) -> bool:
    """Whether it comes from the keyboard or a signal's handler (Ray's raises SystemExit), not from the strategy."""
    if isinstance(error, Exception):
        return False
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()}
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, KeyboardInterrupt) or any(frame.f_code in handlers for frame, _ in frames)
