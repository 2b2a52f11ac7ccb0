"""What AWS would make of a request, as far as deploy/aws/ goes: denials win, and nothing else is allowed."""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Statement = dict[str, Any]


def statements(file: Path) -> list[Statement]:
    found: list[Statement] = json.loads(file.read_text())["Statement"]
    return found


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def allowed(action: str, resource: str, policies: list[Statement], **context: str) -> bool:
    """Whether the statements that speak of this action, resource and context allow it and none denies it."""
    effects = {s["Effect"] for s in policies if _speaks(s, action, resource, context)}
    return effects == {"Allow"}


def _speaks(statement: Statement, action: str, resource: str, context: dict[str, str]) -> bool:
    return (
        action in listed(statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        and all(
            _holds(operator, key, listed(wanted), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: list[str], context: dict[str, str]) -> bool:
    if operator == "Null":
        return (key not in context) == (wanted == ["true"])
    if operator in ("StringEquals", "Bool"):
        return context.get(key) in wanted
    if operator == "StringLike":
        return any(fnmatchcase(context.get(key, ""), pattern) for pattern in wanted)
    raise ValueError(f"{operator} is no condition that is known here")
