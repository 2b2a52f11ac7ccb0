"""The verdict on a trial: everything that speaks for skill or luck, as plain numbers."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from grid.errors import BadInput, Refused
from grid.results import HISTORY_SHARE, OK
from grid.search import rungs_of
from grid.session import Session
from grid.validation.cscv import cscv
from grid.validation.moments import Floats
from grid.validation.selection import Chosen, choose
from grid.validation.sharpe import (
    Record,
    deflated_sharpe,
    minimum_backtest_years,
    minimum_track_record,
    no_skill_sharpe,
    probabilistic_sharpe,
)
from grid.validation.splits import combinatorial, walk_forward
from grid.verdict.checks import checks, headline
from grid.verdict.evidence import Evidence
from grid.verdict.holdout import looks
from grid.verdict.permutation import last
from grid.verdict.simulated import simulated
from grid.verdict.surface import Surface
from grid.verdict.tried import Tried, ledger, tried_by
from storage.errors import StorageError
from storage.sessions import SessionStore
from strategies.errors import StrategyError

ONE_BLOCK = "the sweep keeps one block only (validation.blocks: 1)"
TARGET = 1.0
"""The annual Sharpe ratio that `minimum backtest length` is about."""


def verdict(session: Session, trial: int | None = None) -> dict[str, Any] | None:
    """What can be said of a trial, the session's best by default; None where nobody leads.

    The sections are those of docs/verdict.md. One that cannot be made here (the strategy is not installed, not trusted
    or changed, the bars are gone or changed) is a text that says why, and then the headline is `unknown`; it is `void`
    where the first trials showed that the strategy looks ahead or is not the same twice. Raises BadInput for a trial
    without a row or one that failed.
    """
    best = session.ledger.summary.best[0][1] if session.ledger.summary.best else None
    if trial is None:
        if best is None:
            return None
        trial = best
    row = _row(session, trial)
    evidence = Evidence(session)
    found: dict[str, Any] = {"trial_id": trial, "symbol": row["symbol"], "timeframe": row["timeframe"]}
    found["best_trial_id"] = best
    found["parameters"] = {name: row[name] for name in session.points.names}
    found["luck"] = _luck(evidence, row)
    found["overfitting"] = _overfitting(evidence)
    found["walk_forward"] = _walks(evidence)
    found["surface"] = _surface(session, trial)
    found["simulated"] = _here(lambda: simulated(evidence, trial, found["luck"]["trials"]))
    found["holdout"] = [{"look": x["look"], "at": x["at"], "by": x["by"]} for x in looks(session)]
    found["permutation"] = _told(last(session))
    found["doubt"] = session.metadata.get("doubt")
    found["checks"] = checks(found)
    found["headline"] = _headline(found)
    return found


def _headline(found: dict[str, Any]) -> str:
    if found["doubt"]:
        return "void"
    is_best = found["trial_id"] == found["best_trial_id"]
    return headline(found["checks"], is_best) if isinstance(found["simulated"], dict) else "unknown"


def luck(session: Session) -> dict[str, Any] | None:
    """The section `luck` of the verdict on the best trial; None where nobody leads. It runs nothing again."""
    best = session.ledger.summary.best
    return _luck(Evidence(session), _row(session, best[0][1])) if best else None


def _row(session: Session, trial: int) -> dict[str, Any]:
    rows = session.rows([trial])
    if rows is None or rows.num_rows == 0:
        raise BadInput(f"session {session.id} has no committed trial {trial}, so there is nothing to judge.")
    row: dict[str, Any] = rows.to_pylist()[0]
    if row.get(HISTORY_SHARE, 1) != 1:
        raise BadInput(
            f"trial {trial} of session {session.id} was run over a part of the history and pruned or tried again on "
            "more, so it is not judged: name one of the last rung."
        )
    if row["status"] != OK:
        raise BadInput(f"trial {trial} of session {session.id} failed, so there is nothing to judge: {row['error']}")
    return row


def _told(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """A permutation test without the score of each permutation."""
    return {name: value for name, value in found.items() if name != "scores"} if found else None


def _here(make: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
    try:
        return make()
    except (BadInput, Refused, StorageError, StrategyError) as error:
        return str(error)


def _luck(evidence: Evidence, row: dict[str, Any]) -> dict[str, Any]:
    """The Sharpe ratio against what luck makes of all that was tried, in this session and in others of the store."""
    session = evidence.session
    dataset = row["trial_id"] // len(session.points)
    periods, bars = evidence.periods[dataset], session.metadata["datasets"][dataset]["bars"]
    here = tried_by(session)
    both = _pooled(_ever(session, here))
    annual = row["sharpe"]
    record = Record(annual / math.sqrt(periods), bars, row["skew"], row["kurtosis"])
    return {
        "sharpe": annual,
        "bars": bars,
        "years": bars / periods,
        "trials": both.trials,
        "trials_here": _pooled(here).trials,
        "trials_on_everything": len(evidence.trials[0]) if rungs_of(session.points) else None,
        "sessions": both.sessions,
        "method": "every trial tried with this strategy on these datasets, as if independent",
        "variance_of_sharpes": both.variance,
        "no_skill_sharpe": no_skill_sharpe(both.variance, both.trials),
        "probabilistic_sharpe": probabilistic_sharpe(record),
        "deflated_sharpe": deflated_sharpe(record, both.variance / periods, both.trials),
        "minimum_track_record_years": minimum_track_record(record) / periods,
        "minimum_backtest_years": minimum_backtest_years(both.trials, TARGET),
    }


def _pooled(found: list[Tried]) -> Tried:
    total = Tried("", "", "", 0, 0, 0, 0.0, 0.0)
    for one in found:
        total = total.plus(one)
    sessions = max((t.sessions for t in found), default=0)
    return Tried("", "", "", sessions, total.trials, total.ok, total.sharpe_sum, total.sharpe_sumsq)


def _ever(session: Session, here: list[Tried]) -> list[Tried]:
    """What was tried in the whole store, by the session's datasets; `here` is what the session itself tried."""
    store = SessionStore(session.folder.provider)
    keys = {(key.symbol, key.timeframe) for key in session.datasets}
    found = ledger(store, session.sweep.strategy, {session.metadata["fingerprint"]: here})
    return [t for t in found if (t.symbol, t.timeframe) in keys]


