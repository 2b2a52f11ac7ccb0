"""A validation error of pydantic as one paragraph for people: which field, what was given, what would be right."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from grid.errors import nearest

SHOWN = 4
"""How many wrong fields one paragraph names."""

_NOTHING = object()


@dataclass(frozen=True)
class Origins:
    """Who set a field that is not in the file: dotted path -> for instance `--set execution.fee`."""

    fields: Mapping[str, str] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """` (from --set execution.fee)` for that field and what lies below it, or nothing."""
        for known, origin in self.fields.items():
            if path == known or path.startswith(known + ".") or known.startswith(path + "."):
                return f" (from {origin})"
        return ""


def explain(error: ValidationError, model: type[BaseModel], given: Any, origins: Origins) -> str:
    """What is wrong with `given` as a `model`, as sentences in one paragraph; the first SHOWN fields are named."""
    by_field: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for one in error.errors():
        by_field.setdefault(_known_part(model, one), []).append(one)
    sentences = [_sentence(model, path, found, given, origins) for path, found in by_field.items()]
    more = len(sentences) - SHOWN
    return " ".join(sentences[:SHOWN]) + (f" ({more} more fields are wrong.)" if more > 0 else "")


def _known_part(model: type[BaseModel], error: ErrorDetails) -> tuple[str, ...]:
    """The error's place as far as it names fields: what follows are positions in lists and branches of unions."""
    path: list[str] = []
    here: type[BaseModel] | None = model
    for part in map(str, error["loc"]):
        if here is None and path[-1:] != ["space"]:
            break
        if here is not None and part not in here.model_fields:
            path += [part] if error["type"] == "extra_forbidden" else []
            break
        path.append(part)
        here = _section(here, part) if here else None
    return tuple(path)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    annotation: Any = model.model_fields[name].annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _sentence(
    model: type[BaseModel], path: tuple[str, ...], errors: list[ErrorDetails], given: Any, origins: Origins
) -> str:
    name, first = ".".join(path), errors[0]
    origin = origins.of(name)
    if first["type"] == "extra_forbidden":
        return _unknown_field(model, path, origin)
    value, meaning = _look_up(given, path), _meaning(model, path)
    if value is _NOTHING and first["type"] == "missing":
        return f"{name} is missing{meaning}."
    if first["type"] == "value_error":
        shown = "" if isinstance(value, (dict, BaseModel)) or path[:1] == ("space",) else f" is {_short(value)}"
        return f"{name or 'The sweep'}{shown}{origin}: {first['ctx']['error']}."
    wanted = " or ".join(dict.fromkeys(_wanted(one, value) for one in errors))
    return f"{name or 'The sweep'} is {_short(value)}{origin}: it should {wanted}{meaning}."


def _unknown_field(model: type[BaseModel], path: tuple[str, ...], origin: str) -> str:
    here: type[BaseModel] | None = model
    for part in path[:-1]:
        here = _section(here, part) if here and part in here.model_fields else None
    known = list(here.model_fields) if here else []
    where = f"{'.'.join(path[:-1])} has" if len(path) > 1 and here else "the sweep has"
    fields = f"; {where} the fields {', '.join(known)}" if known else ""
    return f"{'.'.join(path)}{origin} is no known field{nearest(path[-1], known)}{fields}."


def _wanted(error: ErrorDetails, value: Any) -> str:
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"])
        return f"be {expected}" + nearest(str(value), re.findall(r"'([^']*)'", expected))
    if error["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return "be a section of fields"
    if error["type"] == "extra_forbidden":
        return f"not have {error['loc'][-1]!r}"
    if error["type"] == "missing":
        return f"have the field {error['loc'][-1]!r}"
    if error["type"] == "string_type":
        return f"be text and {error['input']!r} is none (quotes make it text)"
    if error["type"] == "invalid_key":
        return "have names for its fields, and a number is none"
    if error["type"] == "string_pattern_mismatch":
        return "be a plain name"
    return re.sub(r"^(Input|String|Tuple|Value error,) (should )?", "", error["msg"])


def _meaning(model: type[BaseModel], path: tuple[str, ...]) -> str:
    """The field's own description in brackets, or nothing."""
    here: type[BaseModel] | None = model
    text: str | None = None
    for part in path:
        if here is None or part not in here.model_fields:
            return ""
        text, here = here.model_fields[part].description, _section(here, part)
    return f" ({text})" if text else ""


def _look_up(given: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(given, Mapping) and part in given:
            given = given[part]
        elif isinstance(given, BaseModel) and part in type(given).model_fields:
            given = getattr(given, part)
        else:
            return _NOTHING
    return given


def _short(value: Any) -> str:
    if value is _NOTHING:
        return "left out"
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
