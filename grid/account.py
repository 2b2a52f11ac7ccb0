"""What a running sweep uses, CPU time and money, and the limits at which it is stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from grid.errors import Refused


@dataclass(frozen=True)
class Limits:
    """What one execution of a sweep may take before it is stopped, resumable: seconds, and money. None is no limit."""

    runtime_s: float | None = None
    cost: float | None = None


class Account:
    """CPU seconds held since it was made, and what they cost.

    A CPU costs while it is held, busy or not, as a cloud bills it. price: of a CPU hour, None where there is none.
    """

    def __init__(self, limits: Limits, price: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises Refused for a limit on cost without a price."""
        if limits.cost is not None and price is None:
            raise Refused("--max-cost needs a price: set cluster.price_per_cpu_hour.")
        self._limits, self._price, self._clock = limits, price, clock
        self._began = self._since = clock()
        self._used = 0.0
        self.cpus = 0

    def hold(self, cpus: int) -> None:
        """From now on the sweep holds so many CPUs."""
        now = self._clock()
        self._used += (now - self._since) * self.cpus
        self._since, self.cpus = now, cpus

    @property
    def cpu_seconds(self) -> float:
        return self._used + (self._clock() - self._since) * self.cpus

    @property
    def cost(self) -> float:
        """So far; 0 without a price."""
        return self.cpu_seconds / 3600 * (self._price or 0.0)

    def over(self) -> str | None:
        """The limit that is reached, in words; None while there is none."""
        limits, ran = self._limits, self._clock() - self._began
        if limits.runtime_s is not None and ran >= limits.runtime_s:
            return f"--max-runtime allows {limits.runtime_s:g} s"
        if limits.cost is not None and self.cost >= limits.cost:
            return f"--max-cost allows {limits.cost:g} and {self.cost:.4g} is spent"
        return None
