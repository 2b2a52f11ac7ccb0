"""What no session needs: temporary files of writers that died, and parts that no commit record names."""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.errors import NotFound, StorageError
from storage.providers import Paths, StorageProvider
from storage.sessions import SessionFolder

OLD_S = 3600.0
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
    """
    litter = Litter(temporary=provider.leftovers(older_than_s))
    parts, numbers = _listed(provider)
    for session_id, paths in sorted(parts.items()):
        try:
            nameless = set(paths) - _named(SessionFolder(provider, session_id), numbers[session_id])
        except StorageError as error:
            litter.kept[session_id] = str(error)
            continue
        old = [path for path in sorted(nameless) if _is_old(provider, path, older_than_s)]
        if old and alive(session_id):
            litter.kept[session_id] = "a driver works on it"
            continue
        litter.parts.extend(old)
        if delete:
            _delete(provider, old)
    if delete:
        for name in litter.temporary:
            provider.remove_leftover(name)
    return litter


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
    listed = [record for n in numbers if (record := folder.read_commit(n)) is not None]
    since = list(folder.commits(max(numbers, default=-1) + 1))
    return {f"{folder.session_id}/{part.path}" for record in [*listed, *since] for part in record.parts}


def _is_old(provider: StorageProvider, path: str, seconds: float) -> bool:
    try:
        return time.time() - provider.stat(path).modified >= seconds
    except NotFound:
        return False


def _delete(provider: StorageProvider, paths: Paths) -> None:
    for path in paths:
        try:
            provider.delete(path)
        except NotFound:
            continue  # somebody else prunes too
