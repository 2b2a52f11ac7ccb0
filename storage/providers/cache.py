"""A node's own copy of objects that are read often: each is fetched once, by whichever process comes first.

A file of the cache is named by what it holds (store, path, size and tag), so it never becomes wrong, only unused: an
object that changed is another file. Files appear finished, by a rename. Whoever misses one claims it by creating
`NAME.claim`; the others wait for the file, and take a claim over that got too old.
"""

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import pyarrow as pa

from storage.errors import NotFound
from storage.providers.base import ObjectInfo, ObjectTag, Paths, StorageProvider

T = TypeVar("T")
CLAIM_S = 120.0
_POLL_S = 0.02
_PART = ".part-"
_SEAL_BYTES = 32
_intact: set[tuple[str, int, int, int]] = set()
"""Sealed files that this process has checked: path, inode, size and when they were written."""


@dataclass(frozen=True)
class CachedProvider:
    """Reads of `inner` through the folder `folder`, of at most `limit_bytes`; writes go to `inner` alone.

    The oldest unused files are dropped first. A cache that cannot be written (no space, no right) is left out: what is
    read is then simply fetched.
    """

    inner: StorageProvider
    folder: Path
    limit_bytes: int
    claim_s: float = CLAIM_S

    @property
    def uri(self) -> str:
        """That of `inner`: nothing is stored here."""
        return self.inner.uri

    @property
    def retries(self) -> int:
        """Those of `inner`."""
        return self.inner.retries

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`: one request for the tag, and one more where the node has no copy."""
        try:
            tag = self.inner.tag(path)
        except NotFound:
            return self.inner.read(path)  # which says it in its own words
        file = self._file(path, tag)
        found = _content(file, tag.size)
        return self._fetched(path, tag, file) if found is None else found

    def fetch(self, path: str) -> tuple[bytes, ObjectTag]:
        """See `StorageProvider.fetch`: past the cache."""
        return self.inner.fetch(path)

    def derived(
        self, path: str, tag: ObjectTag, make: Callable[[bytes], bytes], version: str = ""
    ) -> tuple[pa.Buffer, bool]:
        """What `make` makes of the content that has this tag, mapped from the node's disk; and whether it was there.

        Asks the store for nothing but the content, once. The sha256 of what was made is kept with it, and is checked
        by each process before it uses a file for the first time. There is one `make` of a version for all objects of a
        store; what another version made is not used.
        """
        file = self._file(path, tag, f"derived {version}")
        found = _sealed(file)
        if found is not None:
            return found, True
        return self._shared(file, lambda: _sealed(file), lambda: self._made(path, tag, file, make)), False

    def open(self, path: str) -> BinaryIO:
        """See `StorageProvider.open`: mapped from the node's disk, so that processes share its memory."""
        try:
            tag = self.inner.tag(path)
        except NotFound:
            return self.inner.open(path)
        file = self._file(path, tag)
        mapped = _mapped(file, tag.size)
        if mapped is None:
            data = self._fetched(path, tag, file)
            mapped = _mapped(file, tag.size) or io.BytesIO(data)
        return mapped

    def write(self, path: str, data: bytes) -> None:
        """See `StorageProvider.write`."""
        self.inner.write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        """See `StorageProvider.create`."""
        return self.inner.create(path, data)

    def list(self, prefix: str = "") -> Paths:
        """See `StorageProvider.list`."""
        return self.inner.list(prefix)

    def stat(self, path: str) -> ObjectInfo:
        """See `StorageProvider.stat`."""
        return self.inner.stat(path)

    def tag(self, path: str) -> ObjectTag:
        """See `StorageProvider.tag`."""
        return self.inner.tag(path)

    def tags(self, prefix: str = "") -> dict[str, ObjectTag]:
        """See `StorageProvider.tags`."""
        return self.inner.tags(prefix)

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        self.inner.delete(path)

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`."""
        self.inner.check_writable()

    def leftovers(self, older_than_s: float) -> Paths:
        """See `StorageProvider.leftovers`."""
        return self.inner.leftovers(older_than_s)

    def remove_leftover(self, name: str) -> None:
        """See `StorageProvider.remove_leftover`."""
        self.inner.remove_leftover(name)

    def _file(self, path: str, tag: ObjectTag, kind: str = "object") -> Path:
        text = f"{self.inner.uri}\n{path}\n{tag.size}\n{tag.tag}\n{kind}"
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / name

    def _fetched(self, path: str, tag: ObjectTag, file: Path) -> bytes:
        return self._shared(file, lambda: _content(file, tag.size), lambda: self._copied(path, tag, file))

    def _shared(self, file: Path, look: Callable[[], T | None], make: Callable[[], T]) -> T:
        """What `look` finds once another process has finished it; else what `make` makes, here."""
        claim = file.with_suffix(".claim")
        if not self._claimed(claim):
            found = self._awaited(look, claim)
            if found is not None:
                return found
        try:
            found = look()  # published between our look and our claim
            return make() if found is None else found
        finally:
            with suppress(OSError):
                claim.unlink()

    def _copied(self, path: str, tag: ObjectTag, file: Path) -> bytes:
        """Content that has the tag is published; a newer one is right for the reader and wrong under this name."""
        data, now = self.inner.fetch(path)
        if now == tag:
            self._keep(file, data)
        return data

    def _made(self, path: str, tag: ObjectTag, file: Path, make: Callable[[bytes], bytes]) -> pa.Buffer:
        data, now = _content(self._file(path, tag), tag.size), tag
        if data is None:
            data, now = self.inner.fetch(path)
        made = make(data)
        if now == tag:
            self._keep(file, made + hashlib.sha256(made).digest())
        return pa.py_buffer(made)

    def _keep(self, file: Path, data: bytes) -> None:
        if len(data) > self.limit_bytes:
            return
        with suppress(OSError):
            _publish(file, data)
            self._evict(file)

    def _claimed(self, claim: Path) -> bool:
        """Whether the object is ours to fetch; also True where nothing can be claimed at all."""
        try:
            claim.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        except OSError:
            return True
        return True

    def _awaited(self, look: Callable[[], T | None], claim: Path) -> T | None:
        """What whoever holds the claim has finished; None, and the claim ours, when that one gave up or died."""
        while True:
            found = look()
            if found is not None:
                return found
            if _age_s(claim) > self.claim_s:
                with suppress(OSError):  # of those who see it too old one moves it away
                    gone = claim.with_suffix(f"{_PART}{uuid.uuid4().hex}")
                    claim.rename(gone)
                    gone.unlink()
            if self._claimed(claim):
                return None
            time.sleep(_POLL_S)

    def _evict(self, newest: Path) -> None:
        """Drop the files that were not read for longest, down to the limit; never the one just made."""
        files = sorted(_files(self.folder))
        total = sum(size for _, size, _ in files)
        for _, size, file in files:
            if total <= self.limit_bytes:
                return
            if file != newest:
                with suppress(OSError):
                    file.unlink()
                total -= size


def _content(file: Path, size: int) -> bytes | None:
    """A copy that is whole; reading it makes it young again."""
    try:
        data = file.read_bytes()
        _touch(file)
    except OSError:
        return None
    return data if len(data) == size else None


def _mapped(file: Path, size: int) -> BinaryIO | None:
    """Arrow's own kind of file, which it reads without a copy."""
    try:
        mapped = pa.memory_map(str(file))
        _touch(file)
    except (OSError, pa.ArrowException):  # an empty file cannot be mapped
        return None
    return cast(BinaryIO, mapped) if mapped.size() == size else None


