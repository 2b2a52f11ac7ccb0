"""`python -m tests.chaos.soak MINUTES`: a long sweep on a local Ray, the memory of its processes sampled.

Fails when driver, aggregator or workers grow after the warm-up by more than noise, and when driver or aggregator grow
steadily, however little it is by then: they may have to run for a week. Of these that is without what their allocators
hold free: Ray has dozens of threads, the heap of each has gaps that slowly become more, up to some 15 MB, and a trim
gives them back. A leak is what is in use.
"""

import re
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import ray

from grid.aggregate import Progress
from grid.cluster import NAMESPACE, collect
from grid.sweep import Watch, run
from tests.benchmarks.made import store_bars
from tests.chaos.measured import Measured, in_use_mb

BARS, UNIT = 35_040, 100
"""A trial takes about 1 ms, and a unit of so many trial numbers 0.1 s: in 20 minutes there are as many units as in a
week with a minute each, and a commit holds so few rows that its own memory does not hide a leak.
"""
EVERY_S = 5.0
WARM = 0.25
"""The part of the time that counts as warm-up: kernels are compiled, caches fill."""
MOST_GROWTH = 0.05
MOST_GROWTH_MB = 20.0
"""Growth of the last quarter's median over that of the quarter after the warm-up that is taken for noise."""

STEADY = ("driver", "aggregator")
MOST_MB_AN_HOUR = 5.0
"""The slope of these that is taken for noise: of 4 KB a commit, at one a second, it would be 15."""
SHORTEST_S = 600.0
"""After the warm-up; over less time than this a slope says nothing."""

Verdict = dict[str, tuple[float, float, float | None]]


class Samples:
    """Resident memory in MB by role, as time goes on; taken when the sweep tells its progress."""

    def __init__(self) -> None:
        self.by_role: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._began = time.monotonic()
        self._next = 0.0

    def __call__(self, _progress: Progress) -> None:
        now = time.monotonic() - self._began
        if now < self._next:
            return
        self._next = now + EVERY_S
        me = psutil.Process()
        resident = me.memory_info().rss / 1e6
        self.by_role["driver, resident"].append((now, resident))
        self.by_role["driver"].append((now, in_use_mb()))
        found: dict[str, list[float]] = defaultdict(list)
        for name in ray.util.list_named_actors():
            if " aggregator " in name:
                found["aggregator"].append(ray.get(ray.get_actor(name).in_use_mb.remote()))
        for process in me.children(recursive=True):
            with suppress(psutil.Error, IndexError):
                title = process.cmdline()[0]
                memory = process.memory_full_info().uss / 1e6
                if title.startswith("ray::Measured"):
                    found["aggregator, resident"].append(memory)
                elif re.match(r"ray::(Worker|\S+ trials$)", title):
                    found["workers"].append(memory)
        for role, values in found.items():
            self.by_role[role].append((now, max(values)))

    def verdict(self) -> Verdict:
        """By role: the median MB of the quarter after the warm-up and of the last quarter, and the slope in MB an hour,
        None where it says nothing.
        """
        out: Verdict = {}
        for role, samples in self.by_role.items():
            last = samples[-1][0]
            early = [mb for at, mb in samples if WARM * last <= at < 2 * WARM * last]
            late = [mb for at, mb in samples if at >= (1 - WARM) * last]
            judged = role in STEADY and (1 - WARM) * last >= SHORTEST_S
            warm = [(at, mb) for at, mb in samples if at >= WARM * last]
            out[role] = median(early), median(late), slope(warm) if judged else None
        return out


def slope(samples: list[tuple[float, float]]) -> float:
    """MB an hour: the median of the slopes of all pairs (Theil and Sen), which a few high samples do not move."""
    at, mb = np.array(samples).T
    first, second = np.triu_indices(len(at), 1)
    return float(np.median((mb[second] - mb[first]) / (at[second] - at[first]))) * 3600


def sweep_of(store: Path) -> dict[str, Any]:
    """More trials than anybody can do in the time."""
    store_bars(store / "bars", "1H", BARS)
    return {
        "name": "soak",
        "strategy": "tests.benchmarks.busy:Plain",
        "data": {"store": str(store / "bars"), "symbols": "all", "timeframes": ["1H"]},
        "space": {"fast": {"range": [2, 2000, 1]}, "slow": {"range": [5, 9000, 1]}},
        "constraints": ["fast < slow"],
        "validation": {"blocks": 16, "holdout": 0.2},
        "results": {"store": str(store / "results"), "keep_best": 20},
    }


def grew(early: float, late: float, an_hour: float | None) -> bool:
    steadily = an_hour is not None and an_hour > MOST_MB_AN_HOUR
    return steadily or late > early + max(MOST_GROWTH * early, MOST_GROWTH_MB)


def soak(minutes: float, folder: Path) -> Samples:
    """One sweep, stopped when the time is over."""
    collect.AggregatorActor = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)(Measured)  # type: ignore[misc]
    samples, until = Samples(), time.monotonic() + 60 * minutes
    ray.init(address="local", num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
    watch = Watch(progress=samples, stopping=lambda: time.monotonic() > until)
    run(sweep_of(folder), "ray", watch, unit_size=UNIT)
    ray.shutdown()
    return samples


def main() -> None:
    minutes = float(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(minutes, Path(folder))
    found = samples.verdict()
    for role, (early, late, an_hour) in found.items():
        told = "GREW" if grew(early, late, an_hour) else "steady"
        by = "" if an_hour is None else f", {an_hour:+.1f} MB an hour"
        sys.stdout.write(f"{role}: {early:.0f} MB after the warm-up, {late:.0f} MB at the end{by}, {told}\n")
    sys.exit(1 if any(grew(*pair) for pair in found.values()) else 0)


if __name__ == "__main__":
    main()
