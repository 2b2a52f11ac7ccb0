"""How large the next unit should be, from how long the last ones took. No clock inside."""

from collections.abc import Sequence

from grid.halving import Rung

FIRST_SIZE = 16
MOST_NUMBERS = 50_000
SHORTEST_S, LONGEST_S = 0.5, 2.0
SHORTEST_AT_THE_END_S = 0.1
UNITS_WANTED = 4_000
"""Beyond this many units of two seconds, units get longer instead of more,"""
LONGEST_EVER_S = 60.0
"""but no longer than what a lost node may cost at the very end."""


class Pace:
    """Sizes units to about `target_s` seconds each.

    bars: how many bars each dataset has, so that the speed on one tells about the next. fixed: trial numbers a unit, by
    hand. seconds_per_trial: on each dataset, as rehearsed; None where nothing is known. density: the part of the trial
    numbers that are trials and no holes.
    """

    def __init__(
        self,
        bars: Sequence[int],
        fixed: int | None = None,
        seconds_per_trial: Sequence[float] | None = None,
        density: float = 1.0,
    ) -> None:
        self._whole = self._bars = [max(n, 1) for n in bars]
        self._fixed = fixed
        self._density = min(max(density, 1e-9), 1.0)
        self._per_bar_s: float | None = None
        if seconds_per_trial is not None:
            self._per_bar_s = sum(seconds_per_trial) / sum(self._bars)
        self.target_s = SHORTEST_S

    def over(self, rung: Rung | None) -> None:
        """From now on trials see the part of the bars that a rung of successive halving has."""
        self._bars = self._whole if rung is None else [max(int(n * rung.share), 1) for n in self._whole]

    def size(self, dataset: int) -> int:
        """How many trial numbers the next unit on `dataset` should have."""
        if self._fixed is not None:
            return self._fixed
        if self._per_bar_s is None:
            return FIRST_SIZE
        return max(1, min(MOST_NUMBERS, int(self.target_s / self.seconds(dataset, 1) / self._density)))

    def learn(self, dataset: int, trials: int, seconds: float) -> None:
        """So many trials took that long; recent ones count more. Nothing is learnt from holes."""
        if trials < 1:
            return
        speed = seconds / (trials * self._bars[dataset])
        self._per_bar_s = speed if self._per_bar_s is None else 0.7 * self._per_bar_s + 0.3 * speed

    def seconds(self, dataset: int, trials: int) -> float:
        """How long that many trials should take; 1 ms each before anything is known."""
        if self._per_bar_s is None:
            return 0.001 * trials
        return max(self._per_bar_s * self._bars[dataset] * trials, 1e-9)

    def left_s(self, numbers_left: int) -> float:
        """CPU seconds that so many trial numbers of any dataset should take."""
        mean = sum(self.seconds(d, 1) for d in range(len(self._bars))) / len(self._bars)
        return mean * max(numbers_left, 0) * self._density

    def aim(self, numbers_left: int, workers: int) -> None:
        """Choose the target: between half a second and two, up to a minute in huge sweeps, shorter towards the end."""
        total = self.left_s(numbers_left)
        longest = min(max(LONGEST_S, total / UNITS_WANTED), LONGEST_EVER_S)
        self.target_s = max(SHORTEST_AT_THE_END_S, min(longest, total / (2 * workers)))
