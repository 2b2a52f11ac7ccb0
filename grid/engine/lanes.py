"""Sums over bars and trades, eight at a time, in an order that is said.

Bar i of a position goes into lane i % 8, or bar t of the data, or trade k of a chunk; eights of closes, from the first
whole one of a position on. Lanes go on from one to the next, and are added as a tree in the end. The result depends on
the trial alone.
"""

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from grid.engine.accounts import HELD_EQUITY, LANES
from grid.engine.vectors import (
    INDEX,
    INFINITY,
    LOWS,
    Sums,
    add_returns,
    added,
    any_lane,
    change,
    constant,
    extreme_slots,
    first_lanes,
    folded,
    greater,
    lesser,
    load_lanes,
    low_bits,
    mask_of,
    move_in,
    multiply_add,
    pointers,
    spread,
    vectors_of,
)

PAIR, TRIPLE, QUAD = (types.UniTuple(types.float64, count) for count in (2, 3, 4))
BARS, SPAN = (types.UniTuple(types.int64, count) for count in (2, 3))
EXTREMES = types.Tuple((types.float64, types.float64, types.boolean))


@intrinsic
def _held_sums(typingctx: Any, close: Any, sums: Any, span: Any, account: Any, limits: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the closes of a position: (largest, smallest equity at them, whether the account lives through all).

    span: the first bar, that after the last, and 1 where the return to the equity before them waits to be summed up,
    else 0: it takes a lane of the last bars, as one is always free. account: cash, units, the equity before, and that
    before it. limits: the risk-free return a bar, the equity at which an account is lost, and the peak. Nothing is
    summed up where an account is lost. Below the peak nobody asks for the extremes: the smallest go into the lowest
    since the peak, lane by lane, and infinities are returned. sums: see accounts.py.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, places = pointers(context, builder, signature, args, 0, 1)
        start, stop, waits = cgutils.unpack_tuple(builder, args[2])
        limits = [spread(builder, limit) for limit in cgutils.unpack_tuple(builder, args[4])]
        cash, units, equity, before = (spread(builder, x) for x in cgutils.unpack_tuple(builder, args[3]))
        sums, (most, least) = Sums(builder, places, LOWS), extreme_slots(builder)
        latest = cgutils.alloca_once_value(builder, equity)
        rest = builder.and_(builder.sub(stop, start), ir.Constant(INDEX, LANES - 1))
        whole = builder.sub(stop, rest)

        def add(now: Any, last: Any, returns: Any = None, closes: Any = None) -> None:
            r = builder.fsub(builder.fdiv(now, last), constant(1.0))
            add_returns(builder, sums.slots[:5], r, limits[0], returns)
            change(builder, sums.slots[5], lambda x: builder.fadd(x, now), closes)
            change(builder, most, lambda x: greater(builder, x, now), closes)
            change(builder, least, lambda x: lesser(builder, x, now), closes)

        with cgutils.for_range_slice(builder, start, whole, ir.Constant(INDEX, LANES), INDEX) as (i, _):
            now = builder.fadd(cash, builder.fmul(units, load_lanes(builder, data, i)))
            add(now, move_in(builder, builder.load(latest), now))
            builder.store(now, latest)
        with builder.if_then(builder.icmp_signed("!=", builder.or_(rest, waits), ir.Constant(INDEX, 0))):
            bits = low_bits(builder, rest)
            held = mask_of(builder, bits)
            returns = mask_of(builder, builder.or_(bits, builder.shl(waits, ir.Constant(INDEX, LANES - 1))))
            waiting = ir.Constant(held.type, [False] * (LANES - 1) + [True])
            now = builder.fadd(cash, builder.fmul(units, load_lanes(builder, data, whole, held)))
            last = builder.select(waiting, before, move_in(builder, builder.load(latest), now))
            add(builder.select(waiting, equity, now), last, returns, held)
        extremes = _settle(builder, sums, (builder.load(most), builder.load(least)), limits)
        return context.make_tuple(builder, signature.return_type, extremes)

    return EXTREMES(close, sums, SPAN, QUAD, TRIPLE), generate


def _settle(builder: Any, sums: Sums, lanes: tuple[Any, Any], limits: list[Any]) -> list[Any]:
    """What `_held_sums` returns, and its sums written down."""
    most, least = lanes
    _, nothing, peak = limits
    alive = builder.not_(any_lane(builder, builder.fcmp_unordered("<=", least, nothing)))
    extremes = [cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), x)) for x in (-INFINITY, INFINITY)]
    with builder.if_then(alive, likely=True):
        sums.write()
        with builder.if_else(any_lane(builder, builder.fcmp_ordered(">=", most, peak)), likely=False) as (above, below):
            with above:
                builder.store(folded(builder, most, greater), extremes[0])
                builder.store(folded(builder, least, lesser), extremes[1])
            with below:
                lows = sums.vectors[LOWS]
                builder.store(lesser(builder, builder.load(lows), least), lows)
    return [*(builder.load(extreme) for extreme in extremes), alive]


