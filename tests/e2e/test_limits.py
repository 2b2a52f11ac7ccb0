"""A sweep that is stopped by what it may cost or how long it may run: told, resumable, and resumed to the same rows."""

import re

import pytest

from grid.session import Session
from tests.e2e.desk import SWEEP, Desk
from tests.rows import digest

DEARER = '''
"""A strategy that turns out to be slower than its rehearsal said."""

import time
from pathlib import Path

from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Dearer(Strategy):
    """A cross whose trials take their time once the session is begun, until a file `released` is there."""

    fast: int = Field(5, ge=2, le=100)
    slow: int = Field(30, ge=3, le=1000)

    def signals(self, bars: Bars) -> Signals:
        if list(Path("results").glob("*/heartbeat.json")) and not Path("released").exists():
            time.sleep(0.01)
        return cross(bars.sma(self.fast), bars.sma(self.slow))
'''


@pytest.mark.parametrize(
    ("option", "told"),
    [("--max-cost", r"allows 0\.4 and [\d.]+ is spent"), ("--max-runtime", r"allows 0\.4 s")],
    ids=["cost", "runtime"],
)
def test_a_sweep_that_a_limit_stopped_resumes_to_the_same_rows(desk: Desk, option: str, told: str):
    """A CPU second costs 1. Each dataset is a unit of 0.5 s or more, so the first one is over the limit."""
    (desk.folder / "dearer.py").write_text(DEARER)
    data = {**SWEEP["data"], "symbols": ["AAPL", "GOOG", "IBM", "MSFT"]}
    space = {"fast": {"range": [2, 11, 1]}, "slow": {"range": [20, 60, 10]}}
    cluster = {"price_per_cpu_hour": 3600.0}
    desk.write_sweep(strategy="dearer:Dearer", data=data, space=space, cluster=cluster)
    assert desk.run("--set", "results.store=undisturbed", option, "60").code == 0
    undisturbed = digest(Session.open("latest", "undisturbed").trials())

    stopped = desk.run(option, "0.4")
    assert stopped.code == 3, stopped.err
    assert re.search(rf"^refused: {option} {told}, so the sweep was stopped", stopped.err, re.MULTILINE), stopped.err
    cut = Session.open("latest")
    assert (cut.status, 0 < cut.ledger.done.total() < 200) == ("interrupted", True)
    assert f"Next: grid resume {cut.id}\n" in stopped.out
    assert desk.grid("watch", cut.id, "-q").code == 3

    again = desk.grid("resume", cut.id, "--executor", "serial", option, "0.4", "-q")
    further = Session.open(cut.id).ledger.done.total()
    assert (again.code, further > cut.ledger.done.total()) == (3, True)  # both limits count anew
    desk.release()
    assert desk.grid("resume", cut.id, "--executor", "serial", option, "60", "-q").code == 0
    assert digest(Session.open(cut.id).trials()) == undisturbed
