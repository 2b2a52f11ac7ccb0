"""The ledger of a results store: what was tried per strategy and dataset, over all its sessions.

Ten small sweeps are as much luck as one large one. Nothing shared is written: a session says in its own summary what it
tried, and whoever asks adds up. Sessions with the same fingerprint are one search that was repeated, and count once, as
the one that got furthest. A trial that was reused counts once, with the session that ran it, while that one is in the
store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.errors import BadInput
from grid.halving import blocks_seen
from grid.resolve import ResolvedSweep, session_fingerprint
from grid.results import HISTORY_SHARE, OK, REUSED_FROM, history_shares
from grid.search import Asked
from grid.session import Session
from storage.errors import BadData, NotFound
from storage.ohlcv import DatasetKey
from storage.providers import provider_for
from storage.sessions import SessionFolder, SessionStore


@dataclass(frozen=True)
class Tried:
    """What sessions tried on one dataset with one strategy.

    trials: rows, failed ones included. ok: those that went well; sharpe_sum, sharpe_sumsq: of their annual Sharpe
    ratios (0 for one that did not trade), so that sessions can be pooled. That of a trial over a share h of the history
    enters times sqrt(h), with the spread that luck has over all of it. ran_by: the session that ran them, where the
    one that tells of them took them over.
    """

    strategy: str
    symbol: str
    timeframe: str
    sessions: int
    trials: int
    ok: int
    sharpe_sum: float
    sharpe_sumsq: float
    ran_by: str | None = None

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
    """What one session tried, from its committed rows; the same whatever the order of its parts.

    By dataset: what it ran itself, be it nothing, and what it took over, by the session that ran that.
    """
    size, strategy = len(session.points), session.sweep.strategy
    found = {(d, ""): [Fraction(0)] * 4 for d in range(len(session.datasets))}
    for table in session.parts(["trial_id", "status", "sharpe", REUSED_FROM, HISTORY_SHARE]):
        dataset, ok = table["trial_id"].to_numpy() // size, table["status"].to_numpy() == OK
        ratios = np.nan_to_num(table["sharpe"].to_numpy(), posinf=0.0, neginf=0.0)
        ratios *= np.sqrt(_seen(session, dataset, history_shares(table)))
        ran_by = table[REUSED_FROM].fill_null("").combine_chunks().dictionary_encode()
        codes = ran_by.indices.to_numpy()
        for d, (code, name) in product(np.unique(dataset).tolist(), enumerate(ran_by.dictionary.to_pylist())):
            here = (dataset == d) & (codes == code)
            own = ratios[ok & here]
            told: list[Fraction | int] = [int(here.sum()), len(own), exact_sum(own), exact_sum(own**2)]
            before = found.get((d, name), [Fraction(0)] * 4)
            found[d, name] = [total + more for total, more in zip(before, told, strict=True)]
    some = {key: sums for key, sums in sorted(found.items()) if sums[0] or not key[1]}
    return [_tried(strategy, session.datasets[d], name, sums) for (d, name), sums in some.items()]


def _seen(session: Session, dataset: NDArray[np.int64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of its dataset's bars that each trial saw, given that of its rung's blocks."""
    seen = np.ones(len(shares))
    for d, share in {pair for pair in zip(dataset.tolist(), shares.tolist(), strict=True) if pair[1] != 1}:
        bars = np.array(session.metadata["datasets"][d]["block_bars"])
        part = bars[: blocks_seen(bars, round(share * len(bars)))]
        seen[(dataset == d) & (shares == share)] = part.sum() / bars.sum()
    return seen


def _tried(strategy: str, key: DatasetKey, ran_by: str, sums: list[Fraction]) -> Tried:
    trials, ok, total, squares = sums
    counted = strategy, key.symbol, key.timeframe, 0 if ran_by else 1, int(trials), int(ok)
    return Tried(*counted, float(total), float(squares), ran_by or None)


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
    told = [{name: value for name, value in vars(t).items() if name not in ("strategy", "sessions")} for t in tried]
    return [{name: value for name, value in one.items() if value is not None} for one in told]


def ledger(
    store: SessionStore,
    strategy: str | None = None,
    known: Mapping[str, list[Tried]] | None = None,
    without: str | None = None,
) -> list[Tried]:
    """What all sessions of a store tried, joined by strategy and dataset and ordered by them.

    strategy: this one alone. known: by fingerprint, what the caller knows of a session that may not be done. without:
    the fingerprint of a search that is left out. Of sessions that are not done the committed rows are read; those that
    cannot be read count nothing.
    """
    most = dict(known or {})
    search_of: dict[str | None, str | None] = {}
    for entry in store.entries():
        if strategy is None or entry.get("strategy") == strategy:
            fingerprint, found = _of(store, entry)
            search_of[entry["session_id"]] = fingerprint if found else None
            most[fingerprint] = max(most.get(fingerprint, []), found, key=_trials)
    most.pop(without or "", None)
    joined: dict[tuple[str, str, str], Tried] = {}
    for search, one in ((search, one) for search, found in most.items() for one in found):
        if search_of.get(one.ran_by) not in (None, search):  # counted where it was run
            continue
        key = one.strategy, one.symbol, one.timeframe
        joined[key] = joined[key].plus(one) if key in joined else one
    return [joined[key] for key in sorted(joined)]


def tried_elsewhere(resolved: ResolvedSweep, datasets: Sequence[Mapping[str, Any]], reused: Mapping[str, int]) -> int:
    """How many trials other sweeps of the results store tried with a sweep's strategy on its datasets, beside those
    that it takes over from them.

    datasets: as the rehearsal tells them. reused: how many it takes over, by the session that ran them; none is known
    beforehand where a method asks for points.
    """
    sweep, keys = resolved.sweep, {(key.symbol, key.timeframe) for key in resolved.datasets}
    same, store = session_fingerprint(resolved, [d["fingerprint"] for d in datasets]), provider_for(sweep.results.store)
    found = ledger(SessionStore(store), sweep.strategy, without=same)
    elsewhere = sum(t.trials for t in found if (t.symbol, t.timeframe) in keys)
    if isinstance(resolved.points, Asked):
        return elsewhere
    ran = {name: Session(SessionFolder(store, name)).metadata["fingerprint"] for name in reused}
    return max(elsewhere - sum(count for name, count in reused.items() if ran[name] != same), 0)


def _trials(found: list[Tried]) -> int:
    return sum(one.trials for one in found)


def _of(store: SessionStore, entry: dict[str, Any]) -> tuple[str, list[Tried]]:
    if "tried" in entry:
        told = [{"sessions": 0 if t.get("ran_by") else 1, **t} for t in entry["tried"]]
        return entry["fingerprint"], [Tried(strategy=entry["strategy"], **t) for t in told]
    session = Session(SessionFolder(store.provider, entry["session_id"]))
    try:
        return session.metadata["fingerprint"], tried_by(session)
    except (BadData, BadInput, NotFound):  # damaged, or announced and never begun
        return entry["session_id"], []
