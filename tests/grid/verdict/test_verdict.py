"""What a verdict rests on, and what it says: ledger, daily returns, fresh starts, costs, hold-out, permutations."""

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.budget import estimate
from grid.engine import Engine, buy_and_hold
from grid.errors import BadInput
from grid.rehearse import rehearse
from grid.resolve import resolve
from grid.reuse import gather
from grid.session import Session
from grid.spec import Sweep
from grid.sweep import Watch, run
from grid.validation.sharpe import Record, deflated_sharpe, minimum_backtest_years
from grid.verdict.checks import headline
from grid.verdict.costs import break_even
from grid.verdict.evidence import Evidence, daily_returns
from grid.verdict.fresh import fresh_start
from grid.verdict.holdout import look, looks
from grid.verdict.permutation import Permuted, permute
from grid.verdict.simulated import simulated
from grid.verdict.surface import Surface
from grid.verdict.tried import exact_sum, ledger, tried_by, tried_elsewhere
from grid.verdict.verdict import luck, verdict
from grid.verdict.words import lines, meaning, number
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.providers import provider_for
from storage.resample import resample
from storage.sessions import SessionStore
from strategies import Bars, Signals
from strategies.sma_cross import SmaCross
from tests.conftest import REPOSITORY

STORES: Iterator[int] = count()
FAST, SLOW = [3, 5, 8, 12, 17, 23], [30, 40, 55, 80]


def sweep_of(store: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "verdict",
        "strategy": "sma_cross",
        "data": {"store": str(REPOSITORY / "data"), "symbols": ["AAPL", "IBM"], "timeframes": ["1D"]},
        "space": {"fast": FAST, "slow": SLOW},
        "validation": {"blocks": 8, "holdout": 0.2},
        "results": {"store": store, "keep_best": 5},
        **changes,
    }


def session_of(store: str | None = None, **changes: Any) -> Session:
    return run(sweep_of(store or f"memory://verdict-{next(STORES)}", **changes), executor="serial")


@pytest.fixture(scope="module")
def session() -> Session:
    return session_of()


@pytest.fixture(scope="module")
def found(session: Session) -> dict[str, Any]:
    told = verdict(session)
    assert told is not None
    return told


def test_the_deflated_sharpe_ratio_is_that_of_the_rows(session: Session, found: dict[str, Any]) -> None:
    rows = session.trials().to_pandas()
    best = rows.loc[rows.sharpe.idxmax()]
    luck, bars = found["luck"], {d["symbol"]: d["bars"] for d in session.metadata["datasets"]}
    assert found["trial_id"] == best.trial_id
    assert (luck["trials"], luck["sessions"]) == (len(rows), 1)
    assert luck["variance_of_sharpes"] == pytest.approx(rows.sharpe.var(ddof=1))
    record = Record(best.sharpe / math.sqrt(252), bars[best.symbol], best["skew"], best["kurtosis"])
    expected = deflated_sharpe(record, float(rows.sharpe.var(ddof=1)) / 252, len(rows))
    assert luck["deflated_sharpe"] == pytest.approx(expected)


def test_ten_small_sweeps_are_deflated_like_one_large_one(found: dict[str, Any]) -> None:
    store = f"memory://verdict-{next(STORES)}"
    parts = [session_of(store, space={"fast": [fast], "slow": SLOW}) for fast in FAST]
    best = max(parts, key=lambda s: s.ledger.summary.best[0][0])
    told = verdict(best)
    assert told is not None
    assert told["luck"]["sessions"] == len(FAST)
    for name in ("trials", "sharpe", "variance_of_sharpes", "no_skill_sharpe", "deflated_sharpe"):
        assert told["luck"][name] == pytest.approx(found["luck"][name]), name
    session_of(store, space={"fast": [FAST[0]], "slow": SLOW})  # the same search again is no other
    assert sum(t.trials for t in ledger(SessionStore(provider_for(store)))) == found["luck"]["trials"]


