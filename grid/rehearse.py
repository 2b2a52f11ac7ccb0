"""What is found out before a sweep spends anything: facts of each dataset, the speed, and whether it works at all.

Trials are tried in a child process: one that kills its process or never ends is found, and the driver lives.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from grid.addresses import check_cluster
from grid.apart import Fallen, Say, answers
from grid.engine import buy_and_hold
from grid.errors import BadInput, Refused
from grid.evaluate import Evaluator
from grid.resolve import LoadedBars, ResolvedSweep
from grid.results import FAILED
from grid.rounds import ask_first
from grid.search import Asked
from storage.errors import StorageError
from storage.providers import provider_for
from strategies.check import doubt

log = logging.getLogger(__name__)

CANARIES = 20
CHUNK = 20
SAMPLE = 200
REHEARSAL_S = 0.5
"""What timing the first trials may take in all, one chunk on each timed dataset at least."""
MOST_TIMED = 16
"""Datasets on which trials are timed, spread over all; the others are taken to be as fast a bar."""
SILENCE_S = 60.0
"""A trial, or a chunk of the timed ones, that takes longer is taken for one that never ends."""
MOST_OVERDUE = 3
"""So many of the first trials that never end are enough to tell."""
CANARY, TIMED, DOUBT = "canary", "timed", "doubt"
IN_WORDS = {"random": "is not the same twice", "look-ahead": "looks ahead"}


@dataclass(frozen=True)
class Rehearsal:
    """datasets: one entry each (symbol, timeframe, calendar, bars, first, last, fingerprint, block_bars,
    seconds_per_trial, buy_and_hold), as the session's metadata keeps them. canaries: errors of the first trials in
    number order, None for those that went well. deadly: whether a trial killed its process or did not end. doubt: a
    sign that its results mean nothing (`strategies.check.doubt`), in words.
    """

    datasets: list[dict[str, Any]]
    canaries: list[str | None]
    deadly: bool = False
    doubt: str | None = None

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
    ask_first(resolved)
    if isinstance(resolved.points, Asked) and resolved.points.rungs:  # their first points, but over the whole history
        resolved = replace(resolved, points=resolved.points.drawn)
    trials = _Trials(Evaluator(resolved), _sample(resolved))
    timed = set(range(0, len(resolved.datasets), -(-len(resolved.datasets) // MOST_TIMED)))
    datasets: list[dict[str, Any]] = []
    for number in range(len(resolved.datasets)):
        loaded = resolved.load(number)
        facts = _facts(resolved, number, loaded)  # before the fork, which inherits the compiled kernel
        trials.try_out(number, loaded, REHEARSAL_S / len(timed) if number in timed else None)
        datasets.append({**facts, "seconds_per_trial": trials.speed(number, len(loaded.bars))})
    _check_blocks(resolved, datasets)
    if trials.doubt:
        log.warning(
            "%s %s. Its results mean nothing; `grid strategies check` looks closer",
            resolved.sweep.strategy,
            trials.doubt,
        )
    return Rehearsal(datasets, trials.canaries, trials.deadly, trials.doubt)


def _check_blocks(resolved: ResolvedSweep, datasets: list[dict[str, Any]]) -> None:
    blocks, longest = resolved.sweep.validation.blocks, max(d["bars"] for d in datasets)
    if longest < blocks:
        raise BadInput(
            f"validation.blocks cuts the history into {blocks}, and no dataset has more than {longest} bars before the "
            "hold-out: ask for fewer blocks, for more history, or for a smaller validation.holdout."
        )


def _sample(resolved: ResolvedSweep) -> NDArray[np.int64]:
    """The first points that are no holes."""
    found = [resolved.plan.locate(trial) for trial in resolved.plan.first_trials(SAMPLE)]
    return np.array([point for dataset, point in found if dataset == 0], np.int64)


class _Trials:
    """The first trials, tried dataset by dataset in child processes.

    sample: their points. canaries, deadly, doubt: as in `Rehearsal`.
    """

    def __init__(self, evaluator: Evaluator, sample: NDArray[np.int64]) -> None:
        self.canaries: list[str | None] = []
        self.deadly = False
        self.doubt: str | None = None
        self._evaluator, self._sample = evaluator, sample
        self._fallen: set[int] = set()
        self._stuck = self._timed_enough = False
        self._seconds: dict[int, float] = {}
        self._per_bar_s: float | None = None

    def speed(self, number: int, bars: int) -> float:
        """Seconds a trial on a dataset: as timed, as fast a bar as the last timed one, or slow where none was."""
        if number in self._seconds:
            self._per_bar_s = self._seconds[number] / max(bars, 1)
            return self._seconds[number]
        return SILENCE_S / CHUNK if self._per_bar_s is None else self._per_bar_s * bars

    def try_out(self, number: int, loaded: LoadedBars, budget_s: float | None) -> None:
        """The canaries that are missing yet, then the timing; without a budget there is none."""
        missing = CANARIES - len(self.canaries)
        budget_s = None if self._timed_enough else budget_s
        if self._stuck or (budget_s is None and missing <= 0):
            return
        wanted = self._alive()[: max(missing, 1)]
        found = self._errors(number, loaded, wanted, budget_s)
        if number == 0 or missing > 0:
            self.canaries += found
        if number == 0 and None in found:
            self._evaluator.rows_of(
                0, wanted[[found.index(None)]], loaded
            )  # compiles here, for all that is forked later

    def _errors(
        self, number: int, loaded: LoadedBars, points: NDArray[np.int64], budget_s: float | None
    ) -> list[str | None]:
        """What became of each point; a new child goes on where one fell. Ends early when too many do not end."""
        errors: list[str | None] = []
        overdue = 0
        while overdue < MOST_OVERDUE:
            left, began = points[len(errors) :], time.monotonic()
            chunk_s = 0.0
            try:
                for kind, value in answers(partial(self._work, number, loaded, left, budget_s), SILENCE_S):
                    if kind == TIMED:
                        self._seconds[number] = value
                    elif kind == DOUBT:
                        self.doubt = value
                    else:
                        errors.append(value)
                        chunk_s = CHUNK * (time.monotonic() - began) / (len(left) - len(points) + len(errors))
                break
            except Fallen as fallen:
                timing = len(errors) == len(points)
                self.deadly |= not (timing and fallen.overdue and chunk_s > SILENCE_S)  # all of them slow: none hangs
                if timing:
                    self._timed_enough = True  # what one dataset took to find out, the others need not
                    break
                self._fallen.add(int(points[len(errors)]))
                errors.append(str(fallen))
                overdue += fallen.overdue
        self._stuck = overdue == MOST_OVERDUE
        return errors

    def _work(
        self, number: int, loaded: LoadedBars, canaries: NDArray[np.int64], budget_s: float | None, say: Say
    ) -> None:
        """In the child: the canaries one by one, which compiles the kernels, then the timing, and a closer look."""
        fine: list[np.int64] = []
        for point in canaries:
            (error,) = _errors(self._evaluator.rows_of(number, np.array([point]), loaded))
            say([CANARY, error])
            fine += [point] if error is None else []
        if budget_s is not None:
            for seconds in _timed(self._evaluator, number, self._alive(), loaded, budget_s):
                say([TIMED, seconds])
        if number == 0 and fine:
            found = doubt(self._evaluator.strategy_of(fine[0]), loaded.bars)
            say([DOUBT, None if found is None else f"{IN_WORDS[found.rule]}: {found.text}"])

    def _alive(self) -> NDArray[np.int64]:
        return self._sample[~np.isin(self._sample, list(self._fallen))]


def _errors(rows: pa.Table) -> list[str | None]:
    both = zip(rows["status"].to_pylist(), rows["error"].to_pylist(), strict=True)
    return [error if status == FAILED else None for status, error in both]


def _check_results(resolved: ResolvedSweep) -> None:
    try:
        provider_for(resolved.sweep.results.store).check_writable()
    except StorageError as error:
        raise BadInput(f"results.store: {error} Name a store that can be written.") from error


def _timed(
    evaluator: Evaluator, number: int, sample: NDArray[np.int64], loaded: LoadedBars, budget_s: float
) -> Iterator[float]:
    """Mean seconds of the first trials in their order, from cold indicators on, again after each chunk of them.

    Until the budget is used or none is left. The canaries compiled the kernels before. Consecutive trials share
    indicators as they will in the sweep.
    """
    cold = loaded.cold()
    done, began = 0, time.perf_counter()
    while done < len(sample) and (done == 0 or time.perf_counter() - began < budget_s):
        evaluator.rows_of(number, sample[done : done + CHUNK], cold)
        done = min(done + CHUNK, len(sample))
        yield (time.perf_counter() - began) / done


def _facts(resolved: ResolvedSweep, number: int, loaded: LoadedBars) -> dict[str, Any]:
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
        "buy_and_hold": {name: None if value != value else value for name, value in held.items()},
    }
