"""Comparisons of rows, 64 bars at a time, compiled."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

WORD = 64
GREATER, LESS, GREATER_EQUAL, LESS_EQUAL = range(4)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
WIDE, NARROW = ir.DoubleType(), ir.FloatType()

# Numba does not turn a loop of comparisons into vector compares with mask results; an explicit vector does.


def _lanes(builder: Any, context: Any, value: Any, kind: Any, index: Any, vector: Any) -> Any:
    """Neighbouring values of an array from `index` on, or a number repeated, rounded to what `vector` holds."""
    lanes = vector.count
    if not isinstance(kind, types.Array):
        if vector.element == NARROW:
            value = builder.fptrunc(value, vector.element)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        spread = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), spread)
    data = context.make_array(kind)(context, builder, value).data
    pointer = builder.bitcast(builder.gep(data, [index]), vector.as_pointer())
    loaded = builder.load(pointer)
    loaded.align = 4 if vector.element == NARROW else 8
    return loaded


def _vector_compare(operator: str, lanes: int, number: Any = WIDE) -> Any:
    """An intrinsic (a, b, i) -> uint64 whose bit k is `a[i+k] operator b[i+k]` (or b); no bounds check."""
    vector = ir.VectorType(number, lanes)

    @intrinsic
    def compare(typingctx: Any, a: Any, b: Any, i: Any) -> Any:  # noqa: ARG001 -- numba's signature
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = [_lanes(builder, context, args[k], signature.args[k], args[2], vector) for k in (0, 1)]
            mask = builder.bitcast(builder.fcmp_ordered(operator, *rows), ir.IntType(lanes))
            return mask if lanes == WORD else builder.zext(mask, ir.IntType(WORD))

        return types.uint64(a, b, types.uint64), generate

    return compare


_GT, _GT1 = _vector_compare(">", WORD), _vector_compare(">", 1)
_LT, _LT1 = _vector_compare("<", WORD), _vector_compare("<", 1)
_GE, _GE1 = _vector_compare(">=", WORD), _vector_compare(">=", 1)
_LE, _LE1 = _vector_compare("<=", WORD), _vector_compare("<=", 1)
_GT32, _LT32 = _vector_compare(">", WORD, NARROW), _vector_compare("<", WORD, NARROW)


# The operator is an argument: kernels closed over an intrinsic would never hit Numba's cache on disk.


@njit(cache=True, nogil=True)
def _word(operator, a, b, i):  # type: ignore[no-untyped-def]
    if operator == GREATER:
        return _GT(a, b, i)
    if operator == LESS:
        return _LT(a, b, i)
    if operator == GREATER_EQUAL:
        return _GE(a, b, i)
    return _LE(a, b, i)


@njit(cache=True, nogil=True)
def _bit(operator, a, b, i):  # type: ignore[no-untyped-def]
    if operator == GREATER:
        return _GT1(a, b, i)
    if operator == LESS:
        return _LT1(a, b, i)
    if operator == GREATER_EQUAL:
        return _GE1(a, b, i)
    return _LE1(a, b, i)


@njit(cache=True, nogil=True)
def compare_rows(operator, a, b, out):  # type: ignore[no-untyped-def]
    full = a.size // 64
    for w in range(full):
        out[w] = _word(operator, a, b, np.uint64(w) << np.uint64(6))
    _compare_rest(operator, a, b, out)


@njit(cache=True, nogil=True)
def compare_narrow(operator, a, b, a32, b32, out):  # type: ignore[no-untyped-def]
    """The same by float32 copies of the rows (of a number: itself), and by the rows where copies are equal or NaN.

    Returns how many words hold equal ones and no NaN.
    """
    full, greater, tied = a.size // 64, operator in (GREATER, GREATER_EQUAL), 0
    for w in range(full):
        i = np.uint64(w) << np.uint64(6)
        over, under = _GT32(a32, b32, i), _LT32(a32, b32, i)
        out[w] = over if greater else under
        if over | under != ALL:
            out[w] = _word(operator, a, b, i)
            tied += _GT(a, b, i) | _LE(a, b, i) == ALL
    _compare_rest(operator, a, b, out)
    return tied


@njit(cache=True, nogil=True)
def _compare_rest(operator, a, b, out):  # type: ignore[no-untyped-def]
    """The bars beyond the last whole word."""
    full = a.size // 64
    if a.size > full * 64:
        bits = np.uint64(0)
        for i in range(full * 64, a.size):
            bits |= _bit(operator, a, b, np.uint64(i)) << np.uint64(i & 63)
        out[full] = bits


@njit(cache=True, nogil=True)
def cross_rows(a, b, up, down):  # type: ignore[no-untyped-def]
    """This bar's strict comparison and the last bar's opposite one, carried over the edge of words.

    All words are compared before the first is carried on: so the memory is not waited for in between.
    """
    for w in range(a.size // 64):
        i = np.uint64(w) << np.uint64(6)
        up[w], down[w] = _GT(a, b, i), _LT(a, b, i)
    _carry_on(a, b, up, down)


@njit(cache=True, nogil=True)
def cross_narrow(a, b, a32, b32, up, down):  # type: ignore[no-untyped-def]
    """The same by float32 copies of the rows (of a number: itself); returns as `compare_narrow` does."""
    for w in range(a.size // 64):
        i = np.uint64(w) << np.uint64(6)
        up[w], down[w] = _GT32(a32, b32, i), _LT32(a32, b32, i)
    return _carry_on(a, b, up, down)


@njit(cache=True, nogil=True)
def _carry_on(a, b, up, down):  # type: ignore[no-untyped-def]
    """From comparisons to crosses. What is neither above nor below is equal, NaN, or only so in the copies.

    Returns how many words hold such bars and no NaN.
    """
    tied = 0
    one, top = np.uint64(1), np.uint64(63)
    was_not_above, was_not_below = np.uint64(0), np.uint64(0)
    full = a.size // 64
    for w in range(full):
        over, under = up[w], down[w]
        not_above, not_below = under, over
        if over | under != ALL:
            i = np.uint64(w) << np.uint64(6)
            over, under = _GT(a, b, i), _LT(a, b, i)
            not_above, not_below = _LE(a, b, i), _GE(a, b, i)
            tied += over | not_above == ALL
        up[w] = over & ((not_above << one) | was_not_above)
        down[w] = under & ((not_below << one) | was_not_below)
        was_not_above, was_not_below = not_above >> top, not_below >> top
    if a.size > full * 64:
        up_bits, down_bits = np.uint64(0), np.uint64(0)
        for k in range(full * 64, a.size):
            i, bit = np.uint64(k), np.uint64(k & 63)
            up_bits |= (_GT1(a, b, i) & was_not_above) << bit
            down_bits |= (_LT1(a, b, i) & was_not_below) << bit
            was_not_above, was_not_below = _LE1(a, b, i), _GE1(a, b, i)
        up[full], down[full] = up_bits, down_bits
    return tied