def test_a_search_that_was_stopped_and_run_again_counts_in_full() -> None:
    sweep = sweep_of(f"memory://verdict-{next(STORES)}")
    done: list[int] = []
    stopping = Watch(progress=lambda p: done.append(p.done), stopping=lambda: bool(done))
    stopped = run(sweep, "serial", stopping, unit_size=10)
    whole = run(sweep, "serial")
    assert 0 < stopped.ledger.summary.ok < whole.ledger.summary.ok == 48
    assert stopped.metadata["fingerprint"] == whole.metadata["fingerprint"]
    told = ledger(SessionStore(provider_for(str(whole.sweep.results.store))))
    assert [(t.sessions, t.trials) for t in told] == [(1, 24), (1, 24)]
    for one in (stopped, whole):
        found = luck(one)
        assert found is not None
        assert (found["sessions"], found["trials"], found["trials_here"]) == (1, 48, one.ledger.summary.ok)


def test_the_ledger_is_that_of_the_rows_and_counts_strategies_apart(session: Session) -> None:
    store = str(session.sweep.results.store)
    session_of(store, strategy="donchian_breakout", space={"window": [10, 20]})
    rows = session.trials().to_pandas()
    told = {(t.strategy, t.symbol): t for t in ledger(SessionStore(provider_for(store)))}
    assert sorted(told) == [(s, x) for s in ("donchian_breakout", "sma_cross") for x in ("AAPL", "IBM")]
    for one in tried_by(session):
        own = rows[rows.symbol == one.symbol].sharpe
        assert told["sma_cross", one.symbol] == one
        assert (one.trials, one.variance) == (len(own), pytest.approx(own.var(ddof=1)))


@given(st.lists(st.floats(-1e100, 1e100)), st.integers(0, 20))
def test_a_sum_without_rounding(values: list[float], cut: int) -> None:
    given_all = np.array(values, np.float64)
    total = exact_sum(given_all)
    assert float(total) == math.fsum(values)
    assert total == exact_sum(given_all[::-1]) == exact_sum(given_all[:cut]) + exact_sum(given_all[cut:])


