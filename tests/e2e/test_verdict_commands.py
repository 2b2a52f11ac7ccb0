"""The verdict as people meet it: typed commands, their words, their JSON, and what they refuse."""

import json
from typing import Any

import pytest

from tests.e2e.desk import Desk
from tests.e2e.walks import closes, sweep_of, write_bars

HOLDOUT = {"blocks": 4, "holdout": 0.25}


def walk(desk: Desk, **changes: Any) -> None:
    """A market that can be followed, and a small sweep on it."""
    write_bars(desk.folder / "walks", closes(3, 0.3))
    desk.write_sweep(**sweep_of(space={"fast": [3, 5, 8], "slow": [20, 30]}, validation=HOLDOUT, **changes))


def test_the_verdict_from_plan_to_hold_out(desk: Desk) -> None:
    walk(desk)
    ran = desk.run()
    assert "Luck: deflated Sharpe ratio " in ran.out
    session_id = ran.out.split()[-1]
    shown = desk.grid("show", "latest")
    assert shown.code == 0
    assert "Verdict on trial " in shown.out
    for line in ("luck", "counted", "history", "data snooping", "overfitting", "walk-forward", "plateau", "costs"):
        assert f" {line}  " in shown.out
    assert "hold-out  looked" not in shown.out
    plain = desk.grid("show", "latest", "--no-verdict")
    assert plain.code == 0
    assert "Best trials" in plain.out
    assert "Verdict" not in plain.out
    told = desk.grid("show", "latest", "--json").json()["verdict"]
    assert told["headline"] in ("skill", "unproven", "luck")
    assert told["overfitting"]["splits"] == 6
    assert "speak for skill" in shown.out
    for trial in range(6):
        one = desk.grid("show", "latest", "--trial", str(trial))
        assert (one.code, "Verdict on trial " in one.out) == (0, True)
    other = desk.grid("show", "latest", "--trial", "1", "--json").json()
    assert other["verdict"]["trial_id"] == other["trial"]["trial_id"] == 1

    opened = desk.grid("holdout", session_id)
    assert opened.code == 0
    assert "first look" in opened.out
    again = desk.grid("holdout", "latest", "--trial", "0", "--trial", "2", "--json").json()
    assert (again["look"], [one["trial_id"] for one in again["trials"]]) == (2, [0, 2])
    record = json.loads((desk.results / session_id / "holdout-0002.json").read_text())
    assert record == again
    assert "looked at 2 times" in desk.grid("show", "latest").out


def test_permute_tried_and_plateaus(desk: Desk) -> None:
    walk(desk)
    desk.session()
    permuted = desk.grid("permute", "latest", "-n", "10")
    assert permuted.code == 0
    assert "10 of 10 permutations" in permuted.err
    told = desk.grid("show", "latest", "--json").json()["verdict"]["permutation"]
    assert told["permutations"] == 10
    assert "scores" not in told
    assert desk.grid("tried", "--json").json() == [
        {"strategy": "sma_cross", "symbol": "WALK", "timeframe": "1D", "sessions": 1, "trials": 6}
    ]
    assert "sma_cross  WALK" in desk.grid("tried").out
    rows = desk.grid("top", "latest", "--sort", "plateau", "--json").json()
    assert [row["plateau"] for row in rows] == sorted((row["plateau"] for row in rows), reverse=True)
    points = desk.grid("top", "latest", "--sort", "plateau", "--points", "--json").json()
    assert [point["point"] for point in points] == [row["trial_id"] for row in rows]


def test_plan_warns_of_a_short_history(desk: Desk) -> None:
    walk(desk)
    calm = desk.grid("plan", "sweep.yaml")
    assert (calm.code, "warning" in calm.err) == (0, False)
    short = desk.grid("plan", "sweep.yaml", "--set", "space.fast={range: [2, 150, 1]}", "--set", "execution.fee=0")
    assert short.code == 0
    assert "the history of 2.88 years is short for 298 trials" in short.err
    told = desk.grid("plan", "sweep.yaml", "--json").json()
    assert told["years"] == pytest.approx(0.75 * 1400 / 365, abs=0.01)
    assert told["least_years"] == pytest.approx(1.6, abs=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("validation.blocks=7", "blocks is 7: the tests pair halves of the blocks, so give an even number"),
        ("validation.blocks=2", "blocks is 2"),
        ("validation.holdout=1", "validation.holdout is 1"),
        (
            "validation.walk_forward={train: 4}",
            "walk_forward does not fit 4 blocks: train 4 + purge 0 + test 1 are more",
        ),
        ("validation.cross_validation={groups: 5}", "cross_validation does not fit 4 blocks"),
        ("validation.cross_validation={groups: 2, test_groups: 1, purge: 2}", "leave nothing of 4 to train on"),
        ("validation.walk_forward={tran: 2}", "did you mean 'train'"),
    ],
)
def test_what_cannot_be_judged_is_refused_at_plan(desk: Desk, change: str, words: str) -> None:
    walk(desk)
    before = desk.snapshot()
    outcome = desk.grid("plan", "sweep.yaml", "--set", change)
    assert outcome.code == 2
    assert words in outcome.err
    assert "Traceback" not in outcome.err
    assert desk.snapshot() == before


def test_a_requirement_that_no_trial_meets(desk: Desk) -> None:
    walk(desk, objective={"require": ["total_trades >= 10000"]})
    outcome = desk.run()
    assert outcome.code == 0
    assert "No trial has a sharpe with total_trades >= 10000." in outcome.out
    shown = desk.grid("show", "latest")
    assert (shown.code, "Verdict" in shown.out) == (0, False)
    assert desk.grid("show", "latest", "--json").json()["verdict"] is None
    for command in ("holdout", "permute"):
        refused = desk.grid(command, "latest")
        assert refused.code == 2
        assert "nobody leads" in refused.err


def test_a_session_whose_strategy_was_edited_shows_what_is_committed(desk: Desk) -> None:
    walk(desk, strategy="mine:Fussy")
    desk.session()
    source = desk.folder / "mine.py"
    source.write_text(source.read_text().replace("bars.sma(self.slow)", "bars.ema(self.slow)"))
    shown = desk.grid("show", "latest")
    assert shown.code == 0
    for words in ("Best trials", "it cannot be had here", "the strategy mine:Fussy changed", "as a new session"):
        assert words in " ".join(shown.out.split())
    for command in (("show", "latest", "--trial", "0"), ("holdout", "latest"), ("permute", "latest", "-n", "2")):
        refused = desk.grid(*command)
        assert (refused.code, "the strategy mine:Fussy changed" in refused.err) == (3, True), command
    assert not list(desk.results.glob("*/holdout-*.json"))
    assert not list(desk.results.glob("*/permutation.json"))


def test_other_bad_input(desk: Desk) -> None:
    walk(desk)
    desk.session()
    order = desk.grid("top", "latest", "--sort", "plateu")
    assert (order.code, "did you mean 'plateau'" in order.err) == (2, True)
    assert "no trial 77" in desk.grid("holdout", "latest", "--trial", "77").err
    assert not list(desk.results.glob("*/holdout-*.json"))
