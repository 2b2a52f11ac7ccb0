"""Signs of life: who seems to run a session, and who is refused because of it."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from grid import heartbeat
from grid.errors import Refused
from grid.heartbeat import STALE_S, Beat, Heartbeat, read_beat, refuse_second_driver, status_of
from grid.rehearse import Rehearsal, rehearse
from grid.resolve import ResolvedSweep
from grid.session import Session
from grid.sweep import Watch, resume, run
from storage import clock
from storage.errors import StorageError
from storage.providers import MemoryProvider
from storage.sessions import SessionFolder
from tests.e2e.sweeps import small
from tests.grid.faulty import FAILS, FaultyProvider


def folder_of(provider: MemoryProvider | None = None) -> SessionFolder:
    return SessionFolder(provider or MemoryProvider(), "s1")


def elsewhere(folder: SessionFolder, age_s: float, ended: bool = False) -> Beat:
    """The heartbeat of a driver on another machine, so old; its own clock is an hour ahead."""
    beat = Beat(time.time() - age_s + 3600, "d", 17, "1", "far", "another machine", "job-1", ended)
    folder.write_document(heartbeat.NAME, vars(beat))
    data, now = folder.provider._objects[f"s1/{heartbeat.NAME}"]
    folder.provider._objects[f"s1/{heartbeat.NAME}"] = data, now - age_s
    return beat


@pytest.mark.parametrize(
    ("said", "age_s", "shown"),
    [
        ("running", 1, "running"),
        ("running", STALE_S + 1, "interrupted"),
        ("interrupted", 1, "running"),
        ("interrupted", STALE_S + 1, "interrupted"),
        ("done", 1, "done"),
    ],
)
def test_the_status_follows_the_heartbeat(said: str, age_s: float, shown: str):
    folder = folder_of()
    elsewhere(folder, age_s)
    assert status_of(said, folder) == shown


@pytest.mark.parametrize(
    ("said", "age_s", "shown"),
    [("running", 1, "running"), ("running", STALE_S + 1, "interrupted"), ("interrupted", STALE_S + 1, "interrupted")],
)
def test_a_session_without_a_heartbeat_is_running_only_while_it_is_begun(said: str, age_s: float, shown: str):
    folder = folder_of()
    folder.write_document("metadata.json", {})
    data, now = folder.provider._objects["s1/metadata.json"]
    folder.provider._objects["s1/metadata.json"] = data, now - age_s
    assert status_of(said, folder) == shown


def test_a_second_driver_is_refused_with_the_name_of_the_first():
    folder = folder_of()
    elsewhere(folder, 3)
    with pytest.raises(
        Refused, match=r"process 17 on far, job job-1, heard of 3 s ago.*grid watch s1.*--force"
    ) as raised:
        refuse_second_driver(folder)
    assert f"`grid watch s1 --store {folder.provider.uri}` attaches" in str(raised.value)
    elsewhere(folder, STALE_S + 1)
    refuse_second_driver(folder)
    elsewhere(folder, 1, ended=True)
    refuse_second_driver(folder)


def test_a_driver_that_began_while_the_first_trials_were_tried_is_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session = run(small(tmp_path), "serial", Watch(stopping=lambda: True))

    def tried_meanwhile(resolved: ResolvedSweep) -> Rehearsal:
        Heartbeat(session.folder, lambda _: None).beat()
        return rehearse(resolved)

    monkeypatch.setattr("grid.begin.rehearse", tried_meanwhile)
    with pytest.raises(Refused, match="is being run by process"):
        resume(Session(session.folder), "serial")
    assert resume(Session(session.folder), "serial", force=True).status == "done"


@pytest.mark.parametrize("skew_s", [-3600.0, 3600.0])
def test_whether_a_second_driver_is_refused_depends_on_no_clock_but_the_stores(
    monkeypatch: pytest.MonkeyPatch, skew_s: float, caplog: pytest.LogCaptureFixture
):
    living, dead = folder_of(), folder_of()
    elsewhere(living, 3)
    elsewhere(dead, STALE_S + 1)
    store, module = time.time, SimpleNamespace(**vars(time))
    module.time = lambda: store() + skew_s
    monkeypatch.setattr(clock, "time", module)
    monkeypatch.setattr(heartbeat, "time", module)
    with pytest.raises(Refused, match="heard of 3 s ago"):
        refuse_second_driver(living)
    refuse_second_driver(dead)
    assert "this machine's clock is 3600 s" in caplog.text
    assert [path for path in living.provider.list() if "clock" in path] == []


def test_a_driver_of_this_machine_that_is_gone_is_not_waited_for():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = heartbeat._process_start(child.pid)
    beat = Beat(time.time(), "d", child.pid, started, "here", heartbeat._place(), None, False)
    assert beat.alive(time.time())
    child.kill()
    while heartbeat._process_start(child.pid):
        time.sleep(0.01)
    assert not beat.alive(time.time())  # a zombie: killed, not yet waited for
    child.communicate()
    assert not beat.alive(time.time())
    mine = replace(beat, pid=os.getpid())
    assert not mine.alive(time.time()), "the pid is in use again, by a process that began at another time"


def test_it_beats_in_the_background_and_says_goodbye(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    folder, beats, chores = folder_of(), [], []
    with Heartbeat(folder, beats.append, [lambda: chores.append(1)]).beating():
        while len(chores) < 3:
            time.sleep(0.01)
        assert read_beat(folder).alive(time.time())
    assert read_beat(folder).ended
    assert beats == sorted(beats)
    count = len(beats)
    time.sleep(0.05)
    assert len(beats) == count


def test_whoever_is_about_to_end_says_goodbye_and_is_not_waited_for():
    folder, chores = folder_of(), []
    beating = Heartbeat(folder, lambda _: None, [lambda: chores.append(1)])
    with beating.beating():
        with pytest.raises(Refused):
            refuse_second_driver(folder)
        beating.goodbye()
        refuse_second_driver(folder)
        assert chores == [1]
    beat = read_beat(folder)
    assert beat is not None
    assert not beat.died_at_work


def test_it_beats_on_whatever_fails_beside_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Else a driver that lives would look dead, and a second one begin."""
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    beats: list[float] = []

    def fail() -> None:
        raise RuntimeError("no telemetry")

    with Heartbeat(folder_of(), beats.append, [fail]).beating():
        until = time.monotonic() + 30
        while len(beats) < 4 and time.monotonic() < until:
            time.sleep(0.01)
    assert len(beats) >= 4
    assert "the heartbeat goes on without something that failed" in caplog.text


