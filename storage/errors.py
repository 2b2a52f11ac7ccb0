"""What can go wrong with data at rest. Each message is one sentence: what, where, and what would be right."""


class StorageError(Exception):
    """An operation on a store failed; the message names the object and what was tried."""


class NotFound(StorageError):  # noqa: N818 - named for what the user is told
    """The object or dataset asked for is not there."""


class Forbidden(StorageError):  # noqa: N818 - named for what the user is told
    """The store is there and knows the credentials, and they have no right to do this."""


class BadData(StorageError):  # noqa: N818 - named for what the user is told
    """Data, or a description of data, breaks a rule of the store; nothing was written."""


def printable(text: str) -> str:
    """Text for a message that may quote a damaged file: what cannot be printed becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)
