"""What a verdict rests on: the rows of a session, and the daily returns of some of its trials, run again."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.engine import Backtest, buy_and_hold
from grid.results import HISTORY_SHARE, OK, history_shares
from grid.session import Session
from grid.validation.moments import Chunk, Floats, excess
from storage.timeframes import bars_per_year

DAY = 86_400_000_000_000
HELD_BYTES = 256 * 1024 * 1024
"""Block moments below this are kept in memory between the passes; of more, every pass reads the parts again."""
SAMPLE, LEAST_SAMPLE = 1000, 50
SAMPLED_BARS = 200_000_000
"""Trials times bars that are run again for one verdict, unless LEAST_SAMPLE trials take more."""
SEED = 20_140_101


class Evidence:
    """Reads a session for its verdict. Raises what `Session` raises."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.blocks = session.sweep.validation.blocks
        self._facts = session.metadata["datasets"]
        self._held: list[Chunk] | None = None

    @cached_property
    def periods(self) -> list[float]:
        """Bars a year of each dataset."""
        return [bars_per_year(d["timeframe"], d["calendar"]) for d in self._facts]

    def chunks(self) -> Iterable[Chunk]:
        """Block moments of all trials that went well, less the risk-free rate, as many as a part holds at a time.

        Of successive halving those of the last rung, which have all blocks.
        """
        if self._held is None:
            if self.session.ledger.summary.ok * self.blocks * 16 > HELD_BYTES:
                return self._chunks()
            self._held = list(self._chunks())
        return self._held

    def _chunks(self) -> Iterator[Chunk]:
        names = ["block_return_sum", "block_return_sumsq"]
        for table in self.session.parts(["trial_id", "status", HISTORY_SHARE, *names]):
            good = table.filter(pa.array(_judged(table)))
            ids = good["trial_id"].to_numpy()
            dataset = ids // len(self.session.points)
            moments = [np.nan_to_num(_matrix(good, name, self.blocks)) for name in names]
            for d in np.unique(dataset).tolist():
                rows = dataset == d
                bars = np.array(self._facts[d]["block_bars"], np.float64)
                chunk = Chunk(ids[rows], moments[0][rows], moments[1][rows], bars, self.periods[d])
                rate = self.session.sweep.execution.risk_free
                yield excess(chunk, rate / self.periods[d]) if rate else chunk

    @cached_property
    def trials(self) -> tuple[NDArray[np.int64], Floats]:
        """(numbers, annual Sharpe ratios) of all trials that went well, in order; 0 for one that did not trade.

        Of successive halving those of the last rung.
        """
        ids, ratios = [np.empty(0, np.int64)], [np.empty(0)]
        for table in self.session.parts(["trial_id", "status", "sharpe", HISTORY_SHARE]):
            good = _judged(table)
            ids.append(table["trial_id"].to_numpy()[good])
            ratios.append(np.nan_to_num(table["sharpe"].to_numpy()[good]))
        joined = np.concatenate(ids)
        order = np.argsort(joined, kind="stable")
        return joined[order], np.concatenate(ratios)[order]

    def sample(self, leaders: Sequence[int]) -> list[int]:
        """The leaders and a random choice of the other trials, the same each time."""
        ids, longest = self.trials[0], max(d["bars"] for d in self._facts)
        size = max(min(SAMPLE, SAMPLED_BARS // longest), LEAST_SAMPLE)
        others = np.setdiff1d(ids, np.array(leaders, np.int64))
        if len(others) > size:
            others = np.sort(np.random.default_rng(SEED).choice(others, size, replace=False))
        return [*leaders, *others.tolist()]

    def daily(self, trials: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
        """(days since 1970, returns float64[days, trials]) of trials run again; 0 on days their dataset has no bar.

        The return of a day is that of the equity at its last close. Datasets of longer bars have their bars' days.
        """
        columns: list[tuple[NDArray[np.int64], Floats]] = []
        place: dict[int, int] = {}
        for trial in sorted(trials):
            place[trial] = len(columns)
            columns.append(daily_returns(self.session.backtest(trial)))
        return _aligned([columns[place[trial]] for trial in trials])

    def held(self, dataset: int) -> tuple[NDArray[np.int64], Floats]:
        """Days and daily returns of buy and hold on a dataset, at the sweep's costs."""
        loaded = self.session.loaded(dataset)
        return daily_returns(buy_and_hold(loaded.bars, self.session.sweep.execution, loaded.edges))


def _judged(table: pa.Table) -> NDArray[np.bool_]:
    """True where a trial went well and was run over everything."""
    judged: NDArray[np.bool_] = (table["status"].to_numpy() == OK) & (history_shares(table) == 1)
    return judged


def daily_returns(result: Backtest) -> tuple[NDArray[np.int64], Floats]:
    """Days since 1970 on which there are bars, and the return of each, the first against the starting cash."""
    day = result.bars.timestamp // DAY
    last = np.flatnonzero(np.append(day[1:] != day[:-1], True))
    equity = result.curve[last]
    before = np.concatenate(([result.cash], equity[:-1]))
    returns = np.divide(equity, before, out=np.ones_like(equity), where=before > 0) - 1
    return day[last], returns


def _aligned(columns: Sequence[tuple[NDArray[np.int64], Floats]]) -> tuple[NDArray[np.int64], Floats]:
    days = np.unique(np.concatenate([days for days, _ in columns]))
    returns = np.zeros((len(days), len(columns)))
    for i, (own, values) in enumerate(columns):
        returns[np.searchsorted(days, own), i] = values
    return days, returns


def _matrix(table: pa.Table, name: str, width: int) -> Floats:
    flat = table[name].combine_chunks()
    flat = pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat
    return np.asarray(flat.flatten().to_numpy(zero_copy_only=False), np.float64).reshape(-1, width)
