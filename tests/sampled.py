"""One trial in a hundred of the sweeps that tests run, recomputed: by the engine bit for bit, and by the naive twin."""

import math
import random
import time
from typing import Any

import numpy as np

from grid.engine import METRICS
from grid.results import OK
from grid.search import rung_of
from grid.session import Session
from strategies import Bits, Signals
from tests.engine_twin import OF_A_STRATEGY, Trial, differences

SHARE, MOST_S = 0.01, 30.0
"""At least one trial, and no more after so many seconds."""
LONGEST = 20_000
"""Bars beyond which the twin, a loop in Python, would take seconds."""
MASKS = ("entries", "exits", "short_entries", "short_exits")


def check_sample(session: Session) -> int:
    """Recompute a sample of a session's trials, the same for the same sweep; returns how many it was."""
    if not session.ledger.parts or max(d["bars"] for d in session.metadata["datasets"]) > LONGEST:
        return 0
    rows = session.trials(["trial_id", "status"]).to_pylist()
    good = [row["trial_id"] for row in rows if row["status"] == OK]
    dice = random.Random(session.metadata["fingerprint"])
    chosen = dice.sample(good, math.ceil(SHARE * len(good)))
    table = session.rows(chosen)
    checked, until = 0, time.monotonic() + MOST_S
    for row in [] if table is None else table.to_pylist():
        check_row(session, row)
        checked += 1
        if time.monotonic() > until:
            break
    return checked


def check_row(session: Session, row: dict[str, Any]) -> None:
    again = session.backtest(row["trial_id"])
    committed = np.array([row[name] for name in METRICS])
    assert committed.tobytes() == again.row.tobytes(), f"trial {row['trial_id']} of {session.id} is another one now"
    found = differences(trial_of(session, row["trial_id"]))
    assert found == [], f"trial {row['trial_id']} of {session.id} and its twin differ: {found}"


def trial_of(session: Session, trial_id: int) -> Trial:
    """A trial of a session as the twin takes it."""
    dataset, point = session.resolved.plan.locate(trial_id)
    loaded = session.resolved.load(dataset).upto(rung_of(session.points, point))
    bars = loaded.bars
    signals = session.resolved.strategy(**session.resolved.points[point]).signals(bars).normalised(len(bars))
    return Trial(
        prices=[bars.open, bars.high, bars.low, bars.close],
        masks=[_mask(getattr(signals, name)) for name in MASKS],
        execution=_execution(session, signals),
        periods_per_year=bars.periods_per_year,
        risk_free=session.sweep.execution.risk_free,
        edges=tuple(loaded.edges.tolist()),
    )


def _mask(given: Any) -> Any:
    return given.unpack() if isinstance(given, Bits) else given


def _execution(session: Session, signals: Signals) -> dict[str, Any]:
    """The execution model, with what the strategy itself says in its place."""
    model = session.sweep.execution.model_dump(exclude={"risk_free", "fast_path"})
    if isinstance(model["size"], dict):
        model["size"] = ("units", model["size"]["units"])
    own = {name: getattr(signals, name) for name in OF_A_STRATEGY}
    return {**model, **{name: value for name, value in own.items() if value is not None}}
