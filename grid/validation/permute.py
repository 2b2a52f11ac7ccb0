"""Bars with the same returns in another order: what the market would look like if it had no memory.

After Masters, "Permutation and randomization tests for trading system development", 2020.
"""

from typing import NamedTuple

import numpy as np

from grid.validation.moments import Floats


class Prices(NamedTuple):
    """float64[n] each; prices above 0."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


def permuted(prices: Prices, seed: int) -> Prices:
    """The bars in another order: the first bar and the last close stay, and so does the set of moves.

    The moves inside a bar (from its open to high, low and close, with its volume) are drawn without replacement, and
    so are, by a permutation of their own, the gaps from a close to the next open. Moves are ratios. The same seed and
    number of bars give the same order, so that markets of equal length move together as they did.
    """
    o, h, low, c = (np.log(column) for column in prices[:4])
    n = len(o)
    random = np.random.default_rng(seed)
    inside, between = random.permutation(n - 1) + 1, random.permutation(n - 1)
    gap = (o[1:] - c[:-1])[between]
    move = (c - o)[inside]
    close = np.concatenate((c[:1], c[0] + np.cumsum(gap + move)))
    start = close[:-1] + gap
    opened = np.exp(np.concatenate((o[:1], start)))
    closed = np.exp(close)
    high = np.exp(np.concatenate((h[:1], start + (h - o)[inside])))
    lowest = np.exp(np.concatenate((low[:1], start + (low - o)[inside])))
    volume = np.concatenate((prices.volume[:1], prices.volume[inside]))
    highest, lowest = np.maximum(high, np.maximum(opened, closed)), np.minimum(lowest, np.minimum(opened, closed))
    return Prices(opened, highest, lowest, closed, volume)  # rounding must not put a close above its high
