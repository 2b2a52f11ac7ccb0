"""What a session's readers get: rows, leaders of trials and of points, and any trial again."""

import math
import statistics
from collections.abc import Iterator
from itertools import count
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import session as session_module
from grid.begin import begin, begin_or_reopen
from grid.errors import BadInput, Refused
from grid.evaluate import Evaluator
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.results import BLOCK_COLUMNS
from grid.session import Session, across
from grid.spec import Sweep
from grid.sweep import Work
from storage.errors import BadData, NotFound
from storage.sessions import SessionFolder
from tests.conftest import REPOSITORY
from tests.grid.made_results import bits
from tests.grid.wild import Wild

STORES: Iterator[int] = count()
SCORES = st.sampled_from([1.0, 2.0, -3.0, 0.0, math.nan, math.inf, -math.inf])


def session_of(done: float = 1.0, **changes: Any) -> Session:
    """A session whose units were committed out of order, `done` of them; on four symbols of the bundled data."""
    sweep = {
        "strategy": "tests.grid.wild:Wild",
        "data": {
            "store": str(REPOSITORY / "data"),
            "symbols": ["AAPL", "GOOG", "IBM", "MSFT"],
            "timeframes": ["1D"],
            "start": "2003-06-01",
            "end": "2006-01-01",
        },
        "space": {"fast": {"range": [2, 12, 2]}, "slow": [7, 30, 90], "stop": [None, 0.02], "bad": 8},
        "constraints": ["fast < slow"],
        "validation": {"blocks": 4, "holdout": 0.1},
        "results": {"store": f"memory://session-{next(STORES)}", "keep_best": 6},
        **changes,
    }
    resolved = resolve(Sweep(**sweep))
    begun = begin(resolved, rehearse(resolved))
    aggregator, evaluator = Work(resolved, begun, None, None, None).aggregator(), Evaluator(resolved)  # type: ignore[arg-type]
    units = list(resolved.plan.units(lambda _: 11))
    order = np.random.default_rng(3).permutation(len(units))[: int(len(units) * done)]
    loaded = [resolved.load(d) for d in range(len(resolved.datasets))]
    for n, i in enumerate(order):
        aggregator.fold(evaluator.evaluate(units[i], loaded[units[i].dataset]))
        if n % 3 == 0:
            aggregator.flush()
    aggregator.flush()
    return Session.open(begun.id, sweep["results"]["store"])


@pytest.fixture(scope="module")
def whole() -> Session:
    return session_of()


def hole_of(session: Session) -> int:
    return next(t for t in range(36) if session.resolved.points[t]["fast"] >= session.resolved.points[t]["slow"])


def test_trials_are_all_rows_in_the_order_of_their_numbers(whole: Session) -> None:
    table, plan = whole.trials(), whole.resolved.plan
    assert len(whole.ledger.parts) > 3
    assert table["trial_id"].to_pylist() == plan.first_trials(10_000)
    evaluator, units = Evaluator(whole.resolved), plan.units(lambda _: plan.total)
    anew = [evaluator.rows(unit, whole.resolved.load(unit.dataset)) for unit in units]
    assert bits(table) == bits(pa.concat_tables(anew))


def test_trials_have_the_columns_asked_for_in_that_order(whole: Session) -> None:
    table = whole.trials()
    for columns in (["sharpe", "trial_id", "fast"], ["stop"], ["error", "status"], ["block_trades"], ["trial_id"]):
        some = whole.trials(columns)
        assert some.column_names == columns
        assert bits(some) == bits(table.select(columns))


def test_rows_come_in_the_order_asked_for(whole: Session) -> None:
    table = whole.trials()
    ids = table["trial_id"].to_pylist()
    wanted = [ids[i] for i in (40, 3, 77, 4)]
    found = whole.rows(wanted)
    assert bits(found) == bits(table.take([40, 3, 77, 4]))
    hole = hole_of(whole)
    assert whole.rows([hole, ids[5], 10**9])["trial_id"].to_pylist() == [ids[5]]
    assert whole.rows([hole]) is None
    assert whole.rows([]) is None
    assert whole.rows([10**9]) is None


