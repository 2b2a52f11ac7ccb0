"""What a soak takes for growth."""

import numpy as np
import pytest

from tests.chaos.soak import EVERY_S, SHORTEST_S, Samples, grew


def samples(minutes: float, mb_an_hour: float, role: str = "aggregator") -> Samples:
    """A process that grows so fast, with the noise of a garbage collector and now and then a large batch."""
    dice, made = np.random.default_rng(1), Samples()
    for at in np.arange(0, 60 * minutes, EVERY_S):
        noise = dice.uniform(0, 4) + (30 if dice.random() < 0.1 else 0)
        made.by_role[role].append((float(at), 150 + mb_an_hour * at / 3600 + noise))
    return made


@pytest.mark.parametrize(("mb_an_hour", "told"), [(0.0, False), (1.0, False), (15.0, True)])
def test_a_slow_leak_is_seen_in_twenty_minutes(mb_an_hour: float, told: bool) -> None:
    (found,) = samples(20, mb_an_hour).verdict().values()
    assert grew(*found) == told


def test_what_says_nothing_is_not_judged() -> None:
    assert samples(SHORTEST_S / 60, 15.0).verdict()["aggregator"][2] is None
    assert samples(20, 15.0, "workers").verdict()["workers"][2] is None


def test_growth_at_once_is_seen_in_any_time() -> None:
    made = samples(4, 0.0, "workers")
    made.by_role["workers"] = [(at, mb + (25 if at > 120 else 0)) for at, mb in made.by_role["workers"]]
    assert grew(*made.verdict()["workers"])
