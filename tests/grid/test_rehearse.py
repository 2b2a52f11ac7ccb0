"""The rehearsal of a sweep whose trials do their worst: a row or a refusal, and the driver lives."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grid import rehearse as module
from grid.apart import Fallen
from grid.errors import Refused
from grid.rehearse import CANARIES, MOST_OVERDUE, Rehearsal, rehearse
from grid.resolve import resolve
from grid.session import Session
from grid.spec import Sweep
from grid.sweep import choose, run
from tests.e2e.sweeps import DATA, small

DIES = {"kill": "SIGKILL", "leave": "exit code 0"}
RAISES = {"raise": "ZeroDivisionError", "shape": "SignalError"}


def poisoned(store: Path, way: str, bad: int, fast: int = 41, **changes: Any) -> dict[str, Any]:
    space = {"fast": {"range": [2, fast, 1]}, "bad": bad, "way": way}
    return small(store, strategy="tests.chaos.poison:Poison", space=space, constraints=[], **changes)


def rehearsed(store: Path, way: str, bad: int, fast: int = 41) -> Rehearsal:
    return rehearse(resolve(Sweep(**poisoned(store, way, bad, fast))))


@pytest.mark.parametrize("way", [*DIES, *RAISES])
def test_a_canary_that_does_its_worst_is_an_error_among_others(tmp_path: Path, way: str) -> None:
    found = rehearsed(tmp_path, way, bad=5)
    assert len(found.canaries) == CANARIES
    assert [i for i, error in enumerate(found.canaries) if error is not None] == [3]
    assert {**DIES, **RAISES}[way] in str(found.canaries[3])
    assert found.deadly == (way in DIES)
    assert all(0 < d["seconds_per_trial"] < 0.5 for d in found.datasets)
    found.refuse_hopeless()


@pytest.mark.parametrize("way", ["kill", "raise"])
def test_canaries_that_all_do_are_a_refusal(tmp_path: Path, way: str) -> None:
    with pytest.raises(Refused, match=rf"the first 20 trials all fail alike.*{ {**DIES, **RAISES}[way] }"):
        rehearsed(tmp_path, way, bad=0).refuse_hopeless()


def test_trials_that_never_end_are_a_refusal_before_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 1.0)
    found = rehearsed(tmp_path, "loop", bad=0)
    assert found.canaries == ["it took longer than 1 s"] * MOST_OVERDUE
    with pytest.raises(Refused, match=r"the first 3 trials all fail alike, .* it took longer than 1 s"):
        found.refuse_hopeless()
    assert all(d["seconds_per_trial"] > 0 for d in found.datasets)


@pytest.mark.parametrize("way", ["kill", "loop"])
def test_one_among_the_timed_trials_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Trial 30 is no canary, and is met when speed is measured."""
    run(small(tmp_path), "serial")  # so that nothing is left to be compiled, and only what hangs is silent
    monkeypatch.setattr(module, "SILENCE_S", 5.0)
    found = rehearsed(tmp_path, way, bad=32)
    assert found.canaries == [None] * CANARIES
    assert found.deadly
    assert all(0 < d["seconds_per_trial"] < 0.5 for d in found.datasets)


@pytest.mark.parametrize(
    ("silence_s", "overdue", "deadly"), [(60, True, True), (1e-9, True, False), (1e-9, False, True)]
)
def test_a_chunk_of_slow_trials_is_not_deadly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silence_s: float, overdue: bool, deadly: bool
) -> None:
    """One that takes as long as the canaries let expect; one that dies is, and one that was to be quick."""

    def answers(*_: object) -> Iterator[Any]:
        yield from [[module.CANARY, None]] * CANARIES
        raise Fallen("the timing fell", overdue)

    resolved = resolve(Sweep(**small(tmp_path)))
    monkeypatch.setattr(module, "SILENCE_S", silence_s)
    monkeypatch.setattr(module, "answers", answers)
    assert rehearse(resolved).deadly == deadly


def test_all_datasets_have_a_speed_though_few_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TIMED", 2)
    data = {"store": str(DATA), "symbols": ["AAPL", "GOOG", "IBM", "MSFT"], "timeframes": ["1D"]}
    found = rehearse(resolve(Sweep(**small(tmp_path, data=data)))).datasets
    per_bar = [d["seconds_per_trial"] / d["bars"] for d in found]
    assert per_bar[1] == pytest.approx(per_bar[0])
    assert per_bar[3] == pytest.approx(per_bar[2])


def test_nothing_of_it_happens_in_this_process(tmp_path: Path) -> None:
    """What a strategy keeps to itself is not there when the sweep begins."""
    from tests.chaos import poison

    seen: list[int] = []
    poison.WORST["raise"], kept = lambda: seen.append(os.getpid()), poison.WORST["raise"]
    rehearsed(tmp_path, "raise", bad=0)
    poison.WORST["raise"] = kept
    assert seen == []


def chosen(session: Session) -> str:
    return choose("auto", session, session.resolved)


def test_auto_leaves_a_sweep_to_ray_when_a_trial_is_deadly(tmp_path: Path) -> None:
    session = run(small(tmp_path), "serial")
    assert chosen(session) == "serial"
    session.metadata["deadly"] = True
    assert chosen(session) == "ray"


@pytest.mark.parametrize(
    ("said", "executor"), [({"ended": False}, "ray"), ({"cut_short": True}, "ray"), ({}, "serial")]
)
def test_auto_leaves_it_to_ray_when_the_last_driver_did_not_end_by_itself(
    tmp_path: Path, said: dict[str, bool], executor: str
) -> None:
    session = run(small(tmp_path), "serial")
    beat = session.folder.document("heartbeat.json")
    session.folder.write_document("heartbeat.json", {**beat, **said})
    assert chosen(session) == executor
