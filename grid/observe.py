"""Turns what happens in a sweep into records of `grid/telemetry.py`; counts become differences here."""

from collections import Counter
from collections.abc import Mapping

from grid.account import Account
from grid.aggregate import Progress, Receipt
from grid.telemetry import Telemetry

KERNEL = "grid_kernel_seconds_total"
READ = "grid_read_bytes_total"


class Observer:
    """Told by an executor what happens; `before` is how far the session was when it began."""

    def __init__(self, telemetry: Telemetry, strategy: str, account: Account, before: Progress) -> None:
        self._telemetry, self._strategy, self._account = telemetry, strategy, account
        self._trials = {"ok": before.ok, "failed": before.failed}
        self._attempts: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._kernel_s = self._cpu_s = self._cost = 0.0

    def receipt(self, receipt: Receipt) -> None:
        """The aggregator's news: trials committed, how long its commits took, how often its store was tried again."""
        self.trials(receipt.progress)
        for seconds in receipt.commit_seconds:
            self._telemetry.record("grid_commit_seconds", seconds)
        self.retried(receipt.writer, receipt.retries)

    def trials(self, progress: Progress) -> None:
        """How many trials are committed by now."""
        for state, now in (("ok", progress.ok), ("failed", progress.failed)):
            if now > self._trials[state]:
                more, self._trials[state] = now - self._trials[state], now
                self._telemetry.record("grid_trials_total", more, strategy=self._strategy, state=state)

    def retried(self, who: str, times: int) -> None:
        """`who` has tried storage operations again so many times by now."""
        if times > self._retries[who]:
            more, self._retries[who] = times - self._retries[who], times
            self._telemetry.record("grid_storage_retries_total", more)

    def read(self, sizes: Mapping[str, int]) -> None:
        """Bars were read: bytes of their files by tier."""
        for tier, size in sizes.items():
            self._telemetry.record(READ, size, tier=tier)

    def worked(self, seconds: float) -> None:
        """A unit is done and took a worker so many CPU seconds."""
        self._kernel_s += seconds
        self._telemetry.record(KERNEL, seconds, strategy=self._strategy)
        self._telemetry.record("grid_units_finished_total", 1, state="done")

    def gave_up(self) -> None:
        """A unit was given up."""
        self._telemetry.record("grid_units_finished_total", 1, state="given_up")

    def attempts(self, now: Mapping[str, int]) -> None:
        """Attempts by cause, up to now."""
        for cause, count in now.items():
            if count > self._attempts[cause]:
                more, self._attempts[cause] = count - self._attempts[cause], count
                self._telemetry.record("grid_attempts_total", more, cause=cause)

    def units(self, now: Mapping[str, int]) -> None:
        """Units by state, now; what is uncommitted is not in the queue any more."""
        for state, count in now.items():
            self._telemetry.record("grid_units", count, state=state)
        self._telemetry.record("grid_queue_depth", sum(n for state, n in now.items() if state != "uncommitted"))

    def beat(self, at: float) -> None:
        """The heartbeat was written at that Unix time."""
        self._telemetry.record("grid_heartbeat_timestamp_seconds", at)

    def spent(self) -> None:
        """Look at the account again: CPU time, cost, and how much of the time held went into kernels."""
        used, cost = self._account.cpu_seconds, self._account.cost
        self._telemetry.record("grid_cpus", self._account.cpus)
        self._telemetry.record("grid_cpu_seconds_total", max(used - self._cpu_s, 0.0))
        self._telemetry.record("grid_cost_total", max(cost - self._cost, 0.0))
        self._cpu_s, self._cost = used, cost
        if used > 0:
            self._telemetry.record("grid_efficiency_ratio", self._kernel_s / used)