def _sealed(file: Path) -> pa.Buffer | None:
    """The content of a file that ends with the sha256 of it; a damaged one is removed."""
    try:
        whole = pa.memory_map(str(file)).read_buffer()
        status = _touch(file)
        key = (str(file), status.st_ino, whole.size, status.st_mtime_ns)
    except (OSError, pa.ArrowException):
        return None
    content = whole.slice(0, max(whole.size - _SEAL_BYTES, 0))
    if key not in _intact:
        if hashlib.sha256(content).digest() != whole.slice(content.size).to_pybytes():
            with suppress(OSError):
                file.unlink()
            return None
        _intact.add(key)
    return content


def _touch(file: Path) -> os.stat_result:
    """Note that it is read now, as its time of access: the other one tells contents apart. Its state before."""
    status = file.stat()
    os.utime(file, ns=(time.time_ns(), status.st_mtime_ns))
    return status


def _publish(file: Path, data: bytes) -> None:
    part = file.with_suffix(f"{_PART}{uuid.uuid4().hex}")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        with suppress(OSError):
            part.unlink()


def _age_s(claim: Path) -> float:
    try:
        return time.time() - claim.stat().st_mtime
    except OSError:
        return 0.0


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """(time of access, size, file) of all copies, and of parts that a dead process left behind."""
    for file in folder.glob("??/*"):
        with suppress(OSError):
            status = file.stat()
            yield status.st_atime, status.st_size, file
