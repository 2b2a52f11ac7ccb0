"""Strategies by name: entry points of the group `backtest_grid.strategies`, or `module:Class`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from strategies.base import Strategy
from strategies.errors import StrategyError

GROUP = "backtest_grid.strategies"
BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_registered())


def get(name: str) -> type[Strategy]:
    """The strategy class of a registered name or of `module:Class`.

    Raises StrategyError for an unknown name (with the nearest known one), for a name that two packages register
    differently, and for what cannot be imported or is no Strategy.
    """
    if ":" in name:
        return _load(name, name)
    registered = _registered()
    if name not in registered:
        raise StrategyError(_unknown(name, list(registered)))
    if len(registered[name]) > 1:
        raise StrategyError(
            f"the strategy {name!r} is registered more than once: {', '.join(sorted(registered[name]))}; "
            "name the one you mean as module:Class"
        )
    return _load(next(iter(registered[name])), name)


def name_of(cls: type[Strategy]) -> str:
    """The registered name of a class, else `module:Class`."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    found = [name for name, targets in _registered().items() if target in targets]
    return min(found, default=target)


def describe(cls: type[Strategy]) -> dict[str, Any]:
    """`name`, `doc`, `parameters` and the JSON `schema` of a strategy; all of it can be written as JSON.

    parameters: for each its name, type, default (absent where it is required), description, and the bounds
    minimum, exclusiveMinimum, maximum, exclusiveMaximum as far as they are declared.
    """
    schema = cls.model_json_schema()
    return {
        "name": name_of(cls),
        "doc": inspect.cleandoc(cls.__doc__ or ""),
        "parameters": [_parameter(name, field) for name, field in schema.get("properties", {}).items()],
        "schema": schema,
    }


def _parameter(name: str, field: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("type", "anyOf", "enum", "default", "description", *BOUNDS)
    return {"name": name, **{key: field[key] for key in kept if key in field}}


def _registered() -> dict[str, set[str]]:
    """Targets by name; one distribution seen twice on the path is one target."""
    found: dict[str, set[str]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, set()).add(_target(entry))
    return found


def _target(entry: EntryPoint) -> str:
    return f"{entry.module}:{entry.attr}"


def _load(target: str, name: str) -> type[Strategy]:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise StrategyError(f"{name!r} names no strategy; a class outside the registry is named module:Class")
    found: object = _imported(module_name, name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise StrategyError(f"strategy {name!r}: {module_name} has no {attribute}{hint}")
        found = getattr(found, part)
    if not isinstance(found, type) or not issubclass(found, Strategy):
        raise StrategyError(f"strategy {name!r}: {attribute} is not a subclass of strategies.Strategy")
    return found


def _imported(module_name: str, name: str) -> object:
    """The module; what it raises, an end of the process included, is an error of the strategy."""
    try:
        return importlib.import_module(module_name)
    except SystemExit as error:
        raise StrategyError(
            f"strategy {name!r}: importing {module_name} ended the process (SystemExit {error.code}); a module of "
            "strategies must do nothing but define them"
        ) from error
    except Exception as error:
        remedy = "; install it, or run where it lies" if isinstance(error, ModuleNotFoundError) else ""
        raise StrategyError(
            f"strategy {name!r}: importing {module_name} failed with {type(error).__name__}: {error}{remedy}"
        ) from error


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(sorted(known))
    return f"there is no strategy {name!r}{hint or ';'} known: {listed}; or give module:Class"
