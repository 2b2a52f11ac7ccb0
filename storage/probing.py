"""What a store can do, tried one thing at a time, with what to do about each that fails."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.environment import cache_bytes, cache_folder
from storage.errors import NotFound, StorageError
from storage.providers import CachedProvider, LocalProvider, MemoryProvider, NfsProvider, S3Provider, StorageProvider

MOST_SKEW_S = 300.0
_CONTENT = b"written by `grid storage test`"
_REMEDIES = {
    "write": "give the right to write (s3:PutObject; on a disk the folder's owner and free space)",
    "read": "give the right to read (s3:GetObject)",
    "create-if-absent": "give the right to read what is created, and use a store that honours If-None-Match; "
    "else keep results in a folder or on NFS",
    "list": "give the right to list (s3:ListBucket on the bucket itself)",
    "stat": "give the right to read (s3:GetObject), which covers HEAD",
    "delete": "give the right to delete (s3:DeleteObject); without it nothing can be cleaned up",
    "clock": "set this machine's clock by NTP: S3 refuses requests that are 15 minutes off",
}
_FOLDER_REMEDY = "give yourself the right to read and write the folder, see that the disk has room, or name another"


@dataclass(frozen=True)
class Trial:
    """One thing tried: ok, what was found or went wrong, how long it took, and what to do where it is not ok."""

    name: str
    ok: bool
    found: str
    seconds: float
    remedy: str | None


@dataclass
class _Probe:
    provider: StorageProvider
    folder: str = field(default_factory=lambda: f"storage-test-{uuid.uuid4().hex[:12]}")
    made: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Remember which folders are not there yet, innermost first: they go again."""
        if isinstance(self.provider, LocalProvider):
            root = self.provider.root
            self.made = [folder for folder in (root / self.folder, root, *root.parents) if not folder.exists()]

    @property
    def path(self) -> str:
        return f"{self.folder}/a"

    def write(self) -> str:
        self.provider.write(self.path, _CONTENT)
        new = "; the folder did not exist, and is removed again" if len(self.made) > 1 else ""
        return f"{len(_CONTENT)} bytes{new}"

    def read(self) -> str:
        _require(self.provider.read(self.path) == _CONTENT, "what was read is not what was written")
        return "what was written"

    def create(self) -> str:
        path = f"{self.folder}/b"
        _require(self.provider.create(path, b"1"), "a name that is free was called taken")
        _require(not self.provider.create(path, b"2"), "a name that is taken was overwritten")
        return "taken once, refused twice"

    def list(self) -> str:
        _require(self.path in self.provider.list(self.folder), "what was written is not listed")
        return "what was written"

    def stat(self) -> str:
        return f"sha256 {self.provider.stat(self.path).checksum[:12]}..."

    def clock(self) -> str:
        skew = abs(self.provider.stat(self.path).modified - time.time())
        _require(skew < MOST_SKEW_S, f"the store's clock and this machine's differ by {skew:.0f} s")
        return f"within {max(skew, 1):.0f} s of the store's"

    def delete(self) -> str:
        self.provider.delete(self.path)
        try:
            self.provider.read(self.path)
        except NotFound:
            return "gone"
        raise StorageError("what was deleted can still be read.")

    def clean(self) -> None:
        for name in ("a", "b"):
            try:
                self.provider.delete(f"{self.folder}/{name}")
            except StorageError:
                continue  # told by the trial of it
        with suppress(OSError):  # one that others write to by now stays
            for folder in self.made:
                folder.rmdir()

    def remedy(self, trial: str) -> str:
        """What to do where that trial is not ok."""
        return _FOLDER_REMEDY if isinstance(self.provider, LocalProvider) else _REMEDIES[trial]


def try_all(provider: StorageProvider) -> list[Trial]:
    """Write, read, create-if-absent, list, stat, clock and delete, each apart, in a folder of their own.

    Raises StorageError for a store that cannot be one, as its folder is a file or would be in one.
    """
    _require_no_file(provider)
    probe = _Probe(provider)
    steps = {
        "write": probe.write,
        "read": probe.read,
        "create-if-absent": probe.create,
        "list": probe.list,
        "stat": probe.stat,
        "clock": probe.clock,
        "delete": probe.delete,
    }
    try:
        return [_tried(probe, name, step) for name, step in steps.items()]
    finally:
        probe.clean()


def describe_store(provider: StorageProvider) -> dict[str, Any]:
    """What is known of a store without writing to it; one listing is all that is asked. Raises `StorageError`."""
    told: dict[str, Any] = {"uri": provider.uri, **_kind(provider)}
    began = time.perf_counter()
    paths = provider.list()
    return {**told, "objects": len(paths), "list_seconds": round(time.perf_counter() - began, 3)}


def _kind(provider: StorageProvider) -> dict[str, Any]:
    if isinstance(provider, S3Provider):
        options = provider.options
        limit = cache_bytes()
        cache = {"cache": str(cache_folder()) if limit else None, "cache_bytes": limit}
        place = {"bucket": provider.bucket, "prefix": provider.prefix, "endpoint": options.place()}
        return {"kind": "s3", **place, "encryption": options.sse, "profile": options.profile, **cache}
    if isinstance(provider, NfsProvider):
        provider.check_mounted()
        return {"kind": "nfs", "folder": str(provider.root), "mount": provider.mount and str(provider.mount)}
    if isinstance(provider, LocalProvider):
        return {"kind": "local", "folder": str(provider.root), "exists": provider.root.is_dir()}
    kinds = {MemoryProvider: "memory", CachedProvider: "cache"}
    return {"kind": kinds.get(type(provider), type(provider).__name__)}


def missing_folder(provider: StorageProvider) -> str | None:
    """`there is no folder ...` for a store in a folder that does not exist or is none; None for any other."""
    if not isinstance(provider, LocalProvider) or isinstance(provider, NfsProvider) or provider.root.is_dir():
        return None
    return f"{provider.root} is no folder" if provider.root.exists() else f"there is no folder {provider.root}"


def _tried(probe: _Probe, name: str, step: Callable[[], str]) -> Trial:
    began = time.perf_counter()
    try:
        found, ok = step(), True
    except StorageError as error:
        found, ok = str(error), False
    seconds = round(time.perf_counter() - began, 4)
    return Trial(name, ok, found, seconds, None if ok else probe.remedy(name))


def _require_no_file(provider: StorageProvider) -> None:
    if not isinstance(provider, LocalProvider):
        return
    file = None
    with suppress(OSError):  # what may not be looked at is for the trials to tell
        places = (provider.root, *provider.root.parents)
        file = next((f for f in places if f.exists() and not f.is_dir()), None)
    if file is not None:
        raise StorageError(f"{provider.uri} is no store: {file} is a file; name a folder.")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StorageError(f"{otherwise}.")
