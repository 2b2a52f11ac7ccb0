"""The scores of a session as a surface over its space: plateaus, and what each parameter decides."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.search import first_on_all
from grid.session import Session, across
from grid.validation.moments import Floats
from grid.validation.plateau import neighbours, plateau, positions
from grid.validation.sensitivity import Sensitivity, sensitivities

MOST_POINTS = 2_000_000
"""Larger spaces have no surface: it would not fit in memory."""


class Surface:
    """Scores of the valid points of a session on each dataset; higher is better, NaN where there is none. Of successive
    halving only the points of the last rung are there.

    points: int64[n], their numbers. scores: float64[datasets, n].
    """

    def __init__(self, session: Session) -> None:
        size = len(session.points)
        self.session = session
        first = first_on_all(session.points)
        numbers = np.arange(first, size, dtype=np.int64)
        self.points = numbers[session.points.valid(numbers)]
        self.scores = session.scores(first, size)[:, self.points - first]

    @staticmethod
    def fits(session: Session) -> bool:
        """Whether the session's ranked points are few enough to have one."""
        ranked = len(session.points) - first_on_all(session.points)
        return ranked * len(session.datasets) <= MOST_POINTS

    @cached_property
    def columns(self) -> dict[str, NDArray[Any]]:
        return self.session.points.columns(self.points)

    @cached_property
    def joined(self) -> Floats:
        """One score a point, as `objective.across` says."""
        return across(self.scores, self.session.sweep.objective.across)

    @cached_property
    def _near(self) -> NDArray[np.int64]:
        best = np.argsort(-np.nan_to_num(np.nanmax(self._some(), axis=0), nan=-np.inf), kind="stable")
        return neighbours(positions(self.columns), best)

    def _some(self) -> Floats:
        return np.where(np.isfinite(self.scores), self.scores, -np.inf)

    def plateaus(self) -> Floats:
        """float64[datasets, n]: the median score of each point and its neighbours on that dataset."""
        return np.stack([plateau(row, self._near) for row in self.scores])

    def of(self, trial: int) -> dict[str, Any]:
        """The score of a trial against its neighbourhood: its plateau, and how many neighbours score at all."""
        dataset, point = divmod(trial, len(self.session.points))
        at = int(np.searchsorted(self.points, point))
        row, near = self.scores[dataset], self._near[at]
        around = row[near[near >= 0]]
        return {
            "score": self._sign * float(row[at]),
            "plateau": self._sign * float(plateau(row, self._near)[at]),
            "neighbours": len(around),
            "neighbours_ranked": int(np.isfinite(around).sum()),
            "worst_neighbour": self._sign * float(around[np.isfinite(around)].min(initial=np.inf)),
        }

    @property
    def _sign(self) -> float:
        return 1.0 if self.session.sweep.objective.descending else -1.0

    def parameters(self) -> list[Sensitivity]:
        """What each parameter decides of the scores, and which dataset it is where there are several."""
        several = len(self.scores) > 1
        columns = {name: np.tile(values, len(self.scores)) for name, values in self.columns.items()}
        if several:
            names = np.array([str(key) for key in self.session.datasets], dtype=object)
            columns["dataset"] = np.repeat(names, len(self.points))
        return sensitivities(columns, self._sign * self.scores.ravel())

    def best_by_plateau(self, n: int) -> list[tuple[int, float]]:
        """(trial, plateau) of the n trials on the highest plateaus; ties go to the lower number."""
        flat = self.plateaus().ravel()
        order = np.argsort(-np.where(np.isfinite(flat), flat, -np.inf), kind="stable")[:n]
        size, count = len(self.session.points), len(self.points)
        kept = [i for i in order.tolist() if np.isfinite(flat[i])]
        return [(i // count * size + int(self.points[i % count]), self._sign * float(flat[i])) for i in kept]

    def best_points_by_plateau(self, n: int) -> list[tuple[int, float, float]]:
        """(point, plateau, score) of the n points on the highest plateaus across datasets."""
        flat = plateau(self.joined, self._near)
        order = np.argsort(-np.where(np.isfinite(flat), flat, -np.inf), kind="stable")[:n]
        kept = [i for i in order.tolist() if np.isfinite(flat[i])]
        return [(int(self.points[i]), self._sign * float(flat[i]), self._sign * float(self.joined[i])) for i in kept]

    def left_out(self, by: str) -> list[dict[str, Any]]:
        """Choose the best point on all other symbols (or timeframes), and look at it on the one that was left out.

        by: symbol or timeframe. One entry each: its score there, and the share of points that score no better there.
        """
        groups = [getattr(key, by) for key in self.session.datasets]
        found = []
        for name in sorted(set(groups)) if len(set(groups)) > 1 else ():
            inside = np.array([g != name for g in groups])
            how = self.session.sweep.objective.across
            chosen = across(self.scores[inside], how)
            if not np.isfinite(chosen).any():
                continue
            at = int(np.nanargmax(chosen))
            there = across(self.scores[~inside], how)
            ranked = there[np.isfinite(there)]
            share = float(np.mean(ranked <= there[at])) if len(ranked) and np.isfinite(there[at]) else 0.0
            scores = {"score": self._sign * float(chosen[at]), "score_left_out": self._sign * float(there[at])}
            found.append({by: name, "point": int(self.points[at]), **scores, "rank_share": share})
        return found
