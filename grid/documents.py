"""What is written when a session ends: its summary, the documents of the best trials, and the view of all sessions."""

import platform
from datetime import UTC, datetime
from typing import Any

import numpy as np

from grid.session import Session
from grid.verdict.tried import to_json, tried_by
from storage.sessions import SessionFolder, SessionStore
from strategies import Bits

CURVE_POINTS = 2_000
"""A performance curve in JSON keeps at most about this many bars; `Session.backtest` gives all of them."""


def finish(session: Session, stopped: bool, seconds: float, stopped_by: str | None = None) -> Session:
    """Write the documents and the final status of a session that has nothing left to do, or was stopped.

    stopped_by: the limit that stopped it, in words. Returns the session, which knows all that by then.
    """
    before = session.metadata
    while True:
        session.catch_up()
        _conclude(session, before, seconds, (stopped, stopped_by))
        if session.folder.read_commit(session.ledger.next_n) is None:
            break  # else another driver went on meanwhile, and what was written may be over what it wrote
    SessionStore(session.folder.provider).render_index()
    return session


def _conclude(session: Session, before: dict[str, Any], seconds: float, stop: tuple[bool, str | None]) -> None:
    """Write what the commits say that the session has read. stop: see `finish`."""
    stopped, stopped_by = stop
    complete = session.ledger.done.total() == session.resolved.plan.total
    summary = session.ledger.summary
    if complete:
        write_leaders(session)
    session.metadata = {
        **before,
        "status": "done" if complete else "interrupted" if stopped else "incomplete",
        "stopped_by": None if complete else stopped_by,
        "updated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(before.get("seconds", 0.0) + seconds, 3),
        "finished_on": platform.node(),
        "ok": summary.ok,
        "failed": summary.failed,
    }
    session.folder.write_document("metadata.json", session.metadata)
    if complete:
        session.folder.create_document("summary.json", _summary(session, session.metadata))


def write_leaders(session: Session) -> None:
    """backtest_result.json, trades.json, performance_curve.json and signals.json: the best trials, recomputed."""
    folder, keep = session.folder, session.sweep.results.keep_best
    top = session.top(keep) if keep else None
    rows = [] if top is None else top.to_pylist()
    folder.write_document(
        "backtest_result.json",
        plain(
            {
                "session_id": session.id,
                "objective": session.sweep.objective.model_dump(exclude_none=True),
                "best_trials": rows,
                "best_points": session.top_points(keep) if keep else [],
                "buy_and_hold": {
                    f"{d['symbol']} {d['timeframe']}": d["buy_and_hold"] for d in session.metadata["datasets"]
                },
            }
        ),
    )
    _write_details(session, folder, [row["trial_id"] for row in rows])


def _write_details(session: Session, folder: SessionFolder, trial_ids: list[int]) -> None:
    by_dataset = {trial_id: _details(session, trial_id) for trial_id in sorted(trial_ids)}  # bars are read once
    for place, name in enumerate(("trades.json", "performance_curve.json", "signals.json")):
        folder.write_document(name, plain([by_dataset[trial_id][place] for trial_id in trial_ids]))


def _details(session: Session, trial_id: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Trades, performance curve and signals of a trial."""
    dataset, point = session.resolved.plan.locate(trial_id)
    result = session.backtest(trial_id)
    step = max(1, len(result.curve) // CURVE_POINTS)
    kept = np.unique(np.append(np.arange(0, len(result.curve), step), len(result.curve) - 1))
    curve = {
        "trial_id": trial_id,
        "every_bars": step,
        "timestamp_ms": (result.bars.timestamp[kept] // 1_000_000).tolist(),
        "equity": result.curve[kept].tolist(),
    }
    wanted = session.resolved.strategy(**session.resolved.points[point]).signals(result.bars)
    given = wanted.normalised(len(result.bars))
    masks = {name: getattr(given, name) for name in ("entries", "exits", "short_entries", "short_exits")}
    bars = {name: mask.indices().tolist() for name, mask in masks.items() if isinstance(mask, Bits)}
    key = session.datasets[dataset]
    signals = {"trial_id": trial_id, "symbol": key.symbol, "timeframe": key.timeframe, "bars": bars}
    return {"trial_id": trial_id, "trades": result.trade_records()}, curve, signals


def _summary(session: Session, metadata: dict[str, Any]) -> dict[str, Any]:
    best = session.top(1)
    row = best.to_pylist()[0] if best is not None else {}
    names = ("win_rate", "total_trades", "profit_factor", "total_return", "sharpe", "max_drawdown")
    summary: dict[str, Any] = plain(
        {
            "status": metadata["status"],
            "datasets": len(metadata["datasets"]),
            "trials": {"count": metadata["trials"]["count"], "ok": metadata["ok"], "failed": metadata["failed"]},
            "seconds": metadata["seconds"],
            "fingerprint": metadata["fingerprint"],
            "tried": to_json(tried_by(session)),
            "metrics": {name: row.get(name) for name in names},
        }
    )
    return summary


def plain(value: Any) -> Any:
    """`value` for JSON: NaN becomes null, NumPy scalars become Python's."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
