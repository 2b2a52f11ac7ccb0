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
from typer.testing import CliRunner

from grid.cli import app
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.parquet import decode, decoder, of_arrow
from storage.providers import CachedProvider, provider_for
from storage.providers.cache import _intact
from storage.sessions import CommitRecord, SessionFolder, SessionStore, encode_json
from tests.services.seaweed import seaweed

from .made import store_bars

ROUNDS, WRITERS, COMMITS, SESSIONS = 7, 6, 15, 10_000
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
        for uri, where in ((str(folder / "commits"), "a folder"), (place.format("commits"), "S3")):
            lines += _commits(uri, where, 1) + _commits(uri, where, WRITERS)
        return lines + _sessions(folder / "many", 200 if quick else SESSIONS)


def _reads(folder: Path, s3: str) -> list[str]:
    local = provider_for(str(folder / "bars"))
    store_bars(folder / "bars", "1D", 100)
    store_bars(folder / "bars", "1m", 525_600)
    far = provider_for(s3)
    for path in local.list():
        far.write(path, local.read(path))
    near = CachedProvider(far, folder / "cache", 1 << 30)
    year, tag = next((path, tag) for path, tag in far.tags().items() if "/1m/2020" in path)
    daily, minutes = DatasetKey("MADE", "1D"), DatasetKey("MADE", "1m")
    return [
        _row("100 daily bars, read and checked", lambda: OhlcvStore(local).read(daily), "a folder"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(local).read(minutes), "a folder"),
        _row("the same file, decoded with its page checksums", lambda: decode(local.read(year), year), "a folder"),
        _row("the same file, decoded without", lambda: _unverified(local.read(year)), "a folder"),
        _row("100 daily bars, read and checked (LIST, GET)", lambda: OhlcvStore(far).read(daily), "S3"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(far).read(minutes), "S3"),
        _row("a year of minutes, read and checked", lambda: OhlcvStore(near).read(minutes), "S3, the node's cache"),
        _row(
            "the same without the LIST",
            lambda: of_arrow(near.derived(year, tag, _never, decoder())[0]),
            "the node's cache alone",
        ),
        _row(
            "the same for the first time in a process",
            lambda: (_intact.clear(), near.derived(year, tag, _never, decoder())),
            "the node's cache alone",
        ),
    ]


def _never(_: bytes) -> bytes:
    raise AssertionError("the node's cache has it already")


def _unverified(data: bytes) -> Any:
    return pq.ParquetFile(pa.BufferReader(data), read_dictionary=["symbol", "timeframe"]).read()


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


def _commit_each(uri: str, name: str, barrier: Any, answers: Any) -> None:
    folder = SessionFolder(provider_for(uri), name)
    folder.commit(CommitRecord(0, "warm", ()))
    barrier.wait(120)
    spent = []
    for n in range(1, COMMITS + 1):
        began = time.perf_counter()
        summary = {"ok": 200, "failed": 0, "best": [], "reused": {}, "machine": "m"}
        part = folder.write_part(PART + uuid.uuid4().bytes, 200, [(n, n + 1)], summary)
        folder.commit(CommitRecord(n, "writer", (part,)))
        spent.append(1000 * (time.perf_counter() - began))
    answers.put(spent)


def _commits(uri: str, where: str, count: int) -> list[str]:
    barrier, answers = SPAWN.Barrier(count), SPAWN.Queue()
    names = [f"s{count}-{n}" for n in range(count)]
    writers = [SPAWN.Process(target=_commit_each, args=(uri, name, barrier, answers)) for name in names]
    for writer in writers:
        writer.start()
    spent = [ms for _ in writers for ms in answers.get(timeout=300)]
    for writer in writers:
        writer.join(30)
    who = "1 writer" if count == 1 else f"{count} writers at once, without a pause"
    return [f"| a commit (part and record), {who} | {statistics.median(spent):.1f} | {where} |"]


def _sessions(root: Path, count: int) -> list[str]:
    """Plain files, as it is not their writing that is measured."""
    store = SessionStore(provider_for(str(root)))
    (root / "catalog").mkdir(parents=True)
    for n in range(count):
        name = f"s{n:06d}"
        entry = {"session_id": name, "strategy": "sma_cross", "symbol": "MADE", "created_at": "2026-01-01T00:00:00"}
        (root / "catalog" / f"{name}.json").write_bytes(encode_json(entry))
        (root / name).mkdir()
        trials = {"count": 1000, "ok": 1000, "failed": 0}
        summary = {"status": "done", "datasets": 1, "trials": trials, "seconds": 1.5, "metrics": {"sharpe": n / 7}}
        (root / name / "summary.json").write_bytes(encode_json(summary))
    began = time.perf_counter()
    store.render_index()
    first = 1000 * (time.perf_counter() - began)
    last = f"s{count - 1:06d}"
    return [
        f"| index.json of {count:,} sessions, from nothing | {first:.0f} | a folder |",
        _row(f"index.json of {count:,} sessions, nothing new", store.render_index, "a folder"),
        _row(f"`grid ls` of {count:,} sessions, without starting Python", lambda: _ls(root), "a folder"),
        _row(f"`grid ls --json` of {count:,} sessions, all of them", lambda: _ls(root, "--json"), "a folder"),
        _row(f"finding one of {count:,} sessions, as `grid top` does", lambda: store.folder(last), "a folder"),
        _row(f"finding the latest of {count:,} sessions", lambda: store.folder("latest"), "a folder"),
    ]


def _ls(root: Path, *words: str) -> None:
    done = CliRunner().invoke(app, ["ls", "--store", str(root), *words])
    if done.exit_code:
        raise RuntimeError(done.output)
