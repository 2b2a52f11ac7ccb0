"""Limits: what is held, what it costs, and when it is enough."""

from pathlib import Path

import pytest

from grid.account import Account, Limits
from grid.errors import Refused
from grid.sweep import Watch, resume, run
from tests.e2e.sweeps import small
from tests.rows import digest


def test_without_limits_it_is_never_over():
    account = Account(Limits(), None, lambda: 1e9)
    account.hold(1000)
    assert account.over() is None
    assert account.cost == 0.0


def test_a_limit_on_cost_needs_a_price():
    with pytest.raises(Refused, match=r"cluster\.price_per_cpu_hour"):
        Account(Limits(cost=1.0), None)


def test_each_limit_is_told_by_its_name():
    now = [0.0]
    account = Account(Limits(runtime_s=100.0, cost=0.5), 1.0, lambda: now[0])
    account.hold(36)
    now[0] = 49.0
    assert account.over() is None
    now[0] = 50.0
    assert account.over() == "--max-cost allows 0.5 and 0.5 is spent"
    now[0] = 100.0
    assert account.over() == "--max-runtime allows 100 s"


def test_a_sweep_that_is_stopped_by_a_limit_is_resumed_to_the_same_rows(tmp_path: Path):
    space = {"fast": {"range": [2, 20, 1]}, "slow": {"range": [5, 50, 5]}, "pause_ms": 2.0}
    spec = {"strategy": "tests.e2e.sweeps:Slow", "space": space}
    stopped = run(small(tmp_path / "a", **spec), "serial", Watch(limits=Limits(runtime_s=0.2)), unit_size=5)
    assert stopped.status == "interrupted"
    assert stopped.metadata["stopped_by"] == "--max-runtime allows 0.2 s"
    assert 0 < stopped.metadata["ok"] < 300
    ended = resume(stopped, "serial")
    assert ended.status == "done"
    assert ended.metadata["stopped_by"] is None
    assert digest(ended.trials()) == digest(run(small(tmp_path / "b", **spec), "serial").trials())
