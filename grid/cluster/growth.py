"""Too few CPUs: an autoscaling cluster is asked for those that a sweep may use, and the log told when there is none.

An autoscaler starts nodes for what waits for resources, and a sweep gives work only to workers that run. So CPUs are
asked for by placement groups of one CPU that wait. Ray forgets them with the driver, however that ends; where one comes
to its CPU, it makes room for a worker.
"""

from dataclasses import dataclass

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

MOST = 64
"""CPUs asked for at a time; more are asked for as these come."""

PATIENCE_S = 30.0
"""Without any worker for so long, the log says what that may mean."""


class Growth:
    """What one driver asks for."""

    def __init__(self) -> None:
        self._waiting: list[PlacementGroup] = []

    def ask(self, cpus: int) -> None:
        """Have so many more CPUs asked for, no longer and no more than `MOST`. Nothing where nobody adds nodes.

        In the place of one that came to its CPU another one is asked for the next time: an autoscaler that sees both
        would start a node too many.
        """
        came = [group for group in self._waiting if group.wait(0)]
        waiting = [group for group in self._waiting if group not in came][: max(cpus, 0)]
        for group in self._waiting:
            if group not in waiting:
                remove_placement_group(group)
        new = 0 if came else min(cpus, MOST) - len(waiting)
        self._waiting = waiting + [placement_group([{"CPU": 1}]) for _ in range(new)]

    def close(self) -> None:
        """Ask for nothing any more."""
        self.ask(0)


@dataclass
class Alone:
    """Tells that there has been no worker for long: `since` some time, in seconds of a clock."""

    since: float
    had_any: bool = False

    def told(self, workers: int, now: float) -> str | None:
        """What to say now that there are so many; nothing while there are some, and again only after as long a time."""
        if workers:
            self.since, self.had_any = now, True
        elif now - self.since > PATIENCE_S:
            self.since = now
            return "there is no worker any more" if self.had_any else "no worker has started yet"
        return None
