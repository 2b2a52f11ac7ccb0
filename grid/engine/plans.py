"""Trades of a long account that masks alone decide, a chunk at a time.

Without stops and holding times the positions of 64 bars are one addition. A bar is held where an entry is signalled, or
where the bar before it is held and no exit is signalled: that is how a carry goes through the bits of a sum.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers

from grid.engine.accounts import CLOSES, ENTER, ENTRIES, EXITS, INLINE, LEAVE, LONG, NEVER, OPENS, TABLES
from grid.engine.lanes import bits_set
from grid.engine.trial import rules_of

CHUNK = 256
"""Trades planned at a time; a multiple of LANES."""
MORE = CHUNK + 1
WORD, EIGHT = 64, 8
TURNS = 2 * CHUNK + WORD + EIGHT
"""Entries and exits of a chunk, of a word that fills it, and of eight that are written at once."""
ONE, ZERO = np.uint64(1), np.int64(0)
trailing_zeros: Any = numbers.trailing_zeros


class Plan(NamedTuple):
    """The trades of a chunk. `leaves`, `cash` and `lasts` begin with what was before; after trade k comes k + 1."""

    starts: Any
    """int64[MORE]: bars of entries, the number of bars where none is left; and of exits."""
    leaves: Any
    entries: Any
    """float64[CHUNK]: fill prices of entries, and of exits."""
    exits: Any
    opening: Any
    """float64[CHUNK]: the first close in a position, and the last; then the equity at them."""
    closing: Any
    highs: Any
    """float64[CHUNK]: bounds of the closes in it; then of the equity."""
    lows: Any
    units: Any
    cash: Any
    """float64[MORE]: before each entry, and after the last exit."""
    lasts: Any
    """float64[MORE]: the equity at the close before each exit."""


@njit(**INLINE)
def follows_masks(prices, masks, numbers):
    """Whether the masks alone say what is held, by an account that is all in, long, and far from odd prices.

    So no exit but by signal, and none on the bar of an entry.
    """
    rules = rules_of(numbers)
    if prices[TABLES].shape[0] == 0 or not rules.fast_path or rules.shorts or rules.fixed_units or rules.size != 1.0:
        return False
    if rules.stop_loss > 0 or rules.take_profit > 0 or rules.trailing_stop > 0:
        return False
    if rules.hold < NEVER or rules.cooldown > 0:
        return False
    entries, exits = masks[ENTRIES], masks[EXITS]
    both = np.uint64(0)
    for word in range(entries.shape[0]):
        both |= entries[word] & exits[word]
    return both == 0


@njit(**INLINE)
def plan_trades(plan, turns, state, terms, prices, masks, inner, rules):
    """Plan up to CHUNK trades: (how many, whether there may be more, the state after them).

    state: the next word, the positions of the one before it, and turns left over. turns: int64[TURNS], scratch: the
    bars of an entry, its exit, and so on. inner: the mask of bars that are held as the bar before them is, which is
    written.
    """
    word, before, have = state
    for k in range(have):
        turns[k] = turns[2 * CHUNK + k]
    entries, exits, lag = masks[ENTRIES], masks[EXITS], np.uint64(rules.lag)
    words = entries.shape[0]
    while have < 2 * CHUNK and word < words:
        enter, leave = entries[np.uint64(word)], exits[np.uint64(word)]
        stay, carry = enter | ~leave, before >> np.uint64(WORD - 1)
        positions = enter | (stay & ~(stay + enter + carry))
        one_back = (positions << ONE) | carry
        two_back = (positions << (lag + ONE)) | (before >> (np.uint64(WORD - 1) - lag))
        inner[np.uint64(word)] = two_back & (one_back if lag != 0 else positions)
        have = write_turns(turns, have, positions ^ one_back, word * WORD + rules.lag)
        before = positions
        word += 1
    n, more = prices[CLOSES].shape[0], word < words or have > 2 * CHUNK
    if have % 2 == 1 and not more:
        turns[have] = n
        have += 1
    count, limit = min(have // 2, CHUNK), n - 1 + rules.last_fill
    left = have - 2 * count
    while count > 0 and turns[2 * count - 2] >= limit:
        count, more = count - 1, False
    if count > 0 and turns[2 * count - 1] >= limit:  # what leaves too late is held to the end
        for bar in range(turns[2 * count - 1], n):
            inner[bar // WORD] |= ONE << np.uint64(bar % WORD)
        turns[2 * count - 1], more = n, False
    price_turns(plan, turns, count, terms, prices[CLOSES if rules.at_close else OPENS])
    return count, more, (word, before, left)


@njit(**INLINE)
def write_turns(turns, have, changes, bar):
    """Write the bits of a word as bars behind the turns there are, eight at a time; returns how many there are then."""
    stop = have + np.int64(bits_set(changes))
    while True:
        for k in range(EIGHT):
            turns[np.uint64(have + k)] = bar + np.int64(trailing_zeros(changes))
            changes &= changes - ONE
        have += EIGHT
        if have >= stop:
            return stop


@njit(**INLINE)
def price_turns(plan, turns, count, terms, raw):
    """The trades whose turns are known, and their fill prices."""
    last = raw.shape[0] - 1
    for k in range(count):
        start, leave = turns[np.uint64(2 * k)], turns[np.uint64(2 * k + 1)]
        plan.starts[k], plan.leaves[k + 1] = start, leave
        plan.entries[k] = raw[np.uint64(start)] * terms[LONG + ENTER]
        plan.exits[k] = raw[np.uint64(min(leave, last))] * terms[LONG + LEAVE]


@njit(**INLINE)
def clear_from(mask, bar):
    """Clear the bits of `bar` and all later ones."""
    word = bar // WORD
    if word < mask.shape[0]:
        mask[word] &= (ONE << np.uint64(bar % WORD)) - ONE
        mask[word + 1 :] = 0
