"""Objects in memory, for tests."""

import io
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from storage.errors import NotFound
from storage.providers.base import ObjectInfo, ObjectTag, Paths, checked, checked_leftover, sha256_of


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

    @property
    def retries(self) -> int:
        """See `StorageProvider.retries`: nothing here can fail."""
        return 0

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`."""
        return self._found("read", path)[0]

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """See `StorageProvider.fetch`."""
        data, _ = self._found("read", path)
        return data, _tag_of(data)

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
        return ObjectInfo(path, len(data), modified, sha256_of(data))

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`."""
        return _tag_of(self._found("tag", path)[0])

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """See `StorageProvider.tags`."""
        paths = self.list(prefix)
        with self._lock:
            return {path: _tag_of(self._objects[path][0]) for path in paths if path in self._objects}

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

    def leftovers(self, older_than_s: float) -> Paths:  # noqa: ARG002 - the contract's
        """See `StorageProvider.leftovers`: there are none."""
        return []

    def remove_leftover(self, name: str) -> None:
        """See `StorageProvider.remove_leftover`."""
        checked_leftover(name)

    def _found(self, action: str, path: str) -> tuple[bytes, float]:
        with self._lock:
            found = self._objects.get(checked(path))
        if found is None:
            raise self._missing(action, path)
        return found

    def _missing(self, action: str, path: str) -> NotFound:
        return NotFound(f"Could not {action} {path!r} in {self.uri}: there is no such object.")


def _tag_of(data: bytes) -> ObjectTag:
    return ObjectTag(len(data), f"sha256:{sha256_of(data)}")


_memories: dict[str, MemoryProvider] = {}


def memory_of(name: str) -> MemoryProvider:
    """The memory of that name: the same name is the same memory, within a process."""
    return _memories.setdefault(name, MemoryProvider(name))
