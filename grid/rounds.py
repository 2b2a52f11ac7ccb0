"""Rounds: how points that do not follow from their numbers are asked for, numbered, committed and found again.

Methods other than `grid` and `random` choose points: some without looking at results (one round of all points), some
round by round. The smallest change that carries both is this:

- A search has a budget of B points, and `trial_id = dataset_index * B + point_index` as ever: points are numbered in
  the order asked, so numbers are unique and dense over the session, and no number is a hole (`grid.search.Asked`).
- A method is a pure function of a seed and of the scores of the rounds before (`grid/methods/base.py`). `next_round`
  puts its suggestions through: the first that are valid and were not tried, and points drawn at random for the rest.
- A round is a span of points. The executors work off one span after the other, with the same plan, units and workers;
  a span is asked for when all before it is committed. Nothing is kept beside the commit log: the rows hold the
  parameters, from which the points of a session are found again (`Asked.recall`), and the scores. Resume asks again
  for the round that was cut short, and what comes must agree with its rows (`Asked.learn`).
- In successive halving a round is a rung (`grid/halving.py`), which leaves datasets out: their numbers are no trials.
- Only the driver asks. A worker is sent the numbers of a unit's points, and a reader recalls them from rows, so
  neither needs the packages that a method draws with.

Rejected: the sampler's own storage, pickled or in a database, which would be a second record. Rejected: asking for a
new point whenever a worker is free, whose sequence depends on who is faster. Rejected: an extra column of the rows for
the point's number, which says nothing that the parameters do not say.
"""

import hashlib
import logging
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from grid.halving import survivors
from grid.methods import method_of
from grid.methods.base import Lattice, Told
from grid.plan import Plan, Span
from grid.resolve import ResolvedSweep
from grid.search import Asked, rung_of
from grid.searchspec import HALVING, SearchSpec
from grid.session import Session, across
from grid.space import Indices
from grid.spec import Objective, Sweep
from storage.errors import StorageError

log = logging.getLogger(__name__)

FILL = 1 << 16


def spans(session: Session, resolved: ResolvedSweep) -> Iterator[Span]:
    """The spans of points to work off, in order, those that are committed left out.

    Read on when all trials of a span are committed: the next one is asked for then. Raises Refused where a session's
    rows are not of the points that the search asks for, and StorageError where the log does not show all of a span.
    """
    points = resolved.points
    if not isinstance(points, Asked):
        yield 0, len(points)
        return
    for number, span in enumerate(points.spans):
        session.catch_up()
        done = session.ledger.done
        if resolved.plan.missing((0, span[0]), done):
            raise StorageError("the commit log does not show all that was committed to it; resume the session.")
        if not resolved.plan.missing(span, done):
            continue
        began = time.monotonic()
        points.learn(span[0], _asked(session, points, span[0]))
        took = time.monotonic() - began
        log.info("round %d of %d: points [%d, %d) asked for in %.3f s", number + 1, len(points.spans), *span, took)
        yield span


def asked_again(session: Session) -> Iterator[tuple[Span, bool]]:
    """The rounds of a session that are committed in full, in order, each asked for once more: its span, and whether its
    points are those that were tried. Raises BadInput where a package that the method needs is missing.
    """
    points = session.points
    if not isinstance(points, Asked):
        return
    plan = Plan(session.datasets, points)
    for span in points.spans:
        if plan.missing(span, session.ledger.done):
            return
        yield span, np.array_equal(_asked(session, points, span[0]), points.numbers(*span))


def _asked(session: Session, points: Asked, first: int) -> Indices:
    """The round that begins with the point `first`, by the scores that are committed of those before."""
    sweep, before = session.sweep, rung_of(points, first - 1) if first else None
    start, datasets = (before.first, before.datasets) if before else (0, None)
    told = [across(session.goals(start, first, each, datasets), each.across) for each in objectives(sweep)]
    scores = np.concatenate(told, axis=1)
    unknown = np.full((start, scores.shape[1]), np.nan)  # of earlier rungs, which decide nothing any more
    return next_round(sweep.search, points, np.concatenate([unknown, scores]))


def objectives(sweep: Sweep) -> tuple[Objective, ...]:
    """What a method is told of a point: the goals of the sweep's objective.

    Successive halving is told of the first goal, and then of it without `require`: what a short history cannot fulfil
    (a number of trades) is fulfilled by nobody there, and must not leave the choice to chance.
    """
    if sweep.search.method != HALVING:
        return (sweep.objective,)
    first = sweep.objective.model_copy(update={"beside": ()})
    return first, first.model_copy(update={"require": ()})


def ask_first(resolved: ResolvedSweep) -> None:
    """Ask for the points of the first round, which depend on no result."""
    points = resolved.points
    if isinstance(points, Asked) and not points.valid(np.arange(points.spans[0][1])).all():
        points.learn(0, next_round(resolved.sweep.search, points, np.empty((0, 1))))


def next_round(search: SearchSpec, points: Asked, scores: NDArray[np.float64]) -> Indices:
    """The numbers in the space of the points of the round that follows on those with `scores`.

    A pure function of the search, the space, the first len(scores) points and their scores (float64[n, goals],
    higher is better, NaN for what is not ranked). The points are valid, distinct, and none of those before; in
    successive halving they are the best of the rung before, and the first rung is drawn at random.
    """
    first = len(scores)
    stop = next(stop for start, stop in points.spans if start == first)
    if points.rungs and first:
        start = max(start for start, _ in points.spans if start < first)
        return points.numbers(start, first)[survivors(scores[start:], stop - first)]
    lattice, before = Lattice(points.space), points.numbers(0, first)
    taking = _Taking(points, before, stop - first)
    if lattice.sizes and not points.rungs:
        told = Told(lattice, lattice.cells(before), scores, points.spans[0][1], len(points))
        for block in method_of(search.method).suggest(told, stop - first, _seed(search)):
            if taking.full(lattice.numbers(block)):
                break
    taking.fill()
    return taking.taken


def _seed(search: SearchSpec) -> int:
    digest = hashlib.blake2b(f"{search.method}/{search.seed}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


class _Taking:
    """The first `count` points that are valid and new, out of what is offered."""

    def __init__(self, points: Asked, before: Indices, count: int) -> None:
        self._points, self._seen, self._count = points, before, count
        self.taken: Indices = np.empty(0, dtype=np.int64)

    def full(self, offered: Indices) -> bool:
        """Take what is wanted of the numbers offered, in their order; whether that is enough now."""
        offered = self._points.space.settled(offered)
        offered = offered[np.sort(np.unique(offered, return_index=True)[1])]
        offered = offered[self._points.space.valid(offered)]
        offered = offered[~np.isin(offered, self._seen)][: self._count - len(self.taken)]
        self.taken = np.concatenate([self.taken, offered])
        self._seen = np.concatenate([self._seen, offered])
        return len(self.taken) == self._count

    def fill(self) -> None:
        """Take what is missing from the random sequence, which has enough for all rounds."""
        drawn = self._points.drawn
        for first in range(0, len(drawn), FILL):
            if len(self.taken) == self._count:
                return
            self.full(drawn.spots(np.arange(first, min(first + FILL, len(drawn)), dtype=np.int64)))
