"""Trials that need not be run: their rows are in the store already, from sessions under the same conditions.

`gather` reads what such sessions committed, once, before the first unit. The executors ask the `Shelf` for each unit
which of its trials are known, and the evaluator runs the others. Trials of successive halving, most of which are over a
part of the history, are neither taken over nor offered. So a session's batches, parts and commits are those of
a session that reuses nothing, and it stays whole when its sources are gone.

Rejected: rows that the driver commits ahead. Points that lie scattered among others would leave units of single trials,
and a range for each in the commit log. Rejected: asking the store unit by unit, which reads a part again and again
where the sweep's order of points is another one.
"""

import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from grid.conditions import machine_kind
from grid.engine.metrics import METRICS
from grid.resolve import ResolvedSweep
from grid.results import BLOCK_COLUMNS, OK, REUSED_FROM, decode, result_schema
from grid.search import Asked, RandomSearch, rungs_of, space_of
from grid.sources import Source, sources
from grid.space import Indices, Points
from storage.errors import BadData, NotFound
from storage.sessions import Part

log = logging.getLogger(__name__)

Values = NDArray[np.float64]
"""float64[k, M + 3 S]: the M metrics of k rows, and after them the moments of S blocks, in the order of a row."""


@dataclass(frozen=True)
class Known:
    """Trials of a unit that were run before: their points (int64[k], ascending), their values, and who ran each.

    machine: the kind of machine that made them; on any other one they are run again.
    """

    points: Indices
    values: Values
    ran_by: list[str]
    machine: str


@dataclass(frozen=True)
class _Rows:
    """Rows of points of the sweep, all on one dataset: their numbers in the space, values, and who ran each."""

    dataset: int
    numbers: Indices
    values: Values
    ran_by: list[str]


