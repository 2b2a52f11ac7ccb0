"""A session as its readers see it: what was asked, what came out, and who leads."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.aggregate import Ledger, read_ledger
from grid.engine import METRICS, Backtest, Engine
from grid.errors import BadInput, Refused, nearest
from grid.expressions import compile_constraint
from grid.heartbeat import status_of
from grid.hints import resume_command
from grid.pareto import front
from grid.resolve import ENGINE_VERSION, LoadedBars, ResolvedSweep, reopen
from grid.results import FAILED, HISTORY_SHARE, OK, REUSED_FROM, Summary, decode, goal_scores, schema_of, summarise
from grid.search import Asked, first_on_all, points_of, rung_of
from grid.space import Points
from grid.spec import Objective, Sweep
from grid.trust import refuse_foreign_code
from storage.errors import BadData, NotFound
from storage.ohlcv import DatasetKey
from storage.providers import provider_for
from storage.sessions import MEND, Part, SessionFolder, SessionStore

POINTS_AT_ONCE = 1_000_000
PARTS_KEPT_BYTES = 64_000_000
FACTS = ("sweep", "datasets", "trials", "fingerprint", "engine", "strategy_source", "versions", "host", "status")
"""What is read of metadata.json."""


class Session:
    """One session of a results store, running, interrupted or done; reads only what is committed."""

    def __init__(self, folder: SessionFolder, metadata: dict[str, Any] | None = None) -> None:
        """metadata: the content of metadata.json where it is known, else it is read."""
        self.folder = folder
        if metadata is not None:
            self.metadata = metadata
        self._bars: tuple[int, LoadedBars] | None = None
        self._parts: dict[str, bytes] = {}
        self._parts_bytes = 0
        self._recalled = 0
        self._leading_points: tuple[int, list[dict[str, Any]]] | None = None

    @staticmethod
    def open(session_id: str, store: str = "results") -> "Session":
        """The session of that id, of an unambiguous beginning of one, or `latest`. Raises NotFound."""
        return Session(SessionStore(provider_for(store)).folder(session_id))

    def __repr__(self) -> str:
        return f"Session({self.id}, {self.status})"

    @property
    def id(self) -> str:
        return self.folder.session_id

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """metadata.json as it was when this object first read it."""
        try:
            content: dict[str, Any] = self.folder.document("metadata.json")
        except NotFound:
            raise BadInput(f"session {self.id} was announced and then never begun: run its sweep again.") from None
        if lacking := [name for name in FACTS if name not in content]:
            raise BadData(f"metadata.json of session {self.id} is damaged: it has no {lacking[0]}. {MEND.capitalize()}")
        return content

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep.model_validate(self.metadata["sweep"])

    @cached_property
    def resolved(self) -> ResolvedSweep:
        """The sweep with its strategy. Raises StrategyError where the strategy is not installed here, and Refused where
        its module would be imported only because a remote store names it (`grid/trust.py`).
        """
        refuse_foreign_code(self.sweep.strategy, self.folder.provider.uri)
        return reopen(self.sweep, self.datasets, self.points)

    @cached_property
    def same(self) -> ResolvedSweep:
        """`resolved`, of the strategy and the engine that made the rows. Raises Refused for others.

        It is looked at once: a driver looks as it begins, and ends with that code whatever becomes of the file.
        """
        facts, source = self.metadata, self.resolved.strategy.source_hash()
        if facts["engine"] != ENGINE_VERSION:
            raise Refused(
                f"the engine is version {ENGINE_VERSION}, and session {self.id} was run with version "
                f"{facts['engine']}, so its trials would not come out as they did. Install the backtest-grid that its "
                "metadata.json names, or run the sweep as a new session."
            )
        if facts["strategy_source"] != source:
            raise Refused(
                f"the source of the strategy {self.sweep.strategy} changed since session {self.id} was run, so its "
                "trials would not come out as they did. Put it back as it was, or run the sweep as a new session."
            )
        return self.resolved

    @cached_property
    def points(self) -> Points:
        """The points of the sweep; unlike `resolved` it does not need the strategy.

        Where a method asks for them, those of the committed rows.
        """
        points = points_of(self.sweep, len(self.datasets))
        self._recall(points)
        return points

    @cached_property
    def datasets(self) -> list[DatasetKey]:
        return [DatasetKey(d["symbol"], d["timeframe"]) for d in self.metadata["datasets"]]

    @cached_property
    def ledger(self) -> Ledger:
        """The commit log as it was when this object first read it, or last caught up."""
        return read_ledger(self.folder, max(self.sweep.results.keep_best, 1))

    def catch_up(self) -> None:
        """Read on in the commit log."""
        for record in self.folder.commits(self.ledger.next_n):
            self.ledger.apply(record)
        self._leading_points = None
        if "points" in self.__dict__:
            self._recall(self.points)

    def _recall(self, points: Points) -> None:
        """Where a method asks for points: learn those of the rows that were committed since this was done last."""
        if not isinstance(points, Asked):
            return
        for part in self.ledger.parts[self._recalled :]:
            table = self._read(part, ["trial_id", *points.names])
            columns = {name: table[name].to_pylist() for name in points.names}
            points.recall(table["trial_id"].to_numpy(), columns)
        self._recalled = len(self.ledger.parts)

    @property
    def status(self) -> str:
        """done, running, interrupted or incomplete; for one that is not done the heartbeat says whether it runs."""
        return status_of(str(self.metadata["status"]), self.folder)

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All committed rows in the order of trial numbers; `.to_pandas()` for a data frame.

        columns: names to read, all by default. Raises BadData where a part is damaged.
        """
        known = schema_of(self.sweep).names
        for name in columns or ():
            if name not in known:
                raise BadInput(f"rows have no column {name!r}{nearest(name, known)}; they have {', '.join(known)}.")
        wanted = None if columns is None else ["trial_id", *(c for c in columns if c != "trial_id")]
        tables = [self._read(part, wanted) for part in self.ledger.parts]
        if not tables:
            raise BadInput(f"session {self.id} has no committed trial yet; `{resume_command(self)}` goes on with it.")
        table = pa.concat_tables(tables)
        table = table.take(np.argsort(table["trial_id"].to_numpy(), kind="stable"))
        return table if columns is None else table.select(list(columns))

    def parts(self, columns: list[str]) -> Iterator[pa.Table]:
        """Columns of the committed rows, part by part and in no order, for what need not be in memory at once."""
        return (self._read(part, columns) for part in self.ledger.parts)

    def rows(self, trial_ids: Iterable[int]) -> pa.Table | None:
        """The rows of these trials, in the given order; only the parts that hold them are read. None for no trial."""
        wanted = list(trial_ids)
        tables = []
        for part in self.ledger.parts:
            if any(start <= t < stop for t in wanted for start, stop in part.ranges):
                table = self._read(part, None)
                tables.append(table.filter(pa.array(np.isin(table["trial_id"].to_numpy(), wanted))))
        if not tables:
            return None
        table = pa.concat_tables(tables)
        place = {t: i for i, t in enumerate(wanted)}
        ids: list[Any] = table["trial_id"].to_pylist()
        return table.take(sorted(range(len(ids)), key=lambda i: place[ids[i]])) if ids else None

    def top(self, n: int = 10) -> pa.Table | None:
        """The best trials by the sweep's objective, best first. None without one."""
        return self.rows(trial for _, trial in self.best(n))

    def best(self, n: int) -> tuple[tuple[float, int], ...]:
        """Score (higher is better) and number of the best trials, best first. The commit log has the first
        `results.keep_best`; for more all rows are read.
        """
        found, kept = self.ledger.summary, max(self.sweep.results.keep_best, 1)
        if n > kept == len(found.best):
            metrics = {self.sweep.objective.metric, *_names_in(self.sweep.objective.require)}
            columns = ["trial_id", "status", *sorted(metrics), REUSED_FROM, HISTORY_SHARE]
            found = Summary()
            for table in self.parts(columns):
                found = found.merged(summarise(table, self.sweep.objective, n), n)
        return found.best[:n]

    def idle(self) -> int:
        """How many trials went well and closed no trade. Reads all rows."""
        tables = self.parts(["status", "total_trades"])
        return sum(int(((t["status"].to_numpy() == OK) & (t["total_trades"].to_numpy() == 0)).sum()) for t in tables)

    def a_failure(self) -> tuple[int, str] | None:
        """Number and error of a failed trial, an early one; None where none failed. Reads one part."""
        parts = [part for part in self.ledger.parts if part.summary["failed"]]
        if not parts:
            return None
        table = self._read(min(parts, key=lambda part: part.ranges), ["trial_id", "status", "error"])
        first = min((row for row in table.to_pylist() if row["status"] == FAILED), key=lambda row: row["trial_id"])
        return first["trial_id"], first["error"]

    def top_points(self, n: int = 10) -> list[dict[str, Any]]:
        """The best points across datasets: parameters, score, and the score on each dataset, best first.

        A dataset on which a point has no score (it failed, is NaN, or breaks `require`) counts as the worst possible,
        so a point without a score where `objective.across` looks is not ranked. Ties go to the lower point.
        """
        if self._leading_points is None or self._leading_points[0] < n:
            most = max(n, self.sweep.results.keep_best)
            self._leading_points = most, self._best_points(most)
        return self._leading_points[1][:n]

    def _best_points(self, n: int) -> list[dict[str, Any]]:
        size = len(self.points)
        leaders: list[tuple[float, int, list[float]]] = []
        for first in range(first_on_all(self.points), size, POINTS_AT_ONCE):
            scores = self.scores(first, min(first + POINTS_AT_ONCE, size))
            joined = across(scores, self.sweep.objective.across)
            order = np.lexsort((np.arange(len(joined)), -joined))
            best = [i for i in order[:n].tolist() if np.isfinite(joined[i])]
            leaders += [(float(joined[i]), first + i, scores[:, i].tolist()) for i in best]
            leaders = sorted(leaders, key=lambda leader: (-leader[0], leader[1]))[:n]
        sign = 1.0 if self.sweep.objective.descending else -1.0
        names = [str(key) for key in self.datasets]
        return [
            {
                "point": point,
                "parameters": self.points[point],
                "score": sign * score,
                "scores": {name: sign * s for name, s in zip(names, each, strict=True)},
            }
            for score, point, each in leaders
        ]

    def pareto(self) -> list[int]:
        """The trials on the front of the objective's goals, best in the one that ranks first. Raises BadInput for one
        goal alone.
        """
        goals = self.sweep.objective.goals
        if len(goals) < 2:
            raise BadInput(
                f"session {self.id} has one goal, {goals[0][0]}, and no front: a sweep states others under "
                'objective.beside, such as ["minimize max_drawdown"].'
            )
        size, first = len(self.points), first_on_all(self.points)
        scores = self.goals(first, size).reshape(-1, len(goals))
        return [int(at) // (size - first) * size + first + int(at) % (size - first) for at in front(scores)]

    def backtest(self, trial_id: int) -> Backtest:
        """One trial again, with its trades and equity. Raises what `loaded` raises, and BadInput for no trial."""
        if not 0 <= trial_id < self.resolved.plan.end:
            raise BadInput(f"session {self.id} has no trial {trial_id}: numbers go to {self.resolved.plan.end - 1}.")
        dataset, point = self.resolved.plan.locate(trial_id)
        if not self.resolved.plan.has(trial_id):
            why = "a constraint excludes its parameters, a rung its dataset, or the search did not come so far"
            raise BadInput(f"session {self.id} has no trial {trial_id}: {why}.")
        loaded = self.loaded(dataset).upto(rung_of(self.resolved.points, point))
        strategy = self.resolved.strategy(**self.resolved.points[point])
        engine = Engine(loaded.bars, self.sweep.execution, loaded.edges)
        return engine.backtest(strategy.signals(loaded.bars))

    def loaded(self, dataset: int) -> LoadedBars:
        """Bars of a dataset, to run its trials again; the last one asked for is kept, as leaders are often of one.

        Raises Refused where strategy or engine are not those of the rows any more, and BadData where the bars are not.
        """
        if self._bars is None or self._bars[0] != dataset:
            self._bars = dataset, self.same.load_same(dataset, self.metadata["datasets"][dataset]["fingerprint"])
        return self._bars[1]

    def scores(self, first: int, stop: int) -> NDArray[np.float64]:
        """Scores, higher is better, of the points [first, stop) on each dataset; NaN where there is none."""
        return self.goals(first, stop, self.sweep.objective.model_copy(update={"beside": ()}))[:, :, 0]

    def goals(
        self, first: int, stop: int, objective: Objective | None = None, datasets: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """float64[datasets, points, goals]: `scores` of each goal of the objective (the sweep's by default).

        datasets: the numbers of those that are wanted, all by default.
        """
        objective, size = objective or self.sweep.objective, len(self.points)
        datasets = range(len(self.datasets)) if datasets is None else datasets
        place = np.full(len(self.datasets), -1)
        place[list(datasets)] = np.arange(len(datasets))
        metrics = sorted({*(metric for metric, _ in objective.goals), *_names_in(objective.require)})
        scores = np.full((len(datasets), stop - first, len(objective.goals)), np.nan)
        spans = [(d * size + first, d * size + stop) for d in datasets]
        for part in self.ledger.parts:
            if not any(a < end and start < b for a, b in part.ranges for start, end in spans):
                continue
            table = self._read(part, ["trial_id", *metrics])
            dataset, point = np.divmod(table["trial_id"].to_numpy(), size)
            inside = (point >= first) & (point < stop) & (place[dataset] >= 0)
            scores[place[dataset[inside]], point[inside] - first] = goal_scores(table, objective)[inside]
        return scores

    def _read(self, part: Part, columns: list[str] | None) -> pa.Table:
        return decode(self._content(part), columns)

    def _content(self, part: Part) -> bytes:
        """A part never changes: those read last are kept, as a command often wants them again."""
        data = self._parts.pop(part.path, b"")
        if not data:
            data = self.folder.read_part(part)
            self._parts_bytes += len(data)
        self._parts[part.path] = data
        while self._parts_bytes > PARTS_KEPT_BYTES:
            self._parts_bytes -= len(self._parts.pop(next(iter(self._parts))))
        return data


def across(scores: NDArray[np.float64], how: str) -> NDArray[np.float64]:
    """Join scores[datasets, points, ...] to one a point by median, min or mean; no score is the worst score."""
    worst = np.where(np.isfinite(scores), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        join: dict[str, Any] = {"median": np.median, "min": np.min, "mean": np.mean}
        joined = join[how](worst, axis=0)
    return np.where(np.isfinite(joined), joined, np.nan)


def _names_in(texts: Iterable[str]) -> set[str]:
    return {name for text in texts for name in compile_constraint(text, METRICS).names}
