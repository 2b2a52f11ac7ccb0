"""Constraints: comparisons over named numbers, read by a whitelist and evaluated on whole columns.

A constraint is data from a file, so it is parsed to a syntax tree of which only names, numbers, text,
arithmetic, comparisons and `and`, `or`, `not` are let through, and that tree is walked: no Python code is
ever run.

Numbers are float64 inside a constraint. What has no value (null, 0/0, x/0, an overflow) is NaN, and every
comparison with NaN is false, `!=` too: such a point does not pass.
"""

import ast
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from grid.errors import BadInput, nearest

MAX_LENGTH = 1_000
MAX_DEPTH = 50
ALLOWED = "names, numbers, text, + - * / // % **, comparisons, and, or, not, parentheses"

Array = NDArray[Any]

_NULL_TEXT = "\ufffe"  # a code point that is no character stands for null in a column of text

_ARITHMETIC: dict[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Array, Array], Array]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_NODES = (
    *(ast.Expression, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.USub, ast.UAdd, ast.Not, ast.And, ast.Or),
    *_ARITHMETIC,
    *_COMPARISONS,
)
_INSTEAD = {
    ast.Call: "a call",
    ast.Attribute: "an attribute",
    ast.Subscript: "a subscript",
    ast.BitAnd: "& (write and)",
    ast.BitOr: "| (write or)",
    ast.BitXor: "^ (write ** for a power)",
    ast.Invert: "~ (write not)",
    ast.In: "in (write a == 1 or a == 2)",
    ast.NotIn: "not in (write a != 1 and a != 2)",
    ast.Is: "is (write ==)",
    ast.IsNot: "is not (write !=)",
    ast.IfExp: "if",
    ast.NamedExpr: ":=",
}


@dataclass(frozen=True)
class Constraint:
    """A checked comparison; equal when the text is equal, and picklable."""

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(compare=False, repr=False)

    def evaluate(self, columns: Mapping[str, Any]) -> NDArray[np.bool_]:
        """True where the constraint holds, in the shape of the columns it names (0-d for scalars).

        `columns` maps each of `names` to an array or a scalar. Raises BadInput where text meets a number.
        """
        with np.errstate(all="ignore"):
            return _truth(self._tree, {name: _column(columns[name]) for name in self.names}, self.text)


def compile_constraint(text: str, names: Collection[str]) -> Constraint:
    """Read `text`, in which only `names` may occur.

    Raises BadInput with the position for anything outside the whitelist, an unknown name (with the nearest
    known one), or a constraint that compares nothing.
    """
    tree = _parse(text)
    _check_depth(tree, text)
    used: set[str] = set()
    for node in _in_order(tree):
        if isinstance(node, ast.Name):
            _check_name(node, names, text)
            used.add(node.id)
        else:
            _check_node(node, text)
    if not used:
        raise _refusal(text, tree, "names no parameter, so it is the same for all")
    _check_truth(tree, text)
    return Constraint(text, frozenset(used), tree)


def _parse(text: str) -> ast.expr:
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"constraint {text!r} is empty: write a comparison such as 'fast < slow'.")
    if len(text) > MAX_LENGTH:
        raise BadInput(f"constraint {text[:60]!r}... is {len(text)} characters long: cut it to {MAX_LENGTH}.")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        hint = " (write == for equality)" if "=" in text and "==" not in text else ""
        place = f" at character {error.offset}" if error.offset else " at its end"
        raise BadInput(
            f"constraint {text!r} is not a comparison{place}: {error.msg}{hint}. Allowed are {ALLOWED}."
        ) from None
    except (ValueError, MemoryError, RecursionError):
        raise BadInput(f"constraint {text[:60]!r}... is nested too deeply or its numbers are too long.") from None


def _check_depth(tree: ast.expr, text: str) -> None:
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise BadInput(f"constraint {text[:60]!r}... is nested over {MAX_DEPTH} deep: split it.")


def _in_order(node: ast.AST) -> list[ast.AST]:
    """The nodes outside in, so that a call is named as a call and not as the unknown name of its function."""
    return [node, *(below for child in ast.iter_child_nodes(node) for below in _in_order(child))]


