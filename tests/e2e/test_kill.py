"""A sweep whose process is killed with SIGKILL at five moments, resumed each time, ends with the undisturbed rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from grid.plan import Plan
from grid.search import Asked, points_of
from grid.session import Session
from grid.sweep import run
from tests.e2e.sweeps import small
from tests.rows import digest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


def slow(store: Path, until: Path) -> dict[str, Any]:
    """2256 trials of 15 ms, which is far more than what is left undone between two kills, and of none once `until` is
    there.
    """
    space = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 50, 1]}, "pause_ms": 15.0, "until": str(until)}
    return small(store, strategy="tests.e2e.sweeps:Slow", space=space, cluster={"cpus": 2})


@pytest.fixture(scope="module")
def until(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One path for all, as it is a parameter of the trials."""
    return tmp_path_factory.mktemp("until") / "killed"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, until: Path) -> Session:
    until.touch()
    return run(slow(tmp_path_factory.mktemp("undisturbed"), until), "serial")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "grid", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def commits(store: Path) -> int:
    return len(list(store.glob("**/commits/*.json")))


def kill_when(process: subprocess.Popen[bytes], store: Path, wanted: int, then_s: float) -> None:
    """SIGKILL once the session is announced and has `wanted` commits more than at the start, `then_s` later."""
    until, before = time.monotonic() + PATIENCE_S, commits(store)
    while commits(store) < before + wanted or not list(store.glob("**/metadata.json")):
        assert process.poll() is None, f"it ended by itself: {process.stderr.read().decode()}"  # type: ignore[union-attr]
        assert time.monotonic() < until, "the moment to kill it never came"
        time.sleep(0.01)
    time.sleep(then_s)
    assert process.poll() is None, "it had ended by itself"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_while_it_takes_over_what_was_run_before(tmp_path: Path, undisturbed: Session, until: Path) -> None:
    """Every other column of the space is there; each driver finds it anew."""
    store, spec = tmp_path / "results", tmp_path / "sweep.json"
    sweep = slow(store, until)
    until.touch()
    earlier = run({**sweep, "space": {**sweep["space"], "fast": {"range": [3, 40, 2]}}}, "serial")
    until.unlink()
    spec.write_text(json.dumps(sweep))
    mine = f"{sweep['name']}-that-is-killed"
    kill_when(start("run", str(spec), "--executor", "serial", "--session-id", mine), store / mine, 1, 0.1)
    kill_when(start("resume", mine, "--store", str(store), "--executor", "serial"), store / mine, 1, 0.3)
    until.touch()
    left = start("resume", mine, "--store", str(store), "--executor", "serial")
    _, errors = left.communicate(timeout=PATIENCE_S)
    assert left.returncode == 0, errors.decode()
    session = Session.open(mine, str(store))
    assert dict(session.ledger.summary.reused) == {earlier.id: earlier.ledger.summary.ok}
    assert digest(session.trials().drop_columns(["reused_from"])) == digest(
        undisturbed.trials().drop_columns(["reused_from"])
    )


@pytest.mark.parametrize("executor", ["serial", pytest.param("ray", marks=pytest.mark.ray)])
def test_killed_at_five_moments(tmp_path: Path, undisturbed: Session, until: Path, executor: str) -> None:
    """At once after the announcement, right after a commit of its own, and at three times between two of them."""
    store, spec = tmp_path / "results", tmp_path / "sweep.json"
    spec.write_text(json.dumps(slow(store, until)))
    until.unlink()
    resume = ("resume", "latest", "--store", str(store), "--executor", executor)
    kill_when(start("run", str(spec), "--executor", executor), store, 0, 0.0)
    for wanted, then_s in ((1, 0.0), (1, 0.2), (1, 0.4), (1, 0.7)):
        kill_when(start(*resume), store, wanted, then_s)
    until.touch()
    left = start(*resume)
    _, errors = left.communicate(timeout=PATIENCE_S)
    assert left.returncode == 0, errors.decode()
    session = Session.open("latest", str(store))
    assert session.status == "done"
    assert digest(session.trials()) == digest(undisturbed.trials())


def test_killed_in_the_midst_of_the_second_rung(tmp_path: Path, until: Path) -> None:
    """The driver that resumes knows nothing but the rows, of which some are of that rung already."""
    store, spec = tmp_path / "results", tmp_path / "sweep.json"
    sweep = {**slow(store, until), "search": {"method": "halving", "trials": 450, "seed": 2}}
    until.touch()
    undisturbed = run({**sweep, "results": {"store": str(tmp_path / "undisturbed")}}, "serial")
    until.unlink()
    spec.write_text(json.dumps(sweep))
    process = start("run", str(spec), "--executor", "serial", "--session-id", "halved")
    deadline = time.monotonic() + PATIENCE_S
    while not (store / "halved" / "metadata.json").exists() or left_of_second_rung(store)[0] == 300:
        assert process.poll() is None, f"it ended by itself: {process.stderr.read().decode()}"  # type: ignore[union-attr]
        assert time.monotonic() < deadline, "the moment to kill it never came"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    left, of = left_of_second_rung(store)
    assert (0 < left < of, of) == (True, 300)
    until.touch()
    last = start("resume", "halved", "--store", str(store), "--executor", "serial")
    _, errors = last.communicate(timeout=PATIENCE_S)
    assert last.returncode == 0, errors.decode()
    session = Session.open("halved", str(store))
    assert digest(session.trials()) == digest(undisturbed.trials())
    assert session.top_points(3) == undisturbed.top_points(3)


def left_of_second_rung(store: Path) -> tuple[int, int]:
    """Trials of the second of three rungs that are not committed, and how many it has."""
    session = Session.open("halved", str(store))
    plan = Plan(session.datasets, points_of(session.sweep, len(session.datasets)))
    assert isinstance(plan.points, Asked)
    span = plan.points.spans[1]
    return plan.missing(span, session.ledger.done), plan.numbers(span)
