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
WORD, EIGHT = 64, 8
TURNS = 2 * CHUNK + 2
ROOM = TURNS + WORD + EIGHT
"""Those of a chunk, of a word that fills it, and of eight that are written at once."""
ONE = np.uint64(1)
trailing_zeros: Any = numbers.trailing_zeros


class Plan(NamedTuple):
    """Trades of a chunk, and what is reckoned of each. Turns are bars: the last exit, an entry, its exit, and so on."""

    turns: Any
    reasons: Any
    entries: Any
    """Fill prices of entries, and of exits."""
    exits: Any
    opening: Any
    """The first close in a position, and the last."""
    closing: Any
    highs: Any
    """Bounds of the closes in it."""
    lows: Any
    sums: Any
    """The sum of its closes."""
    units: Any
    now: Any
    """The equity at each turn, and at the close before it."""
    before: Any


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
def plan_bits(plan, state, terms, prices, masks, rules):
    """The same as `plan_trades`, for trials of `follows_bits`. state: next word, whether held, turns left over, more."""
    word, held, have, _ = state
    turns, lag = plan.turns, rules.lag
    for k in range(have):
        turns[1 + k] = turns[TURNS - 1 + k]
    entries, exits = masks[ENTRIES], masks[EXITS]
    carry, words = np.uint64(held), entries.shape[0]
    while have < 2 * CHUNK and word < words:
        enter, leave = entries[np.uint64(word)], exits[np.uint64(word)]
        stay = enter | ~leave
        positions = enter | (stay & ~(stay + enter + carry))
        changes = positions ^ ((positions << ONE) | carry)
        carry = positions >> np.uint64(WORD - 1)
        have = write_turns(turns, have, changes, word * WORD + lag)
        word += 1
    n, more = prices[CLOSES].shape[0], word < words or have > 2 * CHUNK
    if have % 2 == 1 and not more:
        have += 1
        turns[have] = n
    count, limit = min(have // 2, CHUNK), n - 1 + rules.last_fill
    left = have - 2 * count
    while count > 0 and turns[2 * count - 1] >= limit:
        count, more = count - 1, False
    if count > 0 and turns[2 * count] >= limit:
        turns[2 * count], more = n, False
    price_trades(plan, count, terms, prices[CLOSES if rules.at_close else OPENS])
    return count, (word, np.int64(carry), left, more)


@njit(**INLINE)
def write_turns(turns, have, changes, bar):
    """Write the bits of a word as bars behind the turns there are, eight at a time; returns how many there are then."""
    stop = have + np.int64(bits_set(changes))
    while True:
        for k in range(1, EIGHT + 1):
            turns[np.uint64(have + k)] = bar + np.int64(trailing_zeros(changes))
            changes &= changes - ONE
        have += EIGHT
        if have >= stop:
            return stop


@njit(**INLINE)
def price_trades(plan, count, terms, raw):
    """The fill prices of trades whose turns are known."""
    last = raw.shape[0] - 1
    for k in range(count):
        plan.entries[k] = raw[np.uint64(plan.turns[np.uint64(2 * k + 1)])] * terms[LONG + ENTER]
        plan.exits[k] = raw[np.uint64(min(plan.turns[np.uint64(2 * k + 2)], last))] * terms[LONG + LEAVE]
        plan.reasons[k] = SIGNAL


@njit(**INLINE)
def plan_trades(plan, state, terms, prices, masks, rules):
    """Plan up to CHUNK trades: (how many, the state after them: deciding bar, what follows, 0, whether there are more)."""
    decision, follow, _, _ = state
    n = prices[CLOSES].shape[0]
    raw = prices[CLOSES if rules.at_close else OPENS]
    bar, more, count = plan.turns[0], True, 0
    while more and count < CHUNK:
        entry, _, decision = plan_entry(masks, decision, follow, bar, n, rules)
        if entry >= n:
            more = False
            break
        fill = raw[np.uint64(entry)] * terms[LONG + ENTER]
        bar, out, reason, decided = plan_exit(prices, masks, (decision, 1, entry), fill, terms, rules)
        plan.turns[2 * count + 1], plan.turns[2 * count + 2] = entry, bar
        plan.entries[count], plan.exits[count], plan.reasons[count] = fill, out, reason
        count += 1
        if bar >= n:
            more = False
        else:
            decision, follow = plan_next(masks, bar, reason, decided, 1, rules)
    return count, (decision, follow, 0, more)
