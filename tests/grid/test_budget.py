"""What a sweep is said to take is about what it takes, and `auto` goes by it."""

from pathlib import Path
from typing import Any

import pytest

from grid.budget import estimate
from grid.rehearse import rehearse
from grid.resolve import ResolvedSweep, resolve
from grid.spec import Sweep
from grid.sweep import choose, run
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
    ("trials", "cpus", "chosen"),
    [(100, 2, "serial"), (1_500, 2, "serial"), (1_700, 2, "ray"), (1_700, 1, "serial"), (1_100, 64, "ray")],
)
def test_auto_takes_what_is_done_sooner(tmp_path: Path, trials: int, cpus: int, chosen: str) -> None:
    """10 ms a trial: in process that is trials / 100 seconds, on Ray 8 seconds and the CPUs' share of them."""
    metadata = {"trials": {"count": trials, "numbers": 2 * trials}, "datasets": [{"seconds_per_trial": 0.01}]}
    assert choose("auto", metadata, 2 * trials, with_cpus(tmp_path, cpus)) == chosen


def with_cpus(store: Path, cpus: int) -> ResolvedSweep:
    return resolve(Sweep(**small(store, cluster={"cpus": cpus})))
