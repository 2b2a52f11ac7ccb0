"""An audit of a session: is all that was committed there, whole and once, and does it come out the same again?"""

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.documents import plain
from grid.errors import BadInput, Refused
from grid.evaluate import Evaluator
from grid.methods import searched_with
from grid.plan import Plan
from grid.ranges import Ranges
from grid.resolve import processor, session_fingerprint, versions
from grid.results import OK, REUSED_FROM, Summary, decode, encode, schema_of, summarise
from grid.rounds import asked_again
from grid.search import Asked, points_of
from grid.session import Session
from grid.space import Points
from storage.errors import BadData, StorageError
from storage.sessions import CATALOG, INDEX, CommitRecord, Part, SessionFolder, SessionStore
from strategies.errors import StrategyError

NUMBERS_AT_ONCE = 1_000_000
DETAILS = ("trades.json", "performance_curve.json", "signals.json")


@dataclass(frozen=True)
class Damage:
    """where: the object that is wrong, or the trial. what: what is wrong with it."""

    where: str
    what: str


@dataclass
class Audit:
    """What was looked at, what is wrong, and in `unchecked` what could not be looked at here, and why.

    reused: how many of the trials that were recomputed another session had run. rounds: how many rounds of a method
    were asked for again.
    """

    session_id: str
    seed: int
    commits: int = 0
    parts: int = 0
    rows: int = 0
    recomputed: int = 0
    reused: int = 0
    rounds: int = 0
    damage: list[Damage] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def audit(folder: SessionFolder, sample: int, seed: int) -> Audit:
    """Look at every commit record, every part and every document, and recompute a random `sample` of trials.

    Never raises for what is damaged, and goes on behind it. Raises StorageError where the store does not answer.
    """
    auditor = _Auditor(folder, sample, Audit(folder.session_id, seed))
    auditor.log()
    if auditor.sessions_own_words():
        auditor.parts()
        auditor.documents()
        auditor.recompute()
        auditor.rounds()
    else:
        for part in auditor.all_parts():
            auditor.content(part)
    return auditor.found


