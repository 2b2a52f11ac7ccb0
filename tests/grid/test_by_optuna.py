"""How points of a lattice become what Optuna draws, and come back."""

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from grid.methods import by_optuna


class Drawn:
    """A study that suggests the given values, one after the other, for each dimension."""

    def __init__(self, values: list[float]) -> None:
        self._values: Iterator[float] = iter(values)

    def ask(self, named: dict[str, object]) -> SimpleNamespace:
        value = next(self._values)
        return SimpleNamespace(params=dict.fromkeys(named, value))


@pytest.mark.parametrize("size", [100, 101, 10**9])
def test_a_range_of_many_values_is_drawn_from_and_rounded_to_a_value_that_there_is(size: int) -> None:
    lattice: Any = SimpleNamespace(sizes=(size,), ordered=(True,))
    found = by_optuna._distributions(lattice)["0"]
    assert (found, by_optuna._distribution(99, True)) == (FloatDistribution(-0.5, size - 0.5), IntDistribution(0, 98))
    study: Any = Drawn([-0.5, 0.4, 0.6, size - 1.6, size - 1.4, size - 0.5])
    cells = [int(cell[0, 0]) for cell in itertools.islice(by_optuna._asked(study, lattice, 2), 6)]
    assert cells == [0, 0, 1, size - 2, size - 1, size - 1]


def test_values_without_an_order_are_no_range_however_many() -> None:
    assert by_optuna._distribution(200, False) == CategoricalDistribution(range(200))
