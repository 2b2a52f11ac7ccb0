"""The ledger of a results store: what was tried per strategy and dataset, over all its sessions.

Ten small sweeps are as much luck as one large one. Nothing shared is written: a session says in its own summary what it
tried, and whoever asks adds up. Sessions with the same fingerprint are one search that was repeated, and count once, as
the one that got furthest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.errors import BadInput
from grid.results import OK
from grid.session import Session
from storage.errors import BadData, NotFound
from storage.sessions import SessionFolder, SessionStore


@dataclass(frozen=True)
class Tried:
    """What sessions tried on one dataset with one strategy.

    trials: rows, failed ones included. ok: those that went well; sharpe_sum, sharpe_sumsq: of their annual Sharpe
    ratios (0 for one that did not trade), so that sessions can be pooled.
    """

    strategy: str
    symbol: str
    timeframe: str
    sessions: int
    trials: int
    ok: int
    sharpe_sum: float
    sharpe_sumsq: float

    def plus(self, other: "Tried") -> "Tried":
        """Both together; the names are those of self."""
        return Tried(
            self.strategy,
            self.symbol,
            self.timeframe,
            self.sessions + other.sessions,
            self.trials + other.trials,
            self.ok + other.ok,
            self.sharpe_sum + other.sharpe_sum,
            self.sharpe_sumsq + other.sharpe_sumsq,
        )

    @property
    def variance(self) -> float:
        """Variance (ddof=1) of the annual Sharpe ratios; 0 below two trials, between which nobody chose."""
        if self.ok < 2:
            return 0.0
        return max(self.sharpe_sumsq - self.sharpe_sum**2 / self.ok, 0.0) / (self.ok - 1)


def tried_by(session: Session) -> list[Tried]:
    """What one session tried, by dataset, from its committed rows; the same whatever the order of its parts."""
    size, strategy = len(session.points), session.sweep.strategy
    found = [[Fraction(0)] * 4 for _ in session.datasets]
    for table in session.parts(["trial_id", "status", "sharpe"]):
        dataset, ok = table["trial_id"].to_numpy() // size, table["status"].to_numpy() == OK
        ratios = np.nan_to_num(table["sharpe"].to_numpy(), posinf=0.0, neginf=0.0)
        for d in np.unique(dataset).tolist():
            own = ratios[ok & (dataset == d)]
            told = int((dataset == d).sum()), len(own), exact_sum(own), exact_sum(own**2)
            found[d] = [total + more for total, more in zip(found[d], told, strict=True)]
    return [
        Tried(strategy, key.symbol, key.timeframe, 1, int(trials), int(ok), float(total), float(squares))
        for key, (trials, ok, total, squares) in zip(session.datasets, found, strict=True)
    ]


def exact_sum(values: NDArray[np.float64]) -> Fraction:
    """The sum of fewer than 2^36 finite numbers without rounding, so that neither their order nor any cut matters."""
    share, exponent = np.frexp(values)
    whole = np.ldexp(share, 53).astype(np.int64)
    total = Fraction(0)
    for e in np.unique(exponent).tolist():
        alike = whole[exponent == e]
        high, low = int((alike >> 26).sum()), int((alike & (1 << 26) - 1).sum())
        total += ((high << 26) + low) * Fraction(2) ** (e - 53)
    return total


def to_json(tried: Iterable[Tried]) -> list[dict[str, Any]]:
    """For a session's summary."""
    return [{name: value for name, value in vars(t).items() if name not in ("strategy", "sessions")} for t in tried]


def ledger(
    store: SessionStore, strategy: str | None = None, known: Mapping[str, list[Tried]] | None = None
) -> list[Tried]:
    """What all sessions of a store tried, joined by strategy and dataset and ordered by them.

    strategy: this one alone. known: by fingerprint, what the caller knows of a session that may not be done. Of
    sessions that are not done the committed rows are read; those that cannot be read count nothing.
    """
    most = dict(known or {})
    for entry in store.entries():
        if strategy is None or entry.get("strategy") == strategy:
            fingerprint, found = _of(store, entry)
            most[fingerprint] = max(most.get(fingerprint, []), found, key=_trials)
    joined: dict[tuple[str, str, str], Tried] = {}
    for one in chain.from_iterable(most.values()):
        key = one.strategy, one.symbol, one.timeframe
        joined[key] = joined[key].plus(one) if key in joined else one
    return [joined[key] for key in sorted(joined)]


def _trials(found: list[Tried]) -> int:
    return sum(one.trials for one in found)


def _of(store: SessionStore, entry: dict[str, Any]) -> tuple[str, list[Tried]]:
    if "tried" in entry:
        return entry["fingerprint"], [Tried(strategy=entry["strategy"], sessions=1, **t) for t in entry["tried"]]
    session = Session(SessionFolder(store.provider, entry["session_id"]))
    try:
        return session.metadata["fingerprint"], tried_by(session)
    except (BadData, BadInput, NotFound):  # damaged, or announced and never begun
        return entry["session_id"], []
