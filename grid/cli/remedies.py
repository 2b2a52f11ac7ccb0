"""Which option of `grid data` does what a message of the store asks for: the store knows no command line."""

from collections.abc import Iterator
from contextlib import contextmanager

from storage.errors import StorageError

REMEDIES = {
    "their replacement was not asked for": "--replace asks for it",
    "rows must be sorted by time": "--sort accepts rows in any order",
    "timestamps carry no zone": "--tz states it, as in --tz UTC",
    "timestamps carry their own zone": "leave --tz out",
    "need their unit stated": "--time-format states it, as in --time-format epoch-ms",
    "no ISO 8601 time": "--time-format states another one, as in --time-format %d/%m/%Y",
    "is not of the format": "--time-format states it",
    "is no whole number of epoch": "--time-format states the unit",
    "map each to one of its columns": "--column maps one, as in --column timestamp=Date; --delimiter if they are one",
    "no symbol column": "--symbol states it, --column symbol=NAME names its column",
    "is not one character": "--delimiter takes one",
}
"""What to add to a message that holds such words."""


@contextmanager
def options_named() -> Iterator[None]:
    """Add the option that helps to what the store complains of."""
    try:
        yield
    except StorageError as error:
        remedy = next((told for words, told in REMEDIES.items() if words in str(error)), None)
        if remedy is None:
            raise
        raise type(error)(f"{error} {remedy[:1].upper()}{remedy[1:]}.") from error
