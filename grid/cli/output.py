"""What commands print: data on stdout (people or JSON), messages on stderr."""

import json
import logging
import math
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from rich.console import Console

from grid.logs import json_wanted

log = logging.getLogger(__name__)
messages = Console(stderr=True, highlight=False, markup=False, emoji=False)


def tell(text: str, style: str | None = None, **fields: Any) -> None:
    """One line of message; only the terminal breaks it. As JSON, if that was asked for, with `fields` beside it."""
    if json_wanted():
        log.log(logging.ERROR if style == "red" else logging.INFO, text, extra=fields)
    else:
        messages.print(text, style=style, soft_wrap=True)


def print_wrapped(console: Console, text: str, indent: int = 0, style: str | None = None) -> None:
    """A line that goes on below itself where it is too long, on a terminal and elsewhere; words stay whole."""
    wrapper = textwrap.TextWrapper(
        console.width, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False
    )
    console.print("\n".join(wrapper.wrap(text)), style=style, soft_wrap=True)


def emit(payload: object, as_json: bool, render: Callable[[Console], None]) -> None:
    """Write `payload` (or what it returns, if it is a function) as JSON, or let `render` draw it for people."""
    if as_json:
        sys.stdout.write(_json(jsonable(payload() if callable(payload) else payload)))
    else:
        render(Console(highlight=False, markup=False, emoji=False))


def _json(value: Any) -> str:
    """A list has a line for each element, which is quick to write where there are many; anything else is indented."""
    if isinstance(value, list) and value:
        encode = json.JSONEncoder(default=str).encode
        return "[\n" + ",\n".join(map(encode, value)) + "\n]\n"
    return json.dumps(value, indent=2, default=str) + "\n"


def jsonable(value: Any) -> Any:
    """`value` with NaN as null: JSON knows no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(v) for v in value]
    return value
