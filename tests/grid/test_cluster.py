"""What the driver finds out about workers before it gives them work."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray
from ray.core.generated import common_pb2
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, RpcError

from grid.cluster import connect
from grid.cluster.growth import PATIENCE_S, Alone
from grid.cluster.losses import resumable, with_its_node
from grid.errors import BadInput, Unavailable
from grid.session import Session
from grid.spec import ClusterSpec
from grid.sweep import run
from tests.e2e.sweeps import small

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own warnings are not ours to mend


def test_the_same_versions_are_fine():
    here = connect.running_versions()
    assert set(here) == set(connect.SAME)
    connect.check_versions(here, dict(here), "far")


@pytest.mark.parametrize("name", connect.SAME)
def test_each_version_counts(name: str):
    here = connect.running_versions()
    with pytest.raises(BadInput, match=rf"workers on far have {name} 0\.1 where the driver has"):
        connect.check_versions(here, {**here, name: "0.1"}, "far")


def test_our_handler_of_sigterm_comes_back_also_where_ray_does_not_start():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with suppress(ConnectionError), connect._own_sigterm():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise ConnectionError
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGTERM, before)


def died(words: str, reason: int = 0) -> ActorDiedError:
    info = common_pb2.NodeDeathInfo(reason=reason)
    context = common_pb2.ActorDiedErrorContext(error_message=words, actor_id=bytes(16), node_death_info=info)
    return ActorDiedError(context)


@pytest.mark.parametrize(
    ("error", "with_node"),
    [
        (died("The actor died because its node has died. Node Id: 12ab"), True),
        (died("The actor died.", common_pb2.NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), True),
        (died("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"), False),
        (ActorUnavailableError("no answer", bytes(16)), True),
        (NodeDiedError("gone"), True),
        (OutOfMemoryError("killed"), False),
    ],
)
def test_only_what_died_without_its_node_is_charged(error: Exception, with_node: bool):
    assert with_its_node(error) == with_node


def test_a_failure_of_ray_itself_pauses_the_sweep():
    with (
        pytest.raises(Unavailable, match=r"Ray failed \(no head\): the cluster, or its head, may be gone"),
        resumable(),
    ):
        raise RpcError("a traceback\nno head.")


@pytest.mark.ray
def test_a_worker_of_another_version_gets_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there, driver = connect.running_versions(), os.getpid()
    here = {**there, "numba": "0.1"}
    monkeypatch.setattr("grid.cluster.driver.running_versions", lambda: here if os.getpid() == driver else there)
    with pytest.raises(BadInput, match=r"where the driver has 0\.1: their rows could differ"):
        run(small(tmp_path, cluster={"cpus": 1}), "ray")
    session = Session.open("latest", str(tmp_path))
    assert session.ledger.next_n == 0
    assert session.status == "interrupted"


@pytest.mark.ray
def test_a_ray_of_our_own_has_no_process_that_nobody_asks_for_anything():
    with connect.connected(ClusterSpec(cpus=1)):
        assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()
        commands, dead = [], []
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                commands.append(" ".join(process.cmdline()))
        for process in psutil.Process().children():
            with suppress(psutil.NoSuchProcess):
                dead += [process] if process.status() == psutil.STATUS_ZOMBIE else []
    assert dead == []
    assert [c for c in commands if "raylet" in c]
    assert [c for c in commands if "log_monitor" in c or "monitor.py" in c or "UsageStats" in c] == []


def test_helpers_that_cannot_be_ended_stop_nobody(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def refuse(**_: object) -> None:
        raise KeyError("no such process")

    ended: list[str] = []
    ends = {"kill_monitor": lambda **_: ended.append("monitor"), "kill_dashboard": refuse}
    node = SimpleNamespace(all_processes={}, kill_log_monitor=refuse, **ends)
    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connect.ray, "init", lambda **_: None)
    monkeypatch.setattr(connect.ray, "shutdown", lambda: ended.append("ray"))
    monkeypatch.setattr(connect.ray_worker, "_global_node", node, raising=False)
    caplog.set_level("INFO", "grid")
    with connect.connected(ClusterSpec()):
        assert ended == ["monitor"]
    assert ended == ["monitor", "ray"]
    assert "Ray's log_monitor stays" in caplog.text


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    def too_late(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connect.ray, "init", too_late)
    told = r"no Ray starts on this machine \(The current node timed out during startup\)"
    with pytest.raises(Unavailable, match=told), connect.connected(ClusterSpec()):
        pass


def test_what_ray_says_of_a_dead_process_is_a_line_of_the_log_and_never_on_stdout(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "grid")
    said = {
        "lines": ["\x1b[33m(raylet)\x1b[0m A worker died\n   or was killed." + 900 * "x"],
        "pid": "raylet",
        "is_err": False,
    }
    before = connect.ray_worker.print_to_stdstream
    with connect._logged():
        connect.ray_worker.print_to_stdstream(said, ignore_prefix=False)
    assert connect.ray_worker.print_to_stdstream is before
    assert capfd.readouterr() == ("", "")
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage().startswith("Ray says: (raylet) A worker died or was killed.x")
    assert len(record.getMessage()) < 330


def test_that_there_is_no_worker_is_told_as_it_is():
    alone = Alone(100.0)
    assert alone.told(0, 100.0 + PATIENCE_S) is None
    assert alone.told(0, 101.0 + PATIENCE_S) == "no worker has started yet"
    assert alone.told(0, 102.0 + PATIENCE_S) is None
    assert alone.told(2, 500.0) is None
    assert alone.told(0, 501.0) is None, "workers were there a moment ago"
    assert alone.told(0, 501.0 + PATIENCE_S) == "there is no worker any more"
