"""Sums over the closes of a position, eight bars at a time.

Numba does not turn such a loop into vector instructions, as that changes the order of the additions. Here the order is
said: bar i of a position goes into lane i % 8, lanes go on from position to position, and are added as a tree in the
end. The result depends on the trial alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from grid.engine.accounts import HELD_EQUITY, INLINE, LOWS_HELD, SUMS

LANES = 8
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
INDEX = ir.IntType(64)
LANE_NUMBERS = ir.VectorType(ir.IntType(32), LANES)
INFINITY = float("inf")
LOWS = LOWS_HELD // LANES


def _spread(builder: Any, value: Any) -> Any:
    """A number in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(LANE_NUMBERS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), lanes)


def _constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _any(builder: Any, lanes: Any) -> Any:
    """Whether a condition holds in any lane."""
    bits = builder.bitcast(lanes, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def _load(builder: Any, data: Any, index: Any, inside: Any = None) -> Any:
    """Eight neighbours from `index` on, or those of them that are `inside`; what is not is not read, and is 0."""
    pointer = builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())
    if inside is None:
        loaded = builder.load(pointer)
        loaded.align = 8
        return loaded
    kinds = [pointer.type, ir.IntType(32), inside.type, VECTOR]
    masked = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, kinds), "llvm.masked.load.v8f64.p0v8f64"
    )
    return builder.call(masked, [pointer, ir.Constant(ir.IntType(32), 8), inside, _constant(0.0)])


