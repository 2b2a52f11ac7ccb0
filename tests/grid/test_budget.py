"""What a sweep is said to take is about what it takes, and `auto` goes by it."""

from pathlib import Path
from typing import Any

import pytest

from grid.budget import estimate
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.spec import Sweep
from grid.sweep import run, sooner
from tests.e2e.sweeps import small

PAUSE_S = 0.02


def sleepy(store: Path) -> dict[str, Any]:
    """Trials that sleep: how long they take is known, and hardly depends on what else the machine does."""
    space = {"fast": {"range": [2, 20, 2]}, "slow": {"range": [5, 50, 5]}, "pause_ms": PAUSE_S * 1000}
    return small(store, strategy="tests.e2e.sweeps:Slow", space=space)


def test_an_estimate_is_about_right(tmp_path: Path) -> None:
    resolved = resolve(Sweep(**sleepy(tmp_path)))
    told = estimate(resolved, rehearse(resolved))
    session = run(sleepy(tmp_path), "serial")
    assert told.exact
    assert told.trials == session.metadata["ok"]
    assert told.cpu_seconds >= told.trials * PAUSE_S
    assert told.cpu_seconds == pytest.approx(session.metadata["seconds"], rel=0.5)
    assert told.wall_seconds == told.cpu_seconds / told.cpus


@pytest.mark.parametrize(
    ("cpu_s", "cpus", "chosen"),
    [(1.0, 2, "serial"), (15.0, 2, "serial"), (17.0, 2, "ray"), (17.0, 1, "serial"), (9.0, 64, "ray")],
)
def test_auto_takes_what_is_done_sooner(cpu_s: float, cpus: int, chosen: str) -> None:
    """In process the work takes as long as it is; on Ray, 8 seconds and the CPUs' share of it."""
    assert sooner(cpu_s, cpus) == chosen
