"""The node's cache: fetched once by many processes, bounded, never wrong."""

import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pytest

from storage.errors import BadData
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.parquet import to_parquet
from storage.providers import CachedProvider, LocalProvider, MemoryProvider
from tests.services.counting import CountingProvider
from tests.storage.tables import bars, changed

SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Logged(LocalProvider):
    """Leaves a file behind for each read, and takes a while."""

    log: str = ""

    def fetch(self, path):
        (open(f"{self.log}/{os.getpid()}-{time.monotonic_ns()}", "x")).close()  # noqa: PTH123
        time.sleep(0.3)
        return super().fetch(path)


def read_at_once(cached, barrier, answers):
    barrier.wait(200)
    answers.put(len(cached.read("x")))


def test_of_many_processes_one_fetches(tmp_path):
    (log := tmp_path / "log").mkdir()
    inner = Logged(tmp_path / "store", str(log))
    inner.write("x", b"1" * 1000)
    cached = CachedProvider(inner, tmp_path / "cache", 10_000)
    barrier, answers = SPAWN.Barrier(6), SPAWN.Queue()
    readers = [SPAWN.Process(target=read_at_once, args=(cached, barrier, answers)) for _ in range(6)]
    for reader in readers:
        reader.start()
    assert [answers.get(timeout=250) for _ in readers] == [1000] * 6
    for reader in readers:
        reader.join(120)
    assert len(list(log.iterdir())) == 1


@pytest.fixture
def inner():
    return CountingProvider(MemoryProvider("cached"))


def cache_of(inner, tmp_path, limit=10_000, claim_s=120.0):
    return CachedProvider(inner, tmp_path / "cache", limit, claim_s)


def test_each_version_is_fetched_once(inner, tmp_path):
    cached = cache_of(inner, tmp_path)
    for content in (b"old", b"new"):
        cached.write("x", content)
        for _ in range(3):
            assert cached.read("x") == content
            with cached.open("x") as file:
                assert file.read() == content
    assert inner.calls == {"PUT": 2, "GET": 2, "HEAD": 12}


def test_threads_fetch_once(inner, tmp_path):
    inner.write("x", b"1" * 500)
    cached, barrier = cache_of(inner, tmp_path), threading.Barrier(8)

    def read(_):
        barrier.wait(200)
        return cached.read("x")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(8))) == {b"1" * 500}
    assert inner.calls["GET"] == 1


def test_it_stays_below_its_limit_and_drops_what_was_not_read_for_longest(inner, tmp_path):
    cached = cache_of(inner, tmp_path, limit=2_500)
    for n in range(4):
        inner.write(f"{n}", bytes([n]) * 1000)
    cached.read("0")
    cached.read("1")
    _age(tmp_path / "cache", 100)
    cached.read("0")
    cached.read("2")
    inner.calls.clear()
    assert cached.read("0") == bytes(1000)
    assert inner.calls["GET"] == 0
    cached.read("1")
    assert inner.calls["GET"] == 1
    assert sum(f.stat().st_size for f in (tmp_path / "cache").rglob("*") if f.is_file()) <= 2_500


def _age(folder, seconds):
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - seconds, time.time() - seconds))


def test_what_is_larger_than_the_cache_is_read_past_it(inner, tmp_path):
    inner.write("x", b"1" * 3000)
    cached = cache_of(inner, tmp_path, limit=2_500)
    assert cached.read("x") == cached.read("x") == b"1" * 3000
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []


@pytest.mark.parametrize("damage", [b"", b"part"])
def test_a_copy_of_another_size_is_fetched_again(inner, tmp_path, damage):
    inner.write("x", b"whole content")
    cached = cache_of(inner, tmp_path)
    cached.read("x")
    (file,) = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    file.write_bytes(damage)
    assert cached.read("x") == b"whole content"
    assert cached.open("x").read() == b"whole content"


def test_content_that_does_not_fit_its_tag_is_not_kept(inner, tmp_path, monkeypatch):
    """The object was replaced between the two requests."""
    inner.write("x", b"first")
    tag = inner.tag("x")
    inner.write("x", b"later")
    monkeypatch.setattr(MemoryProvider, "tag", lambda *_: tag)
    assert cache_of(inner, tmp_path).read("x") == b"later"
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []


def test_the_claim_of_a_dead_process_is_taken_over(inner, tmp_path):
    inner.write("x", b"content")
    cached = cache_of(inner, tmp_path, claim_s=0.2)
    claim = cached._file("x", inner.inner.tag("x")).with_suffix(".claim")
    claim.parent.mkdir(parents=True)
    claim.touch()
    assert cached.read("x") == b"content"
    assert not claim.exists()


def test_a_claim_that_came_too_late_is_given_back(inner, tmp_path):
    """The file appears after we looked and before the claim of who made it is ours."""
    cached = cache_of(inner, tmp_path)
    claim = tmp_path / "cache" / "file.claim"
    claim.parent.mkdir()
    claim.touch()
    looks = []

    def look():
        looks.append(claim.exists())
        claim.unlink(missing_ok=True) if len(looks) == 1 else None
        return None if len(looks) == 1 else b"content"

    assert cached._shared(claim.with_suffix(""), look, lambda: pytest.fail("it is there")) == b"content"
    assert looks == [True, True], "the first claim was theirs and the second ours"
    assert not claim.exists()


