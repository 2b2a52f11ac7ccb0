"""What is written when a session ends: true whoever else ends it at the same moment."""

from pathlib import Path
from typing import Any

import pytest

from grid.documents import finish
from grid.engine.backtest import backtest
from grid.resolve import load_bars
from grid.session import Session
from grid.sweep import Watch, resume, run
from grid.verify import audit
from storage.sessions import SessionFolder
from strategies.sma_cross import SmaCross
from tests.e2e.sweeps import DATA, small


def begun(store: Path) -> Session:
    """A session that was stopped after its first unit."""
    seen: list[object] = []
    session = run(small(store), "serial", Watch(progress=seen.append, stopping=lambda: bool(seen)), unit_size=40)
    assert 0 < session.ledger.done.total() < 380
    return Session.open(session.id, str(store))


def test_a_driver_that_stops_does_not_undo_that_another_one_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the log, the other one finishes, and it writes what it has read."""
    session, write, finished = begun(tmp_path), SessionFolder.write_document, []

    def overtaken(folder: SessionFolder, name: str, content: Any) -> None:
        if name == "metadata.json" and not finished:
            finished.append(name)
            assert resume(Session.open(session.id, str(tmp_path)), "serial").status == "done"
        write(folder, name, content)

    monkeypatch.setattr(SessionFolder, "write_document", overtaken)
    before = session.metadata["seconds"]
    ended = finish(session, stopped=True, seconds=7.0, stopped_by="--max-runtime allows 7 s")
    assert finished
    for known in (ended, Session.open(session.id, str(tmp_path))):
        assert (known.status, known.metadata["stopped_by"]) == ("done", None)
        assert known.metadata["seconds"] == pytest.approx(before + 7.0), "counted once"
        assert known.ledger.done.total() == 380
    assert audit(session.folder, 20, 1).damage == []


def test_one_that_stops_alone_is_interrupted_and_its_log_read_once(tmp_path: Path) -> None:
    session = begun(tmp_path)
    ended = finish(session, stopped=True, seconds=0.0, stopped_by="--max-runtime allows 7 s")
    assert (ended.status, ended.metadata["stopped_by"]) == ("interrupted", "--max-runtime allows 7 s")


def test_a_false_status_is_damage(tmp_path: Path) -> None:
    session = begun(tmp_path)
    stopped = session.metadata
    resume(session, "serial")
    session.folder.write_document("metadata.json", stopped)
    (damage,) = audit(session.folder, 0, 1).damage
    assert (damage.where, damage.what[:46]) == ("metadata.json", "says interrupted, and summary.json says done; ")
    resume(Session.open(session.id, str(tmp_path)), "serial")
    assert audit(session.folder, 0, 1).damage == []


def test_trades_as_records_are_those_of_the_frame():
    made = backtest(load_bars("IBM", "1D", str(DATA)), SmaCross(fast=5, slow=20), side="both")
    frame = made.trades
    times = {name: frame[name].astype(str) for name in ("entry_time", "exit_time")}
    assert len(frame) > 100
    assert made.trade_records() == frame.assign(**times).to_dict("records")
