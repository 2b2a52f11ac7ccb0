"""Search methods: what asking for a point costs, and what they find against chance on three known surfaces.

`python -m tests.benchmarks.search` prints the tables of docs/search.md. No backtest is run: surfaces are formulas.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from grid.rounds import next_round
from grid.search import Asked, RandomSearch
from grid.searchspec import ADAPTIVE, SearchSpec
from grid.space import SearchSpace

SPACE = SearchSpace({name: range(100) for name in "abcd"})
TRIALS, SEEDS = 400, 9
METHODS = ("random", "sobol", "lhs", *ADAPTIVE)
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


def main() -> None:
    """One row a method: the share of a large random sample that is better than the best found, median over seeds."""
    every = scaled(SPACE.columns(np.random.default_rng(0).integers(0, len(SPACE), 4_000_000)))
    ordered = [np.sort(surface(every)) for surface in SURFACES]
    best_of("sobol", 8, 0, sphere), best_of("tpe", 8, 0, sphere)  # imports
    print(f"| method | ms a point | {' | '.join(f.__name__ for f in SURFACES)} |\n|---|---|---|---|---|")
    for method in METHODS:
        spent, cells = 0.0, []
        for surface, scores in zip(SURFACES, ordered, strict=True):
            found = [best_of(method, TRIALS, seed, surface) for seed in range(SEEDS)]
            spent += sum(took for _, took in found)
            better = [(len(scores) - np.searchsorted(scores, best, side="right")) / len(scores) for best, _ in found]
            cells.append(f"{1e6 * np.median(better):,.0f}")
        print(f"| `{method}` | {1e3 * spent / (TRIALS * SEEDS * 3):.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
