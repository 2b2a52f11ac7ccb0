"""What a store can do, tried one thing at a time, with what to do about each that fails."""

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.environment import cache_bytes, cache_folder
from storage.errors import Forbidden, NotFound, StorageError
from storage.providers import CachedProvider, LocalProvider, MemoryProvider, NfsProvider, S3Provider, StorageProvider

MOST_SKEW_S = 300.0
_CONTENT = b"written by `grid storage test`"
_REMEDIES = {
    "write": "give the right to write (s3:PutObject; on a disk the folder's owner and free space)",
    "read": "give the right to read (s3:GetObject)",
    "create-if-absent": "use a store that honours If-None-Match, or keep results in a folder or on NFS",
    "list": "give the right to list (s3:ListBucket on the bucket itself)",
    "stat": "give the right to read (s3:GetObject), which covers HEAD",
    "delete": "give the right to delete (s3:DeleteObject); without it nothing can be cleaned up",
    "clock": "set this machine's clock by NTP: S3 refuses requests that are 15 minutes off",
}
_NEEDS = {"read": "write", "create-if-absent": "write", "stat": "write", "clock": "stat", "delete": "stat"}
"""What must have gone well before a trial can tell anything."""
_FOLDER_REMEDY = "give yourself the right to read and write the folder, see that the disk has room, or name another"


class _Unkept(StorageError):  # noqa: N818 - an answer, not a fault of ours
    """The store answered, and does not keep what is relied on."""


@dataclass(frozen=True)
class Trial:
    """One thing tried: ok, what was found or went wrong, how long it took, and what to do where it is not ok.

    ok: None where it could not be tried. remedy: None also where `found` says what to do, of the store as a whole.
    """

    name: str
    ok: bool | None
    found: str
    seconds: float
    remedy: str | None


@dataclass
class _Probe:
    provider: StorageProvider
    folder: str = field(default_factory=lambda: f"storage-test-{uuid.uuid4().hex[:12]}")
    made: list[Path] = field(default_factory=list)
    written: bool = False

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
        self.written = True
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
        listed = self.provider.list(self.folder)
        if not self.written:
            return "allowed, where nothing was written"
        _require(self.path in listed, "what was written is not listed")
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
        except Forbidden:
            return "accepted; whether it is gone cannot be read"
        raise _Unkept("what was deleted can still be read.")

    def clean(self) -> None:
        for name in ("a", "b"):
            try:
                self.provider.delete(f"{self.folder}/{name}")
            except StorageError:
                continue  # told by the trial of it
        with suppress(OSError):  # one that others write to by now stays
            for folder in self.made:
                folder.rmdir()

    def remedy(self, trial: str, error: StorageError) -> str | None:
        """What to do where that trial is not ok; None where the error says it."""
        if isinstance(self.provider, LocalProvider):
            return _FOLDER_REMEDY
        if isinstance(error, Forbidden):
            return _REMEDIES["read" if trial == "create-if-absent" else trial]  # it reads who was there first
        return _REMEDIES[trial] if isinstance(error, _Unkept) else None


def try_all(provider: StorageProvider) -> list[Trial]:
    """Write, read, create-if-absent, list, stat, clock and delete, each apart, in a folder of their own.

    What cannot tell anything after another one failed is not tried, and nothing is after a failure of the whole store.
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
        trials: dict[str, Trial] = {}
        for name, step in steps.items():
            hindrance = _hindrance(name, trials)
            trials[name] = Trial(name, None, hindrance, 0.0, None) if hindrance else _tried(probe, name, step)
        return list(trials.values())
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


def _hindrance(name: str, before: Mapping[str, Trial]) -> str:
    """Why a trial could not tell anything after those before it; empty where it can."""
    whole = next((t.name for t in before.values() if t.ok is False and t.remedy is None), None)
    needed = whole or _NEEDS.get(name)
    if needed is None or before[needed].ok:
        return ""
    return before[needed].found if before[needed].ok is None else f"not tried, as {needed} failed"


def _tried(probe: _Probe, name: str, step: Callable[[], str]) -> Trial:
    began = time.perf_counter()
    remedy = None
    try:
        found, ok = step(), True
    except StorageError as error:
        found, ok, remedy = str(error), False, probe.remedy(name, error)
    return Trial(name, ok, found, round(time.perf_counter() - began, 4), remedy)


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
        raise _Unkept(f"{otherwise}.")
