"""Search methods: what asking for a point costs, and what they find against chance on three known surfaces.

`python -m tests.benchmarks.search` prints the tables of docs/search.md. No backtest is run: surfaces are formulas.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from grid.budget import cost_share
from grid.halving import rungs
from grid.rounds import next_round
from grid.search import Asked, RandomSearch
from grid.searchspec import ADAPTIVE, SearchSpec
from grid.space import SearchSpace

SPACE = SearchSpace({name: range(100) for name in "abcd"})
TRIALS, SEEDS = 400, 9
METHODS = ("random", "sobol", "lhs", *ADAPTIVE)
BLOCKS = 16
NOISES = (0.1, 1.0)
"""How far off scores on a part of the history are, for successive halving: by sqrt(1 / part - 1) times so many standard
deviations of the surface.
"""
Columns = NDArray[np.float64]


def sphere(x: Columns) -> Columns:
    """One smooth peak, off the middle. x: float64[n, 4] in [0, 1]."""
    return -((x - [0.2, 0.7, 0.4, 0.6]) ** 2).sum(axis=1)


def valley(x: Columns) -> Columns:
    """Rosenbrock's valley (1960): parameters that depend on each other."""
    y = 4 * x - 1.5
    return -(100 * (y[:, 1:] - y[:, :-1] ** 2) ** 2 + (1 - y[:, :-1]) ** 2).sum(axis=1)


def ripples(x: Columns) -> Columns:
    """Rastrigin's function (1974): a hill full of smaller ones."""
    y = 8 * (x - [0.3, 0.6, 0.45, 0.7])
    return -(y**2 - 10 * np.cos(2 * np.pi * y) + 10).sum(axis=1)


SURFACES: tuple[Callable[[Columns], Columns], ...] = (sphere, valley, ripples)


def scaled(columns: dict[str, NDArray[np.int64]]) -> Columns:
    return np.stack(list(columns.values()), axis=1) / 99


def best_of(method: str, trials: int, seed: int, surface: Callable[[Columns], Columns]) -> tuple[float, float]:
    """The best score that is found, and the CPU seconds that asking took."""
    drawn, began = RandomSearch(SPACE, trials, seed), time.process_time()
    if method == "random":
        return float(surface(scaled(drawn.columns(np.arange(trials)))).max()), time.process_time() - began
    spec = SearchSpec(method=method, trials=trials, seed=seed)
    points, scores, took = Asked(drawn, spec), np.empty((0, 1)), 0.0
    for first, stop in points.spans:
        began = time.process_time()
        points.learn(first, next_round(spec, points, scores))
        took += time.process_time() - began
        scores = np.concatenate([scores, surface(scaled(points.columns(np.arange(first, stop))))[:, None]])
    return float(scores.max()), took


def best_of_halving(noise: float, seed: int, surface: Callable[[Columns], Columns]) -> tuple[float, float]:
    """Likewise of successive halving, with as many points as cost what TRIALS on everything do."""
    count = max(n for n in range(TRIALS, 9 * TRIALS) if n * cost_share(rungs(n, BLOCKS, [0]), [1.0]) <= TRIALS)
    steps = rungs(count, BLOCKS, [0])
    points = Asked(RandomSearch(SPACE, count, seed), SearchSpec(method="halving", trials=count, seed=seed), steps)
    spread = float(surface(scaled(SPACE.columns(np.arange(0, len(SPACE), 9973)))).std())
    rng = np.random.default_rng(seed)
    scores, took = np.empty((0, 1)), 0.0
    for rung in steps:
        began = time.process_time()
        points.learn(rung.first, next_round(SearchSpec(method="halving", trials=count, seed=seed), points, scores))
        took += time.process_time() - began
        seen = surface(scaled(points.columns(np.arange(rung.first, rung.stop))))
        off = noise * spread * np.sqrt(1 / rung.share - 1)
        scores = np.concatenate([scores, (seen + off * rng.standard_normal(len(seen)))[:, None]])
    return float(scores[steps[-1].first :].max()), took


def main() -> None:
    """One row a method: the share of a large random sample that is better than the best found, median over seeds."""
    every = scaled(SPACE.columns(np.random.default_rng(0).integers(0, len(SPACE), 4_000_000)))
    ordered = [np.sort(surface(every)) for surface in SURFACES]
    best_of("sobol", 8, 0, sphere), best_of("tpe", 8, 0, sphere)  # imports
    print(f"| method | ms a point | {' | '.join(f.__name__ for f in SURFACES)} |\n|---|---|---|---|---|")
    finders = {f"`{method}`": partial(best_of, method, TRIALS) for method in METHODS}
    finders |= {f"`halving`, scores of parts off by {n}": partial(best_of_halving, n) for n in NOISES}
    for name, find in finders.items():
        spent, cells = 0.0, []
        for surface, scores in zip(SURFACES, ordered, strict=True):
            found = [find(seed, surface) for seed in range(SEEDS)]
            spent += sum(took for _, took in found)
            better = [(len(scores) - np.searchsorted(scores, best, side="right")) / len(scores) for best, _ in found]
            cells.append(f"{1e6 * np.median(better):,.0f}")
        print(f"| {name} | {1e3 * spent / (TRIALS * SEEDS * 3):.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
