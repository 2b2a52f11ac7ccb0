"""The permutation test of a whole search: the sweep run again on bars whose returns come in another order.

What is tested is the best of the search and not a rule that somebody chose, so it counts every trial by itself.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from grid.budget import cpus_here
from grid.documents import plain
from grid.errors import BadInput
from grid.evaluate import Evaluator
from grid.hints import at_store, resume_command
from grid.resolve import LoadedBars, ResolvedSweep
from grid.results import goal_scores, signed_scores
from grid.rounds import next_round, objectives
from grid.search import Asked, first_on_all, points_of, rung_of
from grid.session import Session, across
from grid.validation.moments import Floats
from grid.validation.permute import Prices, permuted
from storage.errors import NotFound

DOCUMENT = "permutation.json"
POINTS_AT_ONCE = 8_192
WORTH_A_PROCESS_S = 4.0
"""Less work than this is done in this process."""


@dataclass(frozen=True)
class Permuted:
    """What is sent to a process: the sweep and the real bars of its datasets."""

    resolved: ResolvedSweep
    loaded: tuple[LoadedBars, ...]

    def best(self, seed: int) -> float:
        """The best score of the whole sweep on permuted bars, higher being better; -inf where nothing is ranked."""
        anew = points_of(self.resolved.sweep, len(self.loaded))
        if isinstance(anew, Asked) and len(anew.spans) > 1:
            return self._best_asked_anew(anew, seed)
        evaluator, best = Evaluator(self.resolved), -math.inf
        for dataset, real in enumerate(self.loaded):
            market = _permuted(real, seed)
            for points in self._points():
                rows = evaluator.rows_of(dataset, points, market)
                best = max(best, _highest(signed_scores(rows, self.resolved.sweep.objective)))
        return best

    def _best_asked_anew(self, points: Asked, seed: int) -> float:
        """A method that learns from results asks for other `points` on other bars; none is known yet."""
        sweep = self.resolved.sweep
        evaluator, markets = Evaluator(replace(self.resolved, points=points)), [_permuted(m, seed) for m in self.loaded]
        told, best = objectives(sweep), -math.inf
        scores = np.empty((0, sum(len(objective.goals) for objective in told)))
        for span in points.spans:
            points.learn(span[0], next_round(sweep.search, points, scores))
            numbers, rung = np.arange(*span, dtype=np.int64), rung_of(points, span[0])
            datasets = range(len(markets)) if rung is None else rung.datasets
            rows = [evaluator.rows_of(dataset, numbers, markets[dataset]) for dataset in datasets]
            goals = [across(np.stack([goal_scores(table, each) for table in rows]), each.across) for each in told]
            scores = np.vstack([scores, np.hstack(goals)])
            if span[0] >= first_on_all(points):
                best = max(best, *(_highest(signed_scores(table, sweep.objective)) for table in rows))
        return best

    def _points(self) -> Iterator[Any]:
        points = self.resolved.points
        for first in range(0, len(points), POINTS_AT_ONCE):
            numbers = np.arange(first, min(first + POINTS_AT_ONCE, len(points)), dtype=np.int64)
            yield numbers[points.valid(numbers)]


def _permuted(real: LoadedBars, seed: int) -> LoadedBars:
    given = Prices(*(getattr(real.bars, name) for name in Prices._fields))
    return LoadedBars(replace(real.bars, **permuted(given, seed)._asdict()), real.edges, "")


def _highest(scores: Floats) -> float:
    """The best score; -inf where nothing is ranked."""
    return float(scores[np.isfinite(scores)].max(initial=-math.inf))


def permute(
    session: Session, n: int, seed: int = 0, processes: int | None = None, told: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Run the search on `n` permuted markets and say where the real best lies; kept in the session as a document.

    seed: permutation i has the seed `seed + i`, so any number of processes gives the same. told: called with how many
    are done. Raises BadInput where the session is not done, nobody leads or a price is not above 0, and what
    `Session.loaded` raises.
    """
    if (status := session.status) != "done":
        following = f"grid watch {session.id}{at_store(session)}" if status == "running" else resume_command(session)
        raise BadInput(
            f"session {session.id} is {status}: its best so far is not the best of a whole search. Next: {following}"
        )
    if not session.ledger.summary.best:
        raise BadInput(f"nobody leads in session {session.id}, so there is no best to test.")
    work = Permuted(session.resolved, tuple(_bars(session)))
    scores = _run(session, work, list(range(seed, seed + n)), processes, told or (lambda _: None))
    real = session.ledger.summary.best[0][0]
    sign = 1.0 if session.sweep.objective.descending else -1.0
    ordered = sorted((s for s in scores if math.isfinite(s)), reverse=True)
    found: dict[str, Any] = plain(
        {
            "session_id": session.id,
            "permutations": n,
            "seed": seed,
            "metric": session.sweep.objective.metric,
            "real": sign * real,
            "at_least_as_good": sum(s >= real for s in scores),
            "p_value": (1 + sum(s >= real for s in scores)) / (n + 1),
            "median": sign * float(np.median(ordered)) if ordered else None,
            "best_20th": sign * ordered[max(0, math.ceil(len(ordered) / 20) - 1)] if ordered else None,
            "scores": [sign * s for s in scores],
        }
    )
    session.folder.write_document(DOCUMENT, found)
    return found


def last(session: Session) -> dict[str, Any] | None:
    """The permutation test that was made of a session last; None without one."""
    try:
        found: dict[str, Any] = session.folder.document(DOCUMENT)
    except NotFound:
        return None
    return found


def _bars(session: Session) -> Iterator[LoadedBars]:
    for dataset, key in enumerate(session.datasets):
        loaded = session.loaded(dataset)
        if min(float(loaded.bars.low.min()), float(loaded.bars.open.min())) <= 0:
            raise BadInput(f"{key} has a price that is not above 0: its returns cannot be permuted.")
        yield loaded


def _run(
    session: Session, work: Permuted, seeds: list[int], processes: int | None, told: Callable[[int], None]
) -> list[float]:
    facts = session.metadata
    whole = work.resolved.plan.whole_trials(facts["trials"]["count"])
    each = sum(d["seconds_per_trial"] * trials for d, trials in zip(facts["datasets"], whole, strict=True))
    workers = min(processes or cpus_here(), len(seeds))
    if workers < 2 or (processes is None and each * len(seeds) < WORTH_A_PROCESS_S):
        return [_told(work.best(seed), i, told) for i, seed in enumerate(seeds, 1)]
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin, (work,)) as pool:
        futures = {pool.submit(_best, seed): i for i, seed in enumerate(seeds)}
        scores = [-math.inf] * len(seeds)
        for done, future in enumerate(as_completed(futures), 1):
            scores[futures[future]] = _told(future.result(), done, told)
    return scores


def _told(score: float, done: int, told: Callable[[int], None]) -> float:
    told(done)
    return score


_work: list[Permuted] = []


def _begin(work: Permuted) -> None:
    _work[:] = [work]


def _best(seed: int) -> float:
    return _work[0].best(seed)
