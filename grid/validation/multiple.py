"""Many tests at once: p-values adjusted so that the best of them may be believed."""

import numpy as np

from grid.validation.moments import Floats


def holm(p_values: Floats, tests: int = 0) -> Floats:
    """Holm (1979): adjusted p-values that bound the chance of one false discovery or more, under any dependence.

    tests: how many tests there were, if more than p-values: those of the rest are 1, and are not given.
    """
    order, n = np.argsort(p_values, kind="stable"), max(tests, len(p_values))
    stepped = np.maximum.accumulate((n - np.arange(len(order))) * p_values[order])
    return _back(np.minimum(stepped, 1.0), order)


def benjamini_hochberg(p_values: Floats, tests: int = 0) -> Floats:
    """Benjamini and Hochberg (1995): adjusted p-values that bound the share of false discoveries. tests: see `holm`."""
    order, n = np.argsort(p_values, kind="stable"), max(tests, len(p_values))
    scaled = p_values[order] * n / np.arange(1, len(order) + 1)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    return _back(np.minimum(stepped, 1.0), order)


def _back(ordered: Floats, order: np.ndarray) -> Floats:
    adjusted = np.empty_like(ordered)
    adjusted[order] = ordered
    return adjusted