def test_a_cache_that_cannot_be_written_is_left_out(inner, tmp_path):
    inner.write("x", b"content")
    (tmp_path / "cache").write_bytes(b"a file")
    cached = cache_of(inner, tmp_path)
    assert cached.read("x") == b"content"
    assert cached.open("x").read() == b"content"


def twice(data):
    return data * 2


def test_what_is_derived_is_made_once_for_each_version(inner, tmp_path):
    cached = cache_of(inner, tmp_path)
    for content in (b"old", b"new"):
        cached.write("x", content)
        (tag,) = cached.tags().values()
        inner.calls.clear()
        told = [cached.derived("x", tag, twice) for _ in range(3)]
        assert [(made.to_pybytes(), was_there) for made, was_there in told] == [
            (content * 2, False),
            (content * 2, True),
            (content * 2, True),
        ]
        assert inner.calls == {"GET": 1}


@pytest.mark.parametrize("at", [0, 3, -1])
def test_what_was_derived_and_then_damaged_is_made_again(inner, tmp_path, monkeypatch, at):
    monkeypatch.setattr("storage.providers.cache._intact", set())
    inner.write("x", b"content")
    cached, tag = cache_of(inner, tmp_path), inner.tag("x")
    cached.derived("x", tag, twice)
    (file,) = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert cached.derived("x", tag, twice)[0].to_pybytes() == b"content" * 2
    assert cached.derived("x", tag, twice) == (pa.py_buffer(b"content" * 2), True)


def test_a_checked_file_is_checked_again_only_where_it_was_written_again(inner, tmp_path, monkeypatch):
    """Neither its inode nor its size tells the damage."""
    checked = set()
    monkeypatch.setattr("storage.providers.cache._intact", checked)
    inner.write("x", b"content")
    cached, tag = cache_of(inner, tmp_path), inner.tag("x")
    for _ in range(4):
        cached.derived("x", tag, twice)
    assert len(checked) == 1, "to be read is not to be written"
    (file,) = [f for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    before = file.stat()
    file.write_bytes(b"C" + file.read_bytes()[1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert (file.stat().st_ino, file.stat().st_size) == (before.st_ino, before.st_size)
    assert cached.derived("x", tag, twice) == (pa.py_buffer(b"content" * 2), False)


def test_what_is_derived_from_a_newer_version_is_not_kept(inner, tmp_path):
    inner.write("x", b"first")
    tag = inner.tag("x")
    inner.write("x", b"later")
    made, _ = cache_of(inner, tmp_path).derived("x", tag, twice)
    assert made.to_pybytes() == b"laterlater"
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []


def test_a_derivation_that_fails_is_tried_by_the_next_one(inner, tmp_path):
    inner.write("x", b"content")
    cached, tag = cache_of(inner, tmp_path), inner.tag("x")

    def broken(_):
        raise ValueError("bad bars")

    with pytest.raises(ValueError, match="bad bars"):
        cached.derived("x", tag, broken)
    assert cached.derived("x", tag, twice)[0].to_pybytes() == b"content" * 2


def test_bars_are_kept_checked_and_decoded_and_read_with_one_listing(inner, tmp_path):
    store = OhlcvStore(cache_of(inner, tmp_path, limit=1 << 20))
    table = bars("2020-01-01", 800)
    store.write(table, "XNYS", "no")
    inner.calls.clear()
    for _ in range(2):
        assert store.read(DatasetKey("AAPL", "1D")).equals(table)
        assert store.describe(DatasetKey("AAPL", "1D")).rows == 800
    assert inner.calls == {"LIST": 4, "GET": 3}
    size = store.bytes_of(DatasetKey("AAPL", "1D"))
    assert store.served == {"store": size, "cache": 3 * size}


def test_bars_of_another_decoder_are_decoded_again(inner, tmp_path, monkeypatch):
    """An upgrade may check more, or lay Arrow's columns out otherwise."""
    store = OhlcvStore(cache_of(inner, tmp_path, limit=1 << 20))
    store.write(bars("2020-01-01", 3), "XNYS", "no")
    store.read(DatasetKey("AAPL", "1D"))
    inner.calls.clear()
    monkeypatch.setattr("storage.parquet.decoder", lambda: "another")
    store.read(DatasetKey("AAPL", "1D"))
    store.read(DatasetKey("AAPL", "1D"))
    assert inner.calls["GET"] == 1


def test_broken_bars_are_not_kept(inner, tmp_path):
    store = OhlcvStore(cache_of(inner, tmp_path, limit=1 << 20))
    inner.write("AAPL/1D/2020.parquet", to_parquet(changed(bars("2020-01-01", 3), 2, {"low": 101.8})))
    for _ in range(2):
        with pytest.raises(BadData, match=r"AAPL/1D/2020\.parquet, AAPL, row 3: low"):
            store.read(DatasetKey("AAPL", "1D"))
    assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []


def test_open_is_mapped(inner, tmp_path):
    inner.write("x", b"0123456789")
    assert isinstance(cache_of(inner, tmp_path).open("x"), pa.MemoryMappedFile)