def _lesser(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def _greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _folded(builder: Any, vector: Any, join: Any) -> Any:
    """All lanes joined: halves with halves, as a tree."""
    width = LANES
    while width > 1:
        width //= 2
        kind = ir.VectorType(ir.IntType(32), width)
        undefined = ir.Constant(vector.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(vector, undefined, ir.Constant(kind, [start + k for k in range(width)]))
            for start in (0, width)
        ]
        vector = join(builder, *halves)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64"), [a, b, c])


def _vectors(builder: Any, data: Any) -> list[Any]:
    """Pointers to the vectors of the sums."""
    places = [builder.gep(data, [ir.Constant(INDEX, k)]) for k in range(0, SUMS, LANES)]
    return [builder.bitcast(place, VECTOR.as_pointer()) for place in places]


def _add_returns(builder: Any, slots: list[Any], r: Any, floor: Any, mask: Any = None) -> None:
    """Add eight returns to the sums, or those of them in the mask."""
    r2 = builder.fmul(r, r)
    below = _lesser(builder, builder.fsub(r, floor), _constant(0.0))
    _change(builder, slots[0], lambda x: builder.fadd(x, r), mask)
    _change(builder, slots[1], lambda x: builder.fadd(x, r2), mask)
    _change(builder, slots[2], lambda x: _multiply_add(builder, r2, r, x), mask)
    _change(builder, slots[3], lambda x: _multiply_add(builder, r2, r2, x), mask)
    _change(builder, slots[4], lambda x: _multiply_add(builder, below, below, x), mask)


def _change(builder: Any, slot: Any, change: Callable[[Any], Any], mask: Any) -> None:
    """Change the lanes of a slot that are in the mask, which AVX-512 does in the same instruction; all without one."""
    before = builder.load(slot)
    after = change(before)
    builder.store(after if mask is None else builder.select(mask, after, before), slot)


def _move_in(builder: Any, before: Any, now: Any) -> Any:
    """The last lane of `before`, then the others of `now`: what each lane of `now` comes from."""
    return builder.shuffle_vector(before, now, ir.Constant(LANE_NUMBERS, list(range(LANES - 1, 2 * LANES - 1))))


class _Sums:
    """The sums, from memory to registers and back."""

    def __init__(self, builder: Any, sums: Any, count: int) -> None:
        """The first vectors of the sums."""
        self.builder = builder
        self.vectors = _vectors(builder, sums)
        self.slots = [cgutils.alloca_once_value(builder, builder.load(vector)) for vector in self.vectors[:count]]

    def write(self) -> None:
        for slot, vector in zip(self.slots, self.vectors, strict=False):
            self.builder.store(self.builder.load(slot), vector)


def _low_bits(builder: Any, count: Any) -> Any:
    """An integer of so many set bits, at its low end."""
    one = ir.Constant(INDEX, 1)
    return builder.sub(builder.shl(one, count), one)


def _mask(builder: Any, bits: Any) -> Any:
    """The low bits of an integer as a mask of lanes."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))


def _extremes(builder: Any) -> tuple[Any, Any]:
    """Slots for the largest and the smallest value of each lane."""
    most, least = (cgutils.alloca_once_value(builder, _constant(value)) for value in (-INFINITY, INFINITY))
    return most, least


PAIR, TRIPLE, QUAD = (types.UniTuple(types.float64, count) for count in (2, 3, 4))
BARS, SPAN = (types.UniTuple(types.int64, count) for count in (2, 3))
EXTREMES = types.Tuple((types.float64, types.float64, types.boolean))


def _data(context: Any, builder: Any, signature: Any, args: Any, *places: int) -> list[Any]:
    """Pointers to the values of those arguments that are arrays."""
    return [context.make_array(signature.args[k])(context, builder, args[k]).data for k in places]


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
        data, places = _data(context, builder, signature, args, 0, 1)
        start, stop, waits = cgutils.unpack_tuple(builder, args[2])
        limits = [_spread(builder, limit) for limit in cgutils.unpack_tuple(builder, args[4])]
        cash, units, equity, before = (_spread(builder, x) for x in cgutils.unpack_tuple(builder, args[3]))
        sums, (most, least) = _Sums(builder, places, LOWS), _extremes(builder)
        latest = cgutils.alloca_once_value(builder, equity)
        rest = builder.and_(builder.sub(stop, start), ir.Constant(INDEX, LANES - 1))
        whole = builder.sub(stop, rest)

        def add(now: Any, last: Any, returns: Any = None, closes: Any = None) -> None:
            r = builder.fsub(builder.fdiv(now, last), _constant(1.0))
            _add_returns(builder, sums.slots[:5], r, limits[0], returns)
            _change(builder, sums.slots[5], lambda x: builder.fadd(x, now), closes)
            _change(builder, most, lambda x: _greater(builder, x, now), closes)
            _change(builder, least, lambda x: _lesser(builder, x, now), closes)

        with cgutils.for_range_slice(builder, start, whole, ir.Constant(INDEX, LANES), INDEX) as (i, _):
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, i)))
            add(now, _move_in(builder, builder.load(latest), now))
            builder.store(now, latest)
        with builder.if_then(builder.icmp_signed("!=", builder.or_(rest, waits), ir.Constant(INDEX, 0))):
            bits = _low_bits(builder, rest)
            held = _mask(builder, bits)
            returns = _mask(builder, builder.or_(bits, builder.shl(waits, ir.Constant(INDEX, LANES - 1))))
            waiting = ir.Constant(held.type, [False] * (LANES - 1) + [True])
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, whole, held)))
            last = builder.select(waiting, before, _move_in(builder, builder.load(latest), now))
            add(builder.select(waiting, equity, now), last, returns, held)
        extremes = _settle(builder, sums, (builder.load(most), builder.load(least)), limits)
        return context.make_tuple(builder, signature.return_type, extremes)

    return EXTREMES(close, sums, SPAN, QUAD, TRIPLE), generate


def _settle(builder: Any, sums: _Sums, lanes: tuple[Any, Any], limits: list[Any]) -> list[Any]:
    """What `_held_sums` returns, and its sums written down."""
    most, least = lanes
    _, nothing, peak = limits
    alive = builder.not_(_any(builder, builder.fcmp_unordered("<=", least, nothing)))
    extremes = [cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), x)) for x in (-INFINITY, INFINITY)]
    with builder.if_then(alive, likely=True):
        sums.write()
        with builder.if_else(_any(builder, builder.fcmp_ordered(">=", most, peak)), likely=False) as (above, below):
            with above:
                builder.store(_folded(builder, most, _greater), extremes[0])
                builder.store(_folded(builder, least, _lesser), extremes[1])
            with below:
                lows = sums.vectors[LOWS]
                builder.store(_lesser(builder, builder.load(lows), least), lows)
    return [*(builder.load(extreme) for extreme in extremes), alive]


@intrinsic
def _bar_sums(typingctx: Any, returns: Any, held: Any, sums: Any, span: Any, free: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the returns of the bars in [start, stop) that are set in the mask `held`; bar t goes into lane t % 8.

    free: the risk-free return a bar.
    """
    if not isinstance(returns, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, words, places = _data(context, builder, signature, args, 0, 1, 2)
        start, stop = cgutils.unpack_tuple(builder, args[3])
        floor, sums = _spread(builder, args[4]), _Sums(builder, places, 5)
        number = partial(ir.Constant, INDEX)
        first, last = builder.lshr(start, number(6)), builder.lshr(stop, number(6))
        head = builder.shl(number(-1), builder.and_(start, number(63)))
        tail = _low_bits(builder, builder.and_(stop, number(63)))

        def add(word: Any, wanted: Any) -> None:
            bits = builder.and_(builder.load(builder.gep(words, [word])), wanted)
            with builder.if_then(builder.icmp_unsigned("!=", bits, number(0))):
                bar = builder.shl(word, number(6))
                for k in range(0, 64, LANES):
                    mask = _mask(builder, builder.lshr(bits, number(k)))
                    r = _load(builder, data, builder.add(bar, number(k)), mask)
                    _add_returns(builder, sums.slots, r, floor, mask)

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
        to, since, places = _data(context, builder, signature, args, 0, 1, 2)
        start, stop = cgutils.unpack_tuple(builder, args[3])
        floor, sums = _spread(builder, args[4]), _Sums(builder, places, 5)
        eight, seven = ir.Constant(INDEX, LANES), ir.Constant(INDEX, LANES - 1)
        begin = builder.sub(start, builder.and_(start, seven))
        head = cgutils.alloca_once_value(builder, builder.shl(ir.Constant(INDEX, -1), builder.and_(start, seven)))
        with cgutils.for_range_slice(builder, begin, stop, eight, INDEX) as (k, _):
            left = builder.sub(stop, k)
            left = builder.select(builder.icmp_signed("<", left, eight), left, eight)
            mask = _mask(builder, builder.and_(builder.load(head), _low_bits(builder, left)))
            r = builder.fdiv(_load(builder, to, k, mask), _load(builder, since, k, mask))
            _add_returns(builder, sums.slots, builder.fsub(r, _constant(1.0)), floor, mask)
            builder.store(ir.Constant(INDEX, -1), head)
        sums.write()
        return context.get_dummy_value()

    return types.void(now, before, sums, BARS, types.float64), generate


@intrinsic
def _part_sums(typingctx: Any, close: Any, sums: Any, span: Any, units: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Add to HELD_EQUITY the units times the closes from the last eighth bar on before `stop`, less those before
    `start`."""
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, places = _data(context, builder, signature, args, 0, 1)
        parts = []
        for bar in cgutils.unpack_tuple(builder, args[2]):
            rest = builder.and_(bar, ir.Constant(INDEX, LANES - 1))
            parts.append(_load(builder, data, builder.sub(bar, rest), _mask(builder, _low_bits(builder, rest))))
        total = _vectors(builder, places)[HELD_EQUITY // LANES]
        part = builder.fsub(parts[1], parts[0])
        builder.store(_multiply_add(builder, _spread(builder, args[3]), part, builder.load(total)), total)
        return context.get_dummy_value()

    return types.void(close, sums, BARS, types.float64), generate


@intrinsic
def _most_and_least(typingctx: Any, close: Any, span: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """The largest and the smallest of the values in [start, stop); infinities where there are none."""
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (data,) = _data(context, builder, signature, args, 0)
        start, stop = cgutils.unpack_tuple(builder, args[1])
        most, least = _extremes(builder)
        eight = ir.Constant(INDEX, LANES)
        with cgutils.for_range_slice(builder, start, stop, eight, INDEX) as (i, _):
            left = builder.sub(stop, i)
            left = builder.select(builder.icmp_signed("<", left, eight), left, eight)
            mask = _mask(builder, _low_bits(builder, left))
            values = _load(builder, data, i, mask)
            _change(builder, most, lambda x: _greater(builder, x, values), mask)
            _change(builder, least, lambda x: _lesser(builder, x, values), mask)
        lanes = [_folded(builder, builder.load(most), _greater), _folded(builder, builder.load(least), _lesser)]
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
    """An array of 8-byte numbers on the stack, of any value, for as long as the caller runs; `size` is a literal.

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


held_sums: Any = _held_sums  # numba binds the first argument itself
bar_sums: Any = _bar_sums
change_sums: Any = _change_sums
part_sums: Any = _part_sums
most_and_least: Any = _most_and_least
room: Any = _room
bits_set: Any = _bits_set


@njit(**INLINE)
def joined(sums, place):
    """The eight lanes from a place on, added as a tree."""
    x = sums[place : place + LANES]
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))


@njit(**INLINE)
def smallest(sums, place):
    """The least of the eight lanes from a place on."""
    x = sums[place : place + LANES]
    least = x[0]
    for lane in range(1, LANES):
        least = min(least, x[lane])
    return least


@njit(**INLINE)
def largest(sums, place):
    """The most of the eight lanes from a place on."""
    x = sums[place : place + LANES]
    most = x[0]
    for lane in range(1, LANES):
        most = max(most, x[lane])
    return most
