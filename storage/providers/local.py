"""Objects as files of a folder."""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from storage.errors import NotFound, StorageError
from storage.providers.base import (
    HIDDEN,
    TEMPORARY,
    ObjectInfo,
    ObjectTag,
    Paths,
    checked,
    checked_leftover,
    told,
)


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

    @property
    def retries(self) -> int:
        """See `StorageProvider.retries`: a disk is asked once."""
        return 0

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        target = self._target(path)
        with told("read", path, self.uri, NotFound):
            return target.read_bytes()

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """See `StorageProvider.fetch`."""
        target = self._target(path)
        with told("read", path, self.uri, NotFound), target.open("rb") as file:
            return file.read(), _tag_of(os.fstat(file.fileno()))

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`: a finished temporary file takes the name."""
        target = self._target(path)
        with told("write", path, self.uri), _finished_beside(target, data) as temporary:
            temporary.replace(target)
            _sync_folder(target.parent)

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`: a hard link both names a finished file and refuses a taken name."""
        target = self._target(path)
        with told("create", path, self.uri):
            if target.is_file():
                return False
            with _finished_beside(target, data) as temporary:
                if not self._named(target, temporary):
                    return False
                _sync_folder(target.parent)
        return True

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`."""
        top = self._target(prefix) if prefix else self.root
        with told("list", prefix, self.uri):
            if not top.is_dir():
                return []
            return sorted(_files_below(self.root, top))

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`: all taken from one open file, so it describes one state."""
        target = self._target(path)
        with told("stat", path, self.uri, NotFound), target.open("rb") as file:
            status = os.fstat(file.fileno())
            return ObjectInfo(path, status.st_size, status.st_mtime, hashlib.file_digest(file, "sha256").hexdigest())

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`: of the file's inode, size and time, as each write makes a new file."""
        target = self._target(path)
        with told("tag", path, self.uri, NotFound):
            if target.is_dir():
                raise IsADirectoryError
            return _tag_of(target.stat())

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """See `StorageProvider.tags`; what is deleted meanwhile is left out."""
        found = {}
        for path in self.list(prefix):
            with suppress(NotFound):
                found[path] = self.tag(path)
        return found

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        target = self._target(path)
        with told("delete", path, self.uri, NotFound):
            target.unlink()
            _sync_folder(target.parent)

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`."""
        target = self._target(path)
        with told("open", path, self.uri, NotFound):
            return target.open("rb")

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`: gives a name to a file in the folder, or in the one it would be in."""
        folder = self.root
        try:
            while not folder.exists():
                folder = folder.parent
            name = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
            with _finished_beside(name, b"") as temporary:
                name.hardlink_to(temporary)
                name.unlink()
        except FileExistsError as error:
            raise StorageError(f"{self.uri} cannot be written: {folder} is a file and not a folder.") from error
        except OSError as error:
            raise StorageError(f"{self.uri} cannot be written ({folder}: {error.strerror or error}).") from error

    def leftovers(self, older_than_s: float) -> Paths:
        """See `StorageProvider.leftovers`."""
        latest, found = time.time() - older_than_s, []
        with told("list", "", self.uri):
            if not self.root.is_dir():
                return []
            for name in _files_below(self.root, self.root, hidden=True):
                with suppress(FileNotFoundError):  # its writer has finished meanwhile
                    if (self.root / name).stat().st_mtime <= latest:
                        found.append(name)
        return sorted(found)

    def remove_leftover(self, name: str) -> None:
        """See `StorageProvider.remove_leftover`."""
        target = self.root / PurePosixPath(checked_leftover(name))
        with told("delete", name, self.uri):
            target.unlink(missing_ok=True)

    def _named(self, target: Path, temporary: Path) -> bool:
        """Give a finished file its name; False when the name is taken."""
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            if target.is_dir():
                raise
            return False
        return True

    def _target(self, path: str) -> Path:
        return self.root / PurePosixPath(checked(path))


@contextmanager
def _finished_beside(target: Path, data: bytes) -> Iterator[Path]:
    """A synced temporary file with `data` in the folder of `target`; removed again unless renamed."""
    _make_folder(target.parent)
    temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
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


def _tag_of(status: os.stat_result) -> ObjectTag:
    return ObjectTag(status.st_size, f"file:{status.st_ino}-{status.st_mtime_ns}")


def _files_below(root: Path, top: Path, hidden: bool = False) -> Iterator[str]:
    """Paths below `root` of the files in `top`; as text throughout, since there may be very many."""

    def fail(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(top, onerror=fail, followlinks=True):
        below = folder[len(str(root)) :].replace(os.sep, "/").lstrip("/")
        start = f"{below}/" if below else ""
        yield from (start + name for name in names if name.startswith(HIDDEN) == hidden)
