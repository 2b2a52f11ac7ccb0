"""Whether a sweep's parameters are ones its strategy has, with values the strategy accepts."""

from collections.abc import Iterable
from typing import Annotated, Any

import annotated_types
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from grid.dimensions import Axis, Scalar
from grid.errors import BadInput, nearest
from grid.search import points_of
from grid.space import check_not_empty
from grid.spec import Sweep

EACH_VALUE_LIMIT = 10_000


def check_space(strategy_cls: type[BaseModel], sweep: Sweep) -> None:
    """Raise BadInput unless every point of the sweep is one the strategy can be made with.

    Checks that each parameter is a field of the strategy (naming the nearest), that fields without a
    default are given, that the values lie within the field's type and bounds (all of them in a dimension of
    up to 10,000 values, the two ends in a longer one), and that the constraints leave a point. What a
    strategy checks across its fields is seen when it is made.
    """
    fields = strategy_cls.model_fields
    for name in sweep.space:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise BadInput(
                f"space.{name}: the strategy {sweep.strategy} has no parameter {name!r}{nearest(name, fields)}; "
                f"its parameters are {known}."
            )
    for name, field in fields.items():
        if name in sweep.space:
            _check_values(strategy_cls, name, sweep.space[name].axis())
        elif field.is_required():
            raise BadInput(
                f"space.{name} is missing: the strategy {sweep.strategy} has no default for it. Give its values, "
                f"or one fixed value ({_allowed(field)})."
            )
    check_not_empty(points_of(sweep, 1))


def _check_values(strategy_cls: type[BaseModel], name: str, axis: Axis) -> None:
    field = strategy_cls.model_fields[name]
    strict = ConfigDict(strict=bool(strategy_cls.model_config.get("strict", False)))
    hint: Any = Annotated[field.annotation, field]
    one: TypeAdapter[Any] = TypeAdapter(hint, config=strict)
    for value in axis if len(axis) <= EACH_VALUE_LIMIT else _ends(axis):
        problem = _problem(one, value)
        if problem:
            raise BadInput(
                f"space.{name} holds {value!r}, which {strategy_cls.__name__}.{name} does not take: {problem}. "
                f"Allowed: {_allowed(field)}."
            )


def _ends(axis: Axis) -> Iterable[Scalar]:
    return axis[0], axis[len(axis) - 1]


def _problem(one: TypeAdapter[Any], value: Scalar) -> str | None:
    """Why the field refuses `value`, or would turn it into another kind of thing."""
    try:
        made = one.validate_python(value)
    except ValidationError as error:
        return error.errors()[0]["msg"].replace("Input should", "it should")
    numbers = (int, float)
    if isinstance(value, str) and isinstance(made, numbers):
        return f"text where a number or boolean is meant (write {made!r} without quotes)"
    if isinstance(made, (bool, *numbers)) and isinstance(value, bool) != isinstance(made, bool):
        return f"it would be read as {made!r}"
    return None


def _allowed(field: FieldInfo) -> str:
    """The field's type, bounds and default, such as `int, >= 2, <= 500, default 10`."""
    kind = getattr(field.annotation, "__name__", None) if isinstance(field.annotation, type) else None
    bounds = []
    for item in field.metadata:
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="), ("multiple_of", "multiple of")):
            if isinstance(item, annotated_types.BaseMetadata) and getattr(item, attribute, None) is not None:
                bounds.append(f"{sign} {getattr(item, attribute)}")
    default = [] if field.is_required() else [f"default {field.get_default(call_default_factory=False)!r}"]
    return ", ".join([kind or str(field.annotation).replace("typing.", ""), *bounds, *default])
