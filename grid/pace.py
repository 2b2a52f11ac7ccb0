"""How large the next unit should be, from how long the last ones took. No clock inside."""

from collections.abc import Sequence

FIRST_SIZE = 16
MOST_NUMBERS = 50_000
SHORTEST_S, LONGEST_S = 0.5, 2.0
UNITS_WANTED = 4_000
"""Beyond this many units of two seconds, units get longer instead of more."""


class Pace:
    """Sizes units to about `target_s` seconds each.

    bars: how many bars each dataset has, so that the speed on one tells about the next. `fixed` sets the size by hand.
    """

    def __init__(self, bars: Sequence[int], fixed: int | None = None) -> None:
        self._bars = bars
        self._fixed = fixed
        self._per_bar_s: float | None = None
        self.target_s = SHORTEST_S

    def size(self, dataset: int) -> int:
        """How many trial numbers the next unit on `dataset` should have."""
        if self._fixed is not None:
            return self._fixed
        if self._per_bar_s is None:
            return FIRST_SIZE
        return max(1, min(MOST_NUMBERS, int(self.target_s / self.seconds(dataset, 1))))

    def learn(self, dataset: int, numbers: int, seconds: float) -> None:
        """A unit of that many trial numbers took that long; recent units count more."""
        speed = seconds / (numbers * max(self._bars[dataset], 1))
        self._per_bar_s = speed if self._per_bar_s is None else 0.7 * self._per_bar_s + 0.3 * speed

    def seconds(self, dataset: int, numbers: int) -> float:
        """How long a unit of that many trial numbers should take; 1 ms a trial before anything is known."""
        if self._per_bar_s is None:
            return 0.001 * numbers
        return max(self._per_bar_s * max(self._bars[dataset], 1) * numbers, 1e-9)

    def aim(self, numbers_left: int, workers: int) -> None:
        """Choose the target: between half a second and two, longer for huge sweeps, shorter towards the end."""
        total = sum(self.seconds(d, 1) for d in range(len(self._bars))) / len(self._bars) * numbers_left
        even_share = total / (2 * workers)
        longest = max(LONGEST_S, total / UNITS_WANTED)
        self.target_s = max(0.05, min(longest, max(even_share, 0.05)))
