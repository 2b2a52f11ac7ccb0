"""What a sweep will take, before it takes it: trials, units, bytes, time and money, and the limits on them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from grid.errors import Refused
from grid.halving import Rung
from grid.pace import LONGEST_EVER_S, LONGEST_S, MOST_NUMBERS, UNITS_WANTED
from grid.rehearse import Rehearsal
from grid.resolve import ResolvedSweep
from grid.search import Asked, rungs_of
from grid.validation.sharpe import minimum_backtest_years
from storage.timeframes import bars_per_year


def cpus_here() -> int:
    """The CPUs that this process may use, which in a container may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Estimate:
    """trials with their standard error (0 where exact); `reused`: rows that are there already, by the session that ran
    them (where a method asks for points: of the whole space); `rounds` in which points are asked for, 1 where results
    decide nothing; the `rungs` of successive halving, else none, and their work as a `share` of that of all points
    on everything; `tried` earlier and not reused, by other sweeps of this store with this strategy on these datasets
    (at most so many where a method asks for points, as it may ask for those); `bytes_read` from the store, once per
    node; CPU and wall seconds from the rehearsal (without start-up and asking); `cost` by
    `cluster.price_per_cpu_hour`, None without a price. `years` of history that the sweep sees, and the `least_years`
    below which so many trials without skill, those tried earlier among them, are expected to show an annual Sharpe
    ratio of 1 (minimum backtest length).
    """

    trials: int
    exact: bool
    error: float
    reused: Mapping[str, int]
    datasets: int
    units: int
    rounds: int
    rungs: tuple[Rung, ...]
    share: float
    tried: int
    bytes_read: int
    cpu_seconds: float
    cpus: int
    wall_seconds: float
    cost: float | None
    years: float
    least_years: float

    def after(self, tried: int) -> "Estimate":
        """The same where so many trials were tried earlier."""
        return replace(self, tried=tried, least_years=minimum_backtest_years(self.trials + tried))

    @property
    def too_short(self) -> str | None:
        """A warning where the history is shorter than luck needs; None where it is not."""
        if self.years >= self.least_years:
            return None
        earlier = f" and {self.tried:,} tried earlier" if self.tried else ""
        shown = math.sqrt(self.least_years / self.years)
        return (
            f"the history of {self.years:.2f} years is short for {self.trials:,} trials{earlier}: the best of so many "
            f"without skill is expected to show a Sharpe ratio of {shown:.3f} on it, and of 1 on "
            f"{self.least_years:.2f} years. Try fewer points, or more history."
        )

    def refuse_over(self, max_trials: int | None, max_cost: float | None) -> None:
        """Raises Refused when there is more to do than allowed."""
        if max_trials is not None and self.trials > max_trials:
            raise Refused(
                f"the sweep has {self.trials:,} trials and --max-trials allows {max_trials:,}: "
                "thin out the space, use search.method random, or raise the limit."
            )
        if max_cost is not None and self.cost is None:
            raise Refused("--max-cost needs a price: set cluster.price_per_cpu_hour.")
        if max_cost is not None and self.cost is not None and self.cost > max_cost:
            about, allowed = amounts(self.cost, max_cost)
            raise Refused(
                f"the sweep costs about {about} and --max-cost allows {allowed}: thin out the space or raise the limit."
            )


def cost_share(rungs: Sequence[Rung], seconds_per_trial: Sequence[float]) -> float:
    """What rungs cost, as a share of all their points on everything; 1 without rungs. seconds_per_trial: by dataset."""
    if not rungs:
        return 1.0
    cost = sum((r.stop - r.first) * r.share * sum(seconds_per_trial[d] for d in r.datasets) for r in rungs)
    return cost / (rungs[0].stop * sum(seconds_per_trial))


def amounts(*values: float) -> list[str]:
    """Sums of money for people: two decimals, or as many as tell them from nothing and from one another."""
    decimals = next(n for n in range(2, 13) if n == 12 or _told_apart([*values, 0.0], n))
    return [f"{value:,.{decimals}f}" for value in values]


def _told_apart(values: list[float], decimals: int) -> bool:
    return len({round(value, decimals) for value in values}) == len(set(values))


def estimate(resolved: ResolvedSweep, rehearsal: Rehearsal, reused: Mapping[str, int] | None = None) -> Estimate:
    """What the sweep will take, from its count and the speed of its first trials. reused: as `Estimate` has it.

    Rows that are reused take no time, but where it is open which of them a method will ask for.
    """
    count, cluster, data = resolved.plan.count(), resolved.sweep.cluster, resolved.sweep.data
    reused = dict(reused or {})
    there = 0 if isinstance(resolved.points, Asked) else sum(reused.values())
    each_s = [d["seconds_per_trial"] for d in rehearsal.datasets]
    seconds = [
        s * whole for s, whole in zip(each_s, resolved.plan.whole_trials(max(count.trials - there, 0)), strict=True)
    ]
    cpu, rungs = sum(seconds), rungs_of(resolved.points)
    cpus = cluster.cpus or cpus_here()
    unit_s = min(max(LONGEST_S, cpu / UNITS_WANTED), LONGEST_EVER_S)
    spans = resolved.points.spans if isinstance(resolved.points, Asked) else [(0, len(resolved.points))]
    least = [
        sum(math.ceil((stop - start) / MOST_NUMBERS) for s in spans for start, stop in resolved.plan.parts(dataset, s))
        for dataset in range(len(seconds))
    ]
    units = sum(max(fewest, math.ceil(own / unit_s)) for fewest, own in zip(least, seconds, strict=True))
    store = resolved.store()
    price = cluster.price_per_cpu_hour
    return Estimate(
        trials=count.trials,
        exact=count.exact,
        error=count.error,
        reused=reused,
        datasets=len(resolved.datasets),
        units=units,
        rounds=len(spans),
        rungs=rungs,
        share=cost_share(rungs, each_s),
        tried=0,
        bytes_read=sum(store.bytes_of(key, data.start, data.end) for key in resolved.datasets),
        cpu_seconds=cpu,
        cpus=cpus,
        wall_seconds=cpu / cpus,
        cost=None if price is None else cpu / 3600 * price,
        years=max(d["bars"] / bars_per_year(d["timeframe"], d["calendar"]) for d in rehearsal.datasets),
        least_years=minimum_backtest_years(count.trials),
    )
