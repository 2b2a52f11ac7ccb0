"""Trades of an account that is all in or flat, from masks and prices alone, a chunk at a time.

Without stops and holding times the positions of 64 bars are one addition. A bar is held where an entry is signalled, or
where the bar before it is held and no exit is signalled: that is how a carry goes through the bits of a sum.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.cpython.unsafe import numbers

from grid.engine.accounts import CLOSES, ENTER, ENTRIES, EXITS, INLINE, LEAVE, LONG, NEVER, OPENS, SIGNAL
from grid.engine.fills import plan_entry, plan_exit, plan_next
from grid.engine.lanes import bits_set

CHUNK = 256
"""Trades planned at a time; a multiple of LANES."""
PLACES = CHUNK + 1
WORD, EIGHT = 64, 8
TURNS = 2 * CHUNK + WORD + EIGHT
"""Entries and exits of a chunk, of a word that fills it, and of eight that are written at once."""
ONE = np.uint64(1)
trailing_zeros: Any = numbers.trailing_zeros


class Plan(NamedTuple):
    """The trades of a chunk. Arrays with a place more than trades hold at k + 1 what comes after trade k."""

    starts: Any
    """int64: bars of entries; of exits, that before the chunk first."""
    leaves: Any
    reasons: Any
    entries: Any
    """float64 from here on: fill prices of entries, and of exits."""
    exits: Any
    opening: Any
    """The first close in a position, and the last."""
    closing: Any
    highs: Any
    """Bounds of the closes in it; of the equity, once units are known."""
    lows: Any
    units: Any
    cash: Any
    """Before each entry, and after the last exit."""
    lasts: Any
    """The equity at the close before each exit, that before the chunk first; before each entry; and at that bar."""
    mids: Any
    opens: Any


@njit(**INLINE)
def follows_bits(masks, rules):
    """Whether the masks alone say what is held: no other exits, and no entry signalled on the bar of an exit."""
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
def plan_bits(plan, turns, state, terms, prices, masks, rules):
    """The same as `plan_trades`, for trials of `follows_bits`. state: next word, whether held, turns left over, more.

    turns: int64[TURNS], scratch: the bars of an entry, its exit, and so on.
    """
    word, held, have, _ = state
    for k in range(have):
        turns[k] = turns[2 * CHUNK + k]
    entries, exits = masks[ENTRIES], masks[EXITS]
    carry, words = np.uint64(held), entries.shape[0]
    while have < 2 * CHUNK and word < words:
        enter, leave = entries[np.uint64(word)], exits[np.uint64(word)]
        stay = enter | ~leave
        positions = enter | (stay & ~(stay + enter + carry))
        changes = positions ^ ((positions << ONE) | carry)
        carry = positions >> np.uint64(WORD - 1)
        have = write_turns(turns, have, changes, word * WORD + rules.lag)
        word += 1
    n, more = prices[CLOSES].shape[0], word < words or have > 2 * CHUNK
    if have % 2 == 1 and not more:
        turns[have] = n
        have += 1
    count, limit = min(have // 2, CHUNK), n - 1 + rules.last_fill
    left = have - 2 * count
    while count > 0 and turns[2 * count - 2] >= limit:
        count, more = count - 1, False
    if count > 0 and turns[2 * count - 1] >= limit:
        turns[2 * count - 1], more = n, False
    price_turns(plan, turns, count, terms, prices[CLOSES if rules.at_close else OPENS])
    return count, (word, np.int64(carry), left, more)


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
        plan.starts[k], plan.leaves[k + 1], plan.reasons[k] = start, leave, SIGNAL
        plan.entries[k] = raw[np.uint64(start)] * terms[LONG + ENTER]
        plan.exits[k] = raw[np.uint64(min(leave, last))] * terms[LONG + LEAVE]


@njit(**INLINE)
def plan_trades(plan, state, terms, prices, masks, rules):
    """Plan up to CHUNK trades: (how many, the state after them: deciding bar, what follows, 0, whether there are more)."""
    decision, follow, _, _ = state
    n = prices[CLOSES].shape[0]
    raw = prices[CLOSES if rules.at_close else OPENS]
    bar, more, count = plan.leaves[0], True, 0
    while more and count < CHUNK:
        entry, _, decision = plan_entry(masks, decision, follow, bar, n, rules)
        if entry >= n:
            more = False
            break
        fill = raw[np.uint64(entry)] * terms[LONG + ENTER]
        bar, out, reason, decided = plan_exit(prices, masks, (decision, 1, entry), fill, terms, rules)
        plan.starts[count], plan.leaves[count + 1] = entry, bar
        plan.entries[count], plan.exits[count], plan.reasons[count] = fill, out, reason
        count += 1
        if bar >= n:
            more = False
        else:
            decision, follow = plan_next(masks, bar, reason, decided, 1, rules)
    return count, (decision, follow, 0, more)
