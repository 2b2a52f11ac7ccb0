"""Sums over the closes of a position, eight bars at a time.

Numba does not turn such a loop into vector instructions, as that changes the order of the additions. Here the order is
said: bar i of the position goes into lane i % 8, and the lanes are added as a tree. The result depends on the position
alone.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
VECTOR = ir.VectorType(ir.DoubleType(), LANES)
INDEX = ir.IntType(64)
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


def _add(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def _spread_index(builder: Any, value: Any) -> Any:
    kind = ir.VectorType(INDEX, LANES)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


JOINS = (_add, _add, _add, _add, _add, _add, _greater, _lesser)
STARTS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -INFINITY, INFINITY)


@intrinsic
def _held_sums(typingctx: Any, close: Any, bars: Any, account: Any, free: Any) -> Any:  # noqa: ARG001 -- numba's signature
    """Over the closes of bars = (start, stop) in a position: a tuple of eight floats.

    account: cash, units, and the equity before `start`. free: the risk-free return a bar. Returned: sums of r, r^2,
    r^3, r^4, of min(r - free, 0)^2 and of the equity; its largest and smallest value.
    """
    if not isinstance(close, types.Array):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        start, stop = cgutils.unpack_tuple(builder, args[1])
        cash, units, equity = (_spread(builder, v) for v in cgutils.unpack_tuple(builder, args[2]))
        floor, zero, one = _spread(builder, args[3]), _constant(0.0), _constant(1.0)
        slots = [cgutils.alloca_once_value(builder, _constant(value)) for value in STARTS]
        numbers = ir.Constant(ir.VectorType(INDEX, LANES), list(range(LANES)))
        with cgutils.for_range_slice(builder, start, stop, ir.Constant(INDEX, LANES), INDEX) as (i, _):
            left = _spread_index(builder, builder.sub(stop, i))
            inside = builder.icmp_signed("<", numbers, left)
            first = builder.icmp_signed("==", numbers, _spread_index(builder, builder.sub(start, i)))
            now = builder.fadd(cash, builder.fmul(units, _load(builder, data, i, inside, one)))
            later = builder.and_(inside, builder.not_(first))
            last = _load(builder, data, builder.sub(i, ir.Constant(INDEX, 1)), later, one)
            before = builder.select(first, equity, builder.fadd(cash, builder.fmul(units, last)))
            r = builder.select(inside, builder.fsub(builder.fdiv(now, before), one), zero)
            r2 = builder.fmul(r, r)
            below = builder.select(inside, _lesser(builder, builder.fsub(r, floor), zero), zero)
            values = [r, r2, builder.fmul(r2, r), builder.fmul(r2, r2), builder.fmul(below, below)]
            values += [builder.select(inside, now, _constant(start)) for start in (0.0, -INFINITY, INFINITY)]
            for slot, value, join in zip(slots, values, JOINS, strict=True):
                builder.store(join(builder, builder.load(slot), value), slot)
        folded = [_folded(builder, builder.load(slot), join) for slot, join in zip(slots, JOINS, strict=True)]
        return context.make_tuple(builder, signature.return_type, folded)

    pair, triple = types.UniTuple(types.int64, 2), types.UniTuple(types.float64, 3)
    return types.UniTuple(types.float64, 8)(close, pair, triple, types.float64), generate


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