def test_rows_read_the_parts_that_hold_them_and_no_other(whole: Session) -> None:
    one = whole.ledger.parts[0].ranges[0][0]
    with patch.object(whole.folder, "read_part", wraps=whole.folder.read_part) as read:
        Session(whole.folder).rows([one])
    assert [call.args[0] for call in read.call_args_list] == [whole.ledger.parts[0]]


def test_parts_are_read_once_as_long_as_there_is_room(whole: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = whole.ledger.parts
    for room, again in ((10**9, 0), (0, len(parts))):
        monkeypatch.setattr(session_module, "PARTS_KEPT_BYTES", room)
        session = Session(whole.folder)
        with patch.object(whole.folder, "read_part", wraps=whole.folder.read_part) as read:
            session.trials()
            assert read.call_count == len(parts)
            session.trials()
            assert read.call_count == len(parts) + again
        assert session._parts_bytes == sum(map(len, session._parts.values())) <= room


def scores_of(session: Session) -> dict[int, list[float]]:
    """The naive twin: the score of each point on each dataset, -inf where there is none."""
    objective, size = session.sweep.objective, len(session.resolved.points)
    scores = {point: [-math.inf] * len(session.datasets) for point in range(size)}
    for row in session.trials().to_pylist():
        score = row[objective.metric] if objective.descending else -row[objective.metric]
        good = row["status"] == "ok" and math.isfinite(score)
        if good and (not objective.require or row["total_trades"] >= 12):
            scores[row["trial_id"] % size][row["trial_id"] // size] = score
    return scores


@pytest.mark.parametrize(
    "objective",
    [
        {"maximize": "sharpe", "across": "median"},
        {"maximize": "total_return", "across": "mean", "require": ["total_trades >= 12"]},
        {"minimize": "max_drawdown", "across": "min", "require": ["total_trades >= 12"]},
        {"minimize": "max_drawdown_bars", "across": "median"},
    ],
)
def test_leaders_against_a_twin(objective: dict[str, Any]) -> None:
    session = session_of(objective=objective)
    join = {"median": statistics.median, "min": min, "mean": lambda each: sum(each) / len(each)}[objective["across"]]
    scores = scores_of(session)
    ranked = sorted((-join(each), point) for point, each in scores.items() if math.isfinite(join(each)))
    sign = 1 if session.sweep.objective.descending else -1
    assert len(ranked) > 5
    for n in (0, 1, 5, 1000):
        top = session.top_points(n)
        assert [entry["point"] for entry in top] == [point for _, point in ranked[:n]]
        for entry, (score, point) in zip(top, ranked, strict=False):
            assert entry["score"] == pytest.approx(sign * -score, rel=1e-12)
            assert entry["parameters"] == session.resolved.points[point]
            shown = [s * sign if math.isfinite(s) else -math.inf for s in entry["scores"].values()]
            assert shown == scores[point]
            assert list(entry["scores"]) == ["AAPL 1D", "GOOG 1D", "IBM 1D", "MSFT 1D"]
    for chunk in (1, 7, 35, 36):
        with patch.object(session_module, "POINTS_AT_ONCE", chunk):
            assert repr(session.top_points(5)) == repr(top[:5])
            assert repr(session.top_points(1000)) == repr(top)
    size = len(scores)
    trials = sorted((-s, d * size + p) for p, each in scores.items() for d, s in enumerate(each) if math.isfinite(s))
    assert session.top(6)["trial_id"].to_pylist() == [t for _, t in trials[:6]]
    assert session.top(2)["trial_id"].to_pylist() == [t for _, t in trials[:2]]


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(SCORES, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_across_against_a_twin(rows: list[list[float]]) -> None:
    joins = {"median": statistics.median, "min": min, "mean": lambda each: sum(each) / len(each)}
    for how, join in joins.items():
        joined = across(np.array(rows), how)
        for column, found in zip(zip(*rows, strict=True), joined.tolist(), strict=True):
            expected = join([score if math.isfinite(score) else -math.inf for score in column])
            assert found == pytest.approx(expected if math.isfinite(expected) else math.nan, nan_ok=True)


def test_a_point_that_fails_on_one_dataset_is_ranked_as_far_as_across_looks_past_it() -> None:
    scores = np.array([[1.0, 1.0, 5.0], [2.0, np.nan, np.nan], [3.0, 9.0, np.nan]])
    assert across(scores, "median").tolist()[:2] == [2.0, 1.0]
    assert np.isnan(across(scores, "median")[2])
    assert np.isnan(across(scores, "min")[1:]).all()
    assert np.isnan(across(scores, "mean")[1:]).all()


def test_any_trial_again_is_equal_bit_for_bit(whole: Session) -> None:
    table = whole.trials()
    for row in table.to_pylist()[::6]:
        if row["status"] == "failed":
            with pytest.raises(ValueError, match="8 is bad"):
                whole.backtest(row["trial_id"])
            continue
        again = whole.backtest(row["trial_id"])
        committed = np.array([row[name] for name in again.metrics])
        assert again.row.view(np.int64).tolist() == committed.view(np.int64).tolist()
        blocks = np.array([row[name] for name in BLOCK_COLUMNS])
        assert again.blocks.view(np.int64).tolist() == blocks.view(np.int64).tolist()


def test_numbers_that_are_no_trial_are_refused(whole: Session) -> None:
    for outside in (-1, whole.resolved.plan.total):
        with pytest.raises(BadInput, match=rf"no trial {outside}: numbers go to 143\."):
            whole.backtest(outside)
    with pytest.raises(BadInput, match="a constraint excludes its parameters"):
        whole.backtest(hole_of(whole))


def test_a_session_under_way_shows_what_is_committed() -> None:
    part, none = session_of(done=0.5), session_of(done=0)
    assert 0 < part.trials().num_rows < 100
    assert part.ledger.done.total() < part.resolved.plan.total
    assert set(part.trials()["trial_id"].to_pylist()) <= set(part.resolved.plan.first_trials(1000))
    with pytest.raises(BadInput, match="has no committed trial yet; `grid resume"):
        none.trials()
    assert none.top() is None
    assert none.top_points() == []
    assert none.rows([0]) is None


def test_of_two_sweeps_that_begin_one_id_at_once_the_first_is_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both looked before either had written."""
    first = session_of(0.0)
    monkeypatch.setattr(SessionFolder, "begun", lambda _: False)
    same = first.resolved
    assert begin_or_reopen(same, rehearse(same), first.id).metadata == first.metadata
    other = resolve(Sweep.model_validate({**first.sweep.model_dump(mode="json"), "constraints": ["fast < 5"]}))
    with pytest.raises(Refused, match="the engine or the sweep changed"):
        begin_or_reopen(other, rehearse(other), first.id)
    assert Session(first.folder).metadata == first.metadata


def test_a_damaged_part_is_told() -> None:
    session = session_of(done=0.5)
    path = f"{session.id}/{session.ledger.parts[0].path}"
    session.folder.provider.write(path, session.folder.provider.read(path) + b"\0")
    with pytest.raises(BadData, match=session.ledger.parts[0].path):
        session.trials()


def test_what_a_session_knows_of_itself(whole: Session) -> None:
    assert whole.status == "running"
    assert whole.resolved.strategy is Wild
    assert [str(key) for key in whole.datasets] == ["AAPL 1D", "GOOG 1D", "IBM 1D", "MSFT 1D"]
    assert whole.metadata["session_id"] == whole.id
    with pytest.raises(NotFound, match="no session 'zzz'"):
        Session.open("zzz", whole.folder.provider.uri)