class Shelf:
    """Rows of earlier sessions, found by dataset and number in the space. Their values are on disk, in a file without
    a name; in memory are 24 bytes a row.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # of the rows, by the session that ran them
        self._index: dict[int, tuple[Indices, Indices]] = {}  # numbers, ascending, and places in the file
        self._new: dict[int, list[tuple[Indices, Indices]]] = defaultdict(list)
        self._codes: dict[str, int] = {}
        self._ran_by: list[Indices] = []
        self._values: Values = np.empty((0, 0))

    def __len__(self) -> int:
        """How many rows there are."""
        return self.counts.total()

    def lacks(self, dataset: int, numbers: Indices) -> NDArray[np.bool_]:
        """True where there is no row of that number, of those that are settled."""
        return self._places(dataset, numbers) < 0

    def put(self, rows: _Rows, file: IO[bytes]) -> None:
        """Take rows in, none of which is there; they are found once they are settled. `file` has those before."""
        file.write(rows.values.data)
        places = len(self) + np.arange(len(rows.numbers), dtype=np.int64)
        self._new[rows.dataset].append((rows.numbers, places))
        codes = [self._codes.setdefault(name, len(self._codes)) for name in rows.ran_by]
        self._ran_by.append(np.array(codes, np.int64))
        self.counts.update(rows.ran_by)

    def settle(self, file: IO[bytes]) -> None:
        """Sort in what was put."""
        for dataset, new in self._new.items():
            both = [*([self._index[dataset]] if dataset in self._index else []), *new]
            numbers, places = (np.concatenate(columns) for columns in zip(*both, strict=True))
            order = np.argsort(numbers)
            self._index[dataset] = numbers[order], places[order]
        self._new.clear()
        if len(self):
            file.flush()
            self._ran_by = [np.concatenate(self._ran_by)]
            self._values = np.memmap(file, np.float64, "r").reshape(len(self), -1)

    def known(self, dataset: int, points: Points, indices: Indices) -> Known | None:
        """What is known of these points (ascending) on a dataset; None where that is nothing."""
        places = self._places(dataset, points.spots(indices))
        there = places >= 0
        if not there.any():
            return None
        found, names = places[there], list(self._codes)
        ran_by = [names[code] for code in self._ran_by[0][found].tolist()]
        return Known(indices[there], np.array(self._values[found]), ran_by, machine_kind())

    def _places(self, dataset: int, numbers: Indices) -> Indices:
        """Where the rows of these numbers are in the file; -1 for one that is not there."""
        if dataset not in self._index:
            return np.full(len(numbers), -1, np.int64)
        there, places = self._index[dataset]
        at = np.minimum(np.searchsorted(there, numbers), len(there) - 1)
        return np.where(there[at] == numbers, places[at], -1)


def gather(resolved: ResolvedSweep, facts: Sequence[Mapping[str, Any]], own: str = "") -> Shelf:
    """The rows that a sweep may take over; none where `results.reuse` is off. facts: as metadata.json has them of the
    sweep's datasets. own: the session that wants them.

    What is damaged is left out, and the log says so.
    """
    shelf, fitting = Shelf(), _Fitting(resolved)
    if not resolved.sweep.results.reuse or rungs_of(resolved.points):
        return shelf
    try:
        with tempfile.TemporaryFile() as file:
            for source in sources(resolved, facts, own):
                for rows in _rows_of(source, fitting, shelf):
                    shelf.put(rows, file)
                shelf.settle(file)
                if len(shelf) == fitting.all:
                    break
    except OSError as error:
        log.warning("rows of earlier sessions are run again: no room for them in the temporary folder (%s)", error)
        return Shelf()
    return shelf


def _rows_of(source: Source, fitting: "_Fitting", shelf: Shelf) -> Iterator[_Rows]:
    """What a session has that the shelf has not, part by part."""
    session = source.session
    try:
        parts = session.ledger.parts
    except BadData as error:
        log.warning("nothing is reused of session %s: %s", session.id, error)
        return
    size = session.metadata["trials"]["numbers"] // len(session.datasets)
    wanted = [(there * size, (there + 1) * size) for there in source.datasets]
    for part in parts:
        if part.summary["machine"] != machine_kind() or not _touches(part, wanted):
            continue
        try:
            table = decode(session.folder.read_part(part))
        except (BadData, NotFound, pa.ArrowException) as error:
            log.warning("trials of %s in session %s are run again: %s", part.path, session.id, error)
            continue
        table = table.filter(pc.equal(table["status"], OK))
        numbers = fitting.numbers(table)
        datasets = table["trial_id"].to_numpy() // size
        for there, here in source.datasets.items():
            fits = (datasets == there) & (numbers >= 0)
            fits[fits] = shelf.lacks(here, numbers[fits])
            if fits.any():
                rows = table.filter(pa.array(fits))
                yield _Rows(here, numbers[fits], _values(rows), rows[REUSED_FROM].fill_null(session.id).to_pylist())


def _touches(part: Part, spans: Sequence[tuple[int, int]]) -> bool:
    return any(a < stop and start < b for a, b in part.ranges for start, stop in spans)


def _values(table: pa.Table) -> Values:
    metrics = [table[name].to_numpy() for name in METRICS]
    blocks = [pa.concat_arrays(table[name].chunks).flatten().to_numpy() for name in BLOCK_COLUMNS]
    return np.column_stack([*metrics, *(moments.reshape(table.num_rows, -1) for moments in blocks)])


class _Fitting:
    """Which rows are of points of a sweep. all: how many trials it has; -1 where a method asks for its points."""

    def __init__(self, resolved: ResolvedSweep) -> None:
        self._space = space_of(resolved.sweep)
        schema = result_schema(self._space, resolved.sweep.validation.blocks)
        self._types = {name: schema.field(name).type for name in self._space.names}
        self._points = resolved.points
        count = resolved.plan.count()
        self.all = count.trials if count.exact and not isinstance(self._points, Asked) else -1
        self._drawn: Indices | None = None

    def numbers(self, table: pa.Table) -> Indices:
        """The numbers in the space of the rows' points; -1 for those that are none of the sweep's.

        A value is the same when its type and all its bits are: 1 is not 1.0, and 0.0 not -0.0.
        """
        found = np.full(table.num_rows, -1, np.int64)
        if any(table.schema.field(name).type != kind for name, kind in self._types.items()):
            return found
        known = np.ones(table.num_rows, np.bool_)
        for name, axis in self._space.axes.items():
            if axis.take(np.zeros(1, np.int64)).dtype != object:  # null is none of its values
                known &= table[name].is_valid().to_numpy()
        rows = table.filter(pa.array(known))
        numbers = self._space.numbers({name: rows[name].to_pylist() for name in self._types})
        fits = numbers >= 0
        fits[fits] = self._among(numbers[fits])
        fits[fits] = self._same_signs(rows.filter(pa.array(fits)), numbers[fits])
        found[known] = np.where(fits, numbers, -1)
        return found

    def _among(self, numbers: Indices) -> NDArray[np.bool_]:
        """Whether points of the space are points of the sweep."""
        valid = self._space.valid(numbers)
        if isinstance(self._points, RandomSearch):
            if self._drawn is None:
                self._drawn = np.sort(self._points.spots(np.arange(len(self._points), dtype=np.int64)))
            at = np.minimum(np.searchsorted(self._drawn, numbers), len(self._drawn) - 1)
            valid &= self._drawn[at] == numbers
        return valid

    def _same_signs(self, rows: pa.Table, numbers: Indices) -> NDArray[np.bool_]:
        """Equal numbers differ in no bit but the sign of zero."""
        same = np.ones(len(numbers), np.bool_)
        for name, values in self._space.columns(numbers).items():
            if pa.types.is_floating(self._types[name]):
                here = pa.array(values.tolist(), self._types[name]).fill_null(0.0).to_numpy()
                same &= np.signbit(here) == np.signbit(rows[name].fill_null(0.0).to_numpy())
        return same
