"""Sessions at rest: one folder each, a numbered commit log that says which trials are done, and documents.

A part without a commit record that names it does not count. Records are created only if absent, so of two writers
that reach for the same number one wins, and the other one reads what was committed before it goes on.
"""

import hashlib
import itertools
import json
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from storage.errors import BadData, NotFound, StorageError
from storage.index import decoded_index, encoded_index
from storage.providers import StorageProvider, store_option

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CATALOG = "catalog"
INDEX = "index.json"
LOG = "driver.log"
LATEST = "latest"
MEND = "restore it from a backup, or run its sweep as a new session, which takes over the rows that are whole."
INCOMPLETE = "incomplete"
DAMAGED = "damaged"
AT_ONCE = 32
"""Reads under way at once, where many sessions or commit records are looked at."""
MOST_UNINDEXED = 64
"""Entries of the catalog that are read one by one, where `index.json` does not have them."""
ONE_BY_ONE = 16
"""Records that are read one after the other before what follows is read ahead: most readers are near a log's end."""


@dataclass(frozen=True)
class Part:
    """A Parquet file of result rows: where it is, its checksum, its rows, and the trial ranges it answers.

    ranges: half-open, disjoint, ascending; a range may be wider than its rows, because forbidden points have none.
    summary: what the writer wants to know again without reading the part (JSON).
    """

    path: str
    sha256: str
    rows: int
    ranges: tuple[tuple[int, int], ...]
    summary: dict[str, Any]


@dataclass(frozen=True)
class CommitRecord:
    """Entry `n` of a session's commit log; no trial is in two records."""

    n: int
    writer: str
    parts: tuple[Part, ...]

    def encode(self) -> bytes:
        """JSON that carries a checksum of itself."""
        return _sealed({"n": self.n, "writer": self.writer, "parts": [vars(part) for part in self.parts]})

    @staticmethod
    def decode(data: bytes, where: str) -> "CommitRecord":
        """The record in `data`. Raises BadData, naming `where`, when it is damaged."""
        try:
            body = json.loads(data)
            del body["sha256"]
            parts = tuple(
                Part(p["path"], p["sha256"], p["rows"], tuple((a, b) for a, b in p["ranges"]), p["summary"])
                for p in body["parts"]
            )
            record, intact = CommitRecord(body["n"], body["writer"], parts), _sealed(body) == data
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadData(f"Commit record {where} cannot be read ({error}); {MEND}") from error
        if not intact:
            raise BadData(f"Commit record {where} is damaged: its checksum does not match; {MEND}")
        return record


