"""The sweep on Ray: plan, evaluator and aggregator of `grid/sweep.py`, on workers.

Only this package and `grid/jobs.py` import Ray. `connect` reaches a cluster, `actors` run on it, `driver` feeds them.
The driver sends units and sees counts; rows go from worker to aggregator by reference. Ray retries nothing by itself:
`grid/dispatch.py` decides, and a batch is kept until the aggregator has committed it, so that any of them may die.
"""

from collections.abc import Callable

from grid.cluster.connect import NAMESPACE, connected
from grid.cluster.driver import Driver
from grid.cluster.head import watched
from grid.cluster.losses import resumable
from grid.cluster.metrics import RaySink
from grid.hints import own_resume_command
from grid.sweep import Watch, Work

__all__ = ["NAMESPACE", "connected", "run_on_ray"]


def run_on_ray(work: Work, watch: Watch, goodbye: Callable[[], None]) -> None:
    """Work off the plan on the cluster that the sweep names, or on a local Ray started for it. goodbye: of the driver,
    for when the head is lost.
    """
    cluster, head_lost = work.resolved.sweep.cluster, watched(own_resume_command(work.session), goodbye)
    with connected(cluster), watch.telemetry.also(RaySink()), resumable(), head_lost:
        Driver(work, watch).run()
