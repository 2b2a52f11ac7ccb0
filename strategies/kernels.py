"""Indicator kernels: arrays and numbers in, rows of n bars out; no objects, no checks, no threads.

Each value depends on the bars up to its own alone, bit for bit. NaN rule: a row may start with NaN,
which lengthens the warm-up. A later one makes every window that holds it NaN (averages, extremes, std), and
every recursion (EMA, Wilder) NaN from there on. `n` is at least 1 and may exceed the
number of bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def _multiply_add(typingctx: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """a * b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), generate


fma: Any = _multiply_add  # numba binds the first argument itself


@njit(cache=True, nogil=True, error_model="numpy")
def prefix_sums(x):  # type: ignore[no-untyped-def]
    """(high, low, gaps): sums of x[:i] as high[i] + low[i], i = 0..n, with gaps (not finite) counted as 0.

    Two doubles hold the sum, so that the difference of two prefixes is the sum of the bars between them but
    for an error far below its last digit, wherever the data starts; values fourteen orders of magnitude above
    those of the window would have to lie before it for the error to show.
    """
    n = x.size
    high, low = np.zeros(n + 1), np.zeros(n + 1)
    gaps = np.empty(n, np.int64)
    missing = 0
    for i in range(n):
        value = x[i]
        if not np.isfinite(value):
            gaps[missing] = i
            missing += 1
            value = 0.0
        total = high[i] + value
        part = total - high[i]
        error = (high[i] - (total - part)) + (value - part) + low[i]
        high[i + 1] = total + error
        low[i + 1] = error - (high[i + 1] - total)
    return high, low, gaps[:missing].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def moving_mean(high, low, gaps, n):  # type: ignore[no-untyped-def]
    """Mean of the last n bars from their prefix sums, correctly rounded: a flat row is its own mean."""
    size = high.size - 1
    out = np.full(size, np.nan)
    if n > size:
        return out
    # slices, so that no index can be negative and the loop becomes one over vectors
    high_after, low_after, high_before, low_before = high[n:], low[n:], high[:-n], low[:-n]
    means = out[n - 1 :]
    for i in range(means.size):
        a, b = high_after[i], high_before[i]
        total = a - b
        part = total - a
        error = (a - (total - part)) - (b + part) + (low_after[i] - low_before[i])
        whole = total + error
        rest = error - (whole - total)
        mean = whole / n
        means[i] = mean + (fma(-mean, np.float64(n), whole) + rest) / n
    filled = 0
    for gap in gaps:
        for i in range(max(gap, filled), min(gap + n, size)):
            out[i] = np.nan
        filled = gap + n
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def first_finite(x):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        if np.isfinite(x[i]):
            return i
    return x.size


