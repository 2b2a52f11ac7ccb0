"""What the commands say of trials that were run before."""

import json

import pytest

from tests.e2e.desk import Desk


@pytest.fixture
def first(desk: Desk) -> str:
    """A session of four of the six points."""
    desk.write_sweep(space={"fast": [5, 10], "slow": [20, 30]})
    session_id = desk.session()
    desk.write_sweep()
    return session_id


def test_plan_run_and_show_tell_whose_trials_are_reused(desk: Desk, first: str) -> None:
    planned = desk.grid("plan", "sweep.yaml")
    assert f"reused  8 trials of {first} (8)" in planned.out
    before = desk.snapshot()
    assert desk.grid("plan", "sweep.yaml", "--json").json()["reused"] == {first: 8}
    assert desk.snapshot() == before
    ran = desk.run()
    assert f"reusing 8 trials of {first} (8)" in ran.err
    assert f", 8 trials of {first} (8) reused.\n" in ran.out
    shown = desk.grid("show", "latest", "--no-verdict")
    assert f"reused  8 trials of {first} (8)" in shown.out
    assert desk.grid("show", "latest", "--json", "--no-verdict").json()["committed"]["reused"] == {first: 8}
    assert f"Run by session {first}, and reused." in desk.grid("show", "latest", "--trial", "0").out
    assert "reused" not in desk.grid("show", "latest", "--trial", "4").out
    assert "reused" not in desk.grid("top", "latest").out
    verified = desk.grid("verify", "latest", "--sample", "100")
    assert (verified.code, "12 trials recomputed" in verified.out) == (0, True)
    assert ", 8 of them run by other sessions" in verified.out
    assert json.loads(desk.grid("tried", "--json").out)[0]["trials"] == 6


def test_without_reuse_nothing_is_said(desk: Desk, first: str) -> None:
    assert first not in desk.grid("plan", "sweep.yaml", "--no-reuse").out
    ran = desk.run("--no-reuse")
    assert (ran.code, first in ran.out + ran.err) == (0, False)
    assert desk.grid("show", "latest", "--json").json()["committed"]["reused"] == {}
    assert desk.grid("show", "latest", "--json").json()["sweep"]["results"]["reuse"] is False


def test_a_method_takes_what_it_asks_for(desk: Desk, first: str) -> None:
    desk.write_sweep(search={"method": "local", "trials": 4, "round": 2})
    told = desk.grid("plan", "sweep.yaml").out
    assert f"8 trials of {first} (8), as far as the search asks for them" in " ".join(told.split())
    assert desk.run().code == 0
    reused = desk.grid("show", "latest", "--json").json()["committed"]["reused"]
    assert 0 < sum(reused.values()) <= 8
    assert ", 2 rounds asked for again" in desk.grid("verify", "latest").out


def test_what_is_reused_costs_nothing(desk: Desk, first: str) -> None:
    desk.write_sweep(cluster={"price_per_cpu_hour": 1e6}, space={"fast": [5, 10], "slow": [20, 30]})
    limit = ("plan", "sweep.yaml", "--max-cost", "0.000001")
    assert [desk.grid(*limit, "--no-reuse").code, desk.grid(*limit).code] == [3, 0]
    assert desk.grid("plan", "sweep.yaml", "--json").json()["cost"] == 0
    assert first in desk.run("--max-cost", "1000").err