class _Auditor:
    def __init__(self, folder: SessionFolder, sample: int, found: Audit) -> None:
        self.folder, self.found = folder, found
        self.session = Session(folder)
        self._sample = sample
        self._records: list[CommitRecord] = []
        self._picked: list[pa.Table] = []

    def log(self) -> None:
        """Every record there is: readable, consecutive, and no number answered twice."""
        following = 0
        for n in self.folder.commit_numbers():
            if n > following:
                others = f", and all up to {n - 1:010d}" if n > following + 1 else ""
                self._tell(
                    _record(following), f"is missing{others}, while later ones are there: readers stop before it"
                )
            following = n + 1
            with _noted(self.found, _record(n)):
                record = self.folder.read_commit(n)
                if record is None:
                    self._tell(_record(n), "is listed and cannot be read")
                else:
                    self._records.append(record)
        self.found.commits = len(self._records)
        done = Ranges()
        for record in self._records:
            for part in record.parts:
                for start, stop in part.ranges:
                    if done.overlap(start, stop):
                        self._tell(_record(record.n), f"answers trials of [{start}, {stop}) a second time")
                    done.add(start, stop)

    def sessions_own_words(self) -> bool:
        """metadata.json can be read, and is what it was when its fingerprint was made."""
        session, facts = self.session, None
        with _noted(self.found, "metadata.json"):
            facts = session.metadata
            _ = session.sweep, session.datasets, len(facts["datasets"]), facts["status"]
            numbers = len(self._points) * len(session.datasets)
            if any(stop > numbers for part in self.all_parts() for _, stop in part.ranges):
                self._tell("commits", f"name trials beyond the last of the sweep, {numbers - 1}")
                return False
            return True
        return False

    @cached_property
    def _points(self) -> Points:
        """The points of the sweep, those that a method asks for unknown: no part need be whole for it."""
        return points_of(self.session.sweep, len(self.session.datasets))

    def all_parts(self) -> Iterator[Part]:
        return (part for record in self._records for part in record.parts)

    def content(self, part: Part) -> pa.Table | None:
        """The rows of a part, if its bytes are those that were committed."""
        self.found.parts += 1
        with _noted(self.found, part.path):
            table = decode(self.folder.read_part(part))
            if table.num_rows == part.rows:
                self.found.rows += table.num_rows
                return table
            self._tell(part.path, f"has {table.num_rows} rows, and its record says {part.rows}")
        return None

    def parts(self) -> None:
        """Every part: its bytes, its rows, which trials they are, and its summary. Some rows are picked on the way."""
        total = sum(part.rows for part in self.all_parts())
        dice = random.Random(self.found.seed)  # noqa: S311 - it chooses what is looked at
        chosen = np.array(sorted(dice.sample(range(total), min(self._sample, total))), np.int64)
        first = 0
        for part in self.all_parts():
            table = self.content(part)
            if table is not None and self._rows_fit(part, table):
                here = chosen[(chosen >= first) & (chosen < first + part.rows)] - first
                self._picked.append(table.take(here))
            first += part.rows

    def _rows_fit(self, part: Part, table: pa.Table) -> bool:
        sweep = self.session.sweep
        if not table.schema.equals(schema_of(sweep)):
            self._tell(part.path, "has other columns than the sweep's rows")
            return False
        if not np.array_equal(np.sort(table["trial_id"].to_numpy()), self._trials(part)):
            self._tell(part.path, "does not hold just the trials that its record names")
            return False
        summary = summarise(table, sweep.objective, max(sweep.results.keep_best, 1))
        if Summary.from_json(part.summary) != summary:
            self._tell(part.path, "is summarised wrongly in its record")
        return True

    def _trials(self, part: Part) -> NDArray[np.int64]:
        """The trials in a part's ranges, holes left out, of which a search that asks for its points has none."""
        points, found = self._points, [np.empty(0, np.int64)]
        for start, stop in part.ranges:
            for first in range(start, stop, NUMBERS_AT_ONCE):
                numbers = np.arange(first, min(first + NUMBERS_AT_ONCE, stop), dtype=np.int64)
                found.append(numbers if isinstance(points, Asked) else numbers[points.valid(numbers % len(points))])
        return np.sort(np.concatenate(found))

    def documents(self) -> None:
        """For a session that is done: it is complete, and its documents and the index say what its commits say."""
        session, folder = self.session, self.folder
        with _noted(self.found, f"{CATALOG}/{session.id}.json"):
            entry = SessionStore(folder.provider).entry(session.id)
        said = session.metadata["status"]
        if said != "done" and not self.found.damage and entry["status"] == "done":
            self._tell("metadata.json", f"says {said}, and summary.json says done; `grid resume` puts it right")
        if said != "done" or self.found.damage:
            return  # what follows is derived from what is damaged
        done = session.ledger.done.total()
        if done != Plan(session.datasets, session.points).total:
            self._tell("metadata.json", f"says done, and only {done} trial numbers are committed")
        with _noted(self.found, "summary.json"):
            counts = folder.document("summary.json")["trials"]
            self._same("summary.json", (counts["ok"], counts["failed"]), self._counts())
        self._same("metadata.json", (session.metadata["ok"], session.metadata["failed"]), self._counts())
        with _noted(self.found, "backtest_result.json"):
            self._same("backtest_result.json", folder.document("backtest_result.json")["best_trials"], self._leaders())
        for name in DETAILS:
            with _noted(self.found, name):
                ids = [entry["trial_id"] for entry in folder.document(name)]
                self._same(name, ids, [row["trial_id"] for row in self._leaders()])
        index = SessionStore(folder.provider).indexed()
        if index is None or index.get(session.id) != entry:
            self._tell(INDEX, "does not show the session as it is; the next session that ends renders it anew")

    def _counts(self) -> tuple[int, int]:
        return self.session.ledger.summary.ok, self.session.ledger.summary.failed

    def _leaders(self) -> list[dict[str, object]]:
        keep = self.session.sweep.results.keep_best
        top = self.session.top(keep) if keep else None
        rows: list[dict[str, object]] = plain([] if top is None else top.to_pylist())
        return rows

    def _same(self, where: str, said: object, is_so: object) -> None:
        if said != is_so:
            self._tell(where, "does not say what the commits say")

    def recompute(self) -> None:
        """The picked trials again, and bit for bit. Failed ones are exempt: a worker may have died of them."""
        if reason := self._not_comparable():
            self.found.unchecked.append(f"no trial was recomputed: {reason}")
            return
        facts, picked = self.session.metadata["datasets"], _by_dataset(self._picked, len(self.session.points))
        resolved = self.session.resolved
        if session_fingerprint(resolved, [d["fingerprint"] for d in facts]) != self.session.metadata["fingerprint"]:
            self._tell("metadata.json", "its fingerprint is not that of the sweep and data it names")
        evaluator = Evaluator(resolved)
        for dataset in range(len(facts)):
            with _noted(self.found, f"bars of {self.session.datasets[dataset]}"):
                loaded = self.session.loaded(dataset)
                if facts[dataset]["block_bars"] != np.diff(loaded.edges).tolist():
                    self._tell("metadata.json", f"has other block_bars of {self.session.datasets[dataset]}")
                for row in picked[dataset]:
                    point = row["trial_id"].to_numpy() - dataset * len(self.session.points)
                    self._compare(row, evaluator.rows_of(dataset, point, loaded))

    def rounds(self) -> None:
        """The rounds of a method, asked for again by what is committed: their points must be those that were tried."""
        search, drawn_with = self.session.sweep.search, self.session.metadata.get("searched_with", {})
        if search.method in ("grid", "random") or self.found.damage:
            return  # there is none, or they follow from what is damaged
        try:
            if drawn_with != searched_with(search.method):
                raise BadInput(f"the session was drawn with {_named(drawn_with)}")
        except BadInput as error:
            self.found.unchecked.append(f"no round was asked for again: {str(error).rstrip('.')}")
            return
        for (first, stop), same in asked_again(self.session):
            self.found.rounds += 1
            if not same:
                self._tell(
                    f"points [{first}, {stop})", "are not those that the search asks for after the rounds before"
                )

    def _not_comparable(self) -> str | None:
        """Why rows may differ in their last digit here, or cannot be computed at all."""
        facts = self.session.metadata
        try:
            _ = self.session.same
        except (StrategyError, Refused, BadData) as error:
            return str(error).rstrip(".")
        if facts["versions"] != versions() or facts["host"]["processor"] != processor():
            return "the session was run with other versions of the packages, or on another kind of processor"
        return None

    def _compare(self, row: pa.Table, again: pa.Table) -> None:
        self.found.recomputed += 1
        self.found.reused += row[REUSED_FROM].is_valid()[0].as_py()
        names = [name for name in row.column_names if name != REUSED_FROM]
        differ = [name for name in names if encode(row.select([name])) != encode(again.select([name]))]
        if differ:
            self._tell(f"trial {row['trial_id'][0].as_py()}", f"comes out otherwise in {', '.join(differ)}")

    def _tell(self, where: str, what: str) -> None:
        self.found.damage.append(Damage(where, what))


def _record(n: int) -> str:
    return f"commits/{n:010d}.json"


def _named(packages: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in packages.items()) or "no package"


def _by_dataset(picked: list[pa.Table], points: int) -> dict[int, list[pa.Table]]:
    """The rows that went well, each as a table, by dataset."""
    found: dict[int, list[pa.Table]] = defaultdict(list)
    for table in picked:
        for i in range(table.num_rows):
            row = table.slice(i, 1)
            if row["status"][0].as_py() == OK:
                found[row["trial_id"][0].as_py() // points].append(row)
    return found


@contextmanager
def _noted(found: Audit, where: str) -> Iterator[None]:
    """Within the block, what cannot be read is noted as damage."""
    try:
        yield
    except (StorageError, BadInput, pa.ArrowException, ValueError, KeyError, TypeError) as error:
        found.damage.append(Damage(where, str(error).rstrip(".") or type(error).__name__))
