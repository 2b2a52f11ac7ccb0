"""Sessions at rest behave like dicts, on every kind of store: random histories, with crashes between any two steps."""

import tempfile
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from storage.errors import StorageError
from storage.providers import LocalProvider, MemoryProvider, NfsProvider, S3Options, S3Provider, StorageProvider
from storage.pruning import prune
from storage.sessions import CommitRecord, Part, SessionFolder, SessionStore

IDS = st.sampled_from(["a", "b"])
DATA = st.binary(min_size=1, max_size=3)
NAMES = count()


class SessionsAgainstADict(RuleBasedStateMachine):
    """Every call makes its folder anew, as after a crash; what is not in the store is forgotten."""

    def __init__(self, provider: StorageProvider) -> None:
        super().__init__()
        self.store = SessionStore(provider)
        self.parts: dict[str, dict[str, tuple[Part, bytes]]] = {"a": {}, "b": {}}
        self.records: dict[str, dict[int, CommitRecord]] = {"a": {}, "b": {}}
        self.entries: dict[str, dict[str, object]] = {}

    def folder(self, name: str) -> SessionFolder:
        return SessionFolder(self.store.provider, name)

    @rule(name=IDS)
    def announce(self, name: str) -> None:
        if name in self.entries:
            with pytest.raises(StorageError, match="already exists"):
                self.store.announce(name, {"session_id": name})
        else:
            self.store.announce(name, {"session_id": name})
            self.entries[name] = {"session_id": name, "status": "incomplete", "metrics": {}}

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), score=st.integers(0, 9))
    def finish(self, data: st.DataObject, score: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.entries)))
        summary = {"status": "done", "metrics": {"sharpe": score}}
        assert self.folder(name).create_document("summary.json", summary) == (
            self.entries[name]["status"] == "incomplete"
        )
        if self.entries[name]["status"] == "incomplete":
            self.entries[name] |= summary

    @rule()
    def render(self) -> None:
        self.store.render_index()
        assert self.store.indexed() == self.entries

    @rule(name=IDS, data=DATA)
    def write_part(self, name: str, data: bytes) -> None:
        part = self.folder(name).write_part(data, len(data), [(0, len(data))], {"ok": len(data)})
        self.parts[name][f"{name}/{part.path}"] = part, data

    @rule(name=IDS, data=st.data(), writer=st.sampled_from("vw"), ahead=st.sampled_from([0, 0, 0, 1, -1]))
    def commit(self, name: str, data: st.DataObject, writer: str, ahead: int) -> None:
        records = self.records[name]
        n = max(len(records) + ahead, 0)
        held = [part for part, _ in self.parts[name].values()]
        record = CommitRecord(n, writer, (data.draw(st.sampled_from(held)),) if held else ())
        assert self.folder(name).commit(record) == (records.setdefault(n, record) == record)

    @rule(older_than_s=st.sampled_from([0.0, 1000.0]), alive=st.sampled_from(["", "a", "b"]), delete=st.booleans())
    def clean_up(self, older_than_s: float, alive: str, delete: bool) -> None:
        litter = prune(self.store.provider, older_than_s, lambda name: name == alive, delete)
        nameless = {name: sorted(self.nameless(name)) if older_than_s == 0 else [] for name in "ab"}
        assert litter.parts == [path for name in "ab" if name != alive for path in nameless[name]]
        assert litter.kept == ({alive: "a driver works on it"} if alive and nameless[alive] else {})
        assert litter.temporary == []
        if delete:
            for path in litter.parts:
                del self.parts[path[0]][path]

    def nameless(self, name: str) -> set[str]:
        named = {f"{name}/{part.path}" for record in self.records[name].values() for part in record.parts}
        return set(self.parts[name]) - named

    @invariant()
    def the_log_is_that_of_the_model(self) -> None:
        for name, records in self.records.items():
            folder, end = self.folder(name), next(n for n in count() if n not in records)
            assert list(folder.commits()) == [records[n] for n in range(end)]
            assert folder.commit_numbers() == sorted(records)
            for record in records.values():
                for part in record.parts:
                    assert folder.read_part(part) == self.parts[name][f"{name}/{part.path}"][1]

    @invariant()
    def all_sessions_are_seen(self) -> None:
        assert self.store.entries() == [self.entries[name] for name in sorted(self.entries)]


def holds(provider, examples: int, steps: int = 12) -> None:
    run_state_machine_as_test(
        lambda: SessionsAgainstADict(provider()),
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None),
    )


def test_in_memory() -> None:
    holds(MemoryProvider, 40)


def test_in_a_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        holds(lambda: LocalProvider(Path(folder) / str(next(NAMES))), 10)


def test_on_nfs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "export-7").touch()
        holds(lambda: NfsProvider(Path(folder) / str(next(NAMES)), Path(folder), "export-7"), 10)


@pytest.mark.s3
def test_in_a_bucket(s3, bucket) -> None:
    holds(lambda: S3Provider(bucket, f"model/{next(NAMES)}", S3Options(s3.url)), 3, 8)


@pytest.mark.s3
@pytest.mark.slow
def test_in_a_bucket_for_longer(s3, bucket) -> None:
    holds(lambda: S3Provider(bucket, f"longer/{next(NAMES)}", S3Options(s3.url)), 60, 25)


@pytest.mark.slow
def test_in_memory_for_longer() -> None:
    holds(MemoryProvider, 2000, 40)
