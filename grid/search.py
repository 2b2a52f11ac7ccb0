"""Which points of a space are tried, and in which order: all of them, a seeded random sequence, or what a method asks
for (`grid/rounds.py`).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.dimensions import Scalar
from grid.errors import BadInput, Refused
from grid.halving import Rung, rungs
from grid.searchspec import HALVING, SearchSpec
from grid.space import Indices, Points, SearchSpace, TrialCount, check_not_empty, scan, space_from
from grid.spec import Sweep

ROUNDS = 10
SCAN_AT_LEAST = 2_000_000
SCAN_PER_TRIAL = 200


def space_of(sweep: Sweep) -> SearchSpace:
    """The sweep's search space."""
    return space_from(sweep.space, sweep.constraints)


def points_of(sweep: Sweep, datasets: int) -> "SearchSpace | RandomSearch | Asked":
    """The points of the sweep in the order of their numbers; where a method asks for them, none is known yet.

    datasets: how many the sweep has, which decides the rungs of successive halving.
    """
    space = space_of(sweep)
    if sweep.search.trials is None:
        return space
    drawn = RandomSearch(space, sweep.search.trials, sweep.search.seed)
    if sweep.search.method == "random":
        return drawn
    if sweep.search.method != HALVING:
        return Asked(drawn, sweep.search)
    order = Permutation(datasets, sweep.search.seed)(np.arange(datasets, dtype=np.int64))
    return Asked(drawn, sweep.search, rungs(drawn.count().trials, sweep.validation.blocks, order.tolist()))


def rungs_of(points: Points) -> tuple[Rung, ...]:
    """The rungs of points that successive halving asks for; none for others, all of which are tried on the whole."""
    return points.rungs if isinstance(points, Asked) else ()


def rung_of(points: Points, index: int) -> Rung | None:
    """The rung of a point; None where there are none."""
    return next((rung for rung in rungs_of(points) if index < rung.stop), None)


def first_on_all(points: Points) -> int:
    """The first of the points that are tried on the whole, behind which all are; they alone are ranked."""
    rungs = rungs_of(points)
    return rungs[-1].first if rungs else 0


