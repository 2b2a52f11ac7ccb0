"""How much of a search's scores each parameter decides, and where along it the good ones lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Floats

MOST_GROUPS = 12
"""More values than this are joined to this many groups of about as many points."""


@dataclass(frozen=True)
class Sensitivity:
    """One parameter.

    importance: share of the variance of scores that it explains by itself (epsilon squared: the between-group share,
    less what chance explains), 0 to 1; what is missing to 1 over all parameters is interaction. values, means, counts:
    its values (or the first of each group), the mean score at each, how many points that is.
    """

    name: str
    importance: float
    values: list[Any]
    means: list[float]
    counts: list[int]


def sensitivities(columns: Mapping[str, NDArray[Any]], scores: Floats) -> list[Sensitivity]:
    """One entry a parameter with two values or more, the most important first. Scores that are not finite are left out.

    columns: n values a parameter; scores: float64[n].
    """
    finite = np.isfinite(scores)
    found = [_one(name, values[finite], scores[finite]) for name, values in columns.items()]
    return sorted((s for s in found if len(s.values) > 1), key=lambda s: -s.importance)


def _one(name: str, values: NDArray[Any], scores: Floats) -> Sensitivity:
    group, firsts = _groups(values)
    counts = np.bincount(group, minlength=len(firsts))
    means = np.bincount(group, scores, minlength=len(firsts)) / np.maximum(counts, 1)
    n, k = len(scores), len(firsts)
    total = float(((scores - scores.mean()) ** 2).sum()) if n else 0.0
    between = float((counts * (means - scores.mean()) ** 2).sum()) if n else 0.0
    importance = 0.0
    if n > k and total > 0:
        importance = max(0.0, between - (k - 1) * (total - between) / (n - k)) / total
    return Sensitivity(name, importance, firsts, means.tolist(), counts.tolist())


def _groups(values: NDArray[Any]) -> tuple[NDArray[np.int64], list[Any]]:
    """Group of each value, and the first value of each group."""
    if values.dtype == object:
        known = {value: i for i, value in enumerate(dict.fromkeys(values.tolist()))}
        return np.array([known[value] for value in values.tolist()], np.int64), list(known)
    unique, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(unique) <= MOST_GROUPS or unique.dtype.kind not in "iuf":
        return rank.astype(np.int64), unique.tolist()
    before = np.cumsum(counts) - counts
    coarse = (before * MOST_GROUPS) // len(values)
    kept, group = np.unique(coarse, return_inverse=True)
    firsts = [unique[np.flatnonzero(coarse == c)[0]].item() for c in kept]
    return group[rank].astype(np.int64), firsts
