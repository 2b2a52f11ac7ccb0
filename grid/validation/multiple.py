"""Many tests at once: p-values adjusted so that the best of them may be believed."""

import numpy as np

from grid.validation.moments import Floats


def holm(p_values: Floats) -> Floats:
    """Holm (1979): adjusted p-values that bound the chance of one false discovery or more, under any dependence."""
    order = np.argsort(p_values, kind="stable")
    n = len(p_values)
    stepped = np.maximum.accumulate((n - np.arange(n)) * p_values[order])
    return _back(np.minimum(stepped, 1.0), order)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Benjamini and Hochberg (1995): adjusted p-values that bound the share of false discoveries."""
    order = np.argsort(p_values, kind="stable")
    n = len(p_values)
    scaled = p_values[order] * n / np.arange(1, n + 1)
    stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    return _back(np.minimum(stepped, 1.0), order)


def _back(ordered: Floats, order: np.ndarray) -> Floats:
    adjusted = np.empty_like(ordered)
    adjusted[order] = ordered
    return adjusted
