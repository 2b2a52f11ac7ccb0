"""Whether a point stands on a plateau or on a peak: its score against that of its neighbourhood in the space."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.validation.moments import Floats

LATTICE = 0.25
"""Where at least this share of all combinations was tried, neighbours are one step away; else they are the nearest."""
ALL_PAIRS = 20_000
CANDIDATES = 2_000
"""Of more sparse points than ALL_PAIRS, only so many of the best get a neighbourhood."""


@dataclass(frozen=True)
class Positions:
    """Points as places along their parameters.

    at: int64[n, d], the rank of each value among those tried. sizes: int64[d], how many there are. ordered: bool[d],
    whether the parameter is a number; text and booleans have no next value, so their points are no neighbours.
    """

    at: NDArray[np.int64]
    sizes: NDArray[np.int64]
    ordered: NDArray[np.bool_]


def positions(columns: Mapping[str, NDArray[Any]]) -> Positions:
    """The places of n points given as one array a parameter; null comes before every number."""
    at, sizes, ordered = [], [], []
    for values in columns.values():
        numeric = values.dtype.kind in "iuf"
        if values.dtype == object:
            known = [v for v in values.tolist() if v is not None]
            numeric = not any(isinstance(v, (str, bool)) for v in known)
            values = np.array([-np.inf if v is None else v for v in values.tolist()] if numeric else values.astype(str))
        unique, rank = np.unique(values, return_inverse=True)
        at.append(rank.astype(np.int64))
        sizes.append(len(unique))
        ordered.append(numeric)
    return Positions(np.stack(at, axis=1), np.array(sizes, np.int64), np.array(ordered, np.bool_))


def neighbours(places: Positions, rank_first: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """The neighbours of n points as row numbers, int64[n, k]; -1 where there is none.

    On a lattice the points one step along one parameter. Of sparse points the 2 x d nearest, in ranks scaled to [0, 1],
    among those with the same text and booleans; of more than ALL_PAIRS only for the rows in `rank_first`.
    """
    if len(places.at) >= LATTICE * float(np.prod(places.sizes.astype(np.float64))):
        return _on_lattice(places)
    return _nearest(places, rank_first)


def plateau(scores: Floats, near: NDArray[np.int64]) -> Floats:
    """Median of each point's own score and its neighbours', float64[n]; higher is better.

    scores: float64[n]; one that is not finite counts as the worst possible. NaN where the median is that, where the
    point has no score itself, and where it has no neighbour.
    """
    worst = np.where(np.isfinite(scores), scores, -np.inf)
    around = np.where(near >= 0, worst[near], np.nan)
    known = np.column_stack([worst, around])
    count = np.sum(~np.isnan(known), axis=1)
    ordered = np.sort(known, axis=1)
    low, high = ordered[np.arange(len(ordered)), (count - 1) // 2], ordered[np.arange(len(ordered)), count // 2]
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    return np.where((count > 1) & np.isfinite(scores) & np.isfinite(middle), middle, np.nan)


def _on_lattice(places: Positions) -> NDArray[np.int64]:
    strides = np.append(np.cumprod(places.sizes[::-1])[::-1][1:], 1)
    codes = places.at @ strides
    order = np.argsort(codes, kind="stable")
    ordered, found = codes[order], []
    for d in np.flatnonzero(places.ordered & (places.sizes > 1)).tolist():
        for step in (-1, 1):
            moved = places.at[:, d] + step
            wanted = codes + step * strides[d]
            slot = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
            there = (moved >= 0) & (moved < places.sizes[d]) & (ordered[slot] == wanted)
            found.append(np.where(there, order[slot], -1))
    return np.stack(found, axis=1) if found else np.full((len(codes), 1), -1)


def _nearest(places: Positions, rank_first: NDArray[np.int64] | None) -> NDArray[np.int64]:
    n = len(places.at)
    moving = places.ordered & (places.sizes > 1)
    scaled = places.at[:, moving] / np.maximum(places.sizes[moving] - 1, 1)
    k = min(2 * max(int(moving.sum()), 1), n - 1)
    near = np.full((n, max(k, 1)), -1)
    wanted = np.arange(n) if n <= ALL_PAIRS or rank_first is None else rank_first[:CANDIDATES]
    for i in wanted.tolist() if k > 0 else ():
        distance = np.abs(scaled - scaled[i]).sum(axis=1)
        distance[(places.at[:, ~places.ordered] != places.at[i, ~places.ordered]).any(axis=1)] = np.inf
        distance[i] = np.inf
        closest = np.argpartition(distance, k - 1)[:k]
        near[i] = np.where(np.isfinite(distance[closest]), closest, -1)
    return near
