"""A node's own copy of objects that are read often: each is fetched once, by whichever process comes first.

A file of the cache is named by what it holds (store, path, size and tag), so it never becomes wrong, only unused; the
tag is asked for at each read, and an object that changed is another file. Files appear finished, by a rename. Whoever
misses one claims it by creating `NAME.claim`; the others wait for the file, and take a claim over that got too old.
"""

import hashlib
import io
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from storage.errors import NotFound, StorageError
from storage.providers.base import ObjectInfo, ObjectTag, Paths, StorageProvider, sha256_of

CLAIM_S = 120.0
_POLL_S = 0.02
_PART = ".part-"


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

    def read(self, path: str) -> bytes:
        """See `StorageProvider.read`: one request for the tag, and one more where the node has no copy."""
        try:
            tag = self.inner.tag(path)
        except NotFound:
            return self.inner.read(path)  # which says it in its own words
        file = self._file(path, tag)
        found = _content(file, tag.size)
        return self._fetched(path, tag, file) if found is None else found

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

    def delete(self, path: str) -> None:
        """See `StorageProvider.delete`."""
        self.inner.delete(path)

    def check_writable(self) -> None:
        """See `StorageProvider.check_writable`."""
        self.inner.check_writable()

    def _file(self, path: str, tag: ObjectTag) -> Path:
        name = hashlib.sha256(f"{self.inner.uri}\n{path}\n{tag.size}\n{tag.tag}".encode()).hexdigest()
        return self.folder / name[:2] / name

    def _fetched(self, path: str, tag: ObjectTag, file: Path) -> bytes:
        """From `inner`, or from the copy that another process is about to finish."""
        claim = file.with_suffix(".claim")
        if not self._claimed(claim):
            found = self._awaited(file, claim, tag.size)
            if found is not None:
                return found
        try:
            found = _content(file, tag.size)  # published between our look and our claim
            return self._copied(path, tag, file) if found is None else found
        finally:
            with suppress(OSError):
                claim.unlink()

    def _copied(self, path: str, tag: ObjectTag, file: Path) -> bytes:
        """Content that fits the tag is published; a newer one is right for the reader and wrong under this name."""
        if tag.size > self.limit_bytes:
            return self.inner.read(path)
        data = self.inner.read(path)
        fits = len(data) == tag.size
        if tag.sha256 is not None:
            fits = fits and sha256_of(data) == tag.sha256
        elif fits:
            fits = self._still(path, tag)
        if fits:
            with suppress(OSError):
                _publish(file, data)
                self._evict(file)
        return data

    def _still(self, path: str, tag: ObjectTag) -> bool:
        try:
            return self.inner.tag(path) == tag
        except StorageError:
            return False

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

    def _awaited(self, file: Path, claim: Path, size: int) -> bytes | None:
        """The finished copy of whoever holds the claim; None, and the claim ours, when that one gave up or died."""
        while True:
            found = _content(file, size)
            if found is not None:
                return found
            if _age_s(claim) > self.claim_s:
                with suppress(OSError):  # of those who see it too old one moves it away
                    gone = claim.with_suffix(f"{_PART}{uuid.uuid4().hex}")
                    claim.rename(gone)
                    gone.unlink()
            if self._claimed(claim):
                return _content(file, size)
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
        os.utime(file)
    except OSError:
        return None
    return data if len(data) == size else None


def _mapped(file: Path, size: int) -> BinaryIO | None:
    """Arrow's own kind of file, which it reads without a copy."""
    try:
        mapped = pa.memory_map(str(file))
        os.utime(file)
    except (OSError, pa.ArrowException):  # an empty file cannot be mapped
        return None
    return cast(BinaryIO, mapped) if mapped.size() == size else None


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
    """(time, size, file) of all copies, and of parts that a dead process left behind."""
    for file in folder.glob("??/*"):
        with suppress(OSError):
            status = file.stat()
            yield status.st_mtime, status.st_size, file
