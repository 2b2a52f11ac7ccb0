"""What every storage provider promises. A provider is tested by a subclass of `ProviderContract`."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import NotFound, StorageError
from storage.providers import StorageProvider, provider_for

BAD_PATHS = [
    "",
    "/etc/x",
    "../x",
    "a/../x",
    "a/..",
    "./x",
    "a//x",
    "a/",
    "a\\x",
    "a\0x",
    "a\nx",
    "a/.tmp-1",
    ".probe-1",
    "..",
]
NAMES = ["a", "b/c", "b/d.json", "b/e/f", "bb"]
OPERATIONS = st.tuples(
    st.sampled_from(["write", "create", "delete", "read"]), st.sampled_from(NAMES), st.binary(max_size=8)
)


class ProviderContract:
    """Subclasses say how to make a provider, how to reach its objects behind its back, and how to race."""

    turns = 50
    examples = 50

    def fresh(self) -> AbstractContextManager[StorageProvider]:
        """An empty provider."""
        raise NotImplementedError

    def raw_get(self, provider: StorageProvider, path: str) -> bytes:
        """The stored bytes, without the code under test."""
        raise NotImplementedError

    def raw_put(self, provider: StorageProvider, path: str, data: bytes) -> None:
        """Store bytes, without the code under test."""
        raise NotImplementedError

    def race(self, provider: StorageProvider, paths: Sequence[str], contents: Sequence[bytes]) -> list[list[bool]]:
        """One writer a content, all at once; each creates every path in turn, waiting for the others before each.

        The answers: a list a writer, in the order of `paths`.
        """
        raise NotImplementedError

    def replacing(
        self, provider: StorageProvider, path: str, contents: Sequence[bytes]
    ) -> AbstractContextManager[None]:
        """Meanwhile another writer puts the contents at `path` in turns."""
        raise NotImplementedError

    @pytest.fixture
    def provider(self):
        with self.fresh() as provider:
            yield provider

    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096])
    def test_write_stores_the_bytes_and_read_returns_them(self, provider, data):
        provider.write("a/b.bin", data)
        assert self.raw_get(provider, "a/b.bin") == data
        assert provider.read("a/b.bin") == data

    def test_read_sees_what_others_stored(self, provider):
        self.raw_put(provider, "a/b.bin", b"theirs")
        assert provider.read("a/b.bin") == b"theirs"
        assert provider.list() == ["a/b.bin"]

    def test_write_replaces(self, provider):
        provider.write("a", b"a longer first content")
        provider.write("a", b"second")
        assert provider.read("a") == b"second"

    def test_create_wins_once(self, provider):
        assert provider.create("a/b", b"first") is True
        assert provider.create("a/b", b"second") is False
        assert self.raw_get(provider, "a/b") == b"first"
        provider.delete("a/b")
        assert provider.create("a/b", b"third") is True

    def test_create_refuses_a_name_taken_by_write(self, provider):
        provider.write("a", b"written")
        assert provider.create("a", b"created") is False
        assert provider.read("a") == b"written"

    def test_list_is_sorted_and_takes_a_folder_not_a_prefix_of_letters(self, provider):
        for path in ["b/2", "b/10", "a", "bb/x", "b/c/d"]:
            provider.write(path, b"")
        assert provider.list() == ["a", "b/10", "b/2", "b/c/d", "bb/x"]
        assert provider.list("b") == ["b/10", "b/2", "b/c/d"]
        assert provider.list("b/c") == ["b/c/d"]
        assert provider.list("a") == provider.list("none/such") == []

    def test_an_empty_root_lists_nothing(self, provider):
        assert provider.list() == []

    def test_stat_tells_size_time_and_sha256(self, provider):
        provider.write("a/b", b"12345")
        info = provider.stat("a/b")
        assert (info.path, info.size) == ("a/b", 5)
        assert info.checksum == hashlib.sha256(b"12345").hexdigest()
        assert abs(info.modified - time.time()) < 60

    def test_tag_tells_the_size_and_changes_with_the_content(self, provider):
        provider.write("a", b"12345")
        first = provider.tag("a")
        assert (first.size, provider.tag("a")) == (5, first)
        assert provider.fetch("a") == (b"12345", first)
        provider.write("a", b"12346")
        assert provider.tag("a") != first
        assert provider.fetch("a") == (b"12346", provider.tag("a"))

    def test_tags_are_those_of_all_that_is_listed(self, provider):
        for path in ["b/2", "b/10", "a", "bb/x", "b/c/d"]:
            provider.write(path, path.encode())
        self.raw_put(provider, "b/theirs", b"theirs")
        for prefix in ("", "b", "b/c", "none"):
            tags = provider.tags(prefix)
            assert list(tags) == provider.list(prefix)
            assert tags == {path: provider.tag(path) for path in tags}

    def test_no_object_is_a_leftover(self, provider):
        provider.write("a/b", b"1")
        provider.check_writable()
        assert provider.leftovers(0.0) == []
        for name in ("a/b", "a", "", "../.tmp-1", "a/../.tmp-1", ".tmp-1/a", ".tmp-\n"):
            with pytest.raises(StorageError, match=r"is no temporary file of a store|is not allowed in a store"):
                provider.remove_leftover(name)
        provider.remove_leftover("a/.tmp-gone")
        assert provider.list() == ["a/b"]

    def test_retries_are_counted_and_there_were_none(self, provider):
        before = provider.retries
        provider.write("a", b"1")
        assert provider.retries == before >= 0

    def test_check_writable_leaves_nothing_behind(self, provider):
        provider.check_writable()
        assert provider.list() == []

    def test_open_serves_arrow(self, provider):
        table, sink = pa.table({"x": [1, 2, 3]}), pa.BufferOutputStream()
        pq.write_table(table, sink)
        provider.write("t.parquet", sink.getvalue().to_pybytes())
        with provider.open("t.parquet") as file:
            assert pq.ParquetFile(file).read().equals(table)

    def test_open_seeks(self, provider):
        provider.write("a", b"0123456789")
        with provider.open("a") as file:
            assert (file.seek(0, 2), file.seek(4), file.read(3)) == (10, 4, b"456")

    @pytest.mark.parametrize("method", ["read", "fetch", "stat", "tag", "delete", "open"])
    @pytest.mark.parametrize("path", ["absent", "folder/absent", "folder", "folder/file/below"])
    def test_what_is_not_there_is_not_found_by_name(self, provider, method, path):
        provider.write("folder/file", b"")
        with pytest.raises(NotFound) as raised:
            getattr(provider, method)(path)
        assert repr(path) in str(raised.value)
        assert provider.uri in str(raised.value)
        assert ("read" if method == "fetch" else method) in str(raised.value)

    def test_delete_removes(self, provider):
        provider.write("a/b", b"")
        provider.delete("a/b")
        assert provider.list() == []
        with pytest.raises(NotFound):
            provider.delete("a/b")

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_a_path_out_of_the_root_is_refused_by_every_method(self, provider, path):
        calls = [provider.read, provider.fetch, provider.stat, provider.tag, provider.delete, provider.open]
        calls += [lambda p: provider.write(p, b"x"), lambda p: provider.create(p, b"x")]
        calls += [provider.list, provider.tags] if path else []
        for call in calls:
            with pytest.raises(StorageError, match="is not allowed in a store"):
                call(path)
        assert provider.list() == []

    def test_its_uri_leads_to_the_same_objects(self, provider):
        provider.write("a", b"same")
        assert provider_for(provider.uri).read("a") == b"same"

    def test_of_racing_creators_one_wins_and_its_content_stays(self, provider):
        contents = [bytes([i]) * 200_000 for i in range(4)]
        paths = [f"commits/{turn:02d}" for turn in range(self.turns)]
        answers = self.race(provider, paths, contents)
        for path, won in zip(paths, zip(*answers, strict=True), strict=True):
            assert won.count(True) == 1
            assert provider.read(path) == contents[won.index(True)]
        assert provider.list() == paths

    def test_a_reader_never_sees_part_of_a_replacement(self, provider):
        contents = [b"a" * 300_000, b"b" * 100_000]
        provider.write("x", contents[0])
        seen = set()
        with self.replacing(provider, "x", contents):
            until = time.monotonic() + 120  # of which a loaded machine needs some to start the writer
            while len(seen) < 2 and time.monotonic() < until:
                seen |= {provider.read("x") for _ in range(20)}
                assert provider.list() == ["x"]
                assert provider.stat("x").size in (100_000, 300_000)
        assert seen == set(contents)

    def test_it_behaves_like_a_dict(self):
        @settings(max_examples=self.examples, deadline=None)
        @given(st.lists(OPERATIONS, max_size=12))
        def holds(operations: Sequence[tuple[str, str, bytes]]) -> None:
            model: dict[str, bytes] = {}
            with self.fresh() as provider:
                for operation, path, data in operations:
                    assert _apply(provider, operation, path, data) == _model(model, operation, path, data)
                    assert provider.list() == sorted(model)
                    assert provider.list("b") == sorted(p for p in model if p.startswith("b/"))
                assert {path: self.raw_get(provider, path) for path in model} == model

        holds()


def _apply(provider: StorageProvider, operation: str, path: str, data: bytes) -> object:
    try:
        arguments = (path, data) if operation in ("write", "create") else (path,)
        return getattr(provider, operation)(*arguments)
    except NotFound:
        return "not found"


def _model(model: dict[str, bytes], operation: str, path: str, data: bytes) -> object:
    if operation == "create":
        return path not in model and model.setdefault(path, data) == data
    if operation == "write":
        model[path] = data
        return None
    if path not in model:
        return "not found"
    return model[path] if operation == "read" else model.__delitem__(path)