def test_a_verdict_is_the_same_for_any_order_of_parts(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grid.aggregate.FLUSH_ROWS", 1)
    pieces = run(sweep_of(f"memory://verdict-{next(STORES)}"), "serial", unit_size=5)
    parts = pieces.ledger.parts
    assert len(parts) > 8
    turned = Session(pieces.folder)
    turned.ledger.parts[:] = [*parts[1::2], *parts[0::2]]
    told = verdict(session, 0)
    assert told is not None
    for other in (pieces, turned):
        assert tried_by(other) == tried_by(session)
        again = verdict(other, 0)
        assert again is not None
        for name in ("luck", "overfitting", "walk_forward"):
            assert again[name] == told[name], name


def test_daily_returns_are_the_equity_of_each_day(session: Session) -> None:
    evidence = Evidence(session)
    days, returns = evidence.daily([0, 30])
    for i, trial in enumerate((0, 30)):
        result = session.backtest(trial)
        own = np.searchsorted(days, result.bars.timestamp // 86_400_000_000_000)
        expected = np.diff(np.concatenate(([result.cash], result.curve))) / np.concatenate(
            ([result.cash], result.curve[:-1])
        )
        assert returns[own, i] == pytest.approx(expected, abs=1e-12)
        assert np.delete(returns[:, i], own).tolist() == [0.0] * (len(days) - len(own))
    sample = evidence.sample([3])
    assert sample[0] == 3
    assert sorted(sample) == list(range(48))


def test_days_of_shorter_bars_are_joined() -> None:
    n = 60
    close = 100 * np.cumprod(1 + np.random.default_rng(2).normal(0, 0.01, n))
    hours = np.arange(n) * 6 * 3_600_000_000_000
    bars = Bars("X", "1H", "24/7", 8760.0, hours, close, close, close, close, np.ones(n))
    result = buy_and_hold(bars, session_execution())
    days, returns = daily_returns(result)
    assert len(days) == n // 4
    assert np.prod(1 + returns) == pytest.approx(result.curve[-1] / result.cash)


def session_execution() -> Any:
    from grid.engine import Execution

    return Execution(fee=0.001)


def test_moments_in_chunks_are_those_of_the_rows(session: Session) -> None:
    rows = session.trials().to_pandas().set_index("trial_id")
    seen = 0
    for chunk in Evidence(session).chunks():
        for i, trial in enumerate(chunk.ids.tolist()):
            assert chunk.sums[i].tolist() == list(rows.block_return_sum[trial])
            assert chunk.squares[i].tolist() == list(rows.block_return_sumsq[trial])
            seen += 1
    assert seen == len(rows)


def test_a_fresh_start_is_a_backtest_of_what_is_left_with_warm_indicators(session: Session) -> None:
    bars, strategy = session.loaded(0).bars, SmaCross(fast=5, slow=60)
    result = fresh_start(bars, strategy, session.sweep.execution, 400, 900)
    given = strategy.signals(bars).normalised(len(bars))
    masks = {
        n: getattr(given, n).unpack()[400:900].copy() for n in ("entries", "exits", "short_entries", "short_exits")
    }
    expected = Engine(bars.slice(400, 900), session.sweep.execution).backtest(Signals(**masks))
    assert result.curve.tolist() == expected.curve.tolist()
    assert result.metrics["total_trades"] > 3
    cold = Engine(bars.slice(400, 900), session.sweep.execution).backtest(strategy.signals(bars.slice(400, 900)))
    assert cold.curve.tolist() != result.curve.tolist()


def test_at_the_break_even_cost_nothing_is_left(session: Session, found: dict[str, Any]) -> None:
    costs = break_even(Evidence(session), found["trial_id"])
    assert costs.fee is not None
    assert costs.slippage is not None
    dataset, point = session.resolved.plan.locate(found["trial_id"])
    bars, strategy = session.loaded(dataset).bars, session.resolved.strategy(**session.resolved.points[point])
    for name in ("fee", "slippage"):
        changed = session.sweep.execution.model_copy(update={name: getattr(costs, name)})
        left = Engine(bars, changed).backtest(strategy.signals(bars)).metrics["total_return"]
        assert left == pytest.approx(0, abs=1e-6)


def test_more_trials_than_memory_holds_are_counted(session: Session, found: dict[str, Any]) -> None:
    few, many = found["simulated"]["reality"], 57_000_000_000
    told = simulated(Evidence(session), found["trial_id"], many)["reality"]
    assert (told["of"], told["p_value_alone"]) == (many, few["p_value_alone"])
    assert few["holm"] == pytest.approx(min(1, 48 * few["p_value_alone"]))
    assert told["holm"] == told["benjamini_hochberg"] == 1.0
    assert told["holm_leaders"] == told["benjamini_hochberg_leaders"] == 0


def test_trials_by_plateau_and_left_out_symbols(session: Session) -> None:
    surface = Surface(session)
    scores = session.trials().to_pandas().sharpe.to_numpy().reshape(2, len(FAST), len(SLOW))
    best = surface.best_by_plateau(3)
    for trial, high in best:
        d, i, j = np.unravel_index(trial, scores.shape)
        around = [scores[d, i, j]]
        for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 0 <= a < len(FAST) and 0 <= b < len(SLOW):
                around.append(scores[d, a, b])
        assert high == pytest.approx(np.median(around))
    assert [high for _, high in best] == sorted((high for _, high in best), reverse=True)
    aapl, ibm = surface.left_out("symbol")
    flat = scores.reshape(2, -1)
    assert (aapl["symbol"], aapl["point"]) == ("AAPL", int(flat[1].argmax()))
    assert aapl["score_left_out"] == pytest.approx(flat[0, flat[1].argmax()])
    assert ibm["rank_share"] == pytest.approx(np.mean(flat[1] <= flat[1, flat[0].argmax()]))


def test_every_look_at_the_hold_out_is_written_down() -> None:
    session = session_of()
    assert looks(session) == []
    first = look(session, [session.ledger.summary.best[0][1]])
    again = look(Session(session.folder), [0, 30])
    assert [x["look"] for x in looks(session)] == [1, 2]
    assert looks(session) == [first, again]
    assert first["trials"][0]["holdout"] == look(session, [first["trials"][0]["trial_id"]])["trials"][0]["holdout"]
    seen = session.loaded(0).bars
    assert seen.timestamp[-1] < session.resolved.cut
    assert first["trials"][0]["bars"] > 100
    told = verdict(session)
    assert told is not None
    assert "looked at 3 times" in lines(told)["hold-out"]


def test_what_cannot_be_looked_at_is_told(session: Session) -> None:
    with pytest.raises(BadInput, match="no trial 99"):
        look(session, [99])
    with pytest.raises(BadInput, match="has no hold-out"):
        look(session_of(validation={"blocks": 1}), [0])


def test_a_permutation_is_the_sweep_on_permuted_bars(session: Session) -> None:
    work = Permuted(session.resolved, tuple(session.loaded(d) for d in range(2)))
    one = permute(session, 3, seed=5, processes=1)
    two = permute(session, 3, seed=5, processes=2)
    assert one == two
    assert one["scores"] == [work.best(seed) for seed in (5, 6, 7)]
    as_good = sum(s >= session.ledger.summary.best[0][0] for s in one["scores"])
    assert (one["at_least_as_good"], one["p_value"]) == (as_good, (1 + as_good) / 4)
    told = verdict(session)
    assert told is not None
    assert "of 3 searches on permuted bars" in lines(told)["permutations"]
    assert told["checks"][3]["decides"]


@pytest.mark.parametrize("search", [{}, {"method": "local", "trials": 18, "round": 4, "seed": 2}])
def test_the_search_is_made_anew(monkeypatch: pytest.MonkeyPatch, search: dict[str, Any]) -> None:
    """On the real bars it finds what the session found; on permuted ones its own points, and as the seed has it."""
    searched = session_of(search=search)
    work = Permuted(searched.resolved, tuple(searched.loaded(d) for d in range(2)))
    assert len({work.best(seed) for seed in (1, 2, 3)}) == 3
    assert work.best(1) == work.best(1)
    monkeypatch.setattr("grid.verdict.permutation.permuted", lambda prices, _: prices)
    assert work.best(1) == searched.ledger.summary.best[0][0]


def test_every_trial_of_a_search_by_rounds_counts() -> None:
    searched = session_of(search={"method": "local", "trials": 18, "round": 4, "seed": 2})
    assert sum(t.trials for t in tried_by(searched)) == 36
    told = verdict(searched)
    assert told is not None
    assert told["luck"]["trials"] == 36


def test_a_verdict_without_the_strategy_says_so(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any) -> Any:
        raise BadInput("the strategy is not installed here.")

    monkeypatch.setattr("grid.session.reopen", gone)
    told = verdict(Session(session.folder), 0)
    assert told is not None
    assert told["simulated"] == "the strategy is not installed here."
    assert "cannot be run again here" in lines(told)["data snooping"]
    assert told["luck"]["deflated_sharpe"] < 1
    assert told["headline"] == "unknown"


def test_a_session_begun_before_strategies_were_looked_at_has_a_verdict(session: Session) -> None:
    facts = {name: value for name, value in session.metadata.items() if name != "doubt"}
    assert "doubt" in session.metadata
    told = verdict(Session(session.folder, facts), 0)
    assert told is not None
    assert (told["doubt"], told["headline"] == "void") == (None, False)


def test_nobody_to_judge() -> None:
    assert verdict(session_of(objective={"require": ["total_trades >= 100000"]})) is None


def test_words() -> None:
    yes, no = ({"passed": p, "decides": True, "of": "session"} for p in (True, False))
    beside = {"passed": False, "decides": False, "of": "session"}
    assert headline([yes, beside, yes, beside, yes, yes]) == "skill"
    assert headline([no, beside, yes, beside, yes, yes]) == "unproven"
    assert headline([no, beside, no, beside, yes, yes]) == "luck"


@pytest.mark.parametrize(
    ("own", "of_session", "told"), [(False, True, "luck"), (True, False, "unproven"), (True, True, "skill")]
)
def test_what_is_about_the_best_speaks_for_no_other_trial(own: bool, of_session: bool, told: str) -> None:
    trial = {"passed": own, "decides": True, "of": "trial"}
    holm = {"passed": False, "decides": False, "of": "trial"}
    others = [{"passed": of_session, "decides": True, "of": "session"}] * 4
    assert headline([trial, holm, *others], best=False) == told
    if told == "luck":
        assert headline([trial, {**holm, "passed": True}, *others], best=False) == "unproven"


def test_a_trial_that_is_not_the_best_says_which_checks_are_not_about_it(session: Session) -> None:
    best = session.ledger.summary.best[0][1]
    other = verdict(session, (best + 1) % 48)
    own = verdict(session, best)
    assert own is not None
    assert other is not None
    assert f"about the session's best (trial {best})" in lines(other)["others"]
    assert "others" not in lines(own)
    assert other["checks"][2]["passed"] == own["checks"][2]["passed"]
    assert [check["of"] for check in own["checks"]].count("trial") == 5
    holm = other["simulated"]["reality"]["holm"]
    assert other["checks"][1]["passed"] == (holm <= 0.05)
    assert f"p {number(holm)} after Holm, all 48 trials counting" in lines(other)["tested alone"]
    for each in (own, other):
        luck = {**each, "headline": "luck"}
        assert ("of its own" in meaning(luck)) == (each is other)


def test_leaders_do_not_hang_on_what_is_kept() -> None:
    few, many = (session_of(results={"store": f"memory://verdict-{next(STORES)}", "keep_best": n}) for n in (1, 20))
    for n in (1, 20, 48):
        assert few.best(n) == many.best(n)
    reality = [told["simulated"]["reality"] for told in (verdict(few), verdict(many)) if told]
    assert reality[0] == reality[1]
    assert reality[0]["leaders"] == 20


@pytest.mark.parametrize(("timeframe", "periods"), [("1D", 252), ("1W", 365 / 7)])
def test_years_are_annualised_by_the_calendar(timeframe: str, periods: float, tmp_path: Path) -> None:
    days = OhlcvStore(provider_for(str(REPOSITORY / "data"))).read(DatasetKey("AAPL", "1D"))
    bars = days if timeframe == "1D" else resample(days, timeframe)
    OhlcvStore(provider_for(str(tmp_path))).write(bars, "XNYS", "no")
    session = session_of(data={"store": str(tmp_path), "symbols": ["AAPL"], "timeframes": [timeframe]})
    trial = session.ledger.summary.best[0][1]
    evidence = Evidence(session)
    days, returns = evidence.daily([trial])
    own_days, _ = evidence.held(trial // len(session.points))
    own = returns[np.searchsorted(days, own_days), 0]
    years = own_days.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970
    one = own[years == 2004]
    told = verdict(session)
    assert told is not None
    shown = next(y for y in told["simulated"]["years"] if y["year"] == 2004)
    assert shown["sharpe"] == pytest.approx(one.mean() / one.std(ddof=1) * math.sqrt(periods))


def test_a_search_that_is_not_done_is_not_permuted() -> None:
    steps = count()
    watch = Watch(stopping=lambda: next(steps) > 1)
    stopped = run(sweep_of(f"memory://verdict-{next(STORES)}"), "serial", watch, unit_size=8)
    assert stopped.status == "interrupted"
    with pytest.raises(
        BadInput, match=r"is interrupted: its best so far is not the best of a whole.*Next: grid resume"
    ):
        permute(stopped, 2)


def test_what_was_tried_elsewhere() -> None:
    store = f"memory://verdict-{next(STORES)}"
    first = session_of(store)

    def elsewhere(**changes: Any) -> int:
        resolved = resolve(Sweep(**sweep_of(store, **changes)))
        datasets = rehearse(resolved).datasets
        reused = gather(resolved, datasets).counts
        told = estimate(resolved, rehearse(resolved), reused).after(tried_elsewhere(resolved, datasets, reused))
        assert told.least_years == minimum_backtest_years(told.trials + told.tried)
        return told.tried

    assert elsewhere() == 0  # the very same search
    assert elsewhere(space={"fast": FAST, "slow": [31]}) == first.ledger.summary.ok == 48
    assert elsewhere(space={"fast": FAST, "slow": [*SLOW[:2], 31]}) == 48 - 24  # of 36 trials 24 are reused
    asked = {"method": "local", "trials": 18, "round": 4, "seed": 2}
    assert elsewhere(search=asked) == 48
    alone = {**sweep_of(store)["data"], "symbols": ["IBM"]}
    assert elsewhere(data=alone) == 0  # all of its trials are reused
    assert elsewhere(data=alone, space={"fast": FAST, "slow": [31]}) == 24
    assert elsewhere(data={**alone, "symbols": ["MSFT"]}) == 0
