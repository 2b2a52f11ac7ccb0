"""A session seen from another shell: progress, the end, the exit code; and the log it leaves."""

import json
import signal
import time

import pytest

from grid import heartbeat
from tests.e2e.desk import PATIENCE_S, ROOT, Desk

SLOW = {"PAUSE": "0.02", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def running(desk: Desk):
    """A sweep in a process of its own, of more than half a minute unless it is released; of three trials one fails."""
    desk.write_sweep(strategy="mine:Fussy", space={"fast": [5, 10, 15], "slow": {"range": [20, 319, 1]}})
    process = desk.start("run", "sweep.yaml", "--executor", "serial", **SLOW)
    desk.wait_for_heartbeat(process)
    yield process
    process.kill()
    process.communicate()


def test_watch_follows_to_the_end_and_exits_as_run_does(desk: Desk, running):
    watching = desk.start("watch", "latest", "--every", "0.2", "--json", PYTHONPATH=str(ROOT))
    first = watching.stdout.readline()
    desk.release()
    rest, _ = watching.communicate(timeout=PATIENCE_S)
    lines = [json.loads(line) for line in [first, *rest.splitlines()]]
    running.communicate(timeout=PATIENCE_S)
    assert watching.returncode == running.returncode == 1  # some trials failed
    assert lines[0]["status"] == "running"
    assert lines[-1]["status"] == "done"
    done = [line["done"] for line in lines]
    assert done == sorted(done)
    assert done[-1] == lines[-1]["total"] == lines[-1]["ok"] + lines[-1]["failed"] == 1800
    assert lines[-1]["best"]["trial_id"] >= 0


def test_a_running_session_is_shown_as_running_and_not_run_twice(desk: Desk, running):
    assert desk.grid("ls", "--json").json()[0]["status"] == "running"
    second = desk.grid("resume", "latest")
    assert second.code == 3
    assert f"is being run by process {running.pid} on" in second.err
    assert second.err.count("\n") == 1
    assert "grid watch" in desk.grid("show", "latest").out


def test_a_killed_session_is_shown_as_interrupted(desk: Desk, running):
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert desk.grid("ls", "--json").json()[0]["status"] == "interrupted"
    outcome = desk.grid("watch", "latest", "--json")
    assert outcome.code == 130
    assert json.loads(outcome.out.splitlines()[-1])["status"] == "interrupted"
    desk.release()
    assert desk.grid("resume", "latest", "--executor", "serial", "-q").code == 1


def test_a_silent_driver_elsewhere_is_interrupted_after_half_a_minute(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.session()
    path = desk.results / session / "metadata.json"
    path.write_text(path.read_text().replace('"status": "done"', '"status": "running"'))
    beat = desk.results / session / "heartbeat.json"
    content = {**json.loads(beat.read_text()), "ended": False, "place": "elsewhere", "time": time.time()}
    beat.write_text(json.dumps(content))
    assert desk.grid("show", session, "--json").json()["status"] == "running"
    monkeypatch.setattr(heartbeat, "STALE_S", -1.0)
    assert desk.grid("show", session, "--json").json()["status"] == "interrupted"


def test_a_watched_session_that_a_limit_stopped_exits_with_three(desk: Desk):
    desk.write_sweep(cluster={"price_per_cpu_hour": 1e6})
    stopped = desk.run("--max-runtime", "0")
    assert stopped.code == 3
    assert "refused: --max-runtime allows 0 s, so the sweep was stopped" in stopped.err
    assert desk.grid("watch", "latest", "-q").code == 3
    assert desk.grid("resume", "latest", "--executor", "serial", "-q").code == 0
    assert desk.grid("watch", "latest", "-q").code == 0


def test_the_driver_leaves_its_log_with_the_session(desk: Desk):
    desk.run("--max-runtime", "0", "-q")
    session = desk.grid("ls", "--json").json()[0]["session_id"]
    desk.grid("resume", "latest", "--executor", "serial", "-q")
    log = (desk.results / session / "driver.log").read_text().splitlines()
    assert len(log) == 4  # begun and ended, twice
    assert all(session in line for line in log)
    assert "interrupted, 0 ok" in log[1]
    assert "done, 12 ok" in log[3]


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_messages_as_json_carry_the_session(desk: Desk, monkeypatch: pytest.MonkeyPatch, how: str):
    if how == "variable":
        monkeypatch.setenv("GRID_LOG", "json")
    outcome = desk.run("--metrics-port", "0", *(["--log-json"] if how == "flag" else []))
    lines = [json.loads(line) for line in outcome.err.splitlines()]
    session = desk.grid("ls", "--json").json()[0]["session_id"]
    assert {line["session_id"] for line in lines} == {session}
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert any(line.get("metrics_port") for line in lines)
    stored = (desk.results / session / "driver.log").read_text().splitlines()
    assert [json.loads(line)["session_id"] for line in stored] == [session] * 2


def test_an_error_is_one_line_of_json_too(desk: Desk):
    outcome = desk.grid("run", "none.yaml", "--log-json")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert json.loads(line)["level"] == "error"


def test_a_session_id_of_ones_own_is_begun_and_then_resumed(desk: Desk):
    first = desk.run("--session-id", "mine-1", "--max-runtime", "0", "-q")
    assert first.code == 3
    again = desk.run("--session-id", "mine-1", "--json")
    assert again.code == 0
    assert again.json()["session_id"] == "mine-1"
    assert [row["session_id"] for row in desk.grid("ls", "--json").json()] == ["mine-1"]
    desk.write_sweep(space={"fast": [5], "slow": [20]})
    other = desk.run("--session-id", "mine-1")
    assert other.code == 3
    assert "the engine or the sweep changed" in other.err


def test_a_session_that_was_only_announced_is_begun(desk: Desk):
    (desk.results / "catalog").mkdir(parents=True)
    (desk.results / "catalog" / "mine-1.json").write_text('{"session_id": "mine-1"}')
    assert desk.run("--session-id", "mine-1", "-q").code == 0


def test_a_bad_session_id_is_refused(desk: Desk):
    assert desk.run("--session-id", "../x").code == 2
    assert not desk.results.exists()


def test_a_session_of_a_cluster_is_resumed_here(desk: Desk):
    """What was submitted says `auto`, which means nothing on another machine."""
    desk.write_sweep(cluster={"address": "auto"})
    assert desk.run("--max-runtime", "0", "-q").code == 3
    assert desk.grid("resume", "latest", "--address", "local", "-q").code == 0


def test_ray_client_is_refused_where_an_address_is_given(desk: Desk):
    session = desk.session()
    sessions = desk.snapshot()
    for arguments in (
        ("run", "sweep.yaml", "--address", "ray://head:10001"),
        ("plan", "sweep.yaml", "--set", "cluster.address=ray://head:10001"),
        ("resume", session, "--address", "ray://head:10001"),
        ("submit", "sweep.yaml", "--address", "ray://head:10001"),
        ("logs", "x", "--address", "ray://head:10001"),
        ("stop", "x", "--address", "ray://head:10001"),
        ("ls", "--address", "ray://head:10001"),
    ):
        outcome = desk.grid(*arguments)
        assert outcome.code == 2, arguments
        assert "Ray Client" in outcome.err
        assert "grid submit" in outcome.err
        assert outcome.err.count("\n") == 1
    assert desk.snapshot() == sessions
