"""How the sweeps on a cluster divide its CPUs among them, without anybody who hands them out.

Each driver finds the others by the names of their aggregators, which say how many CPUs a sweep may use. From the same
names all drivers work out the same shares. A sweep that ends, however it does, is no longer among the names.
"""

import logging
import re
from collections.abc import Iterable, Mapping

import ray
from ray.exceptions import RayError

log = logging.getLogger(__name__)

_AGGREGATOR = re.compile(r"(\S+) aggregator for (\d+|all) CPUs \w+")


def kind(cpus: int | None) -> str:
    """What an aggregator is called between its session and its number; cpus: at most that its sweep may use."""
    return f"aggregator for {cpus or 'all'} CPUs"


def sweeps(names: Iterable[str]) -> dict[str, int | None]:
    """The sessions among the names of actors, and how many CPUs each may use, None where that is not bounded."""
    found = [match for name in names if (match := _AGGREGATOR.fullmatch(name))]
    return {match[1]: None if match[2] == "all" else int(match[2]) for match in found}


def share(cpus: int, asked: Mapping[str, int | None], session_id: str) -> int:
    """How many of `cpus` a session may have: as many as each other one, and what others have no use for.

    Never less than one: where there are more sweeps than CPUs some wait. What does not divide goes to the last ones.
    """
    left, given = cpus, 0
    inorder = sorted(asked, key=lambda each: (cpus if asked[each] is None else asked[each], each))
    for place, each in enumerate(inorder):
        given = min(asked[each] or cpus, left // (len(inorder) - place))
        left -= given
        if each == session_id:
            break
    return max(given, 1)


class Share:
    """The share of one session, as other sweeps come and go."""

    def __init__(self, session_id: str, cpus: int | None) -> None:
        """cpus: how many it may use at most, None for all."""
        self._session_id, self._cpus = session_id, cpus
        self._others: dict[str, int | None] = {}

    def of(self, cpus: int) -> int:
        """How many of the cluster's CPUs the session may hold now."""
        try:
            names = ray.util.list_named_actors()
        except RayError as error:  # the head is away, and so is what changes this
            log.debug("the other sweeps are not known: %s", error)
        else:
            self._others = {name: most for name, most in sweeps(names).items() if name != self._session_id}
        return share(cpus, {**self._others, self._session_id: self._cpus}, self._session_id)
