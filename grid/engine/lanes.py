"""Sums over the closes of a position, eight bars at a time.

Numba does not turn such a loop into vector instructions, as that changes the order of the additions. Here the order is
said: bar i of the position goes into lane i % 8, and the lanes are added as a tree. The result depends on the position
alone.
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
SHIFT = ir.VectorType(ir.IntType(32), LANES)
INFINITY = float("inf")


def _spread(builder: Any, value: Any) -> Any:
    """A number in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), lanes)


def _constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _load(builder: Any, data: Any, index: Any, inside: Any, otherwise: Any) -> Any:
    """Eight neighbours from `index` on where they are `inside`; what is not is not read, and is `otherwise`."""
    pointer = builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())
    kinds = [pointer.type, ir.IntType(32), inside.type, VECTOR]
    masked = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, kinds), "llvm.masked.load.v8f64.p0v8f64"
    )
    return builder.call(masked, [pointer, ir.Constant(ir.IntType(32), 8), inside, otherwise])


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
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64"), [a, b, c])


def _vectors(builder: Any, data: Any) -> list[Any]:
    """Pointers to the vectors of the sums."""
    places = [builder.gep(data, [ir.Constant(INDEX, k)]) for k in range(0, SUMS, LANES)]
    return [builder.bitcast(place, VECTOR.as_pointer()) for place in places]


def _add_bars(builder: Any, slots: list[Any], lanes: tuple[Any, ...], floor: Any) -> None:
    """Add the returns and the equity of eight bars; lanes: now, last, which are returns, which are closes."""
    now, last, inside, held = lanes
    zero = _constant(0.0)
    r = builder.select(inside, builder.fsub(builder.fdiv(now, last), _constant(1.0)), zero)
    r2 = builder.fmul(r, r)
    below = builder.select(inside, _lesser(builder, builder.fsub(r, floor), zero), zero)
    sums = [builder.load(slot) for slot in slots]
    sums[0] = builder.fadd(sums[0], r)
    sums[1] = builder.fadd(sums[1], r2)
    sums[2] = _multiply_add(builder, r2, r, sums[2])
    sums[3] = _multiply_add(builder, r2, r2, sums[3])
    sums[4] = _multiply_add(builder, below, below, sums[4])
    sums[5] = builder.fadd(sums[5], builder.select(held, now, zero))
    sums[6] = _greater(builder, sums[6], builder.select(held, now, _constant(-INFINITY)))
    sums[7] = _lesser(builder, sums[7], builder.select(held, now, _constant(INFINITY)))
    for slot, value in zip(slots, sums, strict=True):
        builder.store(value, slot)


@intrinsic
def _held_sums(typingctx: Any, close: Any, sums: Any, bars: Any, account: Any, limits: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Sum up the closes of bars = (first, start, stop) in a position; the largest and the smallest equity at them.

    account: cash, units, the equity before `first`, and that at `first`, where it is the bar before `start`. limits:
    the risk-free return a bar, and the equity at which an account is lost: nothing is summed up where one is. sums:
    see accounts.py.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, places = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 1))
        first, start, stop = cgutils.unpack_tuple(builder, args[2])
        cash, units, before, flat = (_spread(builder, v) for v in cgutils.unpack_tuple(builder, args[3]))
        free, nothing = cgutils.unpack_tuple(builder, args[4])
        vectors, floor = _vectors(builder, places), _spread(builder, free)
        slots = [cgutils.alloca_once_value(builder, builder.load(vector)) for vector in vectors]
        slots += [cgutils.alloca_once_value(builder, _constant(value)) for value in (-INFINITY, INFINITY)]
        numbers = ir.Constant(ir.VectorType(INDEX, LANES), list(range(LANES)))
        waits = builder.icmp_signed("<", numbers, _spread_index(builder, builder.sub(start, first)))
        waiting, latest = cgutils.alloca_once_value(builder, waits), cgutils.alloca_once_value(builder, before)
        with cgutils.for_range_slice(builder, first, stop, ir.Constant(INDEX, LANES), INDEX) as (i, _):
            inside = builder.icmp_signed("<", numbers, _spread_index(builder, builder.sub(stop, i)))
            wait = builder.load(waiting)
            held = builder.and_(inside, builder.not_(wait))
            closes = _load(builder, data, i, held, _constant(1.0))
            now = builder.select(wait, flat, builder.fadd(cash, builder.fmul(units, closes)))
            last = builder.shuffle_vector(builder.load(latest), now, ir.Constant(SHIFT, list(range(7, 15))))
            _add_bars(builder, slots, (now, last, inside, held), floor)
            builder.store(now, latest)
            builder.store(ir.Constant(waits.type, None), waiting)
        most = _folded(builder, builder.load(slots[-2]), _greater)
        least = _folded(builder, builder.load(slots[-1]), _lesser)
        with builder.if_then(builder.fcmp_ordered(">", least, nothing), likely=True):
            for slot, vector in zip(slots, vectors, strict=False):
                builder.store(builder.load(slot), vector)
        return context.make_tuple(builder, signature.return_type, [most, least])

    integers, numbers = types.UniTuple(types.int64, 3), types.UniTuple(types.float64, 4)
    pair = types.UniTuple(types.float64, 2)
    return pair(close, sums, integers, numbers, pair), generate


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
