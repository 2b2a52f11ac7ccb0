"""A trial that kills its worker, as who follows the sweep sees it."""

import json

import pytest

from tests.e2e.desk import PATIENCE_S, Desk

DEADLY = """
import os
import signal

from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Deadly(Strategy):
    fast: int = Field(5, ge=2, le=1000)
    slow: int = Field(30, ge=3, le=1000)

    def signals(self, bars: Bars) -> Signals:
        if (self.fast, self.slow) == (30, 50):
            os.kill(os.getpid(), signal.SIGKILL)
        return cross(bars.sma(self.fast), bars.sma(self.slow))
"""


@pytest.mark.ray
def test_the_losses_of_a_unit_are_told_once_and_ray_says_nothing(desk: Desk):
    """The trial takes four workers or more with it; stdout is for data, and driver.log has every loss."""
    (desk.folder / "deadly.py").write_text(DEADLY)
    desk.write_sweep(
        strategy="deadly:Deadly", space={"fast": {"range": [23, 30, 1]}, "slow": [50]}, cluster={"cpus": 1}
    )
    process = desk.start("run", "sweep.yaml", "--executor", "ray", "--json")
    out, err = process.communicate(timeout=2 * PATIENCE_S)
    assert process.returncode == 1, err
    ended = json.loads(out)
    assert (ended["ok"], ended["failed"]) == (14, 2)
    assert "raylet" not in out + err
    assert "\x1b" not in err
    assert err.count("a worker was lost at trials [") == 2, err  # a trial on each of two datasets
    assert err.count("was given up: its worker died (ActorDiedError), 4 times") == 2, err
    assert "no worker" not in err
    log = (desk.results / ended["session_id"] / "driver.log").read_text()
    assert log.count("a worker was lost at trials [") >= 8
