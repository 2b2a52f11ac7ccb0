"""The rolling volume profile: how much of a window's volume was traded at or above each of its price bins.

Volumes are counted in whole units, so that adding a bar and taking it away again leaves no residue: a sum carried from
bar to bar is the sum made afresh, to the bit, wherever it began. The unit belongs to the window alone and to no later
bar: the power of two above its largest volume, divided by 2^62 / n (n rounded up to a power of two), so that the whole
stays below 2^62. What a bar has at or above a price inside its range is computed in float64 and rounded to units.

While the range and the unit stay, a bar comes and a bar goes; else the window is summed anew.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

CHUNK = 4_096  # bars at a time, where the whole profile would be too large


@njit(cache=True, nogil=True, error_model="numpy")
def volume_profile(columns, extremes, n, unit, span, above):  # type: ignore[no-untyped-def]
    """Write the profile of the n bars before each bar of `span` = (start, stop) to `above`.

    above: float64[stop - start, bins], the volume at or above each lower edge. columns: top, bottom and volume of each
    bar. extremes: largest top, smallest bottom and largest volume of the n bars before each. unit: units in a volume of
    1 that is scaled as above, 2^(62 - bits of n - 1). A window without a range is NaN.
    """
    top, bottom, volume = columns
    high, low, most = extremes
    bins = above.shape[1]
    padded = (bins + 7) // 8 * 8
    edges, counted = np.full(padded, np.inf), np.empty(padded, np.int64)
    power, known = 0, False
    for i in range(span[0], span[1]):
        width = (high[i] - low[i]) / bins
        if not (high[i] > low[i] and np.isfinite(width) and np.isfinite(most[i])):
            above[i - span[0]] = np.nan
            known = False
            continue
        before, power = power, math.frexp(most[i])[1]
        half, rest = power // 2, power - power // 2  # in two factors, as 2^power alone may not be a float
        small, smaller = math.ldexp(1.0, -half), math.ldexp(1.0, -rest)
        if known and high[i] == high[i - 1] and low[i] == low[i - 1] and power == before:
            came, gone = i - 1, i - 1 - n
            _count(1.0, top[came], bottom[came], volume[came] * small * smaller * unit, edges, counted)
            _count(-1.0, top[gone], bottom[gone], volume[gone] * small * smaller * unit, edges, counted)
        else:
            counted[:] = 0
            for k in range(bins):
                edges[k] = low[i] + k * width
            for j in range(i - n, i):
                _count(1.0, top[j], bottom[j], volume[j] * small * smaller * unit, edges, counted)
        known = True
        large, larger = math.ldexp(1.0 / unit, half), math.ldexp(1.0, rest)
        for k in range(bins):
            above[i - span[0], k] = counted[k] * large * larger


@njit(cache=True, nogil=True, error_model="numpy")
def _count(sign, top, bottom, units, edges, counted):  # type: ignore[no-untyped-def]
    """Add (sign 1) or take away (-1) a bar of so many units; without branches, eight edges at a time."""
    density = units / (top - bottom)
    for k in range(edges.size):
        inside = min((top - edges[k]) * density, units)
        share = units if edges[k] <= bottom else inside if edges[k] < top else 0.0
        counted[k] += np.int64(np.rint(sign * share))


@njit(cache=True, nogil=True, error_model="numpy")
def zone(above, low, width, share, out):  # type: ignore[no-untyped-def]
    """Write the lower edge of the highest bin at or above which `share` of the volume lies; NaN where there is none."""
    for i in range(out.size):
        out[i] = np.nan
        if above[i, 0] > 0.0:
            wanted = share * above[i, 0]
            k = above.shape[1] - 1
            while above[i, k] < wanted:
                k -= 1
            out[i] = low[i] + k * width[i]
