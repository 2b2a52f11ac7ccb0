"""Sums over the closes of a position, eight bars at a time.

Numba does not turn such a loop into vector instructions, as that changes the order of the additions. Here the order is
said: bar i of a position goes into lane i % 8, lanes go on from position to position, and are added as a tree in the
end. The result depends on the trial alone.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from grid.engine.accounts import INLINE, LOWS_HELD, SUMS

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


def _add_values(builder: Any, slots: list[Any], factor: Any, values: Any, mask: Any = None) -> None:
    """Add eight values, times a factor, to the sum of `slots`; and the values to its largest and its smallest."""
    total, most, least = slots
    _change(builder, total, lambda x: _multiply_add(builder, factor, values, x), mask)
    _change(builder, most, lambda x: _greater(builder, x, values), mask)
    _change(builder, least, lambda x: _lesser(builder, x, values), mask)


def _change(builder: Any, slot: Any, change: Callable[[Any], Any], mask: Any) -> None:
    """Change the lanes of a slot that are in the mask, which AVX-512 does in the same instruction; all without one."""
    before = builder.load(slot)
    after = change(before)
    builder.store(after if mask is None else builder.select(mask, after, before), slot)


def _move_in(builder: Any, before: Any, now: Any) -> Any:
    """The last lane of `before`, then the others of `now`: what each lane of `now` comes from."""
    return builder.shuffle_vector(before, now, ir.Constant(LANE_NUMBERS, list(range(LANES - 1, 2 * LANES - 1))))


class _Lanes:
    """What the two kinds of sums over closes have in common: their slots, the loop, and the bars beyond it."""

    def __init__(self, builder: Any, sums: Any, bars: tuple[Any, Any], waits: Any) -> None:
        """waits: 1 where a return waits to be summed up with the last bars, else 0."""
        self.builder = builder
        self.start, self.stop = bars
        self.vectors = _vectors(builder, sums)
        self.slots = [cgutils.alloca_once_value(builder, builder.load(vector)) for vector in self.vectors]
        self.slots[LOWS:] = [cgutils.alloca_once_value(builder, _constant(value)) for value in (-INFINITY, INFINITY)]
        self.rest = builder.and_(builder.sub(self.stop, self.start), ir.Constant(INDEX, LANES - 1))
        self.whole = builder.sub(self.stop, self.rest)
        one = ir.Constant(INDEX, 1)
        held = builder.sub(builder.shl(one, self.rest), one)
        self.held = self._mask(held)
        self.last = ir.Constant(self.held.type, [False] * (LANES - 1) + [True])
        self.returns = self._mask(builder.or_(held, builder.shl(waits, ir.Constant(INDEX, LANES - 1))))
        self.more = builder.icmp_signed("!=", builder.or_(self.rest, waits), ir.Constant(INDEX, 0))

    def _mask(self, bits: Any) -> Any:
        """The low bits of an integer as a mask of lanes."""
        builder = self.builder
        return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))

    def eights(self) -> Any:
        """A loop over the first bar of each whole vector."""
        return cgutils.for_range_slice(self.builder, self.start, self.whole, ir.Constant(INDEX, LANES), INDEX)

    def finish(self, limits: tuple[Any, Any], equities: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        """Write the sums down, unless the account is lost: (largest, smallest equity, whether it lives).

        limits: the equity at which an account is lost, and the peak. Below the peak nobody asks for the extremes: the
        smallest go into the lowest since the peak, lane by lane, and infinities are returned.
        """
        builder = self.builder
        most, least = (equities(builder.load(slot)) for slot in self.slots[LOWS:])
        nothing, peak = (_spread(builder, limit) for limit in limits)
        alive = builder.not_(_any(builder, builder.fcmp_unordered("<=", least, nothing)))
        extremes = [cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), value)) for value in (-INFINITY, INFINITY)]
        with builder.if_then(alive, likely=True):
            for slot, vector in zip(self.slots[:LOWS], self.vectors, strict=False):
                builder.store(builder.load(slot), vector)
            with builder.if_else(_any(builder, builder.fcmp_ordered(">=", most, peak)), likely=False) as (above, below):
                with above:
                    for extreme, vector, join in zip(extremes, (most, least), (_greater, _lesser), strict=True):
                        builder.store(_folded(builder, vector, join), extreme)
                with below:
                    lows = self.vectors[LOWS]
                    builder.store(_lesser(builder, builder.load(lows), least), lows)
        return [*(builder.load(extreme) for extreme in extremes), alive]


TRIPLE, QUAD = (types.UniTuple(types.float64, count) for count in (3, 4))
SPAN = types.UniTuple(types.int64, 3)
EXTREMES = types.Tuple((types.float64, types.float64, types.boolean))


@intrinsic
def _held_sums(typingctx: Any, close: Any, sums: Any, span: Any, account: Any, limits: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the closes of a position: (largest, smallest equity at them, whether the account lives through all).

    span: the first bar, that after the last, and 1 where the return to the equity before them waits to be summed up,
    else 0: it takes a lane of the last bars, as one is always free. account: cash, units, the equity before, and that
    before it. limits: the risk-free return a bar, and the equity at which an account is lost: nothing is summed up
    where one is. sums: see accounts.py.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, places = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 1))
        start, stop, waits = cgutils.unpack_tuple(builder, args[2])
        lanes = _Lanes(builder, places, (start, stop), waits)
        free, *marks = cgutils.unpack_tuple(builder, args[4])
        numbers = (*cgutils.unpack_tuple(builder, args[3]), free)
        cash, units, equity, before, floor = (_spread(builder, number) for number in numbers)
        latest = cgutils.alloca_once_value(builder, equity)

        def add(now: Any, last: Any, returns: Any = None, closes: Any = None) -> None:
            r = builder.fsub(builder.fdiv(now, last), _constant(1.0))
            _add_returns(builder, lanes.slots[:5], r, floor, returns)
            _add_values(builder, lanes.slots[5:8], _constant(1.0), now, closes)

        with lanes.eights() as (i, _):
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, i)))
            add(now, _move_in(builder, builder.load(latest), now))
            builder.store(now, latest)
        with builder.if_then(lanes.more):
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, lanes.whole, lanes.held)))
            last = builder.select(lanes.last, before, _move_in(builder, builder.load(latest), now))
            add(builder.select(lanes.last, equity, now), last, lanes.returns, lanes.held)
        return context.make_tuple(builder, signature.return_type, lanes.finish(marks))

    return EXTREMES(close, sums, SPAN, QUAD, TRIPLE), generate


@intrinsic
def _all_in_sums(typingctx: Any, rows: Any, sums: Any, span: Any, account: Any, limits: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """The same for an account that is all in the position: its returns are those of the price, and need no division.

    rows: the closes, and the return to each from the one before it. account: units, the equity before `start`, and that
    before it. The first return is from that equity, and is said apart.
    """
    if not isinstance(rows, types.UniTuple):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = context.make_array(signature.args[1])(context, builder, args[1]).data
        closes, changes = (
            context.make_array(signature.args[0].dtype)(context, builder, row).data
            for row in cgutils.unpack_tuple(builder, args[0])
        )
        start, stop, waits = cgutils.unpack_tuple(builder, args[2])
        units, equity, before = cgutils.unpack_tuple(builder, args[3])
        one = ir.Constant(ir.DoubleType(), 1.0)
        lanes = _Lanes(builder, places, (start, stop), waits)
        entry = builder.fmul(units, builder.load(builder.gep(closes, [start])))
        first = _spread(builder, builder.fsub(builder.fdiv(entry, equity), one))
        waited = _spread(builder, builder.fsub(builder.fdiv(equity, before), one))
        free, *marks = cgutils.unpack_tuple(builder, args[4])
        many, floor = _spread(builder, units), _spread(builder, free)
        none = ir.Constant(lanes.held.type, [False] * LANES)
        fresh = cgutils.alloca_once_value(builder, ir.Constant(none.type, [True] + [False] * (LANES - 1)))

        def add(i: Any, returns: Any = None, held: Any = None) -> None:
            r = builder.select(builder.load(fresh), first, _load(builder, changes, i, held))
            if held is not None:
                r = builder.select(lanes.last, waited, r)
            _add_returns(builder, lanes.slots[:5], r, floor, returns)
            _add_values(builder, lanes.slots[5:8], many, _load(builder, closes, i, held), held)

        with lanes.eights() as (i, _):
            add(i)
            builder.store(none, fresh)
        with builder.if_then(lanes.more):
            add(lanes.whole, lanes.returns, lanes.held)
        result = lanes.finish(marks, lambda prices: builder.fmul(many, prices))
        return context.make_tuple(builder, signature.return_type, result)

    return EXTREMES(rows, sums, SPAN, TRIPLE, TRIPLE), generate


@intrinsic
def _scratch(typingctx: Any, size: Any, dtype: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """An array of 8-byte numbers on the stack, all 0, for as long as the caller runs; `size` is a literal.

    Where all that touches it is inlined, the compiler keeps its values in registers, which it cannot do with an array
    that might overlap others.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    kind = types.Array(dtype.dtype, 1, "C")
    length = size.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        number = context.get_data_type(kind.dtype)
        room = ir.ArrayType(number, length)
        slot = cgutils.alloca_once(builder, room)
        slot.align = 64
        builder.store(ir.Constant(room, [0] * length), slot)
        array = context.make_array(kind)(context, builder)
        data = builder.bitcast(slot, number.as_pointer())
        context.populate_array(
            array, data=data, shape=[INDEX(length)], strides=[INDEX(8)], itemsize=INDEX(8), meminfo=None
        )
        return array._getvalue()

    return kind(size, dtype), generate


held_sums: Any = _held_sums  # numba binds the first argument itself
all_in_sums: Any = _all_in_sums
scratch: Any = _scratch


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
