"""Vectors of eight float64 in the code that Numba makes, put together by hand.

Numba does not turn a loop of sums into vector instructions, as that changes the order of the additions. Where the
processor has no vectors of eight, the compiler makes them of shorter ones, with the same results.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from grid.engine.accounts import LANES, LOWS_HELD, SUMS

VECTOR = ir.VectorType(ir.DoubleType(), LANES)
INDEX = ir.IntType(64)
LANE_NUMBERS = ir.VectorType(ir.IntType(32), LANES)
INFINITY = float("inf")
LOWS = LOWS_HELD // LANES


def spread(builder: Any, value: Any) -> Any:
    """A number in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(LANE_NUMBERS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), lanes)


def constant(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def any_lane(builder: Any, lanes: Any) -> Any:
    """Whether a condition holds in any lane."""
    bits = builder.bitcast(lanes, ir.IntType(LANES))
    return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))


def load_lanes(builder: Any, data: Any, index: Any, inside: Any = None) -> Any:
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
    return builder.call(masked, [pointer, ir.Constant(ir.IntType(32), 8), inside, constant(0.0)])


def added(builder: Any, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def lesser(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def folded(builder: Any, vector: Any, join: Any) -> Any:
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


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.v8f64"), [a, b, c])


def vectors_of(builder: Any, data: Any) -> list[Any]:
    """Pointers to the vectors of the sums."""
    places = [builder.gep(data, [ir.Constant(INDEX, k)]) for k in range(0, SUMS, LANES)]
    return [builder.bitcast(place, VECTOR.as_pointer()) for place in places]


def add_returns(builder: Any, slots: list[Any], r: Any, floor: Any, mask: Any = None) -> None:
    """Add eight returns to the sums, or those of them in the mask."""
    r2 = builder.fmul(r, r)
    below = lesser(builder, builder.fsub(r, floor), constant(0.0))
    change(builder, slots[0], lambda x: builder.fadd(x, r), mask)
    change(builder, slots[1], lambda x: builder.fadd(x, r2), mask)
    change(builder, slots[2], lambda x: multiply_add(builder, r2, r, x), mask)
    change(builder, slots[3], lambda x: multiply_add(builder, r2, r2, x), mask)
    change(builder, slots[4], lambda x: multiply_add(builder, below, below, x), mask)


def change(builder: Any, slot: Any, change: Callable[[Any], Any], mask: Any) -> None:
    """Change the lanes of a slot that are in the mask, which AVX-512 does in the same instruction; all without one."""
    before = builder.load(slot)
    after = change(before)
    builder.store(after if mask is None else builder.select(mask, after, before), slot)


def move_in(builder: Any, before: Any, now: Any) -> Any:
    """The last lane of `before`, then the others of `now`: what each lane of `now` comes from."""
    return builder.shuffle_vector(before, now, ir.Constant(LANE_NUMBERS, list(range(LANES - 1, 2 * LANES - 1))))


class Sums:
    """The sums, from memory to registers and back."""

    def __init__(self, builder: Any, sums: Any, count: int) -> None:
        """The first vectors of the sums."""
        self.builder = builder
        self.vectors = vectors_of(builder, sums)
        self.slots = [cgutils.alloca_once_value(builder, builder.load(vector)) for vector in self.vectors[:count]]

    def write(self) -> None:
        for slot, vector in zip(self.slots, self.vectors, strict=False):
            self.builder.store(self.builder.load(slot), vector)


def low_bits(builder: Any, count: Any) -> Any:
    """An integer of so many set bits, at its low end."""
    one = ir.Constant(INDEX, 1)
    return builder.sub(builder.shl(one, count), one)


def mask_of(builder: Any, bits: Any) -> Any:
    """The low bits of an integer as a mask of lanes."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), ir.VectorType(ir.IntType(1), LANES))


def first_lanes(builder: Any, count: Any) -> Any:
    """A mask of so many lanes: none of them for fewer than 0, all for more than there are."""
    none, all_ = ir.Constant(INDEX, 0), ir.Constant(INDEX, LANES)
    count = builder.select(builder.icmp_signed("<", count, none), none, count)
    count = builder.select(builder.icmp_signed("<", count, all_), count, all_)
    return mask_of(builder, low_bits(builder, count))


def extreme_slots(builder: Any) -> tuple[Any, Any]:
    """Slots for the largest and the smallest value of each lane."""
    most, least = (cgutils.alloca_once_value(builder, constant(value)) for value in (-INFINITY, INFINITY))
    return most, least


def pointers(context: Any, builder: Any, signature: Any, args: Any, *places: int) -> list[Any]:
    """Pointers to the values of those arguments that are arrays."""
    return [context.make_array(signature.args[k])(context, builder, args[k]).data for k in places]
