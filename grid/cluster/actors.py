"""What runs on the cluster: workers, the aggregator, and the loader of bars; each is an actor."""

import logging
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from grid.aggregate import Aggregator, Tally
from grid.cluster.connect import running_versions
from grid.cluster.losses import BARS_LOST
from grid.evaluate import Evaluator
from grid.heap import keep_freed
from grid.logs import speak
from grid.plan import WorkUnit
from grid.resolve import LoadedBars, reopen
from grid.results import ResultBatch
from grid.reuse import Known
from grid.space import Indices
from grid.spec import Objective, Sweep
from storage.ohlcv import DatasetKey
from storage.providers import provider_for
from storage.sessions import SessionFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What the driver learns of a unit: how long it took, its CPU seconds, how many trials were run, and what reading
    its bars took (`LoadedBars.read`).
    """

    seconds: float
    cpu_seconds: float
    ran: int
    read: Mapping[str, int]


@ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)
class Worker:
    """One CPU that keeps compiled kernels, bars and indicators warm."""

    def __init__(
        self, sweep: dict[str, Any], datasets: Sequence[DatasetKey], session_id: str, manner: str | None
    ) -> None:
        """manner: of log lines, see `grid.logs.speak`."""
        pa.set_cpu_count(1)
        keep_freed()
        speak(session_id, manner)
        self._session_id, self._datasets = session_id, datasets
        self._evaluator = Evaluator(reopen(Sweep.model_validate(sweep), datasets))
        self._kept: tuple[int, LoadedBars] | None = None

    def hello(self) -> tuple[str, dict[str, str]]:
        """The worker is ready: its host and its versions."""
        return platform.node(), running_versions()

    def bring(self, dataset: int, bars: "list[ray.ObjectRef[LoadedBars]]") -> None:
        """Have the bars of a dataset here before the first unit on them, which its time limit is for. Where they are
        lost, that unit meets the same.
        """
        with suppress(*BARS_LOST):
            self._loaded(dataset, bars[0])

    @ray.method(num_returns=2)
    def evaluate(
        self, unit: WorkUnit, bars: "list[ray.ObjectRef[LoadedBars]]", asked: Indices | None, known: Known | None
    ) -> tuple[Done, ResultBatch]:
        """Backtest a unit. `bars` holds a reference, in a list so that it is fetched once and not with every call.

        asked: as `Plan.asked` tells it. known: trials that need not be run.
        """
        where = self._datasets[unit.dataset]
        log.info("session %s: trials [%d, %d) on %s", self._session_id, unit.start, unit.stop, where)
        loaded = self._loaded(unit.dataset, bars[0])
        self._evaluator.resolved.plan.learn(unit, asked)
        began, cpu_began = time.perf_counter(), time.thread_time()
        batch = self._evaluator.evaluate(unit, loaded, known)
        return Done(time.perf_counter() - began, time.thread_time() - cpu_began, batch.ran, loaded.read), batch

    def _loaded(self, dataset: int, reference: "ray.ObjectRef[LoadedBars]") -> LoadedBars:
        """Bars of one dataset at a time: their indicators take memory, and units come dataset by dataset."""
        if self._kept is None or self._kept[0] != dataset:
            self._kept = None  # the old ones go before the new ones come
            self._kept = dataset, ray.get(reference)
        return self._kept[1]


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class AggregatorActor(Aggregator):
    """The aggregator in a process of its own; when it dies, the driver starts another one.

    It begins without knowing the commit log, which may take long to read: `read_on` does that, in steps.
    """

    def __init__(self, store: str, session_id: str, objective: Objective, keep: int) -> None:
        super().__init__(SessionFolder(provider_for(store), session_id), objective, keep, ledger=Tally(keep))


@ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0)
class Loader:
    """Reads bars for all workers, in one process that stays warm: a task of its own for each dataset would start a
    process each time, at a second of CPU. What it returns, the workers of a node share in memory.
    """

    def __init__(self, sweep: dict[str, Any], datasets: Sequence[DatasetKey]) -> None:
        pa.set_cpu_count(1)
        self._resolved = reopen(Sweep.model_validate(sweep), datasets)

    def load(self, dataset: int, fingerprint: str) -> LoadedBars:
        """The bars of a dataset, those of that fingerprint."""
        return self._resolved.load_same(dataset, fingerprint)
