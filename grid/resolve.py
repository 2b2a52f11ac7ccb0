"""A sweep made concrete: its strategy's class, its datasets in order, its span in nanoseconds, its plan.

Everything here is a pure function of the sweep and of the store's listing, so that driver and workers that resolve the
same sweep agree on every trial number.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.metadata import version

import llvmlite.binding
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.bounds import check_space
from grid.errors import BadInput
from grid.halving import Rung, blocks_seen
from grid.methods import searched_with
from grid.plan import Plan
from grid.search import points_of
from grid.space import Points
from grid.spec import Sweep
from grid.windows import bars_per_block, block_edges, nanoseconds
from storage.environment import default_data_store
from storage.errors import BadData, StorageError
from storage.ohlcv import DatasetInfo, DatasetKey, OhlcvStore, fingerprint
from storage.probing import missing_folder
from storage.providers import StorageProvider, cached_provider_for, provider_for
from storage.schema import numbers, timestamps
from storage.timeframes import bars_per_year, nearest, seconds_of
from strategies import Bars, Strategy
from strategies.registry import get

ENGINE_VERSION = "6"
"""Changes whenever the same trial would give different numbers; part of every fingerprint."""


FEW_SYMBOLS = 10


@dataclass(frozen=True)
class ResolvedSweep:
    """A sweep with nothing left open: explicit symbols, start and end; `sweep` itself says them all.

    edges: int64[blocks + 1] nanoseconds; cut: where the hold-out starts, and no bar from there on is ever read. points:
    of the sweep; where a method asks for them, as far as they are known here.
    """

    sweep: Sweep
    strategy: type[Strategy]
    datasets: tuple[DatasetKey, ...]
    edges: NDArray[np.int64]
    cut: int
    points: Points

    @cached_property
    def plan(self) -> Plan:
        return Plan(self.datasets, self.points)

    def store(self) -> OhlcvStore:
        return OhlcvStore(cached_provider_for(self.sweep.data.store))

    def bytes_of(self, dataset: int) -> int:
        """Size of the files that `load` opens."""
        return self.store().bytes_of(self.datasets[dataset], self.sweep.data.start, self.sweep.data.end)

    def load(self, dataset: int) -> "LoadedBars":
        """Read one dataset's bars up to the hold-out. Raises BadInput when there are none in the span."""
        key, data = self.datasets[dataset], self.sweep.data
        store = self.store()
        stop = self._stop(key)
        if data.start is not None and stop <= nanoseconds(data.start):
            raise BadInput(_no_bar(store.describe(key), data.start, self.cut))
        table = store.read(key, data.start, datetime.fromtimestamp(-(-stop // 1_000_000_000), UTC))
        table = table.slice(0, int(np.searchsorted(timestamps(table), stop)))
        if table.num_rows == 0:
            raise BadInput(_no_bar(store.describe(key), data.start, self.cut))
        calendar = _calendar(store, key, table, data.calendar)
        bars = replace(bars_of(table, key, calendar), narrow=self.sweep.execution.fast_path)
        edges = bars_per_block(bars.timestamp, self.edges)
        return LoadedBars(bars, edges, fingerprint(table, calendar), dict(store.served))

    def _stop(self, key: DatasetKey) -> int:
        """Bars that open from here on are left out: before a hold-out all that end after it has begun."""
        end = self.sweep.data.end
        held_out = end is not None and self.cut < nanoseconds(end)
        return self.cut - seconds_of(key.timeframe) * 1_000_000_000 + 1 if held_out else self.cut

    def load_same(self, dataset: int, wanted: str) -> "LoadedBars":
        """`load`, of bars with that fingerprint. Raises BadData for others: rows of both must not be mixed."""
        loaded = self.load(dataset)
        if loaded.fingerprint != wanted:
            raise BadData(
                f"The bars of {self.datasets[dataset]} in {self.sweep.data.store} are not those that the session was "
                "begun with: they were replaced, or damaged on the way or in the node's cache (GRID_CACHE_DIR). "
                "`grid data check` looks at the store's own; nothing was evaluated on them."
            )
        return loaded


def load_bars(
    symbol: str,
    timeframe: str,
    store: str | None = None,
    start: date | str | None = None,
    end: date | str | None = None,
    calendar: str | None = None,
) -> Bars:
    """The bars of [start, end) UTC, as dates or as text like 2024-01-31; `store` is DATA_ROOT or data by default.

    Raises NotFound, BadData, and BadInput where nobody states the calendar, or for text that is no date.
    """
    found, key = OhlcvStore(cached_provider_for(store or default_data_store())), DatasetKey(symbol, timeframe)
    table = found.read(key, _date("start", start), _date("end", end))
    return bars_of(table, key, _calendar(found, key, table, calendar))


def _date(name: str, given: date | str | None) -> date | None:
    if not isinstance(given, str):
        return given
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        raise BadInput(f"{name} {given!r} is no date: write it as 2024-01-31 or 2024-01-31T09:00:00Z (UTC).") from None


def bars_of(table: pa.Table, key: DatasetKey, calendar: str) -> Bars:
    """A checked table of one dataset as a strategy sees it; no copy where Arrow's memory will do."""
    columns = {name: numbers(table, name) for name in ("open", "high", "low", "close", "volume")}
    return Bars(
        symbol=key.symbol,
        timeframe=key.timeframe,
        calendar=calendar,
        periods_per_year=bars_per_year(key.timeframe, calendar),
        timestamp=timestamps(table),
        open=columns["open"],
        high=columns["high"],
        low=columns["low"],
        close=columns["close"],
        volume=columns["volume"],
    )


def _calendar(store: OhlcvStore, key: DatasetKey, table: pa.Table, given: str | None) -> str:
    """As the files of `table` state it, or as given, or as all files of the dataset state it."""
    stated = (table.schema.metadata or {}).get(b"calendar", b"").decode()
    if given and stated and given != stated:
        raise BadInput(
            f"the files of {key} in {store.provider.uri} state the calendar {stated}, so that {given} cannot be asked "
            "for (data.calendar in a sweep): leave it out, or import the bars with the other one."
        )
    calendar = given or stated or store.calendar(key)
    if calendar is None:
        raise BadInput(
            f"the files of {key} in {store.provider.uri} do not state their calendar: say calendar 24/7 or XNYS "
            "(data.calendar in a sweep)."
        )
    return calendar


@dataclass(frozen=True)
class LoadedBars:
    """One dataset in memory: bars, the rows where its blocks begin (int64[blocks + 1]), sha256 of the data.

    read: bytes of the files that were read for it, by where they were (`store` or `cache`).
    """

    bars: Bars
    edges: NDArray[np.int64]
    fingerprint: str
    read: Mapping[str, int] = field(default_factory=dict)

    def cold(self) -> "LoadedBars":
        """The same without indicators."""
        return replace(self, bars=self.bars.slice(0, len(self.bars)))

    def upto(self, rung: Rung | None) -> "LoadedBars":
        """The part that the trials of a rung see, which ends where a block does; all without a rung."""
        if rung is None or rung.blocks == rung.of:
            return self
        stop = int(self.edges[blocks_seen(np.diff(self.edges), rung.blocks)])
        return replace(self, bars=self.bars.slice(0, stop), edges=np.minimum(self.edges, stop))


def resolve(sweep: Sweep) -> ResolvedSweep:
    """Check a sweep against its strategy and its store. Raises BadInput, StorageError or StrategyError."""
    strategy = get(sweep.strategy)
    check_space(strategy, sweep)
    searched_with(sweep.search.method)
    store = OhlcvStore(_provider("data.store", sweep.data.store))
    missing = missing_folder(store.provider)
    if missing:
        raise BadInput(f"data.store: {missing}; data.store is relative to the folder that grid is run in.")
    datasets = _datasets(sweep, store)
    start, end = sweep.data.start, sweep.data.end
    if start is None or end is None:
        found = [store.describe(key) for key in datasets]
        start = start or min(info.first for info in found)
        end = end or _after_last(found)
    if start >= end if type(start) is type(end) else nanoseconds(start) >= nanoseconds(end):
        if sweep.data.start is None:
            raise BadInput(f"data.end {end} is not after the start of the data, {start}: choose a later end.")
        raise BadInput(f"data.start {start} is not before the end of the data, {end}: choose an earlier start.")
    data = sweep.data.model_copy(
        update={
            "store": store.provider.uri,
            "symbols": tuple(sorted({k.symbol for k in datasets})),
            "start": start,
            "end": end,
        }
    )
    results = sweep.results.model_copy(update={"store": _provider("results.store", sweep.results.store).uri})
    checked = sweep.model_copy(update={"data": data, "results": results})
    checked = Sweep.model_validate(checked.model_dump(mode="json"))
    return resolved(checked, strategy, datasets)


def resolved(
    sweep: Sweep, strategy: type[Strategy], datasets: tuple[DatasetKey, ...], points: Points | None = None
) -> ResolvedSweep:
    """A sweep that says everything itself, as a session's metadata does. points: its own, where they are known."""
    if sweep.data.start is None or sweep.data.end is None:
        raise BadInput("the session's sweep does not state its span: its metadata.json is incomplete.")
    validation = sweep.validation
    edges, cut = block_edges(sweep.data.start, sweep.data.end, validation.blocks, validation.holdout)
    return ResolvedSweep(sweep, strategy, datasets, edges, cut, points or points_of(sweep, len(datasets)))


def reopen(sweep: Sweep, datasets: Sequence[DatasetKey], points: Points | None = None) -> ResolvedSweep:
    """Resolve a sweep that was resolved before, without looking at the store again. points: where they are known."""
    return resolved(sweep, get(sweep.strategy), tuple(datasets), points)


def session_fingerprint(resolved_sweep: ResolvedSweep, data: list[str]) -> str:
    """sha256 over all that decides the rows: strategy source, space, data, span, execution, blocks, engine."""
    sweep = resolved_sweep.sweep.model_dump(mode="json", exclude={"name", "results", "cluster"})
    sweep["data"].pop("store")
    if sweep["search"]["round"] is None:
        sweep["search"].pop("round")
    if not sweep["objective"]["beside"]:
        sweep["objective"].pop("beside")
    for judging in ("walk_forward", "cross_validation"):  # they decide no row
        sweep["validation"].pop(judging)
    parts = [ENGINE_VERSION, resolved_sweep.strategy.source_hash(), sweep, data]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The packages whose versions decide the last bit of a number."""
    return {name: version(name) for name in ("backtest-grid", "numpy", "numba", "pyarrow", "pydantic", "ray")}


def _provider(field: str, uri: str) -> StorageProvider:
    try:
        return cached_provider_for(uri) if field == "data.store" else provider_for(uri)
    except StorageError as error:
        raise BadInput(f"{field}: {error}") from error


def processor() -> str:
    """The processor as compiled code knows it; another one may round the last digit differently."""
    return str(llvmlite.binding.get_host_cpu_name())


def _datasets(sweep: Sweep, store: OhlcvStore) -> tuple[DatasetKey, ...]:
    if sweep.data.symbols == "all":
        there = store.datasets()
        wanted = tuple(key for key in there if key.timeframe in sweep.data.timeframes)
        if not wanted:
            raise BadInput(_no_timeframe(sweep.data.timeframes, there, store.provider.uri))
        return wanted
    wanted, present = _asked(sweep), _present(sweep.data.symbols, store)
    for key in wanted:
        if key not in present:
            raise BadInput(_missing(key, store.datasets(), store.provider.uri))
    return wanted


def _present(symbols: Sequence[str], store: OhlcvStore) -> set[DatasetKey]:
    """The datasets of these symbols; where they are few, the rest of a large store is not listed."""
    if len(symbols) > FEW_SYMBOLS:
        return set(store.datasets())
    return {key for symbol in symbols for key in store.datasets_of(symbol)}


def _asked(sweep: Sweep) -> tuple[DatasetKey, ...]:
    return tuple(sorted(DatasetKey(s, t) for s in sweep.data.symbols for t in sweep.data.timeframes))


def _no_bar(info: DatasetInfo, start: date | None, cut: int) -> str:
    return (
        f"data.start, data.end: {info.key} has no bar from {start} to {_day(cut)}, the span without its hold-out; "
        f"it has bars from {info.first:%Y-%m-%d} to {info.last:%Y-%m-%d}."
    )


def _no_timeframe(asked: Sequence[str], there: list[DatasetKey], uri: str) -> str:
    if not there:
        return _missing(DatasetKey("all", asked[0]), there, uri)
    held = ", ".join(sorted({key.timeframe for key in there}, key=seconds_of))
    return f"data.timeframes: {uri} holds no dataset of {', '.join(asked)}; there are {held}."


def _missing(key: DatasetKey, there: list[DatasetKey], uri: str) -> str:
    if not there:
        return f"data.store: {uri} holds no bars; name another folder, or bring bars in with `grid data import`."
    same = sorted({k.timeframe for k in there if k.symbol == key.symbol})
    if same:
        return f"data.timeframes: {uri} has {key.symbol} as {', '.join(same)}, and not as {key.timeframe}."
    symbols = sorted({k.symbol for k in there})
    return f"data.symbols: {uri} has no data of {key.symbol}{nearest(key.symbol, symbols)}"


def _after_last(found: list[DatasetInfo]) -> datetime:
    last = max(int(info.last.timestamp()) + seconds_of(info.key.timeframe) for info in found)
    return datetime.fromtimestamp(last, UTC)


def _day(at: int) -> str:
    return str(np.datetime64(at, "ns").astype("datetime64[s]")).removesuffix("T00:00:00")
