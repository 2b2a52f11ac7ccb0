"""The providers that exist, against their contract, and what is particular to each."""

import multiprocessing
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from storage.errors import NotFound, StorageError
from storage.providers import (
    CachedProvider,
    LocalProvider,
    MemoryProvider,
    NfsProvider,
    S3Options,
    S3Provider,
    StorageProvider,
    provider_for,
)
from tests.contracts.provider_contract import ProviderContract

SPAWN = multiprocessing.get_context("spawn")


def _create_each(provider: StorageProvider, paths: Sequence[str], data: bytes, barrier) -> list[bool]:
    won = []
    for path in paths:
        barrier.wait(200)
        won.append(provider.create(path, data))
    return won


def _race_in_process(provider: StorageProvider, paths: Sequence[str], data: bytes, barrier, answers) -> None:
    answers.put((data, _create_each(provider, paths, data, barrier)))


def _replace_until(provider: StorageProvider, path: str, contents: Sequence[bytes], stop) -> None:
    for data in cycle(contents):
        provider.write(path, data)
        if stop.is_set():
            return


class RacingProcesses:
    """Writers are processes, as they are in a grid."""

    def race(self, provider, paths, contents):
        barrier, answers = SPAWN.Barrier(len(contents)), SPAWN.Queue()
        writers = [
            SPAWN.Process(target=_race_in_process, args=(provider, paths, data, barrier, answers)) for data in contents
        ]
        for writer in writers:
            writer.start()
        won = dict(answers.get(timeout=250) for _ in writers)
        for writer in writers:
            writer.join(120)
        return [won[data] for data in contents]

    @contextmanager
    def replacing(self, provider, path, contents):
        stop = SPAWN.Event()
        writer = SPAWN.Process(target=_replace_until, args=(provider, path, contents, stop))
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join(120)
        assert writer.exitcode == 0


class RawFiles:
    """Objects that are files."""

    def raw_get(self, provider, path):
        return (provider.root / path).read_bytes()

    def raw_put(self, provider, path, data):
        (provider.root / path).parent.mkdir(parents=True, exist_ok=True)
        (provider.root / path).write_bytes(data)


class TestLocalProvider(RacingProcesses, RawFiles, ProviderContract):
    @contextmanager
    def fresh(self) -> Iterator[StorageProvider]:
        with tempfile.TemporaryDirectory() as folder:
            yield LocalProvider(Path(folder) / "store")


class TestNfsProvider(RacingProcesses, RawFiles, ProviderContract):
    """A folder that holds the marker of an export."""

    @contextmanager
    def fresh(self) -> Iterator[StorageProvider]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "export-7").touch()
            yield NfsProvider(Path(folder) / "store", Path(folder), "export-7")


class TestCachedLocalProvider(RacingProcesses, ProviderContract):
    """A cache of a folder, which gives tags without sha256."""

    @contextmanager
    def fresh(self) -> Iterator[StorageProvider]:
        with tempfile.TemporaryDirectory() as folder:
            inner = LocalProvider(Path(folder) / "store")
            yield CachedProvider(inner, Path(folder) / "cache", 2_000_000)

    def raw_get(self, provider, path):
        return (provider.inner.root / path).read_bytes()

    def raw_put(self, provider, path, data):
        (provider.inner.root / path).parent.mkdir(parents=True, exist_ok=True)
        (provider.inner.root / path).write_bytes(data)


@pytest.mark.s3
class TestS3Provider(RacingProcesses, ProviderContract):
    """A prefix of its own in a bucket of a real server, which takes its time where writers meet."""

    turns = 5
    examples = 10
    names = iter(range(1_000_000))

    @pytest.fixture(autouse=True)
    def _server(self, s3, bucket):
        type(self).server, type(self).bucket, type(self).client = s3, bucket, s3.client()

    @contextmanager
    def fresh(self) -> Iterator[StorageProvider]:
        prefix = f"{type(self).__name__}/{next(self.names)}"
        yield self.wrapped(S3Provider(self.bucket, prefix, S3Options(endpoint_url=self.server.url)))

    def wrapped(self, provider: S3Provider) -> StorageProvider:
        return provider

    def raw_get(self, provider, path):
        key = f"{self._plain(provider).prefix}/{path}"
        with self.client.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            return body.read()

    def raw_put(self, provider, path, data):
        self.client.put_object(Bucket=self.bucket, Key=f"{self._plain(provider).prefix}/{path}", Body=data)

    def _plain(self, provider):
        return getattr(provider, "inner", provider)


