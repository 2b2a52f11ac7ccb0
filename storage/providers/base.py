"""The contract of a store of bytes, and what every implementation shares."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from storage.errors import NotFound, StorageError

TEMPORARY = ".tmp-"
PROBE = ".probe-"
HIDDEN = (TEMPORARY, PROBE)
"""Names that begin like this are the providers' own: no path may hold one and no listing shows one."""

Paths = list[str]  # an alias, because `list` names a method below


@dataclass(frozen=True)
class ObjectTag:
    """What tells two contents of one path apart without reading them; `tag` changes with the content."""

    size: int
    tag: str


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: size in bytes, modification time in seconds since the epoch, sha256 in hex."""

    path: str
    size: int
    modified: float
    checksum: str


class StorageProvider(Protocol):
    """Named byte objects below one root.

    Paths are relative, with forward slashes, never "..", and name a file or a folder but not both; anything
    else raises `StorageError`. Objects are whole: a reader sees the old content or the new, never a part,
    whatever other processes do. Every failure is a `StorageError` naming the object and what was tried.
    """

    @property
    def uri(self) -> str:
        """What `provider_for` needs to reach the same root; free of credentials."""

    @property
    def retries(self) -> int:
        """How often this process has tried an operation again, ever; on any store of the kind."""

    def read(self, path: str) -> bytes:
        """The whole content. Raises `NotFound`."""

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """The whole content, and the tag of that very content. Raises `NotFound`."""

    def write(self, path: str, data: bytes) -> None:
        """Put `data` at `path`, atomically replacing what is there; durable on return. Last writer wins."""

    def create(self, path: str, data: bytes) -> bool:
        """Put `data` at `path` only if nothing is there; False when something is.

        Of any number of concurrent callers exactly one gets True, and its content is the one that stays.
        """

    def list(self, prefix: str = "") -> Paths:
        """Sorted paths of all objects below the folder `prefix` ("" is the root); empty if there are none."""

    def stat(self, path: str) -> ObjectInfo:
        """Size, time and checksum of one state of the object; may read all of it. Raises `NotFound`."""

    def tag(self, path: str) -> ObjectTag:
        """Size and a tag of the content, without reading it. Raises `NotFound`."""

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """What `tag` says of each path that `list` shows; costs no more than a listing where objects are far away."""

    def delete(self, path: str) -> None:
        """Remove the object. Raises `NotFound` when it is not there."""

    def open(self, path: str) -> BinaryIO:
        """A seekable binary file of the content, for Arrow to read parts of. Raises `NotFound`."""

    def check_writable(self) -> None:
        """Raises `StorageError` where nothing can be written; leaves no object and no folder behind."""

    def leftovers(self, older_than_s: float) -> Paths:
        """Sorted names of temporary files, at least that old, of writers that died; no other method knows them."""

    def remove_leftover(self, name: str) -> None:
        """Remove one of `leftovers`; nothing happens where it is gone. Raises `StorageError` for any other path."""


def checked(path: str) -> str:
    """`path` if it is a clean relative path; raises `StorageError` otherwise."""
    parts = path.split("/")
    clean = all(part not in ("", ".", "..") and not part.startswith(HIDDEN) for part in parts)
    if not clean or "\\" in path or not path.isprintable():
        raise StorageError(
            f"Path {path!r} is not allowed in a store; use a relative one with forward slashes, without '..'."
        )
    return path


@contextmanager
def told(action: str, path: str, uri: str, absent: type[StorageError] = StorageError) -> Iterator[None]:
    """Turn the system's errors into ours; one that means "no such object" becomes `absent`."""
    what = f"Could not {action}{f' {path!r}' if path else ''} in {uri}"
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        reason = "there is no such object" if absent is NotFound else error.strerror
        raise absent(f"{what}: {reason}.") from error
    except OSError as error:
        raise StorageError(f"{what}: {error.strerror or error}.") from error


def checked_leftover(name: str) -> str:
    """`name` if only its last part is one of the providers' own names; raises `StorageError` otherwise."""
    folder, _, last = name.rpartition("/")
    if not last.startswith(HIDDEN) or not last.isprintable() or "\\" in last:
        raise StorageError(f"{name!r} is no temporary file of a store; only those can be removed in this way.")
    if folder:
        checked(folder)
    return name


def sha256_of(data: bytes) -> str:
    """The digest in hex, as in `ObjectInfo.checksum`."""
    return hashlib.sha256(data).hexdigest()