def _check_name(node: ast.Name, names: Collection[str], text: str) -> None:
    if node.id not in names:
        known = ", ".join(sorted(names)) or "none"
        raise _refusal(text, node, f"is no known name{nearest(node.id, names)}. Known are {known}")


def _check_node(node: ast.AST, text: str) -> None:
    if not isinstance(node, _NODES):
        what = _INSTEAD.get(type(node), type(node).__name__)
        raise _refusal(text, node, f"is not allowed: {what}. Allowed are {ALLOWED}")
    if isinstance(node, ast.Constant):
        if type(node.value) not in (int, float, str, bool):
            raise _refusal(text, node, f"is not allowed: a value like {node.value!r}. Allowed are {ALLOWED}")
        if type(node.value) is int and abs(node.value) > 2**1000:
            raise _refusal(text, node, "is too large a number")


def _check_truth(node: ast.expr, text: str) -> None:
    """Refuse numbers and text where a truth is needed: `fast and slow` says nothing."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check_truth(value, text)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check_truth(node.operand, text)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        return
    elif not isinstance(node, (ast.Compare, ast.Name)):
        raise _refusal(text, node, "is not a comparison: write for instance 'fast < slow'")


def _refusal(text: str, node: ast.AST, what: str) -> BadInput:
    start = getattr(node, "col_offset", None)
    if start is None:
        return BadInput(f"constraint {text!r}: an operator in it {what}.")
    source = text.strip().encode()
    piece = source[start : getattr(node, "end_col_offset", None)].decode()
    position = len(source[:start].decode()) + 1
    return BadInput(f"constraint {text!r}: {piece!r} at character {position} {what}.")


def _column(values: Any) -> Array:
    """`values` as float64, bool or text; null among numbers becomes NaN."""
    array = np.asarray(values)
    if array.dtype == object:
        if all(v is None or isinstance(v, (int, float)) for v in array.flat):
            return array.astype(np.float64)
        return np.array([_NULL_TEXT if v is None else v for v in array.flat], dtype=str).reshape(array.shape)
    return array.astype(np.float64) if array.dtype.kind in "iuf" else array


def _truth(node: ast.expr, columns: Mapping[str, Array], text: str) -> NDArray[np.bool_]:
    if isinstance(node, ast.BoolOp):
        combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        return reduce(combine, [_truth(value, columns, text) for value in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return np.logical_not(_truth(node.operand, columns, text))
    if isinstance(node, ast.Compare):
        return _compared(node, columns, text)
    value = _value(node, columns, text)
    if value.dtype != np.bool_:
        raise _refusal(text, node, "is neither true nor false: compare it with something")
    return value


def _compared(node: ast.Compare, columns: Mapping[str, Array], text: str) -> NDArray[np.bool_]:
    left = _value(node.left, columns, text)
    result = np.asarray(True)
    for operator, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, columns, text)
        if (left.dtype.kind == "U") != (right.dtype.kind == "U"):
            raise _refusal(text, node, "compares text with a number")
        held = _COMPARISONS[type(operator)](left, right)
        result = result & held & ~(_undefined(left) | _undefined(right))
        left = right
    return cast(NDArray[np.bool_], result)


def _undefined(values: Array) -> Array:
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    return values == _NULL_TEXT if values.dtype.kind == "U" else np.asarray(False)


def _value(node: ast.expr, columns: Mapping[str, Array], text: str) -> Array:
    if isinstance(node, ast.Name):
        return columns[node.id]
    if isinstance(node, ast.Constant):
        return np.asarray(float(node.value) if type(node.value) is int else node.value)
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        operand = _float(node.operand, columns, text)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        left, right = _float(node.left, columns, text), _float(node.right, columns, text)
        result = _ARITHMETIC[type(node.op)](left, right)
        return np.where(np.isfinite(result), result, np.nan)
    return _truth(node, columns, text)


def _float(node: ast.expr, columns: Mapping[str, Array], text: str) -> Array:
    value = _value(node, columns, text)
    if value.dtype.kind == "U":
        raise _refusal(text, node, "is text and cannot be calculated with")
    return value.astype(np.float64)