@pytest.mark.s3
@pytest.mark.slow  # each part of it has a short test of its own
class TestCachedS3Provider(TestS3Provider):
    """As the bars of a sweep are read."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        type(self).folder = tmp_path

    def wrapped(self, provider):
        return CachedProvider(provider, self.folder / "cache", 2_000_000)


class TestMemoryProvider(ProviderContract):
    """Writers are threads: the memory is one process's."""

    names = iter(range(1_000_000))

    @pytest.fixture(autouse=True)
    def _restless_threads(self) -> Iterator[None]:
        """Threads take turns so often that a check and its consequence are torn apart."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(usual)

    @contextmanager
    def fresh(self) -> Iterator[StorageProvider]:
        yield provider_for(f"memory://{id(self)}-{next(self.names)}")

    def raw_get(self, provider, path):
        return provider._objects[path][0]

    def raw_put(self, provider, path, data):
        provider._objects[path] = (data, 0.0)

    def race(self, provider, paths, contents):
        barrier = threading.Barrier(len(contents))
        with ThreadPoolExecutor(len(contents)) as pool:
            return list(pool.map(lambda data: _create_each(provider, paths, data, barrier), contents))

    @contextmanager
    def replacing(self, provider, path, contents):
        stop = threading.Event()

        def replace() -> None:
            for data in cycle(contents):
                provider.write(path, data)
                if stop.is_set():
                    return

        writer = threading.Thread(target=replace)
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join(120)


def test_a_local_write_that_fails_leaves_no_trace(tmp_path, monkeypatch):
    provider = LocalProvider(tmp_path)
    provider.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (provider.write, provider.create):
        with pytest.raises(StorageError, match=r"Could not \w+ 'b' in .*: No space left on device"):
            write("b", b"new")
    with pytest.raises(StorageError):
        provider.write("a", b"new")
    assert provider.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_a_killed_writer_are_not_shown(tmp_path):
    provider = LocalProvider(tmp_path)
    (tmp_path / ".tmp-0123").write_bytes(b"part")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/.tmp-4567").write_bytes(b"part")
    os.utime(tmp_path / "a/b/.tmp-4567", (1, 1))
    provider.write(".hidden", b"")
    assert provider.list() == list(provider.tags()) == [".hidden"]
    assert provider.leftovers(0.0) == [".tmp-0123", "a/b/.tmp-4567"]
    assert provider.leftovers(3600.0) == ["a/b/.tmp-4567"]
    provider.remove_leftover("a/b/.tmp-4567")
    assert provider.leftovers(0.0) == [".tmp-0123"]
    assert LocalProvider(tmp_path / "none").leftovers(0.0) == []


@pytest.mark.parametrize("method", ["write", "create"])
def test_a_local_folder_that_cannot_be_written_is_told(tmp_path, method):
    (tmp_path / "file").write_bytes(b"")
    provider = LocalProvider(tmp_path / "file")
    with pytest.raises(StorageError, match=rf"Could not {method} 'a/b' in {provider.uri}: ") as raised:
        getattr(provider, method)("a/b", b"x")
    assert not isinstance(raised.value, NotFound)


def test_names_the_system_refuses_are_told(tmp_path):
    provider, name = LocalProvider(tmp_path), "x" * 300
    calls = [provider.read, provider.stat, provider.delete, provider.open, provider.list]
    calls += [lambda path: provider.write(path, b""), lambda path: provider.create(path, b"")]
    for call in calls:
        with pytest.raises(StorageError, match="File name too long"):
            call(name)


@pytest.mark.parametrize("method", ["write", "create"])
def test_a_local_folder_is_not_overwritten_by_a_file(tmp_path, method):
    provider = LocalProvider(tmp_path)
    provider.write("a/b", b"")
    with pytest.raises(StorageError, match=f"Could not {method} 'a'"):
        getattr(provider, method)("a", b"")
    assert provider.list() == ["a/b"]


def test_a_local_provider_means_the_same_folder_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    provider = pickle.loads(pickle.dumps(LocalProvider(Path("store"))))  # noqa: S301 - our own bytes
    monkeypatch.chdir("/")
    assert provider.uri == str(tmp_path / "store")


def test_providers_are_chosen_by_uri(tmp_path):
    assert provider_for(str(tmp_path)) == LocalProvider(tmp_path)
    assert provider_for(f"file://{tmp_path}/a%20b") == LocalProvider(tmp_path / "a b")
    assert isinstance(provider_for("memory://x"), MemoryProvider)
    assert provider_for("memory://x") is provider_for("memory://x")
    assert provider_for("memory://x") is not provider_for("memory://y")


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/x", "file://host/x", "", "gopher://x"])
def test_other_uris_are_refused_without_repeating_secrets(uri):
    with pytest.raises(StorageError) as raised:
        provider_for(uri)
    assert "secret" not in str(raised.value)