class SessionFolder:
    """One session in a results store.

    One writer at a time is expected and two are survived: `commit` lets one of them win each number.
    """

    def __init__(self, provider: StorageProvider, session_id: str) -> None:
        """Raises StorageError for a session id that is no plain name, or a name that means something else."""
        if not _NAME.fullmatch(session_id):
            raise StorageError(
                f"{session_id!r} is no session id: use letters, digits, '.', '_' and '-', at most 128 of them."
            )
        if session_id.lower() in (CATALOG, INDEX, LATEST):
            raise StorageError(f"{session_id!r} is no session id: the store uses that name itself; choose another.")
        self.provider = provider
        self.session_id = session_id

    def write_part(self, data: bytes, rows: int, ranges: list[tuple[int, int]], summary: dict[str, Any]) -> Part:
        """Store Parquet bytes under a name made from their content; writing the same twice is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        path = f"trials/part-{digest[:24]}.parquet"
        self.provider.write(self._path(path), data)
        return Part(path, digest, rows, tuple(ranges), summary)

    def read_part(self, part: Part) -> bytes:
        """The bytes of a part. Raises BadData when they are not the ones that were committed."""
        data = self.provider.read(self._path(part.path))
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise BadData(
                f"Part {part.path} of session {self.session_id} is damaged: its checksum is not the committed one; "
                f"{MEND}"
            )
        return data

    def commit(self, record: CommitRecord) -> bool:
        """Publish `record` under its number; False when somebody else's record has that number."""
        path = self._path(_commit_path(record.n))
        data = record.encode()
        return self.provider.create(path, data) or self.provider.read(path) == data

    def read_commit(self, n: int) -> CommitRecord | None:
        """Record `n`, or None when there is none yet. Raises BadData when it is damaged or misnumbered."""
        path = self._path(_commit_path(n))
        try:
            data = self.provider.read(path)
        except NotFound:
            return None
        record = CommitRecord.decode(data, path)
        if record.n != n:
            raise BadData(f"Commit record {path} says that it is number {record.n}; {MEND}")
        return record

    def commits(self, start: int = 0) -> Iterator[CommitRecord]:
        """The commit log from number `start` on."""
        for n in range(start, start + ONE_BY_ONE):
            record = self.read_commit(n)
            if record is None:
                return
            yield record
        yield from self._read_ahead(start + ONE_BY_ONE)

    def _read_ahead(self, start: int) -> Iterator[CommitRecord]:
        """The same, with many reads under way at once; still in order, and up to the first number that is free."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            following = itertools.count(start)
            ahead = deque(pool.submit(self.read_commit, next(following)) for _ in range(AT_ONCE))
            while (record := ahead.popleft().result()) is not None:
                ahead.append(pool.submit(self.read_commit, next(following)))
                yield record

    def records(self, numbers: Sequence[int]) -> Iterator[CommitRecord | None]:
        """What `read_commit` says of each of these numbers, in their order."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(self.read_commit, numbers)

    def commit_numbers(self) -> list[int]:
        """The numbers of all records that are there, ascending; one LIST."""
        paths = self.provider.list(self._path("commits"))
        found = [re.fullmatch(r"(\d{10})\.json", path.rpartition("/")[2]) for path in paths]
        return sorted(int(match[1]) for match in found if match)

    def write_document(self, name: str, content: Any) -> None:
        """Put a JSON document (`metadata.json`, ...) into the session's folder, replacing it."""
        self.provider.write(self._path(name), encode_json(content))

    def create_document(self, name: str, content: Any) -> bool:
        """Put a JSON document there only if there is none of that name."""
        return self.provider.create(self._path(name), encode_json(content))

    def document(self, name: str) -> Any:
        """A JSON document of the session. Raises NotFound, and BadData when it is no JSON."""
        return _parsed(self.provider.read(self._path(name)), f"{name} of session {self.session_id}")

    def modified(self, name: str) -> float:
        """When a document was last written, in seconds since the epoch by the store's clock. Raises NotFound."""
        return self.provider.stat(self._path(name)).modified

    def begun(self) -> bool:
        """Whether the session has its metadata, which is written right after it is announced."""
        try:
            self.provider.read(self._path("metadata.json"))
        except NotFound:
            return False
        return True

    def write_log(self, lines: bytes) -> None:
        """Replace the log of the session's drivers."""
        self.provider.write(self._path(LOG), lines)

    def read_log(self) -> bytes:
        """The log of the session's drivers. Raises NotFound."""
        return self.provider.read(self._path(LOG))

    def _path(self, name: str) -> str:
        return f"{self.session_id}/{name}"


