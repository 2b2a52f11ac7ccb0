"""Splits of rows (here: blocks) into train and test: walk-forward, k-fold with purge and embargo, combinatorial.

Sets are lists of half-open ranges. Purge and embargo follow skfolio and Lopez de Prado, "Advances in Financial Machine
Learning", 2018, chapters 7 and 12: `purge` rows are dropped from the train set before and after each contiguous run of
test rows, and `embargo` more after it. For labels that reach h rows ahead his snippet 7.3 is purge h - 1; purge h is
strict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

Range = tuple[int, int]
MOST_SPLITS = 20_000


@dataclass(frozen=True)
class Split:
    """One train and test pair; `groups` are those tested, where the split is made of groups."""

    train: tuple[Range, ...]
    test: tuple[Range, ...]
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Walk:
    """A walk-forward: `train` rows, `purge` rows dropped, then `test` rows; the next split begins `test` rows later.

    anchored: the train set begins at row 0 always and grows; else it rolls. reduce_test: keep a shorter last test.
    """

    train: int
    test: int
    purge: int = 0
    anchored: bool = False
    reduce_test: bool = False


def walk_forward(n: int, walk: Walk) -> list[Split]:
    """The splits of n rows, in order. Raises ValueError where not one fits, or a size is below 1 (purge below 0)."""
    if walk.train < 1 or walk.test < 1 or walk.purge < 0:
        raise ValueError(f"train {walk.train} and test {walk.test} are 1 or more, and purge {walk.purge} 0 or more")
    splits, first = [], walk.train + walk.purge
    while first + (1 if walk.reduce_test else walk.test) <= n:
        end = first - walk.purge
        start = 0 if walk.anchored else end - walk.train
        splits.append(Split(((start, end),), ((first, min(first + walk.test, n)),)))
        first += walk.test
    if not splits:
        raise ValueError(f"train {walk.train} + purge {walk.purge} + test {walk.test} are more than the {n} there are")
    return splits


@dataclass(frozen=True)
class Folds:
    """`groups` equal slices, `tested` of which are tested at a time: 1 is k-fold, more is combinatorial."""

    groups: int
    tested: int = 1
    purge: int = 0
    embargo: int = 0


def combinatorial(n: int, folds: Folds) -> list[Split]:
    """Every choice of test groups, in lexicographic order; the first n % groups groups have a row more.

    Raises ValueError for fewer than 2 groups, more groups than rows, no train group, or a train set that purge and
    embargo leave empty.
    """
    if not 2 <= folds.groups <= n or not 1 <= folds.tested < folds.groups or min(folds.purge, folds.embargo) < 0:
        raise ValueError(f"{folds.groups} groups of {n}, {folds.tested} of them tested, cannot be made")
    if comb(folds.groups, folds.tested) > MOST_SPLITS:
        raise ValueError(f"{folds.tested} of {folds.groups} groups make more than {MOST_SPLITS:,} splits")
    parts = [(int(p[0]), int(p[-1]) + 1) for p in np.array_split(np.arange(n), folds.groups)]
    splits = []
    for chosen in combinations(range(folds.groups), folds.tested):
        test = _joined([parts[g] for g in chosen])
        kept = np.ones(n, np.bool_)
        for start, stop in test:
            kept[max(0, start - folds.purge) : stop + folds.purge + folds.embargo] = False
        if not kept.any():
            raise ValueError(f"purge {folds.purge} and embargo {folds.embargo} leave nothing of {n} to train on")
        splits.append(Split(_ranges(kept), tuple(test), chosen))
    return splits


def paths(splits: Sequence[Split], groups: int) -> list[list[int]]:
    """The backtest paths of combinatorial splits: paths[j][g] is the split that tests group g in path j.

    The j-th time a group is tested, in the order of splits, it belongs to path j.
    """
    times = [[i for i, split in enumerate(splits) if g in split.groups] for g in range(groups)]
    return [[times[g][j] for g in range(groups)] for j in range(len(times[0]))]


def mask(ranges: Sequence[Range], n: int) -> NDArray[np.bool_]:
    """The ranges as bool[n]."""
    rows = np.zeros(n, np.bool_)
    for start, stop in ranges:
        rows[start:stop] = True
    return rows


def _joined(ranges: Sequence[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, stop in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    return joined


def _ranges(rows: NDArray[np.bool_]) -> tuple[Range, ...]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], rows, [False])).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
