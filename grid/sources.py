"""Which sessions of a results store have rows that a sweep may take over."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from grid.conditions import MARK, conditions
from grid.errors import BadInput
from grid.resolve import ENGINE_VERSION, ResolvedSweep, session_fingerprint
from grid.searchspec import HALVING
from grid.session import Session
from storage.errors import BadData, NotFound
from storage.providers import provider_for
from storage.sessions import SessionFolder, SessionStore

MOST_SOURCES = 32
"""Sessions under the same conditions that are looked at for one sweep, the newest."""
MOST_ROWS, MOST_ROWS_A_TRIAL = 100_000, 100
"""Trials that they may have together: so many, or so many for each trial of the sweep where that is more."""
CONDITIONS = "conditions"
"""What an entry of the catalog calls the conditions of its datasets."""


@dataclass(frozen=True)
class Source:
    """A session, and of its datasets those that the sweep has under the same conditions: {number there: number here}"""

    session: Session
    datasets: Mapping[int, int]


def marks(resolved: ResolvedSweep, facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The conditions of a sweep's datasets as its entry of the catalog names them. facts: as metadata.json has them."""
    return [condition[:MARK] for condition in _here(resolved, facts)]


def sources(resolved: ResolvedSweep, facts: Sequence[Mapping[str, Any]], own: str = "") -> Iterator[Source]:
    """The sessions that ran the sweep's strategy under its conditions, the newest first; `own` is none of them.

    Costs a listing and `index.json` where there is none; and the metadata of each of those that there are. A session
    whose metadata is not what its fingerprint was made of is left out.
    """
    here = {condition: number for number, condition in enumerate(_here(resolved, facts))}
    short = {condition[:MARK] for condition in here}
    store = SessionStore(provider_for(resolved.sweep.results.store))
    left = max(MOST_ROWS, MOST_ROWS_A_TRIAL * resolved.plan.count().trials)
    likely = (entry for entry in store.announced(own) if not short.isdisjoint(entry.get(CONDITIONS, ())))
    for entry in islice(likely, MOST_SOURCES):
        session = Session(SessionFolder(store.provider, entry["session_id"]))
        try:
            source, trials = Source(session, _same(resolved, session, here)), session.metadata["trials"]["count"]
        except (BadInput, BadData, NotFound, KeyError):  # never begun, damaged, or of a version that wrote others
            continue
        if source.datasets and trials <= left:
            left -= trials
            yield source


def _here(resolved: ResolvedSweep, facts: Sequence[Mapping[str, Any]]) -> list[str]:
    return conditions(resolved.sweep, ENGINE_VERSION, resolved.strategy.source_hash(), facts)


def _same(resolved: ResolvedSweep, session: Session, here: Mapping[str, int]) -> dict[int, int]:
    """The numbers of its datasets that are the sweep's too, and theirs here."""
    told, facts = session.metadata, session.metadata["datasets"]
    there = conditions(session.sweep, told["engine"], told["strategy_source"], facts)
    same = {number: here[condition] for number, condition in enumerate(there) if condition in here}
    if session.sweep.search.method == HALVING:
        return {}
    if same and set(session.sweep.space) == set(resolved.sweep.space):
        theirs = replace(resolved, sweep=session.sweep)  # of the same strategy and engine, as the conditions say
        if session_fingerprint(theirs, [d["fingerprint"] for d in facts]) == told["fingerprint"]:
            return same
    return {}