class SessionStore:
    """All sessions of one results store."""

    def __init__(self, provider: StorageProvider) -> None:
        self.provider = provider

    def announce(self, session_id: str, entry: dict[str, Any], again: bool = False) -> SessionFolder:
        """Begin a session: enter it in the catalog.

        Raises StorageError when the id is taken; with `again`, only when that session has metadata.
        """
        folder = SessionFolder(self.provider, session_id)
        taken = not self.provider.create(_entry_path(session_id), encode_json(entry))
        if taken and not (again and not folder.begun()):
            raise StorageError(
                f"Session {session_id} already exists in {self.provider.uri}; resume it or name another."
            )
        return folder

    def ids(self) -> list[str]:
        """The ids of all sessions, sorted (which is by time, for the ids that the grid makes)."""
        return [path.removeprefix(f"{CATALOG}/").removesuffix(".json") for path in self.provider.list(CATALOG)]

    def folder(self, session_id: str) -> SessionFolder:
        """The session of that id, or of the only id that begins with it. Raises NotFound."""
        if self._is_there(session_id):
            return SessionFolder(self.provider, session_id)
        ids = self.ids()
        if session_id == LATEST and ids:
            return SessionFolder(self.provider, ids[-1])
        found = [s for s in ids if session_id and s.startswith(session_id)]
        if len(found) == 1:
            return SessionFolder(self.provider, found[0])
        what = f"{len(found)} sessions begin with {session_id!r}" if found else f"There is no session {session_id!r}"
        at = store_option(self.provider.uri)
        raise NotFound(f"{what} in {self.provider.uri}; `grid ls{at}` lists the {len(ids)} that are there.")

    def announced(self, but: str) -> Iterator[dict[str, Any]]:
        """What each session, save `but`, said when it was announced, and what `index.json` says besides; newest first.

        Costs a listing, `index.json`, and a read of each session that is asked for and not in it: those that began
        since a session ended, which are looked at up to 64 times.
        """
        known, unknown = self.indexed() or {}, 0
        for session_id in reversed(self.ids()):
            if session_id == but:
                continue
            if session_id in known:
                yield known[session_id]
            elif (unknown := unknown + 1) <= MOST_UNINDEXED:
                try:
                    yield _parsed(self.provider.read(path := _entry_path(session_id)), path)
                except (NotFound, BadData):
                    continue

    def entries(self, newest: int | None = None) -> list[dict[str, Any]]:
        """What is known of each session, by id; those that are not done have the status `incomplete` or `damaged`.

        newest: only the last so many. Costs a listing, `index.json`, and a read or two of each of these sessions that
        is not done or not in it.
        """
        return list(self._entries(self.indexed() or {}, newest).values())

    def render_index(self) -> None:
        """Bring `index.json`, the view of all sessions for older readers, up to the catalog and the summaries.

        Of several renderers the last one sees all that was announced or summarised before the others began: each
        looks again after it has written, and writes again when there is more.
        """
        shown = self.indexed()
        while shown != (entries := self._entries(shown or {})):
            listed = list(entries.values())
            self.provider.write(INDEX, encoded_index(listed))
            shown = entries

    def _is_there(self, session_id: str) -> bool:
        if not _NAME.fullmatch(session_id) or session_id == LATEST:
            return False
        try:
            self.provider.tag(_entry_path(session_id))
        except NotFound:
            return False
        return True

    def indexed(self) -> dict[str, dict[str, Any]] | None:
        """By id, the sessions in `index.json`; None where it is absent, or not as it was written here."""
        try:
            listed = decoded_index(self.provider.read(INDEX))
        except NotFound:
            return None
        return None if listed is None else {entry["session_id"]: entry for entry in listed}

    def _entries(self, known: dict[str, dict[str, Any]], newest: int | None = None) -> dict[str, dict[str, Any]]:
        """The sessions; those in `known` that are done never change, and of the others only the summary is read."""
        ids = self.ids() if newest is None else self.ids()[-newest:]
        final = {session_id for session_id, entry in known.items() if entry["status"] not in (INCOMPLETE, DAMAGED)}
        missing = [session_id for session_id in ids if session_id not in final]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = dict(zip(missing, pool.map(lambda s: self._entry(s, known.get(s)), missing), strict=True))
        return {session_id: read.get(session_id) or known[session_id] for session_id in ids}

    def entry(self, session_id: str) -> dict[str, Any]:
        """What is known of one session, from its own files."""
        return self._entry(session_id, None)

    def _entry(self, session_id: str, known: dict[str, Any] | None) -> dict[str, Any]:
        entry = {"session_id": session_id, "status": INCOMPLETE, "metrics": {}}
        try:
            if known is None or known["status"] == DAMAGED:
                known = _parsed(self.provider.read(path := _entry_path(session_id)), path)
            entry = {**entry, **known, "status": INCOMPLETE}
            return {**entry, **SessionFolder(self.provider, session_id).document("summary.json")}
        except NotFound:
            return entry
        except BadData:
            return {**entry, "status": DAMAGED}


def _entry_path(session_id: str) -> str:
    return f"{CATALOG}/{session_id}.json"


def _commit_path(n: int) -> str:
    return f"commits/{n:010d}.json"


def encode_json(content: Any) -> bytes:
    """JSON for people: indented, UTF-8, no NaN (write null instead)."""
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parsed(data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise BadData(f"{what} is not JSON ({error}); restore it from a backup.") from error


def _sealed(body: dict[str, Any]) -> bytes:
    """The one way to write `body`, with its checksum in it: no byte can change unseen."""
    return _canonical({**body, "sha256": hashlib.sha256(_canonical(body)).hexdigest()})


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