class Permutation:
    """A seeded bijection of [0, size) that stores nothing but its keys.

    An alternating Feistel network over the smallest a x b >= size with modular addition as its step;
    numbers that land outside [0, size) walk on. The order belongs to (size, seed) for good: it uses no
    library's generator.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._rows = max(math.isqrt(size - 1) + 1, 1)
        self._cols = -(-size // self._rows)
        self._keys = [_key(seed, i) for i in range(ROUNDS)]

    def __call__(self, positions: Indices) -> Indices:
        """The number at each position (shape (n,), each in [0, size))."""
        numbers = self._shuffle(positions.astype(np.uint64))
        while (outside := numbers >= self.size).any():
            numbers[outside] = self._shuffle(numbers[outside])
        return numbers.astype(np.int64)

    def _shuffle(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        rows, cols = np.uint64(self._rows), np.uint64(self._cols)
        left, right = numbers // cols, numbers % cols
        for i, key in enumerate(self._keys):
            if i % 2:
                right = (right + _mix(left, key) % cols) % cols
            else:
                left = (left + _mix(right, key) % rows) % rows
        return left * cols + right


def _key(seed: int, index: int) -> np.uint64:
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class RandomSearch:
    """`trials` points of `space`, drawn without replacement in an order that belongs to `seed`.

    A sequence like the space itself: position k is a point, and `len` is the number of positions it takes
    until `trials` points have passed the constraints (so there are holes). Asking for more points than
    there are gives all of them. Raises BadInput when the constraints let so few points pass that `trials`
    are not found among the first 2,000,000 positions or 200 per trial.
    """

    def __init__(self, space: SearchSpace, trials: int, seed: int = 0) -> None:
        if trials < 1:
            raise BadInput(f"search.trials is {trials}: ask for one or more.")
        self.space, self.seed = space, seed
        self._order = Permutation(len(space), seed)
        whole = space.count()
        if whole.exact and whole.trials <= trials:
            self._length, self._trials = len(space), whole.trials
        else:
            self._trials = trials
            self._length = len(space)  # while the positions that are needed are looked for
            self._length = self._positions_for(trials)

    @property
    def names(self) -> tuple[str, ...]:
        return self.space.names

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Scalar]]:
        """Every position in order, holes included."""
        return (self[k] for k in range(self._length))

    def __getitem__(self, position: int) -> dict[str, Scalar]:
        if not 0 <= position < self._length:
            raise IndexError(f"no position {position} in a search of {self._length}")
        return self.space[int(self._order(np.array([position], dtype=np.int64))[0])]

    def spots(self, positions: Indices) -> Indices:
        """The numbers in the space of the points at these positions."""
        return self._order(positions)

    def columns(self, indices: Indices) -> dict[str, NDArray[Any]]:
        """The points at these positions, one array per parameter."""
        return self.space.columns(self._order(indices))

    def valid(self, indices: Indices) -> NDArray[np.bool_]:
        """True where the point at the position passes every constraint."""
        return self.space.valid(self._order(indices))

    def count(self) -> TrialCount:
        """Always exact: the positions have been counted off."""
        return TrialCount(True, self._trials)

    def _positions_for(self, trials: int) -> int:
        found, limit = 0, min(len(self.space), max(SCAN_AT_LEAST, SCAN_PER_TRIAL * trials))
        for first, valid in scan(self, 0, limit):
            passed = np.flatnonzero(valid)
            if found + len(passed) >= trials:
                return first + int(passed[trials - found - 1]) + 1
            found += len(passed)
        if limit < len(self.space):
            raise BadInput(
                f"search.trials asks for {trials:,} points and only {found:,} of {limit:,} drawn pass the "
                "constraints: ask for fewer, or shape the dimensions so that the constraints exclude less."
            )
        self._trials = found
        return len(self.space)


class Asked:
    """The points that a search method asks for, numbered in the order asked; each is known once it was asked for.

    `drawn` is a random search for as many, which decides how many there are, `len`: all of them where more are asked
    for than the constraints let pass. No number is a hole, and no point has two. The points come in spans of
    `search.round`, or all at once. Raises BadInput where there is no point.

    rungs: of successive halving, which are the spans then, and say how many points there are: one that comes to the
    next rung has another number there.
    """

    def __init__(self, drawn: RandomSearch, search: SearchSpec, rungs: tuple[Rung, ...] = ()) -> None:
        check_not_empty(drawn)
        self.space, self.drawn, self.rungs, self._round = drawn.space, drawn, rungs, search.round
        self._numbers = np.full(rungs[-1].stop if rungs else drawn.count().trials, -1, dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        return self.space.names

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The rounds: points [first, stop), the last one with what is left."""
        if self.rungs:
            return [(rung.first, rung.stop) for rung in self.rungs]
        size = self._round or len(self)
        return [(first, min(first + size, len(self))) for first in range(0, len(self), size)]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> dict[str, Scalar]:
        if not 0 <= index < len(self) or self._numbers[index] < 0:
            raise IndexError(f"no point {index} is known in a search of {len(self)}")
        return self.space[int(self._numbers[index])]

    def columns(self, indices: Indices) -> dict[str, NDArray[Any]]:
        """The points at `indices`, all of them known, one array per parameter."""
        return self.space.columns(self._numbers[indices])

    def valid(self, indices: Indices) -> NDArray[np.bool_]:
        """True where the point is known."""
        return self._numbers[indices] >= 0

    def count(self) -> TrialCount:
        """Always exact: how many will have been asked for at the end."""
        return TrialCount(True, len(self))

    def spots(self, indices: Indices) -> Indices:
        """The numbers in the space of the points at `indices`; -1 for one that is not known."""
        return self._numbers[indices]

    def numbers(self, first: int, stop: int) -> Indices:
        """The numbers in the space of the points [first, stop); -1 for one that is not known."""
        return self._numbers[first:stop].copy()

    def learn(self, first: int, numbers: Indices) -> None:
        """The points from `first` on are those with these numbers in the space.

        Raises Refused where one is known to be another: its rows are not those of this sequence.
        """
        there = self._numbers[first : first + len(numbers)]
        if ((there >= 0) & (there != numbers)).any():
            raise Refused(
                "the search does not go on as it began: it asks for other points than those that are committed, as "
                "other versions of the packages it draws with do. Install those that metadata.json names under "
                "searched_with, or run the sweep as a new session."
            )
        there[:] = numbers

    def recall(self, trial_ids: Indices, columns: Mapping[str, Sequence[Any]]) -> None:
        """Learn from result rows: their trial numbers, and a column of values for each parameter."""
        self._numbers[trial_ids % len(self)] = self.space.numbers(columns)
