"""What is found out before a sweep spends anything: facts of each dataset, the speed, and whether it works at all."""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.addresses import check_cluster
from grid.engine import buy_and_hold
from grid.errors import BadInput, Refused
from grid.evaluate import Evaluator
from grid.resolve import LoadedBars, ResolvedSweep
from grid.results import FAILED
from storage.errors import StorageError
from storage.providers import provider_for

CANARIES = 20
CHUNK = 20
SAMPLE = 200
REHEARSAL_S = 0.5
"""What timing the first trials may take in all, one chunk on each dataset at least."""


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
        kinds = {None if error is None else _kind(error) for error in self.canaries}
        if len(kinds) == 1 and None not in kinds:
            raise Refused(
                f"the first {len(self.canaries)} trials all fail alike, so the sweep was not started: "
                f"{self.canaries[0]}. `grid strategies check` shows what a strategy does wrong."
            )


def _kind(error: str) -> tuple[str, str]:
    """Type and place of an error: its message may name the parameters and so be another one each time."""
    return error.partition(":")[0], error.rpartition(" (")[2] if error.endswith(")") else ""


def rehearse(resolved: ResolvedSweep) -> Rehearsal:
    """Load every dataset once, and evaluate and time the first trials.

    Raises BadInput, before anything else, where the results store cannot be written or the cluster not be reached.
    """
    _check_results(resolved)
    if resolved.sweep.cluster.address is not None:
        check_cluster(resolved.sweep.cluster.address)
    evaluator = Evaluator(resolved)
    sample = np.array([p for d, p in map(resolved.plan.locate, resolved.plan.first_trials(SAMPLE)) if d == 0], np.int64)
    datasets: list[dict[str, Any]] = []
    canaries: list[str | None] = []
    for number in range(len(resolved.datasets)):
        loaded = resolved.load(number)
        missing = CANARIES - len(canaries)
        if number == 0 or missing > 0:
            canaries += _errors(evaluator.rows_of(number, sample[: max(missing, 1)], loaded))
        seconds = _seconds_per_trial(evaluator, number, sample, loaded, REHEARSAL_S / len(resolved.datasets))
        datasets.append(_facts(resolved, number, loaded, seconds))
    return Rehearsal(datasets, canaries)


def _errors(rows: pa.Table) -> list[str | None]:
    both = zip(rows["status"].to_pylist(), rows["error"].to_pylist(), strict=True)
    return [error if status == FAILED else None for status, error in both]


def _check_results(resolved: ResolvedSweep) -> None:
    try:
        provider_for(resolved.sweep.results.store).check_writable()
    except StorageError as error:
        raise BadInput(f"results.store: {error} Name a store that can be written.") from error


def _seconds_per_trial(
    evaluator: Evaluator, number: int, sample: NDArray[np.int64], loaded: LoadedBars, budget_s: float
) -> float:
    """Mean time of the first trials in their order, from cold indicators on, until the budget is used or none is left.

    The canaries compiled the kernels before. Consecutive trials share indicators as they will in the sweep.
    """
    cold = replace(loaded, bars=loaded.bars.slice(0, len(loaded.bars)))
    done, began = 0, time.perf_counter()
    while done < len(sample) and (done == 0 or time.perf_counter() - began < budget_s):
        evaluator.rows_of(number, sample[done : done + CHUNK], cold)
        done = min(done + CHUNK, len(sample))
    return (time.perf_counter() - began) / max(done, 1)


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