@intrinsic
def _bar_sums(typingctx: Any, returns: Any, held: Any, sums: Any, span: Any, free: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the returns of the bars in [start, stop) that are set in the mask `held`; bar t goes into lane t % 8.

    free: the risk-free return a bar.
    """
    if not isinstance(returns, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, words, places = pointers(context, builder, signature, args, 0, 1, 2)
        start, stop = cgutils.unpack_tuple(builder, args[3])
        floor, sums = spread(builder, args[4]), Sums(builder, places, 5)
        number = partial(ir.Constant, INDEX)
        first, last = builder.lshr(start, number(6)), builder.lshr(stop, number(6))
        head = builder.shl(number(-1), builder.and_(start, number(63)))
        tail = low_bits(builder, builder.and_(stop, number(63)))

        def add(word: Any, wanted: Any) -> None:
            bits = builder.and_(builder.load(builder.gep(words, [word])), wanted)
            with builder.if_then(builder.icmp_unsigned("!=", bits, number(0))):
                bar = builder.shl(word, number(6))
                for k in range(0, 64, LANES):
                    mask = mask_of(builder, builder.lshr(bits, number(k)))
                    r = load_lanes(builder, data, builder.add(bar, number(k)), mask)
                    add_returns(builder, sums.slots, r, floor, mask)

        ahead = cgutils.alloca_once_value(builder, head)
        with cgutils.for_range_slice(builder, first, last, number(1), INDEX) as (word, _):
            add(word, builder.load(ahead))
            builder.store(number(-1), ahead)
        with builder.if_then(builder.icmp_unsigned("!=", tail, number(0))):
            add(last, builder.and_(builder.load(ahead), tail))
        sums.write()
        return context.get_dummy_value()

    return types.void(returns, held, sums, BARS, types.float64), generate


@intrinsic
def _change_sums(typingctx: Any, now: Any, before: Any, sums: Any, span: Any, free: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the returns from `before` to `now` in [start, stop); place k goes into lane k % 8."""
    if not isinstance(now, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, since, places = pointers(context, builder, signature, args, 0, 1, 2)
        start, stop = cgutils.unpack_tuple(builder, args[3])
        floor, sums = spread(builder, args[4]), Sums(builder, places, 5)
        eight, seven = ir.Constant(INDEX, LANES), ir.Constant(INDEX, LANES - 1)
        begin = builder.sub(start, builder.and_(start, seven))
        head = cgutils.alloca_once_value(builder, builder.shl(ir.Constant(INDEX, -1), builder.and_(start, seven)))
        with cgutils.for_range_slice(builder, begin, stop, eight, INDEX) as (k, _):
            left = builder.sub(stop, k)
            left = builder.select(builder.icmp_signed("<", left, eight), left, eight)
            mask = mask_of(builder, builder.and_(builder.load(head), low_bits(builder, left)))
            r = builder.fdiv(load_lanes(builder, to, k, mask), load_lanes(builder, since, k, mask))
            add_returns(builder, sums.slots, builder.fsub(r, constant(1.0)), floor, mask)
            builder.store(ir.Constant(INDEX, -1), head)
        sums.write()
        return context.get_dummy_value()

    return types.void(now, before, sums, BARS, types.float64), generate


@intrinsic
def _equity_sums(typingctx: Any, close: Any, eights: Any, sums: Any, span: Any, units: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Add to HELD_EQUITY the units times the closes of [start, stop).

    eights: the sum of each eight bars, from bar 0 on. Up to 64 bars take three loads: of the bars before the first
    whole eight, of the whole ones' sums, and of the bars after them.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, whole, places = pointers(context, builder, signature, args, 0, 1, 2)
        start, stop = cgutils.unpack_tuple(builder, args[3])
        number = partial(ir.Constant, INDEX)
        before, after = (builder.and_(bar, number(LANES - 1)) for bar in (start, stop))
        first = builder.lshr(builder.add(start, number(LANES - 1)), number(3))
        last = builder.lshr(stop, number(3))
        head = builder.select(
            builder.icmp_unsigned("==", before, number(0)), number(0), builder.shl(number(-1), before)
        )
        tail = low_bits(builder, after)
        short = builder.icmp_signed(">", first, last)  # all within one eight
        head = builder.select(short, builder.and_(head, tail), head)
        tail = builder.select(short, number(0), tail)
        ends = [(builder.sub(start, before), head), (builder.sub(stop, after), tail)]
        parts = [load_lanes(builder, data, bar, mask_of(builder, bits)) for bar, bits in ends]
        parts.append(load_lanes(builder, whole, first, first_lanes(builder, builder.sub(last, first))))
        total = cgutils.alloca_once_value(builder, builder.fadd(builder.fadd(*parts[:2]), parts[2]))
        more = builder.add(first, number(LANES))
        with cgutils.for_range_slice(builder, more, last, number(LANES), INDEX) as (k, _):
            part = load_lanes(builder, whole, k, first_lanes(builder, builder.sub(last, k)))
            builder.store(builder.fadd(builder.load(total), part), total)
        held = vectors_of(builder, places)[HELD_EQUITY // LANES]
        many = spread(builder, args[4])
        builder.store(multiply_add(builder, many, builder.load(total), builder.load(held)), held)
        return context.get_dummy_value()

    return types.void(close, eights, sums, BARS, types.float64), generate


@intrinsic
def _most_and_least(typingctx: Any, close: Any, span: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """The largest and the smallest of the values in [start, stop); infinities where there are none."""
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (data,) = pointers(context, builder, signature, args, 0)
        start, stop = cgutils.unpack_tuple(builder, args[1])
        most, least = extreme_slots(builder)
        eight = ir.Constant(INDEX, LANES)
        with cgutils.for_range_slice(builder, start, stop, eight, INDEX) as (i, _):
            mask = first_lanes(builder, builder.sub(stop, i))
            values = load_lanes(builder, data, i, mask)
            change(builder, most, lambda x: greater(builder, x, values), mask)
            change(builder, least, lambda x: lesser(builder, x, values), mask)
        lanes = [folded(builder, builder.load(most), greater), folded(builder, builder.load(least), lesser)]
        return context.make_tuple(builder, signature.return_type, lanes)

    return PAIR(close, BARS), generate


@intrinsic
def _bits_set(typingctx: Any, word: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """How many bits of a uint64 are set."""
    if word != types.uint64:
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _room(typingctx: Any, size: Any, dtype: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """An array of 8-byte numbers on the stack, of any value, until the function that asks for it returns.

    `size` is a literal. A function that is inlined may not return it: the place may be another's then.

    Where all that touches it is inlined, the compiler keeps its values in registers, which it cannot do with an array
    that might overlap others.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    kind = types.Array(dtype.dtype, 1, "C")
    length = size.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        number = context.get_data_type(kind.dtype)
        slot = cgutils.alloca_once(builder, ir.ArrayType(number, length))
        slot.align = 64
        array = context.make_array(kind)(context, builder)
        data = builder.bitcast(slot, number.as_pointer())
        context.populate_array(
            array, data=data, shape=[INDEX(length)], strides=[INDEX(8)], itemsize=INDEX(8), meminfo=None
        )
        return array._getvalue()

    return kind(size, dtype), generate


def _fold(join: Any) -> Any:
    """An intrinsic (sums, place) -> the eight lanes from a place on, joined as a tree."""

    @intrinsic
    def fold(typingctx: Any, sums: Any, place: Any) -> Any:  # noqa: ARG001 -- numba's signature
        if not isinstance(sums, types.Array):
            return None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            (data,) = pointers(context, builder, signature, args, 0)
            return folded(builder, load_lanes(builder, data, args[1]), join)

        return types.float64(sums, types.int64), generate

    return fold


joined, smallest, largest = _fold(added), _fold(lesser), _fold(greater)
held_sums: Any = _held_sums  # numba binds the first argument itself
bar_sums: Any = _bar_sums
change_sums: Any = _change_sums
equity_sums: Any = _equity_sums
most_and_least: Any = _most_and_least
room: Any = _room
bits_set: Any = _bits_set
