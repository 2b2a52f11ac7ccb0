"""How a command ends that does not do what its user asks: wrong input, work a check or a budget forbids, no Ray."""

import difflib
from collections.abc import Iterable


class BadInput(Exception):  # noqa: N818 - named for what the user is told
    """The request is wrong (exit code 2): one paragraph saying what, where, and what would be right."""


class Refused(Exception):  # noqa: N818 - named for what the user is told
    """The request is well formed but a budget or a check forbids it (exit code 3)."""


class Unavailable(Exception):  # noqa: N818 - named for what the user is told
    """The request is right, and what it runs on does not start at the moment (exit code 130): it can be resumed."""


def nearest(word: str, options: Iterable[str]) -> str:
    """A hint to put behind a wrong word, ` (did you mean 'fast'?)`, or nothing; case is ignored."""
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""
