"""The values of one parameter: lists, and progressions that are computed and never stored.

Progressions are decimal: `{range: [0.1, 0.5, 0.1]}` holds the doubles nearest to 0.1, 0.2, 0.3, 0.4 and
0.5, and not 0.30000000000000004. One value and a column of values come from the same code and are equal bit
for bit.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_serializer, model_validator

Scalar = bool | int | float | str | None
"""What a parameter can be: what YAML, JSON and a column of a results table can all hold."""

INT64_MAX = 2**63 - 1
_EXACT = 2**51  # quotients of whole numbers below this are correctly rounded and stay distinct


class Axis(ABC):
    """A lazy, immutable sequence of distinct parameter values of one kind (numbers, booleans or text)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        """The values at `indices` (each in [0, len)): int64, float64, bool or str; object where null is among them."""

    def __getitem__(self, index: int) -> Scalar:
        """The value at `index` as plain Python, in constant time; IndexError outside [0, len)."""
        if not 0 <= index < len(self):
            raise IndexError(f"no value {index} in a dimension of {len(self)}")
        value = self.take(np.array([index], dtype=np.int64))[0]
        return cast(Scalar, value.item() if isinstance(value, np.generic) else value)

    def __iter__(self) -> Iterator[Scalar]:
        return (self[i] for i in range(len(self)))

    def find(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """Where these values stand, `take(find(values)) == values`; -1 for what is no value of the axis.

        Of a progression, which rises or falls throughout, by halving.
        """
        wanted = np.asarray(values)
        low, high = np.zeros(len(wanted), np.int64), np.full(len(wanted), len(self) - 1, np.int64)
        ends = self.take(np.array([0, len(self) - 1], np.int64))
        while (low < high).any():
            middle = low + (high - low) // 2
            there = self.take(middle)
            beyond = there < wanted if ends[0] <= ends[1] else there > wanted
            low, high = np.where(beyond, np.minimum(middle + 1, high), low), np.where(beyond, high, middle)
        return np.where(self.take(low) == wanted, low, -1)


class Listed(Axis):
    """Values that are written out. Whole numbers among fractions become floats, so that a column has one type."""

    def __init__(self, values: Sequence[Any]) -> None:
        plain = [v.item() if isinstance(v, np.generic) else v for v in values]
        _check_listed(plain)
        if any(type(v) is float for v in plain):
            plain = [float(v) if type(v) is int else v for v in plain]
        self._values: tuple[Scalar, ...] = tuple(plain)
        self._array = np.array(plain, dtype=object if None in plain else None)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Scalar:
        if not 0 <= index < len(self._values):
            raise IndexError(f"no value {index} in a dimension of {len(self)}")
        return self._values[index]

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return self._array[indices]

    def find(self, values: Sequence[Any]) -> NDArray[np.int64]:
        places = {value: place for place, value in enumerate(self._values)}
        return np.array([places.get(value, -1) for value in values], dtype=np.int64)


class Steps(Axis):
    """`start + i * step` for i in [0, count), rounded once; whole numbers when `whole` is true."""

    def __init__(self, start: Fraction, step: Fraction, count: int, whole: bool) -> None:
        self._count, self._whole = count, whole
        step = step if count > 1 else Fraction(0)
        scale = math.lcm(start.denominator, step.denominator)
        self._numerator, self._increment, self._scale = int(start * scale), int(step * scale), scale
        self._first, self._last, self._step = start, start + step * (count - 1), step
        largest: Fraction = max(abs(self._first), abs(self._last))
        if largest > INT64_MAX or (not whole and largest > 1e300):
            raise ValueError("the values are too large for a 64-bit number")
        self._exact = largest * scale <= _EXACT and scale <= _EXACT
        if count > 1 and not (whole or self._exact) and abs(step) < 2 * math.ulp(float(largest)):
            raise ValueError("the steps are too small to tell the values apart")

    def __len__(self) -> int:
        return self._count

    def take(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        if self._whole:
            return self._numerator + indices * self._increment
        if self._exact:
            return (self._numerator + indices * self._increment) / self._scale
        return self._rounded(indices)

    def _rounded(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        first, last = float(self._first), float(self._last)
        values = np.clip(first + indices * float(self._step), min(first, last), max(first, last))
        return np.where(indices == self._count - 1, last, values)


class LogSteps(Axis):
    """`count` values in equal ratios from `first` to `last`, rounded to 12 significant digits; the ends are exact."""

    def __init__(self, first: float, last: float, count: int) -> None:
        self._first, self._last, self._count = float(first), float(last), count
        if abs(math.log(self._last) - math.log(self._first)) / (count - 1) < 1e-11:
            raise ValueError("the steps are too small to tell the values apart")

    def __len__(self) -> int:
        return self._count

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        # math.exp value by value: numpy's own differs in the last bit between processors and array lengths
        unique, inverse = np.unique(indices, return_inverse=True)
        return np.array([self._at(int(i)) for i in unique], dtype=np.float64)[inverse]

    def _at(self, index: int) -> float:
        if index in (0, self._count - 1):
            return self._last if index else self._first
        low, high = math.log(self._first), math.log(self._last)
        return float(f"{math.exp(low + (high - low) * index / (self._count - 1)):.12g}")


def axis_of(values: Sequence[Any] | Axis) -> Axis:
    """`values` as an Axis; a Python range stays lazy. ValueError: empty, duplicate, mixed or non-finite values."""
    if isinstance(values, Axis):
        return values
    if isinstance(values, range):
        if not values:
            raise ValueError("no values are given")
        return Steps(Fraction(values.start), Fraction(values.step), len(values), whole=True)
    return Listed(values)


Form = Literal["range", "linspace", "logspace", "values"]
_FORMS = (
    "write {range: [lo, hi, step]}, {linspace: [a, b, n]}, {logspace: [a, b, n]}, {values: [...]}, a list or one value"
)


class Dimension(BaseModel):
    """One parameter's values as they are written: `form` and the numbers or values that belong to it.

    Accepts `{range: [lo, hi, step]}` (both ends included), `{linspace: [a, b, n]}`, `{logspace: [a, b, n]}`
    (a and b are the end values), `{values: [...]}` or its synonym `{choice: [...]}`, a bare list, a Python
    range or array, or one fixed value. Dumps as `{form: items}`. Beside its form may stand `when`, a comparison of
    other parameters: where it does not hold the parameter has no part, and stands at its first value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    form: Form
    items: tuple[Scalar, ...]
    when: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if isinstance(given, np.ndarray):
            given = given.tolist()
        if isinstance(given, range) and given:
            given = {"range": [given[0], given[-1], given.step]}
        if isinstance(given, (list, tuple, range)):
            given = {"values": list(given)}
        if not isinstance(given, dict):
            given = {"values": [given]}
        when = {"when": given["when"]} if "when" in given else {}
        return {**_form_and_items({key: value for key, value in given.items() if key != "when"}), **when}

    @model_validator(mode="after")
    def _makes_sense(self) -> "Dimension":
        self.axis()
        return self

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        return {self.form: list(self.items), **({} if self.when is None else {"when": self.when})}

    def axis(self) -> Axis:
        """The values themselves, lazily."""
        if self.form == "values":
            return Listed(self.items)
        numbers = [_number(item) for item in self.items]
        if len(numbers) != 3:
            raise ValueError(f"{self.form} takes three numbers and got {len(numbers)}: {_FORMS}")
        return _PROGRESSIONS[self.form](*numbers)


def _form_and_items(given: dict[str, Any]) -> dict[str, Any]:
    if len(given) != 1:
        raise ValueError(f"one form is needed and {', '.join(map(str, given)) or 'none'} is given: {_FORMS}")
    ((form, items),) = given.items()
    form = "values" if form == "choice" else form
    if form not in ("range", "linspace", "logspace", "values"):
        raise ValueError(f"there is no form {form!r}: {_FORMS}")
    if not isinstance(items, (list, tuple, range, np.ndarray)):
        raise ValueError(f"{form} takes a list and got {items!r}: {_FORMS}")
    plain = [v.item() if isinstance(v, np.generic) else v for v in items]
    for value in plain:
        _check_scalar(value)
    return {"form": form, "items": tuple(plain)}


def _range(low: int | float, high: int | float, step: int | float) -> Axis:
    if step == 0:
        raise ValueError(f"range [{low}, {high}, {step}] never moves: it is [lowest, highest, step], the step above 0")
    if (high - low) * step < 0:
        raise ValueError(f"range [{low}, {high}, {step}] holds nothing: it is [lowest, highest, step]")
    start, increment = _fraction(low), _fraction(step)
    count = (_fraction(high) - start) // increment + 1
    return _sized(Steps, start, increment, count, isinstance(low, int) and isinstance(step, int))


def _linspace(first: int | float, last: int | float, count: int | float) -> Axis:
    n = _points("linspace", first, last, count)
    start, increment = _fraction(first), (_fraction(last) - _fraction(first)) / (n - 1)
    whole = isinstance(first, int) and isinstance(last, int) and increment.denominator == 1
    return _sized(Steps, start, increment, n, whole)


def _logspace(first: int | float, last: int | float, count: int | float) -> Axis:
    n = _points("logspace", first, last, count)
    if first <= 0 or last <= 0:
        raise ValueError(f"logspace [{first}, {last}, {n}] needs two end values above zero")
    return LogSteps(first, last, n)


_PROGRESSIONS = {"range": _range, "linspace": _linspace, "logspace": _logspace}


def _sized(kind: type[Steps], start: Fraction, step: Fraction, count: int, whole: bool) -> Axis:
    if count > INT64_MAX:
        raise ValueError(f"{count} values are more than a 64-bit number can count")
    return kind(start, step, count, whole)


def _points(form: str, first: int | float, last: int | float, count: int | float) -> int:
    if not isinstance(count, int) or not 2 <= count <= INT64_MAX:
        raise ValueError(f"{form} [{first}, {last}, {count}] ends in the number of points, 2 or more")
    if first == last:
        raise ValueError(f"{form} [{first}, {last}, {count}] repeats one value: give two different ends")
    return count


def _fraction(number: int | float) -> Fraction:
    return Fraction(repr(number))  # the decimal that was written, not the double it became


def _number(item: Scalar) -> int | float:
    if isinstance(item, bool) or not isinstance(item, (int, float)) or not math.isfinite(item):
        raise ValueError(f"{item!r} is not a finite number: {_FORMS}")
    return item


def _check_listed(values: Sequence[Any]) -> None:
    if not values:
        raise ValueError("no values are given")
    for value in values:
        _check_scalar(value)
    if len({_kind(v) for v in values if v is not None}) > 1:
        raise ValueError(f"numbers, booleans and text do not mix, as a column has one type: {_shown(values)}")
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"the value {value!r} is given twice: {_shown(values)}")
        seen.add(value)


def _check_scalar(value: Any) -> None:
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(f"{value!r} is no number, boolean, text or null: {_FORMS}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    if isinstance(value, int) and abs(value) > INT64_MAX:
        raise ValueError(f"{value!r} is too large for a 64-bit number")


def _kind(value: Scalar) -> str:
    return {bool: "boolean", str: "text"}.get(type(value), "number")


def _shown(values: Sequence[Any]) -> str:
    return repr(list(values)) if len(values) <= 10 else f"[{', '.join(map(repr, values[:10]))}, ...]"