@njit(cache=True, nogil=True, error_model="numpy")
def weighted_mean(x, n):  # type: ignore[no-untyped-def]
    """Mean of the last n bars with weights 1..n, summed anew for each window."""
    out = np.full(x.size, np.nan)
    weight = n * (n + 1) / 2.0
    for i in range(n - 1, x.size):
        bars = x[i - n + 1 : i + 1]
        total = 0.0
        for k in range(n):
            total += (k + 1) * bars[k]
        if np.isfinite(total):
            out[i] = total / weight
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def moving_std(x, mean, n):  # type: ignore[no-untyped-def]
    """Population standard deviation of the last n bars around their mean."""
    out = np.full(x.size, np.nan)
    for i in range(n - 1, x.size):
        if np.isfinite(mean[i]):
            total = 0.0
            for value in x[i - n + 1 : i + 1]:
                total += (value - mean[i]) * (value - mean[i])
            out[i] = np.sqrt(total / n)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def zscore(x, mean, deviation):  # type: ignore[no-untyped-def]
    """Distance of x from the mean in deviations; NaN where the deviation is 0."""
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        if deviation[i] > 0.0:
            out[i] = (x[i] - mean[i]) / deviation[i]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def ema(x, n, start):  # type: ignore[no-untyped-def]
    """Exponential average from the mean of the n bars ending `start` bars after the first finite one."""
    out = np.full(x.size, np.nan)
    first = first_finite(x) + start
    if first >= x.size:
        return out
    value = np.mean(x[first - n + 1 : first + 1])
    out[first] = value
    for i in range(first + 1, x.size):
        value += (x[i] - value) * (2.0 / (n + 1))
        out[i] = value
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def wilder(x, n):  # type: ignore[no-untyped-def]
    """Wilder's smoothing: the mean of the first n finite bars, then (before * (n - 1) + x) / n."""
    out = np.full(x.size, np.nan)
    first = first_finite(x) + n - 1
    if first >= x.size:
        return out
    value = np.mean(x[first - n + 1 : first + 1])
    out[first] = value
    for i in range(first + 1, x.size):
        value = (value * (n - 1) + x[i]) / n
        out[i] = value
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def rsi(x, n):  # type: ignore[no-untyped-def]
    """100 * up / (up + down) of Wilder's averages of rises and falls; 0 where both are 0, as in TA-Lib."""
    change = np.full(x.size, np.nan)
    for i in range(1, x.size):
        change[i] = x[i] - x[i - 1]
    up, down = wilder(np.maximum(change, 0.0), n), wilder(np.maximum(-change, 0.0), n)
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        moved = up[i] + down[i]
        out[i] = 100.0 * (up[i] / moved) if moved != 0.0 else 0.0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def extreme(x, n, sign, lag):  # type: ignore[no-untyped-def]
    """Largest (sign 1) or smallest (sign -1) of the n bars ending `lag` bars before each.

    The queue holds the bars that can still become the extreme, best first.
    """
    out = np.full(x.size, np.nan)
    queue = np.empty(x.size, np.int64)
    head, tail, gap = 0, 0, -1
    for i in range(x.size - lag):
        if np.isfinite(x[i]):
            while tail > head and sign * x[queue[tail - 1]] <= sign * x[i]:
                tail -= 1
            queue[tail] = i
            tail += 1
        else:
            gap = i
        while tail > head and queue[head] <= i - n:
            head += 1
        if i - n >= gap:
            out[i + lag] = x[queue[head]]
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def true_range(high, low, close):  # type: ignore[no-untyped-def]
    out = np.full(close.size, np.nan)
    for i in range(1, close.size):
        out[i] = max(high[i], close[i - 1]) - min(low[i], close[i - 1])
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def directional(high, low, close, n):  # type: ignore[no-untyped-def]
    """(plus_di, minus_di, adx), started as TA-Lib does: sums of n - 1 moves, then Wilder's running sums.

    Where nothing moved the indicators are 0, the index counts 0 in its first mean, and stays as it is later.
    """
    size = close.size
    plus, minus, adx = np.full(size, np.nan), np.full(size, np.nan), np.full(size, np.nan)
    ranges = true_range(high, low, close)
    ups = downs = total = index = 0.0
    for i in range(1, size):
        rise, fall = high[i] - high[i - 1], low[i - 1] - low[i]
        if i >= n:
            ups, downs, total = ups - ups / n, downs - downs / n, total - total / n
        ups += rise if rise > 0.0 and rise > fall else 0.0
        downs += fall if fall > 0.0 and fall > rise else 0.0
        total += ranges[i]
        if i < n:
            continue
        plus[i] = 100.0 * (ups / total) if total != 0.0 else 0.0
        minus[i] = 100.0 * (downs / total) if total != 0.0 else 0.0
        both = plus[i] + minus[i]
        if i < 2 * n:
            index += 100.0 * (abs(plus[i] - minus[i]) / both) / n if both != 0.0 else 0.0
        elif both != 0.0:
            index = (index * (n - 1) + 100.0 * (abs(plus[i] - minus[i]) / both)) / n
        if i >= 2 * n - 1:
            adx[i] = index
    return plus, minus, adx


@njit(cache=True, nogil=True, error_model="numpy")
def place_in_range(x, high, low):  # type: ignore[no-untyped-def]
    """Where x lies between low (0) and high (100); 0 where they are equal."""
    out = np.full(x.size, np.nan)
    for i in range(x.size):
        hundredth = (high[i] - low[i]) / 100.0
        out[i] = (x[i] - low[i]) / hundredth if hundredth != 0.0 else 0.0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def obv(close, volume):  # type: ignore[no-untyped-def]
    out = np.empty(close.size)
    total = 0.0
    for i in range(close.size):
        if i == 0 or close[i] > close[i - 1]:
            total += volume[i]
        elif close[i] < close[i - 1]:
            total -= volume[i]
        out[i] = total
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def rate_of_change(x, n):  # type: ignore[no-untyped-def]
    out = np.full(x.size, np.nan)
    for i in range(n, x.size):
        if x[i - n] != 0.0:
            out[i] = 100.0 * (x[i] / x[i - n] - 1.0)
    return out
