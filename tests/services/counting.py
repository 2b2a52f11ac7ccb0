"""A wrapper that counts what a store is asked for, in the verbs of S3."""

from collections import Counter
from dataclasses import dataclass, field
from typing import BinaryIO

from storage.providers import ObjectInfo, ObjectTag, Paths, StorageProvider


@dataclass(frozen=True)
class CountingProvider:
    """`inner`, with the number of calls by verb: GET, HEAD, PUT, LIST, DELETE."""

    inner: StorageProvider
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def retries(self) -> int:
        return self.inner.retries

    def read(self, path: str) -> bytes:
        self.calls["GET"] += 1
        return self.inner.read(path)

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        self.calls["GET"] += 1
        return self.inner.fetch(path)

    def open(self, path: str) -> BinaryIO:
        self.calls["GET"] += 1
        return self.inner.open(path)

    def write(self, path: str, data: bytes) -> None:
        self.calls["PUT"] += 1
        self.inner.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self.calls["PUT"] += 1
        return self.inner.create(path, data)

    def list(self, prefix: str = "") -> Paths:
        self.calls["LIST"] += 1
        return self.inner.list(prefix)

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        self.calls["LIST"] += 1
        return self.inner.tags(prefix)

    def stat(self, path: str) -> ObjectInfo:
        self.calls["HEAD"] += 1
        return self.inner.stat(path)

    def tag(self, path: str) -> ObjectTag:
        self.calls["HEAD"] += 1
        return self.inner.tag(path)

    def delete(self, path: str) -> None:
        self.calls["DELETE"] += 1
        self.inner.delete(path)

    def check_writable(self) -> None:
        self.inner.check_writable()

    def leftovers(self, older_than_s: float) -> Paths:
        self.calls["LIST"] += 1
        return self.inner.leftovers(older_than_s)

    def remove_leftover(self, name: str) -> None:
        self.calls["DELETE"] += 1
        self.inner.remove_leftover(name)
