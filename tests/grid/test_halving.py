"""Successive halving: its rungs, who survives, and whole sweeps against a loop in plain Python."""

import functools
import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from grid import rounds
from grid.budget import cost_share, estimate
from grid.engine import Engine
from grid.errors import BadInput
from grid.halving import Rung, blocks_seen, rungs, survivors
from grid.pace import Pace
from grid.plan import Plan
from grid.ranges import Ranges
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.results import BLOCK_COLUMNS
from grid.reuse import gather
from grid.search import Asked, RandomSearch, points_of
from grid.searchspec import SearchSpec
from grid.session import Session
from grid.space import SearchSpace
from grid.spec import Sweep
from grid.sweep import run
from grid.verdict import permutation
from grid.verdict.holdout import look, looks
from grid.verdict.tried import tried_by
from grid.verdict.verdict import verdict
from grid.verdict.words import lines
from grid.verify import audit
from grid.windows import block_edges
from strategies.sma_cross import SmaCross
from tests.e2e.sweeps import small
from tests.rows import digest

SYMBOLS = ["AAPL", "GOOG", "IBM"]  # GOOG has no bars before 2004
WIDE = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 100, 5]}}


def halved(store: Path, trials: int = 72, seed: int = 1, **changes: Any) -> dict[str, Any]:
    data = {**small(store)["data"], "symbols": SYMBOLS}
    search = {"method": "halving", "trials": trials, "seed": seed}
    return small(store, **{"data": data, "search": search, "space": WIDE, **changes})


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """72 points on one of three datasets, 24 on two, 8 on all."""
    return run(halved(tmp_path_factory.mktemp("halved")), "serial")


def test_rungs_by_hand() -> None:
    found = rungs(1000, 16, [2, 0, 3, 1])
    assert [(r.stop - r.first, r.datasets, r.blocks) for r in found] == [
        (1000, (2,), 2),
        (333, (0, 2), 4),
        (111, (0, 2, 3), 7),
        (37, (0, 1, 2, 3), 16),
    ]
    assert all(a.stop == b.first for a, b in pairwise(found))
    alone = rungs(10**6, 16, [0])
    assert [(r.stop - r.first, r.datasets, r.blocks) for r in alone] == [
        (10**6, (0,), 2),
        (333_333, (0,), 5),
        (111_111, (0,), 16),
    ]


@given(st.integers(24, 10**6), st.sampled_from([4, 6, 8, 12, 16, 22, 100, 1000]), st.integers(1, 60))
def test_each_rung_sees_more_and_costs_about_the_same(points: int, blocks: int, datasets: int) -> None:
    found = rungs(points, blocks, range(datasets))
    assert len(found) >= 2
    assert found[-1].stop - found[-1].first >= 8
    assert (len(found[-1].datasets), found[-1].blocks) == (datasets, blocks)
    assert all(rung.blocks < blocks for rung in found[:-1]), "the last rung alone is the whole"
    for a, b in pairwise(found):
        assert (b.stop - b.first) == (a.stop - a.first) // 3 or b.stop - b.first == points // 3 ** found.index(b)
        assert set(a.datasets) <= set(b.datasets)
        assert a.blocks <= b.blocks
    costs = [(r.stop - r.first) * len(r.datasets) * r.blocks for r in found]
    assert max(costs) <= 2 * min(costs)
    assert cost_share(found, [1.0] * datasets) == pytest.approx(sum(costs) / (points * datasets * blocks))


