"""The part of a verdict that needs trials to be run again: daily returns of the leaders and of a sample, and trades."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from grid.engine.accounts import OPEN, T_PNL, T_REASON
from grid.search import rungs_of
from grid.validation.bootstrap import block_intervals, trade_intervals
from grid.validation.effective import effective_trials
from grid.validation.moments import Floats, sharpe
from grid.validation.multiple import benjamini_hochberg, holm
from grid.validation.periods import by_regime, by_year
from grid.validation.reality import reality_check
from grid.validation.selection import choose
from grid.validation.sharpe import NORMAL
from grid.validation.splits import walk_forward
from grid.verdict.costs import break_even
from grid.verdict.evidence import Evidence, daily_returns
from grid.verdict.fresh import fresh_start
from storage.timeframes import bars_per_year

LEADERS = 20
CONFIDENCE = 0.9


def simulated(evidence: Evidence, trial: int, trials: int) -> dict[str, Any]:
    """Everything about `trial`, out of `trials` that were tried, that its row does not say."""
    session = evidence.session
    leaders = list(dict.fromkeys([trial, *(t for _, t in session.best(LEADERS))]))
    chosen = evidence.sample(leaders)
    days, returns = evidence.daily(chosen)
    dataset = trial // len(session.points)
    own_days, held = evidence.held(dataset)
    own = returns[np.searchsorted(days, own_days), 0]
    calendar = session.metadata["datasets"][dataset]["calendar"]
    periods = min(bars_per_year("1D", calendar), evidence.periods[dataset])  # a week has one return a week
    rate = session.sweep.execution.risk_free / days_a_year(days)
    return {
        "effective": None if rungs_of(session.points) else asdict(effective_trials(returns, trials)),
        "reality": _reality(returns - rate, len(leaders), trials),
        "against_buy_and_hold": _alone(own - held),
        "intervals": _intervals(evidence, trial, own, periods),
        "years": by_year(own_days, own, periods),
        "regimes": by_regime(held, own, periods),
        "costs": asdict(break_even(evidence, trial)),
        "walk_forward_fresh": _fresh_walk(evidence),
    }


def days_a_year(days: Any) -> float:
    """Days with bars in a year of these days since 1970."""
    return float(len(days) / max((days[-1] - days[0] + 1) / 365.25, 1 / 365.25))


def _reality(excess: Floats, leaders: int, trials: int) -> dict[str, Any] | str:
    """White and Hansen over all columns, the first of which is the trial and the first `leaders` the best."""
    try:
        found = reality_check(excess)
    except ValueError as error:
        return str(error)
    p_values = np.ones(leaders)  # of the other trials it is 1
    statistic = math.sqrt(len(excess)) * excess[:, :leaders].mean(axis=0)
    for i, value in enumerate(statistic.tolist()):
        if found.omega[i] > 0:
            p_values[i] = 1 - NORMAL.cdf(value / found.omega[i])
    every, share = holm(p_values, trials), benjamini_hochberg(p_values, trials)
    return {
        "trials": excess.shape[1],
        "of": trials,
        "spa": found.consistent,
        "spa_lower": found.lower,
        "spa_upper": found.upper,
        "reality_check": found.white,
        "p_value_alone": float(p_values[0]),
        "leaders": leaders,
        "holm": float(every[0]),
        "holm_leaders": int((every <= 0.05).sum()),
        "benjamini_hochberg": float(share[0]),
        "benjamini_hochberg_leaders": int((share <= 0.05).sum()),
    }


def _alone(excess: Floats) -> dict[str, float] | str:
    """p-value that one trial is no better than buy and hold, nothing else having been tried."""
    try:
        found = reality_check(excess[:, None])
    except ValueError as error:
        return str(error)
    return {"mean_excess_per_day": float(excess.mean()), "p_value": found.consistent}


def _intervals(evidence: Evidence, trial: int, own: Floats, periods: float) -> dict[str, Any]:
    result = evidence.session.backtest(trial)
    pnl = result.trade_rows[result.trade_rows[:, T_REASON] != OPEN, T_PNL]
    before = result.cash + np.concatenate(([0.0], np.cumsum(pnl)))[:-1]
    years = len(own) / periods
    trades = trade_intervals(pnl / before, CONFIDENCE, per_year=len(pnl) / years)
    blocks = block_intervals(own, periods, CONFIDENCE)
    return {"confidence": CONFIDENCE, "days": blocks, "trades": trades, "closed_trades": len(pnl)}


def _fresh_walk(evidence: Evidence) -> dict[str, Any] | None:
    """The rolling walk-forward once more, each chosen trial starting afresh on its test blocks.

    Block moments know no fresh start: a position may be carried into a test set. This is how much that matters.
    """
    session, blocks = evidence.session, evidence.blocks
    if blocks == 1:
        return None
    found = choose(evidence.chunks, walk_forward(blocks, session.sweep.validation.walk(False)), blocks)
    pieces, curve, equity, years = [], [], 1.0, 0.0
    for trial, split in zip(found.best.tolist(), found.splits, strict=True):
        if trial < 0:
            continue
        dataset, point = session.resolved.plan.locate(trial)
        loaded = session.loaded(dataset)
        start, stop = (int(loaded.edges[edge]) for edge in split.test[0])
        if start == stop:
            continue
        strategy = session.resolved.strategy(**session.resolved.points[point])
        result = fresh_start(loaded.bars, strategy, session.sweep.execution, start, stop)
        days, returns = daily_returns(result)
        pieces.append(returns)
        years += (stop - start) / evidence.periods[dataset]
        equity *= float(np.prod(1 + returns))
        curve.append({"until": str(np.datetime64(int(days[-1]), "D")), "trial_id": trial, "equity": equity})
    joined = np.concatenate(pieces) if pieces else np.zeros(0)
    ratio = sharpe(float(len(joined)), joined.sum(), (joined**2).sum(), len(joined) / years) if years else math.nan
    return {"sharpe": float(ratio), "by_moments": found.walked(range(len(found.best))), "equity": curve}
