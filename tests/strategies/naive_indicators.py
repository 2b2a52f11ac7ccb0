"""Slow, obvious twins of the indicators: one window at a time, exact fractions where an average is exact."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

NAN = math.nan


def _windows(x: Sequence[float], n: int) -> list[list[float] | None]:
    """The last n bars of each, None where there are fewer or one is missing."""
    rows = [list(x[i - n + 1 : i + 1]) if i >= n - 1 else None for i in range(len(x))]
    return [None if row is None or any(math.isnan(v) for v in row) else row for row in rows]


def _exact_mean(values: Sequence[float]) -> Fraction:
    return sum((Fraction(v) for v in values), Fraction(0)) / len(values)


def sma(x: Sequence[float], n: int) -> list[float]:
    return [NAN if row is None else float(_exact_mean(row)) for row in _windows(x, n)]


def wma(x: Sequence[float], n: int) -> list[float]:
    weights = list(range(1, n + 1))
    return [
        NAN if row is None else float(sum(w * Fraction(v) for w, v in zip(weights, row, strict=True)) / sum(weights))
        for row in _windows(x, n)
    ]


def std(x: Sequence[float], n: int) -> list[float]:
    return [NAN if row is None else _std(row) for row in _windows(x, n)]


def _std(row: list[float]) -> float:
    mean = _exact_mean(row)
    return math.sqrt(sum((Fraction(v) - mean) ** 2 for v in row) / len(row))


def zscore(x: Sequence[float], n: int) -> list[float]:
    rows = zip(x, _windows(x, n), strict=True)
    return [NAN if row is None or not _std(row) else (v - float(_exact_mean(row))) / _std(row) for v, row in rows]


def vwap(
    high: Sequence[float], low: Sequence[float], close: Sequence[float], volume: Sequence[float], n: int
) -> list[float]:
    typical = [(Fraction(h) + Fraction(lo) + Fraction(c)) / 3 for h, lo, c in zip(high, low, close, strict=True)]
    out = [NAN] * len(close)
    for i in range(n - 1, len(close)):
        span = range(i - n + 1, i + 1)
        whole = sum(Fraction(volume[k]) for k in span)
        if whole:
            out[i] = float(sum(typical[k] * Fraction(volume[k]) for k in span) / whole)
    return out


def _first(x: Sequence[float]) -> int:
    return next((i for i, v in enumerate(x) if not math.isnan(v)), len(x))


def ema(x: Sequence[float], n: int, start: int | None = None) -> list[float]:
    first = _first(x) + (n - 1 if start is None else start)
    out = [NAN] * len(x)
    for i in range(first, len(x)):
        before = out[i - 1]
        out[i] = sum(x[i - n + 1 : i + 1]) / n if i == first else before + (x[i] - before) * 2 / (n + 1)
    return out


def wilder(x: Sequence[float], n: int) -> list[float]:
    first = _first(x) + n - 1
    out = [NAN] * len(x)
    for i in range(first, len(x)):
        out[i] = sum(x[i - n + 1 : i + 1]) / n if i == first else (out[i - 1] * (n - 1) + x[i]) / n
    return out


def rsi(x: Sequence[float], n: int) -> list[float]:
    change = [NAN] + [b - a for a, b in pairwise(x)] if len(x) else []
    up = wilder([v if math.isnan(v) else max(v, 0.0) for v in change], n)
    down = wilder([v if math.isnan(v) else max(-v, 0.0) for v in change], n)
    return [0.0 if u + d == 0.0 else 100 * u / (u + d) for u, d in zip(up, down, strict=True)]


def macd(x: Sequence[float], fast: int, slow: int, signal: int) -> tuple[list[float], list[float], list[float]]:
    start = max(fast, slow) - 1
    line = [a - b for a, b in zip(ema(x, fast, start), ema(x, slow, start), strict=True)]
    smooth = ema(line, signal)
    shown = [NAN if math.isnan(s) else v for v, s in zip(line, smooth, strict=True)]
    return shown, smooth, [a - b for a, b in zip(line, smooth, strict=True)]


def highest(x: Sequence[float], n: int) -> list[float]:
    return [NAN if row is None else max(row) for row in _windows(x, n)]


def lowest(x: Sequence[float], n: int) -> list[float]:
    return [NAN if row is None else min(row) for row in _windows(x, n)]


def previous(row: list[float]) -> list[float]:
    return [NAN, *row[:-1]] if row else []


def true_range(high: Sequence[float], low: Sequence[float], close: Sequence[float]) -> list[float]:
    return [
        NAN if i == 0 else max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1]))
        for i in range(len(close))
    ]


def directional(
    high: Sequence[float], low: Sequence[float], close: Sequence[float], n: int
) -> tuple[list[float], list[float], list[float]]:
    size = len(close)
    ranges = true_range(high, low, close)
    ups, downs = [0.0] * size, [0.0] * size
    for i in range(1, size):
        rise, fall = high[i] - high[i - 1], low[i - 1] - low[i]
        ups[i] = rise if rise > max(fall, 0.0) else 0.0
        downs[i] = fall if fall > max(rise, 0.0) else 0.0
    up, down, whole = (_running_sum(row, n) for row in (ups, downs, ranges))
    plus = [100 * a / b if b != 0 else 0.0 for a, b in zip(up, whole, strict=True)]
    minus = [100 * a / b if b != 0 else 0.0 for a, b in zip(down, whole, strict=True)]
    return plus, minus, _adx(plus, minus, n)


def _running_sum(x: Sequence[float], n: int) -> list[float]:
    """Wilder's: the sum of the first n - 1 moves, each bar then minus a part of n, plus its own; from bar n."""
    out = [NAN] * len(x)
    total = sum(x[1:n])
    for i in range(n, len(x)):
        total = total - total / n + x[i]
        out[i] = total
    return out