@pytest.mark.parametrize(("points", "blocks", "told"), [(23, 16, "23 points are no two"), (99, 1, "blocks: 1 cuts it")])
def test_what_is_no_two_rungs_is_refused(points: int, blocks: int, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        rungs(points, blocks, range(9))


def test_the_best_survive_and_ties_go_to_the_lower_point() -> None:
    strict = [np.nan, 1.0, 2.0, np.nan, 2.0, np.nan]
    loose = [5.0, 1.0, 2.0, 7.0, 2.0, np.nan]
    scores = np.array([strict, loose]).T
    assert survivors(scores, 6).tolist() == [2, 4, 1, 3, 0, 5]
    assert survivors(scores, 2).tolist() == [2, 4]


def test_a_plan_leaves_out_what_its_rungs_leave_out() -> None:
    drawn = RandomSearch(SearchSpace({"a": range(100)}), 24)
    found = (Rung(0, 24, (1,), 1, 4), Rung(24, 32, (0, 1, 2), 4, 4))
    plan = Plan(["x", "y", "z"], Asked(drawn, SearchSpec(method="halving", trials=24), found))
    expected = [*range(24, 32), *range(32, 64), *range(88, 96)]
    assert [t for unit in plan.units(lambda _: 7) for t in range(unit.start, unit.stop)] == expected
    first, second = (
        [(32, 39), (39, 46), (46, 53), (53, 56)],
        [(24, 31), (31, 32), (56, 63), (63, 64), (88, 95), (95, 96)],
    )
    assert [(u.start, u.stop) for u in plan.units(lambda _: 7, None, (0, 24))] == first
    assert [(u.start, u.stop) for u in plan.units(lambda _: 7, None, (24, 32))] == second
    assert (plan.total, plan.end, plan.count().trials) == (48, 96, 48)
    done = Ranges([(0, 40), (90, 96)])
    assert [plan.missing(span, done) for span in [(0, 24), (24, 32), (0, 32)]] == [16, 10, 26]
    assert plan.whole_trials(48) == [8.0, 14.0, 8.0]
    assert plan.whole_trials(24) == [4.0, 7.0, 4.0]
    assert [plan.work_done(n) for n in (0, 12, 24, 36, 48)] == pytest.approx([0, 0.1, 0.2, 0.6, 1])
    assert plan.locate(95) == (2, 31)
    assert isinstance(plan.points, Asked)
    plan.points.learn(0, np.arange(32))
    assert [trial for trial in range(96) if plan.has(trial)] == expected


class Twin:
    """Halving as a loop: every trial by itself on bars that are cut off, in plain Python but for the engine."""

    def __init__(self, sweep: Sweep) -> None:
        self.resolved = resolve(sweep)
        self.loaded = [self.resolved.load(d) for d in range(len(self.resolved.datasets))]
        data, asked = self.resolved.sweep.data, self.resolved.sweep.validation
        self.edges = block_edges(data.start, data.end, asked.blocks, asked.holdout)[0].tolist()  # type: ignore[arg-type]
        self.blocks = range(asked.blocks + 1)

    @functools.cache  # noqa: B019 - it lives as long as one example
    def engine(self, dataset: int, share: float) -> Engine:
        bars = self.loaded[dataset].bars
        block_of = [sum(edge <= time for edge in self.edges) for time in bars.timestamp.tolist()]
        filled = sorted(set(block_of))
        last = filled[math.ceil(share * len(filled)) - 1]
        rows = [
            min(sum(block <= k for block in block_of), sum(block <= last for block in block_of)) for k in self.blocks
        ]
        return Engine(bars.slice(0, rows[-1]), self.resolved.sweep.execution, np.array(rows))

    def metrics(self, dataset: int, point: dict[str, Any], share: float) -> dict[str, float]:
        engine = self.engine(dataset, share)
        return engine.backtest(SmaCross(**point).signals(engine.bars)).metrics

    def rows(self, points: list[dict[str, Any]], schedule: Sequence[Rung], least: int) -> list[dict[str, Any]]:
        """All trials; those of points that do not reach `least` trades come behind the others."""
        found: list[dict[str, Any]] = []
        for number, rung in enumerate(schedule):
            told = []
            for point in points:
                each = [self.metrics(d, point, rung.share) for d in rung.datasets]
                found += [
                    {"rung": number, "dataset": d, **point, **m} for d, m in zip(rung.datasets, each, strict=True)
                ]
                plain = [-math.inf if math.isnan(m["sharpe"]) else m["sharpe"] for m in each]
                fulfilled = [s if m["total_trades"] >= least else -math.inf for s, m in zip(plain, each, strict=True)]
                told.append((statistics.median(fulfilled), statistics.median(plain)))
            order = sorted(range(len(points)), key=lambda i: (-told[i][0], -told[i][1], i))
            points = [points[i] for i in order[: len(points) // 3]]
        return found


def as_told(session: Session) -> list[dict[str, Any]]:
    """Rows in the order of rungs, points and datasets."""
    size, schedule = len(session.points), session.points.rungs  # type: ignore[attr-defined]
    rows = sorted(session.trials().to_pylist(), key=lambda row: (row["trial_id"] % size, row["trial_id"]))
    for row in rows:
        row["rung"] = sum(row["trial_id"] % size >= rung.stop for rung in schedule)
        row["dataset"] = row["trial_id"] // size
        assert row["history_share"] == schedule[row["rung"]].share
    return rows


@settings(max_examples=4, phases=[Phase.generate])  # to shrink it takes minutes
@given(
    st.integers(72, 90),
    st.integers(0, 10**6),
    st.sampled_from([4, 8, 16]),
    st.integers(0, 12),
    st.sampled_from([SYMBOLS, ["GOOG", "IBM"], ["MSFT"]]),
)
def test_rows_are_those_of_a_loop(
    tmp_path_factory: pytest.TempPathFactory, trials: int, seed: int, blocks: int, least: int, symbols: list[str]
) -> None:
    store = tmp_path_factory.mktemp("looped")
    data = {**small(store)["data"], "symbols": symbols}
    objective = {"maximize": "sharpe", "require": [f"total_trades >= {least}"]}
    asked = halved(store, trials, seed, data=data, objective=objective, validation={"blocks": blocks, "holdout": 0.2})
    session = run(asked, "serial")
    twin = Twin(Sweep(**asked))
    drawn = RandomSearch(SearchSpace({n: range(*_range(WIDE[n])) for n in WIDE}, ["fast < slow"]), trials, seed)
    first = [drawn[k] for k in range(len(drawn)) if drawn.valid(np.array([k]))[0]]
    expected = twin.rows(first, session.points.rungs, least)  # type: ignore[attr-defined]
    rows = as_told(session)
    assert len(rows) == len(expected) == session.metadata["trials"]["count"]
    for row, wanted in zip(rows, expected, strict=True):
        np.testing.assert_array_equal([row[name] for name in wanted], list(wanted.values()))


def _range(dimension: dict[str, list[int]]) -> tuple[int, int, int]:
    start, stop, step = dimension["range"]
    return start, stop + 1, step


def test_blocks_that_were_not_seen_have_no_moments(session: Session) -> None:
    """And those that were seen add up to the row; GOOG, listed late, was run over its own first blocks."""
    bars = [d["block_bars"] for d in session.metadata["datasets"]]
    assert bars[1][0] == 0
    seen: dict[tuple[int, int], set[tuple[bool, ...]]] = {}
    for row in as_told(session):
        known = tuple(not math.isnan(value) for value in row["block_return_sum"])
        assert all([not math.isnan(v) for v in row[name]] == list(known) for name in BLOCK_COLUMNS)
        assert sum(row["block_trades"][i] for i in range(8) if known[i]) == row["total_trades"]
        seen.setdefault((row["dataset"], row["rung"]), set()).add(known)
    assert all(len(each) == 1 for each in seen.values()), "the same for all trials of a rung on a dataset"
    for (dataset, rung), (known,) in seen.items():
        filled = [i for i in range(8) if bars[dataset][i]]
        many = math.ceil(session.points.rungs[rung].share * len(filled))  # type: ignore[attr-defined]
        assert [i for i in range(8) if known[i]] == filled[:many]


def test_only_what_was_run_on_everything_is_ranked(session: Session) -> None:
    size, first = len(session.points), session.points.rungs[-1].first  # type: ignore[attr-defined]
    rows = as_told(session)
    last = [row for row in rows if row["rung"] == 2 and not math.isnan(row["sharpe"])]
    best = sorted(last, key=lambda row: (-row["sharpe"], row["trial_id"]))
    assert np.nanmax([row["sharpe"] for row in rows]) > best[0]["sharpe"], "else a rung on a part would never lead"
    assert [t for _, t in session.ledger.summary.best] == [row["trial_id"] for row in best[:3]]
    assert [row["trial_id"] for row in session.top(3).to_pylist()] == [row["trial_id"] for row in best[:3]]  # type: ignore[union-attr]
    points = session.top_points(99)
    assert sorted(p["point"] for p in points) == list(range(first, size))
    document = session.folder.document("backtest_result.json")
    assert [row["trial_id"] for row in document["best_trials"]] == [row["trial_id"] for row in best[:3]]
    assert document["best_points"] == session.top_points(3)


def test_the_front_is_that_of_the_last_rung(tmp_path: Path) -> None:
    session = run(halved(tmp_path, objective={"maximize": "sharpe", "beside": ["minimize max_drawdown"]}), "serial")
    last = [row for row in as_told(session) if row["rung"] == 2]
    beaten = [
        any(
            b["sharpe"] >= a["sharpe"]
            and b["max_drawdown"] <= a["max_drawdown"]
            and (b["sharpe"], b["max_drawdown"]) != (a["sharpe"], a["max_drawdown"])
            for b in last
        )
        for a in last
    ]
    wanted = {row["trial_id"] for row, worse in zip(last, beaten, strict=True) if not worse}
    assert set(session.pareto()) <= wanted
    assert {(r["sharpe"], r["max_drawdown"]) for r in last if r["trial_id"] in session.pareto()} == {
        (r["sharpe"], r["max_drawdown"]) for r in last if r["trial_id"] in wanted
    }


def test_all_that_was_tried_counts_and_the_whole_is_judged(session: Session) -> None:
    rows = as_told(session)
    assert [(r.stop - r.first, len(r.datasets)) for r in session.points.rungs] == [(72, 1), (24, 2), (8, 3)]  # type: ignore[attr-defined]
    found = verdict(session)
    assert found is not None
    assert found["luck"]["trials"] == found["luck"]["trials_here"] == len(rows) == 72 + 2 * 24 + 3 * 8
    assert found["luck"]["trials_on_everything"] == found["overfitting"]["trials"] == 3 * 8
    assert found["simulated"]["reality"]["trials"] == 3 * 8
    assert found["simulated"]["reality"]["of"] == len(rows)
    chosen = {fold["trial_id"] % len(session.points) for fold in found["walk_forward"]["rolling"]["folds"]}
    assert min(chosen) >= session.points.rungs[-1].first  # type: ignore[attr-defined]
    assert "is over the 24 run on everything. These were chosen on the same history" in lines(found)["counted"]
    assert found["simulated"]["effective"] is None
    assert {c["check"].split()[0]: c["passed"] for c in found["checks"] if c["decides"]}.keys() == {
        "deflated",
        "permutations",
    }
    assert [c["passed"] for c in found["checks"][1:5]] == [None] * 4, "neither can be said, nor was it permuted"
    for one, key in zip(tried_by(session), session.datasets, strict=True):
        own = [row for row in rows if row["symbol"] == key.symbol]
        bars = np.array(session.metadata["datasets"][session.datasets.index(key)]["block_bars"])
        seen = [bars[~np.isnan(r["block_return_sum"])].sum() / bars.sum() for r in own]
        sharpes = [0.0 if math.isnan(r["sharpe"]) else r["sharpe"] for r in own]
        ratios = [sharpe * math.sqrt(share) for sharpe, share in zip(sharpes, seen, strict=True)]
        assert (one.trials, one.ok) == (len(own), len(own))
        assert (one.sharpe_sum, one.sharpe_sumsq) == pytest.approx((sum(ratios), sum(r * r for r in ratios)))
    early = next(row["trial_id"] for row in rows if row["rung"] == 0)
    for judge in (lambda: verdict(session, early), lambda: look(session, [early])):
        with pytest.raises(BadInput, match="over a part of the history"):
            judge()
    left_out = next(t for t in range(3 * len(session.points)) if not session.resolved.plan.has(t))
    for judge in (lambda: session.backtest(left_out), lambda: look(session, [left_out])):
        with pytest.raises(BadInput, match=f"has no trial {left_out}"):
            judge()
    assert looks(session) == []


def test_an_audit_recomputes_trials_of_all_rungs_and_asks_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audit(session.folder, 10_000, 1)
    assert (found.damage, found.unchecked) == ([], [])
    assert (found.rows, found.recomputed, found.rounds) == (144, 144, 3)
    monkeypatch.setattr(rounds, "survivors", lambda scores, count: survivors(-scores, count))
    assert [damage.where for damage in audit(session.folder, 0, 1).damage] == ["points [72, 96)", "points [96, 104)"]


def test_a_permutation_goes_through_all_rungs(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the bars as they are, its best is the session's."""
    monkeypatch.setattr(permutation, "_permuted", lambda real, _: real)
    loaded = tuple(session.loaded(d) for d in range(len(session.datasets)))
    assert permutation.Permuted(session.resolved, loaded).best(0) == session.ledger.summary.best[0][0]


def test_rows_are_neither_taken_over_nor_offered(tmp_path: Path) -> None:
    drawn = halved(tmp_path, search={"method": "random", "trials": 72, "seed": 1})
    halving = run(halved(tmp_path), "serial")
    random = run(drawn, "serial")
    again = run(halved(tmp_path, name="again"), "serial")
    assert [dict(s.ledger.summary.reused) for s in (halving, random, again)] == [{}, {}, {}]
    assert len(gather(resolve(Sweep(**drawn)), random.metadata["datasets"])) == random.ledger.summary.ok
    assert digest(again.trials()) == digest(halving.trials())


def test_an_estimate_goes_by_the_part_that_is_run(tmp_path: Path) -> None:
    pause = {**WIDE, "pause_ms": 5.0}
    resolved = resolve(Sweep(**halved(tmp_path, strategy="tests.e2e.sweeps:Slow", space=pause)))
    rehearsal = rehearse(resolved)
    told = estimate(resolved, rehearsal)
    each = [d["seconds_per_trial"] for d in rehearsal.datasets]
    asked = told.rungs
    assert told.trials == 144
    assert told.rounds == 3
    assert told.units == sum(len(r.datasets) for r in asked)
    wanted = sum((r.stop - r.first) * r.blocks / r.of * sum(each[d] for d in r.datasets) for r in asked)
    assert told.cpu_seconds == pytest.approx(wanted)
    assert told.share == pytest.approx(wanted / (72 * sum(each)))


def test_a_dataset_that_begins_late_gives_its_own_first_blocks() -> None:
    assert [blocks_seen(np.array([5, 5, 5, 5]), n) for n in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert [blocks_seen(np.array([0, 0, 5, 5]), n) for n in (1, 2, 3, 4)] == [3, 3, 4, 4]
    assert [blocks_seen(np.array([0, 5, 0, 5]), n) for n in (1, 2, 3, 4)] == [2, 2, 4, 4]


def test_units_of_a_rung_are_as_long_as_those_of_the_whole() -> None:
    pace = Pace([1000, 4000], seconds_per_trial=[0.001, 0.004])
    whole = pace.size(0)
    pace.over(Rung(0, 90, (0, 1), 2, 16))
    assert pace.size(0) == pytest.approx(8 * whole, rel=0.01)
    pace.over(None)
    assert pace.size(0) == whole


def test_the_seed_decides_which_datasets_come_first() -> None:
    def first(seed: int) -> set[int]:
        sweep = Sweep(**halved(Path("unused"), seed=seed))
        return set(points_of(sweep, 20).rungs[0].datasets)  # type: ignore[union-attr]

    assert first(1) == first(1)
    assert len({tuple(sorted(first(seed))) for seed in range(8)}) > 4
