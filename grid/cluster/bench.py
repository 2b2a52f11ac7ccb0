"""How fast a cluster backtests, measured by a job on it: one worker alone, and all CPUs that are free at once."""

import sys
from dataclasses import asdict
from typing import Any

import ray

from grid.cluster.checkup import answer_of, say
from grid.measure import WARM_S, Measured, Speed, measured, rate, speeds

START_S = 120.0
"""Workers that have not started by then are left out: somebody else may have taken their CPUs."""


def measure_there(address: str, seconds: float) -> tuple[Measured, int]:
    """As `grid.measure.measure`, of the free CPUs of the cluster behind that Dashboard, and how many it has in all.

    Raises BadInput for a cluster that is not there, does not let us in, or cannot run this package.
    """
    answer = answer_of(address, "grid.cluster.bench", str(seconds))
    found = [Speed(**speed) for speed in answer["speeds"]]
    return measured(answer["cpus"], found, answer["alone"], answer["together"]), answer["all"]


@ray.remote(num_cpus=1, max_restarts=0)
class Measuring:
    """One CPU of the cluster."""

    def rate(self, seconds: float) -> float:
        return rate(seconds)

    def speeds(self, seconds: float) -> list[dict[str, Any]]:
        return [asdict(speed) for speed in speeds(seconds)]


def main(seconds: float) -> None:
    """What the job runs. One CPU is measured where none is free, when its turn comes."""
    ray.init(address="auto", log_to_driver=False)
    free, whole = (int(ray.available_resources().get("CPU", 0)), int(ray.cluster_resources().get("CPU", 0)))  # type: ignore[no-untyped-call]
    actors = [Measuring.remote() for _ in range(max(free, 1))]  # type: ignore[attr-defined]
    warm = {actor.rate.remote(WARM_S): actor for actor in actors}
    ready, _ = ray.wait(list(warm), num_returns=len(warm), timeout=START_S)
    started = [warm[each] for each in ready or ray.wait(list(warm))[0]]
    told = ray.get(started[0].speeds.remote(seconds))
    alone = ray.get(started[0].rate.remote(seconds))
    together = sum(ray.get([actor.rate.remote(seconds) for actor in started]))
    say({"cpus": len(started), "all": whole, "speeds": told, "alone": alone, "together": together})


if __name__ == "__main__":
    main(float(sys.argv[1]))
