"""The grid against two plain processes that do the same, and against other ways to run many small trials."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray

from grid.aggregate import Progress
from grid.cluster import NAMESPACE
from grid.engine import METRICS, Engine
from grid.evaluate import Evaluator
from grid.observe import KERNEL
from grid.resolve import resolve
from grid.spec import Sweep
from grid.sweep import Watch, run
from grid.telemetry import Metric, Telemetry

from .made import cross_sweep, store_bars

CORES = 2


@dataclass
class Memory:
    """Resident memory of this process, MB, at the first and the last tenth of a sweep."""

    total: int
    early: float = 0.0
    late: float = 0.0

    def __call__(self, progress: Progress) -> None:
        now = psutil.Process().memory_info().rss / 1e6
        if not self.early and progress.done >= self.total / 10:
            self.early = now
        self.late = now


@dataclass
class Kernel:
    """A sink of telemetry that adds up the CPU seconds in units."""

    seconds: float = 0.0

    def record(self, metric: Metric, value: float, _labels: Mapping[str, str]) -> None:
        if metric.name == KERNEL:
            self.seconds += value


@dataclass(frozen=True)
class Case:
    """Trials of about `label` each: fast x slow points on so many symbols of so many bars."""

    label: str
    timeframe: str
    bars: int
    fast: int
    slow: int
    symbols: int = 1


CASES = (
    Case("10 us", "1D", 365, 100, 200, symbols=200),
    Case("100 us", "1H", 65_700, 1000, 950),
    Case("1 ms", "1m", 525_600, 100, 20, symbols=25),
)
ROUNDS = 3


def half(spec: dict[str, Any], which: int, unit: int, busy: Any) -> None:
    """Every second unit of the plan, evaluated and encoded with nothing around it; `busy` gets its CPU seconds."""
    pa.set_cpu_count(1)
    resolved = resolve(Sweep(**spec))
    evaluator, dataset, loaded = Evaluator(resolved), -1, None
    seconds = 0.0
    for number, one in enumerate(resolved.plan.units(lambda _: unit)):
        if number % CORES == which:
            if one.dataset != dataset or loaded is None:
                dataset, loaded = one.dataset, resolved.load(one.dataset)
            began = time.thread_time()
            evaluator.evaluate(one, loaded)
            seconds += time.thread_time() - began
    busy.put(seconds)


def plain_seconds(spec: dict[str, Any], unit: int) -> tuple[float, float]:
    """Wall time, and CPU seconds in units, of two processes that share the plan and nothing else."""
    context = multiprocessing.get_context("spawn")
    busy, began = context.Queue(), time.perf_counter()
    workers = [context.Process(target=half, args=(spec, which, unit, busy)) for which in range(CORES)]
    for worker in workers:
        worker.start()
    seconds = sum(busy.get() for _ in workers)
    for worker in workers:
        worker.join()
    return time.perf_counter() - began, seconds


def efficiency(folder: Path, scale: float) -> list[str]:
    """Markdown rows: the grid and two plain processes in turn, both with the start of their processes."""
    lines = [
        "| trial | trials | grid s | plain s | grid | plain | grid / plain (rounds) | by wall alone "
        "| us a trial and core | driver MB at 10 % | at the end |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [compared(case, folder / case.timeframe, scale) for case in CASES]


def compared(case: Case, home: Path, scale: float) -> str:
    """One row: medians of rounds, each of one run of the grid and one of the plain processes.

    Efficiency is CPU seconds in units / (wall x cores), each with the CPU seconds of its own run: a neighbour that
    slows this machine down for a minute changes wall and CPU seconds alike.
    """
    names = [f"M{i:03}" for i in range(max(1, int(case.symbols * scale)))]
    for name in names:
        store_bars(home / "data", case.timeframe, case.bars, name)
    fast = max(2, int(case.fast * scale)) if case.symbols == 1 else case.fast
    spec = cross_sweep(home, case.timeframe, fast, case.slow, names)
    total = resolve(Sweep(**spec)).plan.total
    unit = 10_000 if case.bars < 1000 else 5_000 if case.bars < 100_000 else 500
    memory, walls, ours, theirs = Memory(total), [], [], []
    for _ in range(ROUNDS):
        memory = Memory(total)
        telemetry, units = Telemetry(), Kernel()
        with telemetry.also(units):
            wall = run(spec, "ray", Watch(progress=memory, telemetry=telemetry)).metadata["seconds"]
        plain_wall, kernel = plain_seconds(spec, unit)
        walls.append((wall, plain_wall))
        ours.append(units.seconds / wall / CORES)
        theirs.append(kernel / plain_wall / CORES)
    grid_s, plain_s = (statistics.median(times) for times in zip(*walls, strict=True))
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    shown = ", ".join(f"{ratio:.1%}" for ratio in ratios)
    by_wall = statistics.median(plain_wall / wall for wall, plain_wall in walls)
    return (
        f"| {case.label} | {total:,} | {grid_s:.1f} | {plain_s:.1f} "
        f"| {statistics.median(ours):.1%} | {statistics.median(theirs):.1%} "
        f"| {statistics.median(ratios):.1%} ({shown}) | {by_wall:.1%} "
        f"| {grid_s * CORES / total * 1e6:.1f} | {memory.early:.0f} | {memory.late:.0f} |"
    )


def objective(spec: dict[str, Any]) -> Any:
    """One trial of the 10 us case as a function of its two windows, for the other tools."""
    resolved = resolve(Sweep(**spec))
    loaded = resolved.load(0)
    engine = Engine(loaded.bars, resolved.sweep.execution, loaded.edges)
    row, blocks = np.empty(len(METRICS)), np.empty((3, resolved.sweep.validation.blocks))

    def trial(fast: int, slow: int) -> float:
        engine.evaluate(resolved.strategy(fast=fast, slow=slow).signals(loaded.bars), row, blocks)
        return float(np.nan_to_num(row[METRICS.index("sharpe")]))

    return trial


_trial: Any = None


def _prepare(spec: dict[str, Any]) -> None:
    global _trial
    _trial = objective(spec)


def _one(point: tuple[int, int]) -> float:
    value: float = _trial(*point)
    return value


def with_pool(spec: dict[str, Any], trials: int) -> float:
    points = [(5 + i % 100, 105 + i // 100 % 200) for i in range(trials)]
    with multiprocessing.get_context("spawn").Pool(CORES, _prepare, (spec,)) as pool:
        pool.map(_one, points[:1000], chunksize=100)
        began = time.perf_counter()
        pool.map(_one, points, chunksize=1000)
        return time.perf_counter() - began


def with_optuna(spec: dict[str, Any], trials: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trial = objective(spec)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")
    trial(5, 105)
    began = time.perf_counter()
    study.optimize(lambda t: trial(t.suggest_int("fast", 5, 104), t.suggest_int("slow", 105, 304)), n_trials=trials)
    return time.perf_counter() - began


def with_tune(spec: dict[str, Any], trials: int, folder: Path) -> float:
    from ray import tune

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"

    def trainable(config: dict[str, int]) -> dict[str, float]:
        from tests.benchmarks import scale as here  # this function travels by value, its module by name

        if here._trial is None:
            here._prepare(spec)
        return {"sharpe": here._one((config["fast"], config["slow"]))}

    space = {"fast": tune.randint(5, 105), "slow": tune.randint(105, 305)}
    tuner = tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    began = time.perf_counter()
    failed = tuner.fit().num_errors
    if failed:
        raise RuntimeError(f"{failed} trials of Ray Tune failed, so its time means nothing")
    return time.perf_counter() - began


def others(folder: Path) -> list[str]:
    """Markdown rows: wall time a trial of about 10 us, by tool."""
    home = folder / "others"
    store_bars(home / "data", "1D", 365)
    spec = cross_sweep(home, "1D", 100, 200)
    rows: list[tuple[str, int, float]] = []
    session = run({**spec, "space": {**spec["space"], "slow": {"range": [105, 2104, 1]}}}, "ray")
    rows.append(("grid, Ray, with start of workers", session.resolved.plan.total, session.metadata["seconds"]))
    rows.append(("multiprocessing.Pool, chunks of 1,000", 200_000, with_pool(spec, 200_000)))
    rows.append(("Optuna, random sampler, in memory", 2_000, with_optuna(spec, 2_000)))
    rows.append(("Ray Tune, reuse_actors", 100, with_tune(spec, 100, folder / "tune")))
    lines = ["| tool | trials | us a trial (wall) |", "|---|---|---|"]
    return lines + [f"| {name} | {n:,} | {seconds / n * 1e6:,.1f} |" for name, n, seconds in rows]


def start_ray() -> None:
    ray.init(address="local", num_cpus=CORES, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False)