def test_a_store_that_fails_disturbs_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    provider, beats = FaultyProvider(), []
    provider.script["write"].extend([FAILS] * 3)
    with Heartbeat(folder_of(provider), beats.append).beating():
        while not beats:
            time.sleep(0.01)
    assert read_beat(folder_of(provider)).ended


def test_a_store_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch):
    class Hanging(MemoryProvider):
        def write(self, path: str, data: bytes) -> None:
            if self._objects:
                time.sleep(3)
                raise StorageError("too late")
            super().write(path, data)

    monkeypatch.setattr(heartbeat, "EVERY_S", 0.01)
    monkeypatch.setattr(heartbeat, "LONGEST_GOODBYE_S", 0.1)
    folder = folder_of(Hanging())
    began = time.monotonic()
    with Heartbeat(folder, lambda _: None).beating():
        time.sleep(0.1)
    assert time.monotonic() - began < 2


def test_a_running_sweep_is_running_and_its_second_driver_refused(tmp_path: Path):
    seen: list[str] = []

    def look(_: object) -> None:
        session = Session.open("latest", str(tmp_path))
        seen.append(session.status)
        with pytest.raises(Refused, match=f"process {os.getpid()} on"):
            resume(session, "serial")

    session = run(small(tmp_path), "serial", Watch(progress=look))
    assert set(seen) == {"running"}
    assert session.status == "done"


def test_two_drivers_by_force_still_commit_each_trial_once(tmp_path: Path):
    seen: list[object] = []

    def look(_: object) -> None:
        seen.append(1)
        if len(seen) == 1:
            resume(Session.open("latest", str(tmp_path)), "serial", force=True)

    session = run(small(tmp_path), "serial", Watch(progress=look), unit_size=40)
    rows = session.trials(["trial_id"])["trial_id"].to_pylist()
    assert len(rows) == len(set(rows)) == session.metadata["ok"]