def _overfitting(evidence: Evidence) -> dict[str, Any] | str:
    if evidence.blocks == 1:
        return ONE_BLOCK
    if len(evidence.trials[0]) < 2:
        return "fewer than two trials went well"
    found = cscv(evidence.chunks, evidence.blocks)
    slope, intercept = found.degradation
    return {
        "pbo": found.pbo,
        "trials": found.trials,
        "splits": len(found.rank),
        "blocks": evidence.blocks,
        "degradation_slope": slope,
        "degradation_intercept": intercept,
        "probability_of_loss": found.probability_of_loss,
        "median_in_sample": float(np.median(found.in_sample)),
        "median_out_of_sample": float(np.median(found.out_of_sample)),
    }


def _walks(evidence: Evidence) -> dict[str, Any] | str:
    """Choosing again and again: rolling, anchored and cross-validated, from block moments."""
    validation, blocks = evidence.session.sweep.validation, evidence.blocks
    if blocks == 1:
        return ONE_BLOCK
    rolling, anchored = (walk_forward(blocks, validation.walk(anchored)) for anchored in (False, True))
    folds, n = combinatorial(blocks, validation.folds()), len(rolling)
    found = choose(evidence.chunks, [*rolling, *anchored, *folds], blocks)
    return {
        "rolling": _walk(found, range(n)),
        "anchored": _walk(found, range(n, 2 * n)),
        "combinatorial": {
            "splits": len(folds),
            "mean_in_sample": _mean(found.in_sample[2 * n :]),
            "mean_out_of_sample": _mean(found.out_of_sample[2 * n :]),
            "sharpe_of_paths": found.path_ratios(2 * n, validation.folds().groups),
        },
    }


def _walk(found: Chosen, rows: range) -> dict[str, Any]:
    folds = [
        {
            "test_blocks": list(found.splits[f].test[0]),
            "trial_id": int(found.best[f]),
            "in_sample": float(found.in_sample[f]),
            "out_of_sample": float(found.out_of_sample[f]),
        }
        for f in rows
    ]
    return {"sharpe": found.walked(rows), "mean_in_sample": _mean(found.in_sample[list(rows)]), "folds": folds}


def _mean(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _surface(session: Session, trial: int) -> dict[str, Any] | str:
    if not Surface.fits(session):
        return "the space is too large to be held as a surface"
    surface = Surface(session)
    return {
        **surface.of(trial),
        "parameters": [asdict(s) for s in surface.parameters()],
        "symbols_left_out": surface.left_out("symbol"),
        "timeframes_left_out": surface.left_out("timeframe"),
    }
