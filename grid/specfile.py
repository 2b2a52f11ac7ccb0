"""Reads a sweep from a YAML, TOML or JSON file, the environment and the command line.

Precedence: defaults < file < environment (`GRID_EXECUTION__FEE=0.001`) < overrides (`execution.fee` -> `0.001`).
YAML is read as YAML 1.2 reads it where the older rules surprise: `on`, `no` and `000660` are text and `1e-3` is a
number. A key that is given twice is an error, in JSON too.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from grid.errors import BadInput, nearest
from grid.explain import Origins
from grid.spec import Sweep

PREFIX = "GRID_"
FILE_VARIABLE = "GRID_SWEEP_FILE"
"""Set by `grid submit`: the file that its user sent, of which the job has a copy."""


def load_sweep(
    path: str | Path,
    overrides: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Sweep:
    """The sweep in the file at `path` with the environment and `overrides` on top (`os.environ` when not given).

    Both map a field to YAML text; overrides name it by dots (`data.symbols` -> `[KRW-BTC]`), the
    environment by double underscores after `GRID_`. Variables without one that name no field belong to
    other programs and are left alone. Raises BadInput, one paragraph that starts with the path, for
    anything wrong in any of them.
    """
    path = Path(path)
    try:
        data = _read(path)
        origins: dict[str, str] = {}
        for dotted, text, origin in [*_from_environment(environment), *_from_overrides(overrides or {})]:
            _put(data, dotted, _yaml_value(text, origin), origin)
            origins[dotted] = origin
        return Sweep.model_validate(data, context=Origins(origins))
    except BadInput as error:
        raise BadInput(f"{called(path)}: {error}") from None


def called(path: Path) -> str:
    """What the user calls a sweep file, for messages."""
    return os.environ.get(FILE_VARIABLE) or str(path)


def _read(path: Path) -> dict[str, Any]:
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        this = f"this one in {path.suffix}" if path.suffix else "this name has no ending"
        raise BadInput(f"a sweep file ends in {', '.join(_PARSERS)}, and {this}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput("there is no such file.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"the file is not UTF-8 text (byte {error.start}): save it as UTF-8.") from None
    except OSError as error:
        raise BadInput(f"the file cannot be read ({error.strerror}).") from None
    data = parse(text)
    if data is None or data == {}:
        raise BadInput("the file is empty: a sweep needs at least strategy, data and space.")
    if not isinstance(data, dict):
        raise BadInput(f"the file holds a {type(data).__name__} and not fields such as 'strategy: sma_cross'.")
    return data


def _parse_yaml(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer surprises
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        tab = " (indent with spaces)" if "\\t" in str(error.problem) else ""
        raise BadInput(f"{where}: this is no YAML: {error.problem}{tab}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"this is no YAML: {' '.join(str(error).split())}.") from None


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"this is no TOML: {error}.") from None


def _parse_json(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise BadInput(f"line {error.lineno}, column {error.colno}: this is no JSON: {error.msg}.") from None
    except RecursionError:
        raise BadInput("this JSON is nested too deeply.") from None


_PARSERS: dict[str, Callable[[str], Any]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"the field {key!r} is given twice in one section: keep one.")
    return dict(pairs)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of booleans and numbers, dates as text, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if isinstance(key, str) and key_node.tag != "tag:yaml.org,2002:merge":
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the field {key!r} is given twice in one section", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


_RULES = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?(?:0|[1-9][0-9_]*)", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_REPLACED = {*_RULES, "tag:yaml.org,2002:timestamp"}  # dates stay text, for their field to judge
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag not in _REPLACED]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, (_pattern, _firsts) in _RULES.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_firsts))


def _yaml_value(text: str, origin: str) -> Any:
    try:
        return _parse_yaml(text)
    except BadInput as error:
        raise BadInput(f"{origin}={text}: {error}") from None


def _from_environment(environment: Mapping[str, str] | None) -> list[tuple[str, str, str]]:
    found = []
    for variable, text in sorted((os.environ if environment is None else environment).items()):
        if not variable.startswith(PREFIX):
            continue
        dotted = variable.removeprefix(PREFIX).lower().replace("__", ".")
        section = dotted.split(".")[0]
        if section in Sweep.model_fields:
            found.append((dotted, text, variable))
        elif "." in dotted:
            fields = Sweep.model_fields
            raise BadInput(
                f"the environment's {variable} names no section of a sweep{nearest(section, fields)}; "
                f"sections are {', '.join(fields)}."
            )
    return found


def _from_overrides(overrides: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(dotted.strip(), text, f"--set {dotted.strip()}") for dotted, text in overrides.items()]


def _put(data: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    """Set the field at a dotted path, making the sections on the way."""
    *sections, last = dotted.split(".")
    if not all([*sections, last]):
        raise BadInput(f"{origin} is no field: write it like execution.fee.")
    here = data
    for position, section in enumerate(sections):
        inner = here.get(section)
        if inner is None:
            inner = here[section] = {}
        if not isinstance(inner, dict):
            taken = ".".join(sections[: position + 1])
            raise BadInput(f"{origin} cannot be set: {taken} is {inner!r} and has no fields. Set {taken} itself.")
        here = inner
    here[last] = value