def _adx(plus: list[float], minus: list[float], n: int) -> list[float]:
    out = [NAN] * len(plus)
    index = [100 * abs(a - b) / (a + b) if a + b else None for a, b in zip(plus, minus, strict=True)]
    for i in range(2 * n - 1, len(plus)):
        if i == 2 * n - 1:
            out[i] = sum(v or 0.0 for v in index[n : i + 1]) / n
        else:
            moved = index[i]
            out[i] = out[i - 1] if moved is None else (out[i - 1] * (n - 1) + moved) / n
    return out


def stochastic(
    high: Sequence[float], low: Sequence[float], close: Sequence[float], n: int, smooth_k: int, smooth_d: int
) -> tuple[list[float], list[float]]:
    top, bottom = highest(high, n), lowest(low, n)
    raw = [0.0 if h == lo else 100 * (c - lo) / (h - lo) for c, h, lo in zip(close, top, bottom, strict=True)]
    k = sma(raw, smooth_k)
    d = sma(k, smooth_d)
    return [NAN if math.isnan(b) else a for a, b in zip(k, d, strict=True)], d


def obv(close: Sequence[float], volume: Sequence[float]) -> list[float]:
    signs = [1.0] + [float((b > a) - (b < a)) for a, b in pairwise(close)]
    return [sum(s * v for s, v in zip(signs[: i + 1], volume, strict=False)) for i in range(len(close))]


def roc(x: Sequence[float], n: int) -> list[float]:
    return [NAN if i < n or x[i - n] == 0 else 100 * (x[i] / x[i - n] - 1) for i in range(len(x))]


def volume_profile(
    top: Sequence[float], bottom: Sequence[float], volume: Sequence[float], bins: int
) -> tuple[list[Fraction], list[Fraction]] | None:
    """(lower edges, volumes) of the bins over one whole window, exactly; None where the window has no range."""
    low, high = Fraction(min(bottom)), Fraction(max(top))
    if low == high:
        return None
    edges = [low + (high - low) * k / bins for k in range(bins + 1)]
    volumes = [Fraction(0)] * bins
    for h, lo, v in zip(map(Fraction, top), map(Fraction, bottom), map(Fraction, volume), strict=True):
        for k in range(bins):
            if h > lo:
                volumes[k] += v * max(Fraction(0), min(h, edges[k + 1]) - max(lo, edges[k])) / (h - lo)
            elif edges[k] <= h < edges[k + 1] or (k == bins - 1 and h == high):
                volumes[k] += v
    return edges[:-1], volumes


def counted_profile(
    top: Sequence[float], bottom: Sequence[float], volume: Sequence[float], bins: int
) -> list[float] | None:
    """Volume at or above each lower edge over one whole window, in the window's units of volume, exactly summed.

    None where the window has no range. A unit is 2^power x n / 2^62, with n rounded up to a power of two and
    2^power the one above the largest volume.
    """
    low, high = min(bottom), max(top)
    width = (high - low) / bins
    if not (high > low and math.isfinite(width)):
        return None
    power, bits = math.frexp(max(volume))[1], 62 - (len(top) - 1).bit_length()
    counted = [
        [_units(*bar, low + k * width, power, bits) for bar in zip(top, bottom, volume, strict=True)]
        for k in range(bins)
    ]
    return [math.ldexp(float(sum(column)) * 2.0**-bits, power) for column in counted]


def _units(top: float, bottom: float, volume: float, edge: float, power: int, bits: int) -> int:
    """Units of one bar at or above a price."""
    units = math.ldexp(volume, -power) * 2.0**bits
    if edge <= bottom:
        return round(units)
    if edge >= top:
        return 0
    return round(min((top - edge) * (units / (top - bottom)), units))
