"""TPE and NSGA-II as Optuna implements them. Optuna draws and remembers nothing: it is told all rounds each time."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import VSBXCrossover

from grid.methods.base import Cells, Lattice, Told
from grid.pareto import front

ASKS_PER_POINT = 4
"""Suggestions that are looked at for each point that is wanted: near the end of a search most were tried before."""
FINE = 100
"""A dimension of so many values in order is drawn from a continuous range, and rounded. The kernels of TPE are at least
a hundredth of the range wide, so that is the same density. Masses of single values under each kernel cost 6 to 20 times
as much where there are thousands.
"""


class Tpe:
    """Tree-structured Parzen estimator (Bergstra et al., 2011), multivariate, with the points of a round kept apart.

    The first round is left to chance.
    """

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:
        if len(told.scores):
            sampler = TPESampler(n_startup_trials=1, multivariate=True, constant_liar=True, seed=_anew(seed, told))
            yield from _asked(_study(told, sampler), told.lattice, count)


class Nsga2:
    """NSGA-II (Deb et al., 2002): the best of all rounds so far, as many as a round has, are crossed and mutated.

    Crossed by vSBX (Ballester and Carter, 2004), which finds more on few points than swapping values does. The first
    generation is left to chance.
    """

    def suggest(self, told: Told, count: int, seed: int) -> Iterator[Cells]:
        if not len(told.scores):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # it may change: the pins say when
            crossover = VSBXCrossover()
        sampler = NSGAIISampler(population_size=told.round, crossover=crossover, seed=_anew(seed, told))
        best = _leaders(told.ranked, told.round)
        parents = replace(told, cells=told.cells[best], scores=told.ranked[best])
        study = _study(parents, sampler, {sampler._get_generation_key(): 0})  # else they would have to be asked for
        yield from _asked(study, told.lattice, count)


def _anew(seed: int, told: Told) -> int:
    """Another seed for each round."""
    return (seed + len(told.scores)) % 2**32


def _study(told: Told, sampler: BaseSampler, attributes: dict[str, Any] | None = None) -> optuna.Study:
    """A study in memory that was told all points; each has the sampler's own `attributes`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    named, study = _distributions(told.lattice), _new_study(sampler, told.scores.shape[1])
    for cell, scores in zip(told.cells.tolist(), told.ranked.tolist(), strict=True):
        parameters = dict(zip(named, cell, strict=True))
        study.add_trial(
            optuna.trial.create_trial(params=parameters, distributions=named, values=scores, system_attrs=attributes)
        )
    return study


def _new_study(sampler: BaseSampler, goals: int) -> optuna.Study:
    return optuna.create_study(directions=["maximize"] * goals, sampler=sampler)


def _leaders(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The rows of front after front, until there are `count` or a few more, out of which Optuna chooses."""
    left, found = np.arange(len(scores)), np.empty(0, dtype=np.int64)
    while len(left) and len(found) < count:
        best = front(scores[left])
        found, left = np.concatenate([found, left[best]]), np.delete(left, best)
    return found[:count] if scores.shape[1] == 1 else found


def _asked(study: optuna.Study, lattice: Lattice, count: int) -> Iterator[Cells]:
    """Suggestions one by one."""
    named = _distributions(lattice)
    for _ in range(ASKS_PER_POINT * count):
        found = study.ask(named).params
        spots = np.rint([[found[name] for name in named]]).astype(np.int64)
        yield np.minimum(spots, np.array(lattice.sizes) - 1)


def _distributions(lattice: Lattice) -> dict[str, BaseDistribution]:
    return {
        str(i): _distribution(size, ordered)
        for i, (size, ordered) in enumerate(zip(lattice.sizes, lattice.ordered, strict=True))
    }


def _distribution(size: int, ordered: bool) -> BaseDistribution:
    if not ordered:
        return CategoricalDistribution(range(size))
    return IntDistribution(0, size - 1) if size < FINE else FloatDistribution(-0.5, size - 0.5)
