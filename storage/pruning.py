"""What no session needs: temporary files of writers that died, and parts that no commit record names."""

import re
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from storage.clock import StoreClock
from storage.errors import NotFound, StorageError
from storage.providers import Paths, StorageProvider
from storage.sessions import SessionFolder

OLD_S = 3600.0
LOOK_EVERY = 16
"""Parts that are removed between two looks at a session's driver and log."""
_PART = re.compile(r"([^/]+)/trials/part-[^/]+\.parquet")
_COMMIT = re.compile(r"([^/]+)/commits/(\d{10})\.json")


@dataclass(frozen=True)
class Litter:
    """temporary: names of temporary files. parts: paths of parts. kept: sessions whose parts stay, and why."""

    temporary: Paths = field(default_factory=list)
    parts: Paths = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


def prune(provider: StorageProvider, older_than_s: float, alive: Callable[[str], bool], delete: bool) -> Litter:
    """Find what no session needs and is at least that old, and remove it where `delete` says so.

    alive: whether a driver works on the session of that id; its parts may be named in a moment. So may those of a
    driver that begins right now, which is why a part must be old as well. A session with a damaged commit record keeps
    all its parts: what the record named cannot be known. Costs a listing, and a read of each commit record.

    Ages are those of the store's clock, which is asked by writing to it, also where nothing is removed.

    A driver that begins meanwhile writes the parts it needs again, which makes them young. So a part's age is looked at
    right before it is removed, and driver and log before each `LOOK_EVERY` parts.
    """
    clock = StoreClock(provider)
    how = _How(older_than_s, alive, delete, clock)
    litter = Litter(temporary=provider.leftovers(older_than_s + clock.skew_s))  # which goes by this machine's clock
    parts, numbers = _listed(provider)
    for session_id, paths in sorted(parts.items()):
        try:
            folder = SessionFolder(provider, session_id)
            nameless = _nameless(folder, paths, numbers[session_id])
        except StorageError as error:
            litter.kept[session_id] = str(error)
            continue
        _prune_session(folder, nameless, numbers[session_id][-1:], how, litter)
    if delete:
        for name in litter.temporary:
            provider.remove_leftover(name)
    return litter


@dataclass(frozen=True)
class _How:
    """As in `prune`."""

    older_than_s: float
    alive: Callable[[str], bool]
    delete: bool
    clock: StoreClock

    def old(self, provider: StorageProvider, path: str) -> bool:
        try:
            return self.clock.now() - provider.stat(path).modified >= self.older_than_s
        except NotFound:
            return False


def _prune_session(folder: SessionFolder, nameless: Paths, last: list[int], how: _How, litter: Litter) -> None:
    """last: the number of the last record that was looked at, where there is one."""
    old = [path for path in nameless if how.old(folder.provider, path)]
    for first in range(0, len(old), LOOK_EVERY):
        if how.alive(folder.session_id):
            litter.kept[folder.session_id] = "a driver works on it"
            return
        some = old[first : first + LOOK_EVERY]
        if how.delete:
            some = _removed(folder.provider, _nameless(folder, some, last), how)
        litter.parts.extend(some)


def _nameless(folder: SessionFolder, paths: Paths, numbers: list[int]) -> Paths:
    return sorted(set(paths) - _named(folder, numbers))


def _listed(provider: StorageProvider) -> tuple[dict[str, Paths], dict[str, list[int]]]:
    """Parts, and numbers of commit records, by session."""
    parts, numbers = defaultdict(list), defaultdict(list)
    for path in provider.list():
        if match := _PART.fullmatch(path):
            parts[match[1]].append(path)
        elif match := _COMMIT.fullmatch(path):
            numbers[match[1]].append(int(match[2]))
    return parts, numbers


def _named(folder: SessionFolder, numbers: list[int]) -> set[str]:
    """Paths of all parts that a record names: those listed, also behind a gap, and those committed since."""
    listed = [record for record in folder.records(numbers) if record is not None]
    since = list(folder.commits(max(numbers, default=-1) + 1))
    return {f"{folder.session_id}/{part.path}" for record in [*listed, *since] for part in record.parts}


def _removed(provider: StorageProvider, paths: Paths, how: _How) -> Paths:
    """Those that are still old, each looked at right before; they are gone."""
    gone = []
    for path in paths:
        if how.old(provider, path):
            with suppress(NotFound):  # somebody else prunes too
                provider.delete(path)
            gone.append(path)
    return gone
