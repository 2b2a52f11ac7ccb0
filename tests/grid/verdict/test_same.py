"""Trials are run again with the strategy, the engine and the bars of their session, and with no others."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grid.errors import Refused
from grid.session import Session
from grid.sweep import Watch, run
from grid.verdict.holdout import look, looks
from grid.verdict.permutation import permute
from grid.verdict.verdict import verdict
from grid.verdict.words import lines
from storage.errors import BadData
from tests.conftest import REPOSITORY
from tests.grid.verdict.test_verdict import FAST, STORES, session_of, sweep_of


def test_changed_bars_are_refused(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "data" / "IBM", tmp_path / "data" / "IBM")
    data = {"store": str(tmp_path / "data"), "symbols": ["IBM"], "timeframes": ["1D"], "start": "2010-01-01"}
    session = session_of(data=data)
    (tmp_path / "data" / "IBM" / "1D" / "2011.parquet").unlink()
    told = verdict(Session(session.folder))
    assert told is not None
    assert "not those that the session was begun with" in told["simulated"]
    for again in (lambda s: s.backtest(0), lambda s: look(s, [0]), lambda s: permute(s, 2)):
        with pytest.raises(BadData, match="not those that the session was begun with"):
            again(Session(session.folder))
    assert looks(session) == []


EDITED = """
from strategies import Signals, Strategy, cross

class Edited(Strategy):
    fast: int = 5

    def signals(self, bars):
        crossed = cross(bars.sma(self.fast), bars.sma(40))
        return Signals(crossed.entries, HOW)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the exit rule of a strategy edited:Edited, as its user would; who reads it next finds that one."""

    def write(rule: str) -> None:
        (tmp_path / "edited.py").write_text(EDITED.replace("HOW", rule))
        sys.modules.pop("edited", None)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    sys.modules.pop("edited", None)


def test_a_strategy_that_was_edited_is_not_taken_for_that_of_the_rows(mine: Callable[[str], None]) -> None:
    mine("crossed.exits")
    changes = {"strategy": "edited:Edited", "space": {"fast": FAST}}
    session = session_of(**changes)
    trial = session.ledger.summary.best[0][1]
    mine("~crossed.entries")
    for again in (lambda s: s.backtest(trial), lambda s: look(s, [trial]), lambda s: permute(s, 2, processes=1)):
        with pytest.raises(Refused, match=r"source of the strategy edited:Edited changed.*Put it back"):
            again(Session(session.folder))
    assert looks(session) == []
    told = verdict(Session(session.folder))
    assert told is not None
    assert "source of the strategy edited:Edited changed" in told["simulated"]
    assert (told["headline"], told["permutation"]) == ("unknown", None)
    assert "run again here: the source" in lines(told)["data snooping"]
    assert told["luck"]["trials"] == session.trials().num_rows
    mine("crossed.exits")
    (row,) = session.rows([trial]).to_pylist()  # type: ignore[union-attr]
    assert len(Session(session.folder).backtest(trial).trades) == row["total_trades"]


def test_a_strategy_that_is_edited_while_it_runs_ends_as_it_began(mine: Callable[[str], None]) -> None:
    mine("crossed.exits")
    sweep = sweep_of(f"memory://verdict-{next(STORES)}", strategy="edited:Edited", space={"fast": FAST})
    session = run(sweep, "serial", Watch(progress=lambda _: mine("~crossed.entries")), unit_size=4)
    assert session.status == "done"
    trades = session.folder.document("trades.json")
    rows = {row["trial_id"]: row["total_trades"] for row in session.trials().to_pylist()}
    assert [len(one["trades"]) for one in trades] == [rows[one["trial_id"]] for one in trades]


def test_another_engine_is_not_taken_for_that_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of()
    monkeypatch.setattr("grid.session.ENGINE_VERSION", "none")
    with pytest.raises(Refused, match=r"engine is version none, and session .* run with version"):
        Session(session.folder).backtest(0)
