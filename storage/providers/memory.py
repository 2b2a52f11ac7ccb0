"""Objects in memory, for tests."""

import io
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import BinaryIO

from storage.errors import NotFound
from storage.providers.base import ObjectInfo, ObjectTag, Paths, checked, sha256_of


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
        return ObjectInfo(path, len(data), modified, sha256_of(data))

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`."""
        data, _ = self._found("tag", path)
        return ObjectTag(len(data), f"sha256:{sha256_of(data)}")

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


def memory_of(name: str) -> MemoryProvider:
    """The memory of that name: the same name is the same memory, within a process."""
    return _memories.setdefault(name, MemoryProvider(name))
