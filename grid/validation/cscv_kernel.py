"""The compiled part of CSCV: for every split of the blocks, who leads in sample and how many are worse out of sample.

With s1 = sum r, s2 = sum r^2 and n bars, SR |SR| = a / b, where a = s1 |s1| p (n - 1) / n^2, b = s2 - s1^2 / n and p is
the bars a year; and a / b > a' / b' where a b' > a' b, which takes no division. So trials with the same moments compare
as equal, bit for bit. These products are rounded: of three trials that are nearly as good, each may tie with the next
and the last beat the first. So whoever comes near the leader is compared with it by the quotient, which puts all trials
in one order, in whatever order they come.

Half of the sums over a choice of blocks comes from a table of all choices among the first half of the blocks, half from
one among the others: a split costs a trial two additions.
"""

from typing import Any

from numba import njit

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "boundscheck": False}
TILE = 64  # trials whose tables stay in the cache of a core
FLAT = 1e-12  # a variance below this times the mean square is rounding
NEAR = 1e-14  # two quotients may be equal where the products differ by less than this part of them


@njit(**OPTIONS)
def subset_sums(blocks, first, stop, table):
    """table[m, t]: the sum over the blocks in the bits of m; blocks float64[h, n], trials [first, stop)."""
    table[0, :] = 0.0
    for m in range(1, table.shape[0]):
        rest, bit = m & (m - 1), 0
        while (m ^ rest) >> bit != 1:
            bit += 1
        for t in range(stop - first):
            table[m, t] = table[rest, t] + blocks[bit, first + t]


@njit(**OPTIONS)
def scan(sums, squares, ids, splits, scales, leads, lead_ids, below, first_split, last_split, tables):
    """Take the trials of a chunk into the splits [first_split, last_split).

    sums, squares: float64[S, n] by block. splits: int64[C, 4], the choice among the lower and the upper blocks in
    sample, and the same out of sample. scales: float64[C, 4], p (n - 1) / n^2 and 1 / n in sample and out of sample.
    leads: float64[C, 4], a and b of the leader in sample, then out of sample. below: int64[C]; if it is empty the
    leaders are looked for, else the trials are counted that are worse out of sample than the leader is.
    tables: float64[4, 2^(S / 2), TILE], scratch.
    """
    half, n = sums.shape[0] // 2, sums.shape[1]
    counting = below.shape[0] > 0
    low1, high1, low2, high2 = tables[0], tables[1], tables[2], tables[3]
    for first in range(0, n, TILE):
        stop = min(first + TILE, n)
        subset_sums(sums[:half], first, stop, low1)
        subset_sums(sums[half:], first, stop, high1)
        subset_sums(squares[:half], first, stop, low2)
        subset_sums(squares[half:], first, stop, high2)
        for k in range(first_split, last_split):
            side = 2 if counting else 0
            i, j = splits[k, side], splits[k, side + 1]
            scale, share = scales[k, side], scales[k, side + 1]
            lead_a, lead_b = leads[k, side], leads[k, side + 1]
            if counting:
                below[k] += worse(low1[i], high1[j], low2[i], high2[j], stop - first, scale, share, lead_a, lead_b)
            elif rivals(low1[i], high1[j], low2[i], high2[j], stop - first, scale, share, near(lead_a), lead_b) > 0:
                for t in range(stop - first):
                    a, b = ratio(low1[i, t] + high1[j, t], low2[i, t] + high2[j, t], scale, share)
                    ahead, behind = a / b, leads[k, 0] / leads[k, 1]
                    if ahead > behind or (ahead == behind and ids[first + t] < lead_ids[k]):
                        o, q = splits[k, 2], splits[k, 3]
                        leads[k, 0], leads[k, 1] = a, b
                        leads[k, 2], leads[k, 3] = ratio(
                            low1[o, t] + high1[q, t], low2[o, t] + high2[q, t], scales[k, 2], scales[k, 3]
                        )
                        lead_ids[k] = ids[first + t]


@njit(**OPTIONS)
def ratio(s1, s2, scale, share):
    """(a, b), whose quotient is SR |SR|; (0, 1) without variance: who does not trade earns nothing."""
    a = s1 * abs(s1) * scale
    b = s2 - s1 * s1 * share
    flat = b <= FLAT * s2
    return (0.0 if flat else a), (1.0 if flat else b)


@njit(**OPTIONS)
def worse(low1, high1, low2, high2, n, scale, share, lead_a, lead_b):
    """How many of n trials are strictly worse than the leader."""
    found = 0
    for t in range(n):
        a, b = ratio(low1[t] + high1[t], low2[t] + high2[t], scale, share)
        found += a * lead_b < lead_a * b
    return found


@njit(**OPTIONS)
def near(lead_a):
    """Somewhat less than the leader's a, so that no trial as good as the leader is below it."""
    return lead_a - NEAR * abs(lead_a)


@njit(**OPTIONS)
def rivals(low1, high1, low2, high2, n, scale, share, lead_a, lead_b):
    """How many of n trials are at least as good as a leader with these a and b."""
    found = 0
    for t in range(n):
        a, b = ratio(low1[t] + high1[t], low2[t] + high2[t], scale, share)
        found += a * lead_b >= lead_a * b
    return found
