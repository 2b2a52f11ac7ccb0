"""Where bytes live: one small contract, a local folder, and memory for tests.

A store talks to a `StorageProvider` and to nothing else, so a bucket or a mount is one more class here that
passes `tests/contracts/provider_contract.py`.
"""

import hashlib
import io
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from storage.errors import NotFound, StorageError

_TEMPORARY = ".tmp-"
Paths = list[str]  # an alias, because `list` names a method below


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

    def read(self, path: str) -> bytes:
        """The whole content. Raises `NotFound`."""

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

    def delete(self, path: str) -> None:
        """Remove the object. Raises `NotFound` when it is not there."""

    def open(self, path: str) -> BinaryIO:
        """A seekable binary file of the content, for Arrow to read parts of. Raises `NotFound`."""

    def check_writable(self) -> None:
        """Raises `StorageError` where nothing can be written; leaves no object and no folder behind."""


def checked(path: str) -> str:
    """`path` if it is a clean relative path; raises `StorageError` otherwise."""
    parts = path.split("/")
    clean = all(part not in ("", ".", "..") and not part.startswith(_TEMPORARY) for part in parts)
    if not clean or "\\" in path or not path.isprintable():
        raise StorageError(
            f"Path {path!r} is not allowed in a store; use a relative one with forward slashes, without '..'."
        )
    return path


@contextmanager
def _told(action: str, path: str, uri: str, absent: type[StorageError] = StorageError) -> Iterator[None]:
    """Turn the system's errors into ours; one that means "no such object" becomes `absent`."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        reason = "there is no such object" if absent is NotFound else error.strerror
        raise absent(f"Could not {action} {path!r} in {uri}: {reason}.") from error
    except OSError as error:
        raise StorageError(f"Could not {action} {path!r} in {uri}: {error.strerror or error}.") from error


@dataclass(frozen=True)
class LocalProvider:
    """Objects are files below the folder `root`, which is made when first written to.

    Needs a file system with hard links (for `create`). A process killed while writing leaves at most a file
    named `.tmp-*`, which no method shows.
    """

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def uri(self) -> str:
        """The folder, absolute: it means the same from any working directory."""
        return str(self.root)

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        target = self._target(path)
        with _told("read", path, self.uri, NotFound):
            return target.read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`: a finished temporary file takes the name."""
        target = self._target(path)
        with _told("write", path, self.uri), _finished_beside(target, data) as temporary:
            temporary.replace(target)
            _sync_folder(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`: a hard link both names a finished file and refuses a taken name."""
        target = self._target(path)
        with _told("create", path, self.uri):
            if target.is_file():
                return False
            with _finished_beside(target, data) as temporary:
                try:
                    target.hardlink_to(temporary)
                except FileExistsError:
                    if target.is_dir():
                        raise
                    return False
                _sync_folder(target.parent)
        return True

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`."""
        top = self._target(prefix) if prefix else self.root
        with _told("list", prefix, self.uri):
            if not top.is_dir():
                return []
            return sorted(path.relative_to(self.root).as_posix() for path in _files_below(top))

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`: all taken from one open file, so it describes one state."""
        target = self._target(path)
        with _told("stat", path, self.uri, NotFound), target.open("rb") as file:
            status = os.fstat(file.fileno())
            return ObjectInfo(path, status.st_size, status.st_mtime, hashlib.file_digest(file, "sha256").hexdigest())

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        target = self._target(path)
        with _told("delete", path, self.uri, NotFound):
            target.unlink()
            _sync_folder(target.parent)

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`."""
        target = self._target(path)
        with _told("open", path, self.uri, NotFound):
            return target.open("rb")

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`: gives a name to a file in the folder, or in the one it would be in."""
        folder = self.root
        try:
            while not folder.exists():
                folder = folder.parent
            name = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
            with _finished_beside(name, b"") as temporary:
                name.hardlink_to(temporary)
                name.unlink()
        except FileExistsError as error:
            raise StorageError(f"{self.uri} cannot be written: {folder} is a file and not a folder.") from error
        except OSError as error:
            raise StorageError(f"{self.uri} cannot be written ({folder}: {error.strerror or error}).") from error

    def _target(self, path: str) -> Path:
        return self.root / PurePosixPath(checked(path))


@contextmanager
def _finished_beside(target: Path, data: bytes) -> Iterator[Path]:
    """A synced temporary file with `data` in the folder of `target`; removed again unless renamed."""
    _make_folder(target.parent)
    temporary = target.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut, not only the file it names."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_below(top: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(top, onerror=fail, followlinks=True):
        yield from (Path(folder, name) for name in names if not name.startswith(_TEMPORARY))


@dataclass(frozen=True)
class MemoryProvider:
    """Objects in this process's memory, for tests; threads may share it."""

    name: str = ""
    _objects: dict[str, tuple[bytes, float]] = field(default_factory=dict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def uri(self) -> str:
        """`memory://` and the name."""
        return f"memory://{self.name}"

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        return self._found("read", path)[0]

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`."""
        with self._lock:
            self._objects[checked(path)] = (bytes(data), time.time())

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`."""
        mine = (bytes(data), time.time())
        with self._lock:
            return self._objects.setdefault(checked(path), mine) is mine

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`."""
        below = f"{checked(prefix)}/" if prefix else ""
        with self._lock:
            return sorted(path for path in self._objects if path.startswith(below))

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`."""
        data, modified = self._found("stat", path)
        return ObjectInfo(path, len(data), modified, hashlib.sha256(data).hexdigest())

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        with self._lock:
            if self._objects.pop(checked(path), None) is None:
                raise self._missing("delete", path)

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`."""
        return io.BytesIO(self._found("open", path)[0])

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`."""

    def _found(self, action: str, path: str) -> tuple[bytes, float]:
        with self._lock:
            found = self._objects.get(checked(path))
        if found is None:
            raise self._missing(action, path)
        return found

    def _missing(self, action: str, path: str) -> NotFound:
        return NotFound(f"Could not {action} {path!r} in {self.uri}: there is no such object.")


_memories: dict[str, MemoryProvider] = {}


def provider_for(uri: str) -> StorageProvider:
    """The provider of a plain path, `file:///path` or `memory://name` (the same name is the same memory).

    Raises `StorageError` for any other scheme.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if not uri or scheme is None:
        return _local(uri)
    if scheme[1] == "file":
        return _local_of_url(uri)
    if scheme[1] == "memory":
        name = uri.removeprefix("memory://")
        return _memories.setdefault(name, MemoryProvider(name))
    raise StorageError(
        f"Stores of kind {scheme[1] + '://'!r} are not supported; give a folder, file:///folder or memory://name."
    )


def _local(path: str) -> LocalProvider:
    if not path:
        raise StorageError("The store has no name; give the path of a folder.")
    return LocalProvider(Path(path).expanduser())


def _local_of_url(uri: str) -> LocalProvider:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise StorageError(f"{uri!r} names another host; write file:///folder with three slashes.")
    return _local(unquote(parts.path))
