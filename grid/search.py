"""Which points of a space are tried, and in which order: all of them, or a seeded random sequence."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.dimensions import Scalar
from grid.errors import BadInput
from grid.space import Indices, SearchSpace, TrialCount, scan
from grid.spec import Sweep

ROUNDS = 10
SCAN_AT_LEAST = 2_000_000
SCAN_PER_TRIAL = 200


def space_of(sweep: Sweep) -> SearchSpace:
    """The sweep's search space."""
    return SearchSpace({name: d.axis() for name, d in sweep.space.items()}, sweep.constraints)


def points_of(sweep: Sweep) -> "SearchSpace | RandomSearch":
    """The points the sweep's search method asks for, in the order of their numbers."""
    space = space_of(sweep)
    if sweep.search.method == "random" and sweep.search.trials is not None:
        return RandomSearch(space, sweep.search.trials, sweep.search.seed)
    return space


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
