"""What is found out before a sweep spends anything: facts of each dataset, the speed, and whether it works at all."""

import time
from dataclasses import dataclass
from typing import Any

from grid.engine import buy_and_hold
from grid.errors import BadInput, Refused
from grid.evaluate import Evaluator
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, ResolvedSweep
from grid.results import FAILED
from storage.errors import StorageError
from storage.providers import provider_for

CANARIES = 20


@dataclass(frozen=True)
class Rehearsal:
    """datasets: one entry each (symbol, timeframe, calendar, bars, first, last, fingerprint, block_bars,
    seconds_per_trial, buy_and_hold), as the session's metadata keeps them. canaries: errors of the first trials in
    number order, None for those that went well.
    """

    datasets: list[dict[str, Any]]
    canaries: list[str | None]

    @property
    def fingerprints(self) -> list[str]:
        return [d["fingerprint"] for d in self.datasets]

    def refuse_hopeless(self) -> None:
        """Raises Refused when all the canaries failed in the same way."""
        errors = set(self.canaries)
        if len(errors) == 1 and None not in errors:
            raise Refused(
                f"the first {len(self.canaries)} trials all fail alike, so the sweep was not started: "
                f"{errors.pop()}. `grid strategies check` shows what a strategy does wrong."
            )


def rehearse(resolved: ResolvedSweep) -> Rehearsal:
    """Load every dataset once, and time the first trials on each (twice on the first, so that nothing is compiled).

    Raises BadInput, before anything else, where the results store cannot be written.
    """
    _check_results(resolved)
    first = [resolved.plan.locate(t) for t in resolved.plan.first_trials(CANARIES)]
    stop = max((point for dataset, point in first if dataset == 0), default=0) + 1
    evaluator = Evaluator(resolved)
    datasets, canaries = [], []
    for number in range(len(resolved.datasets)):
        loaded = resolved.load(number)
        base = number * len(resolved.points)
        if number == 0:
            rows = evaluator.rows(WorkUnit(0, 0, stop), loaded)
            failed = [status == FAILED for status in rows["status"].to_pylist()]
            canaries = [e if bad else None for bad, e in zip(failed, rows["error"].to_pylist(), strict=True)]
        few = WorkUnit(number, base, base + min(stop, CANARIES))
        datasets.append(_facts(resolved, number, loaded, _seconds_per_number(evaluator, few, loaded)))
    return Rehearsal(datasets, canaries)


def _check_results(resolved: ResolvedSweep) -> None:
    try:
        provider_for(resolved.sweep.results.store).check_writable()
    except StorageError as error:
        raise BadInput(f"results.store: {error} Name a store that can be written.") from error


def _seconds_per_number(evaluator: Evaluator, unit: WorkUnit, loaded: LoadedBars) -> float:
    began = time.perf_counter()
    evaluator.rows(unit, loaded)
    return (time.perf_counter() - began) / (unit.stop - unit.start)


def _facts(resolved: ResolvedSweep, number: int, loaded: LoadedBars, seconds: float) -> dict[str, Any]:
    key, bars = resolved.datasets[number], loaded.bars
    held = buy_and_hold(bars, resolved.sweep.execution, loaded.edges).metrics
    return {
        "symbol": key.symbol,
        "timeframe": key.timeframe,
        "calendar": bars.calendar,
        "bars": len(bars),
        "first": int(bars.timestamp[0]),
        "last": int(bars.timestamp[-1]),
        "fingerprint": loaded.fingerprint,
        "block_bars": [int(b - a) for a, b in zip(loaded.edges[:-1], loaded.edges[1:], strict=True)],
        "seconds_per_trial": seconds,
        "buy_and_hold": {name: None if value != value else value for name, value in held.items()},
    }
