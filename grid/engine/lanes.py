"""Sums over the closes of a position, eight bars at a time.

Numba does not turn such a loop into vector instructions, as that changes the order of the additions. Here the order is
said: bar i of a position goes into lane i % 8, lanes go on from position to position, and are added as a tree in the
end. The result depends on the trial alone.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from grid.engine.accounts import INLINE, SUMS

LANES = 8
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
INDEX = ir.IntType(64)
LANE_NUMBERS = ir.VectorType(ir.IntType(32), LANES)
INFINITY = float("inf")


def _spread(builder: Any, value: Any) -> Any:
    """A number in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(LANE_NUMBERS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), lanes)


def _constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _load(builder: Any, data: Any, index: Any, inside: Any = None) -> Any:
    """Eight neighbours from `index` on, or those of them that are `inside`; what is not is not read, and is 1."""
    pointer = builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())
    if inside is None:
        loaded = builder.load(pointer)
        loaded.align = 8
        return loaded
    kinds = [pointer.type, ir.IntType(32), inside.type, VECTOR]
    masked = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, kinds), "llvm.masked.load.v8f64.p0v8f64"
    )
    return builder.call(masked, [pointer, ir.Constant(ir.IntType(32), 8), inside, _constant(1.0)])


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


def _spread_index(builder: Any, value: Any) -> Any:
    kind = ir.VectorType(INDEX, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(LANE_NUMBERS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64"), [a, b, c])


def _vectors(builder: Any, data: Any) -> list[Any]:
    """Pointers to the vectors of the sums."""
    places = [builder.gep(data, [ir.Constant(INDEX, k)]) for k in range(0, SUMS, LANES)]
    return [builder.bitcast(place, VECTOR.as_pointer()) for place in places]


def _add_bars(builder: Any, slots: list[Any], equity: tuple[Any, Any], floor: Any, masks: Any = None) -> None:
    """Add the returns and the equity of eight bars, or of those in masks = (which are returns, which are closes)."""
    now, last = equity
    returns, closes = masks or (None, None)

    def kept(mask: Any, value: Any, otherwise: float) -> Any:
        return value if mask is None else builder.select(mask, value, _constant(otherwise))

    r = kept(returns, builder.fsub(builder.fdiv(now, last), _constant(1.0)), 0.0)
    r2 = builder.fmul(r, r)
    below = kept(returns, _lesser(builder, builder.fsub(r, floor), _constant(0.0)), 0.0)
    sums = [builder.load(slot) for slot in slots]
    sums[0] = builder.fadd(sums[0], r)
    sums[1] = builder.fadd(sums[1], r2)
    sums[2] = _multiply_add(builder, r2, r, sums[2])
    sums[3] = _multiply_add(builder, r2, r2, sums[3])
    sums[4] = _multiply_add(builder, below, below, sums[4])
    sums[5] = builder.fadd(sums[5], kept(closes, now, 0.0))
    sums[6] = _greater(builder, sums[6], kept(closes, now, -INFINITY))
    sums[7] = _lesser(builder, sums[7], kept(closes, now, INFINITY))
    for slot, value in zip(slots, sums, strict=True):
        builder.store(value, slot)


def _move_in(builder: Any, before: Any, now: Any) -> Any:
    """The last lane of `before`, then the others of `now`: what each lane of `now` comes from."""
    return builder.shuffle_vector(before, now, ir.Constant(LANE_NUMBERS, list(range(LANES - 1, 2 * LANES - 1))))


@intrinsic
def _held_sums(typingctx: Any, close: Any, sums: Any, bars: Any, account: Any, limits: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the closes of bars = (start, stop) in a position; the largest and the smallest equity at them.

    account: cash, units, the equity before `start`, and that before it, where the return from it waits to be summed up
    (else the same): it takes a lane of the last bars, as one is always free. limits: the risk-free return a bar, and
    the equity at which an account is lost: nothing is summed up where one is. sums: see accounts.py.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, places = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 1))
        start, stop = cgutils.unpack_tuple(builder, args[2])
        cash, units, equity, before = cgutils.unpack_tuple(builder, args[3])
        free, nothing = cgutils.unpack_tuple(builder, args[4])
        waits = builder.fcmp_unordered("!=", equity, before)
        cash, units, equity, before, floor = (_spread(builder, v) for v in (cash, units, equity, before, free))
        vectors = _vectors(builder, places)
        slots = [cgutils.alloca_once_value(builder, builder.load(vector)) for vector in vectors]
        slots += [cgutils.alloca_once_value(builder, _constant(value)) for value in (-INFINITY, INFINITY)]
        latest = cgutils.alloca_once_value(builder, equity)
        rest = builder.and_(builder.sub(stop, start), ir.Constant(INDEX, LANES - 1))
        whole = builder.sub(stop, rest)
        with cgutils.for_range_slice(builder, start, whole, ir.Constant(INDEX, LANES), INDEX) as (i, _):
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, i)))
            _add_bars(builder, slots, (now, _move_in(builder, builder.load(latest), now)), floor)
            builder.store(now, latest)
        numbers = ir.Constant(ir.VectorType(INDEX, LANES), list(range(LANES)))
        held = builder.icmp_signed("<", numbers, _spread_index(builder, rest))
        last_lane = ir.Constant(held.type, [False] * (LANES - 1) + [True])
        returns = builder.select(waits, builder.or_(held, last_lane), held)
        with builder.if_then(builder.or_(waits, builder.icmp_signed("!=", rest, ir.Constant(INDEX, 0)))):
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, whole, held)))
            last = builder.select(last_lane, before, _move_in(builder, builder.load(latest), now))
            now = builder.select(last_lane, equity, now)
            _add_bars(builder, slots, (now, last), floor, (returns, held))
        most = _folded(builder, builder.load(slots[-2]), _greater)
        least = _folded(builder, builder.load(slots[-1]), _lesser)
        with builder.if_then(builder.fcmp_ordered(">", least, nothing), likely=True):
            for slot, vector in zip(slots, vectors, strict=False):
                builder.store(builder.load(slot), vector)
        return context.make_tuple(builder, signature.return_type, [most, least])

    pair, account_kind = types.UniTuple(types.int64, 2), types.UniTuple(types.float64, 4)
    numbers_kind = types.UniTuple(types.float64, 2)
    return numbers_kind(close, sums, pair, account_kind, numbers_kind), generate


@intrinsic
def _scratch(typingctx: Any, size: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """float64[size] on the stack, all 0, for as long as the caller runs; `size` is a literal.

    Where all that touches it is inlined, the compiler keeps its values in registers, which it cannot do with an array
    that might overlap others.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    kind = types.Array(types.float64, 1, "C")
    length = size.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        room = ir.ArrayType(ir.DoubleType(), length)
        slot = cgutils.alloca_once(builder, room)
        slot.align = 64
        builder.store(ir.Constant(room, [0.0] * length), slot)
        array = context.make_array(kind)(context, builder)
        data = builder.bitcast(slot, ir.DoubleType().as_pointer())
        context.populate_array(
            array, data=data, shape=[INDEX(length)], strides=[INDEX(8)], itemsize=INDEX(8), meminfo=None
        )
        return array._getvalue()

    return kind(size), generate


held_sums: Any = _held_sums  # numba binds the first argument itself
scratch: Any = _scratch


@njit(**INLINE)
def joined(sums, place):
    """The eight lanes from a place on, added as a tree."""
    x = sums[place : place + LANES]
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]))
