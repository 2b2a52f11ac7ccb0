"""What goes wrong and when, from a seed."""

import random
from dataclasses import dataclass

KINDS = (
    "worker killed",
    "node killed",
    "aggregator killed",
    "driver killed",
    "driver told to stop",
    "second driver",
    "link cut",
    "requests refused",
    "requests reset",
    "answers lost",
    "answers cut short",
    "requests delayed",
)
BOTH, FENCED = "second driver, both committed", "second driver, what it did was committed already"
OUTCOMES = {"second driver": (BOTH, FENCED)}
"""What a kind is counted as, where it may end in more than one way."""
OF_LINKS = ("link cut",)
EARLY = ("second driver",)
"""It takes time to begin, and is to meet what else goes wrong."""
FIRST, LAST = 0.03, 0.85
"""The part of the sweep in which things go wrong."""


@dataclass(frozen=True, order=True)
class Event:
    """A fault of a kind when `progress` of the sweep is committed; it lasts `seconds` where it can; `which` of many."""

    progress: float
    kind: str
    seconds: float
    which: int


def schedule(seed: int, events: int, kinds: tuple[str, ...] = KINDS) -> list[Event]:
    """The events of a seed, in order. Every kind comes before one comes twice; those of EARLY come first."""
    dice = random.Random(seed)
    chosen: list[str] = []
    while len(chosen) < events:
        chosen += dice.sample(kinds, len(kinds))
    chosen = sorted(chosen[:events], key=lambda kind: kind not in EARLY)
    at = sorted(dice.uniform(FIRST, LAST) for _ in range(events))
    return [
        Event(round(progress, 3), kind, round(dice.uniform(1.0, 12.0), 1), dice.randrange(1000))
        for progress, kind in zip(at, chosen, strict=True)
    ]
