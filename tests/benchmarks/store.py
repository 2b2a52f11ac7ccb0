"""What storage costs: reading bars, committing, and looking at many sessions. S3 is SeaweedFS on this machine."""

import multiprocessing
import os
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.ohlcv import DatasetKey, OhlcvStore
from storage.providers import CachedProvider, provider_for
from storage.sessions import CommitRecord, SessionFolder, SessionStore
from tests.services.seaweed import seaweed

from .made import store_bars

ROUNDS, WRITERS, COMMITS, SESSIONS = 7, 6, 15, 1_000
PART = os.urandom(20_000)
SPAWN = multiprocessing.get_context("spawn")


def table(folder: Path, quick: bool) -> list[str]:
    """Markdown rows."""
    folder.mkdir()
    with seaweed(folder) as server:
        os.environ |= server.environment()
        server.client().create_bucket(Bucket="benchmark")
        place = f"s3://benchmark/{{}}?endpoint_url={server.url}"
        lines = ["| what | ms | of |", "|---|---|---|", *_reads(folder, place.format("bars"))]
        lines += _commits(str(folder / "commits"), "a folder") + _commits(place.format("commits"), "S3")
        return lines + _sessions(str(folder / "many"), 200 if quick else SESSIONS)


def _reads(folder: Path, s3: str) -> list[str]:
    local = provider_for(str(folder / "bars"))
    store_bars(folder / "bars", "1D", 100)
    store_bars(folder / "bars", "1m", 525_600)
    far = provider_for(s3)
    for path in local.list():
        far.write(path, local.read(path))
    near = CachedProvider(far, folder / "cache", 1 << 30)
    year = next(path for path in local.list() if "/1m/2020" in path)
    daily, minutes = DatasetKey("MADE", "1D"), DatasetKey("MADE", "1m")
    return [
        _row("100 daily bars, read and checked", lambda: OhlcvStore(local).read(daily), "a folder"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(local).read(minutes), "a folder"),
        _row("the same file, pages verified", lambda: _decoded(local.read(year), True), "a folder"),
        _row("the same file, pages not verified", lambda: _decoded(local.read(year), False), "a folder"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(far).read(minutes), "S3"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(near).read(minutes), "S3, the node's cache"),
    ]


def _decoded(data: bytes, verified: bool) -> Any:
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=verified).read()


def _row(what: str, work: Callable[[], object], where: str) -> str:
    work()
    return f"| {what} | {_milliseconds(work):.1f} | {where} |"


def _milliseconds(work: Callable[[], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        rounds.append(1000 * (time.perf_counter() - began))
    return statistics.median(rounds)


def _commit_each(uri: str, number: int, barrier: Any, answers: Any) -> None:
    folder = SessionFolder(provider_for(uri), f"s{number}")
    folder.commit(CommitRecord(0, "warm", ()))
    barrier.wait(120)
    spent = []
    for n in range(1, COMMITS + 1):
        began = time.perf_counter()
        part = folder.write_part(PART + uuid.uuid4().bytes, 200, [(n, n + 1)], {"ok": 200, "failed": 0, "best": []})
        folder.commit(CommitRecord(n, "writer", (part,)))
        spent.append(1000 * (time.perf_counter() - began))
    answers.put(spent)


def _commits(uri: str, where: str) -> list[str]:
    barrier, answers = SPAWN.Barrier(WRITERS), SPAWN.Queue()
    writers = [SPAWN.Process(target=_commit_each, args=(uri, n, barrier, answers)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    spent = [ms for _ in writers for ms in answers.get(timeout=300)]
    for writer in writers:
        writer.join(30)
    return [f"| a commit (part and record), {WRITERS} writers at once | {statistics.median(spent):.1f} | {where} |"]


def _sessions(uri: str, count: int) -> list[str]:
    store = SessionStore(provider_for(uri))
    for n in range(count):
        folder = store.announce(f"s{n:06d}", {"strategy": "sma_cross", "symbol": "MADE"})
        folder.create_document("summary.json", {"status": "done", "metrics": {"sharpe": n}})
    began = time.perf_counter()
    store.render_index()
    first = 1000 * (time.perf_counter() - began)
    last = f"s{count - 1:06d}"
    return [
        f"| index.json of {count:,} sessions, from nothing | {first:.0f} | a folder |",
        _row(f"index.json of {count:,} sessions, nothing new", store.render_index, "a folder"),
        _row(f"the entries of {count:,} sessions, as `grid ls` needs them", store.entries, "a folder"),
        _row(f"finding one of {count:,} sessions, as `grid top` does", lambda: store.folder(last), "a folder"),
    ]
