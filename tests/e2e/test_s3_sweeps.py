"""Sweeps whose bars and results lie in a bucket: the rows of a local one, few requests, and nothing lost."""

import json
import multiprocessing
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import grid
from grid import aggregate, heartbeat
from grid.cli import app
from grid.errors import BadInput
from grid.sweep import Watch
from grid.telemetry import Telemetry
from storage.errors import StorageError
from storage.providers import provider_for, s3_calls
from storage.sessions import SessionStore
from tests.e2e.sweeps import DATA, small
from tests.sampled import check_sample
from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.seaweed import NO_LIST, NO_READ, READER, SECRET

pytestmark = pytest.mark.s3
SPAWN = multiprocessing.get_context("spawn")
SAVERS = 32
BARS_LISTED = 9
RESULTS = {"GET": 9, "PUT": 15, "LIST": 3, "DELETE": 1}
REUSED = {**RESULTS, "GET": 13}
"""Of a session whose rows are those of another one: its metadata, the one commit and the log's end, and the part."""
READERS = {
    ("ls",): {"GET": 1, "LIST": 1},
    ("top", "ID"): {"HEAD": 1, "GET": 4},
    ("show", "ID", "--no-verdict"): {"HEAD": 1, "GET": 4},
    ("show", "ID"): {"HEAD": 1, "GET": 7, "LIST": 4},
}


@pytest.fixture
def proxy(s3):
    with fault_proxy(s3.url) as proxy:
        yield proxy


@pytest.fixture
def sweep(bars, proxy):
    """The small sweep, with bars and results in the bucket, by way of the proxy."""

    def stored(part):
        return f"s3://{bars}/{part}?endpoint_url={proxy.url}"

    made = small(Path("unused"))
    data = {**made["data"], "store": stored("bars")}
    return {**made, "data": data, "results": {"store": stored(f"results-{uuid.uuid4().hex[:8]}"), "keep_best": 3}}


@pytest.fixture
def local_rows(tmp_path):
    return grid.run(small(tmp_path / "results"), executor="serial").trials()


def has_credentials(content):
    return SECRET.encode() in content or b"key-of-" in content


def commands(*words):
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert not has_credentials(done.output.encode())
    return json.loads(done.stdout)


@pytest.fixture
def timeless(monkeypatch):
    """Nothing depends on how long it takes: one commit, and a heartbeat at the start and one at the end."""
    monkeypatch.setattr(aggregate, "FLUSH_AFTER_S", 1e6)
    monkeypatch.setattr(heartbeat, "EVERY_S", 1e6)


@pytest.mark.usefixtures("timeless")
def test_what_a_sweep_and_its_readers_ask_for(sweep, proxy):
    """Each request has its line in docs/storage.md."""
    space, telemetry = {"fast": {"range": [2, 51, 1]}, "slow": {"range": [5, 50, 5]}}, Telemetry()
    sweep |= {"space": space, "constraints": []}  # 1,000 trials
    session = grid.run(sweep, executor="serial", watch=Watch(telemetry=telemetry))
    assert session.metadata["ok"] == 1000
    spent, of_bars = proxy.verbs(), proxy.verbs("bars")
    files = [f for s in ("AAPL", "IBM") for f in (DATA / s).rglob("*.parquet")]
    assert of_bars == {"GET": len(files), "LIST": BARS_LISTED}
    assert spent - of_bars == RESULTS
    value = telemetry.prometheus.value
    assert 0 < value("grid_read_bytes_total", tier="cache") <= sum(f.stat().st_size for f in files)
    assert value("grid_read_bytes_total", tier="store") is None  # the rehearsal has fetched them before
    assert value("grid_storage_retries_total") == 0
    stored = provider_for(sweep["results"]["store"])
    for path in stored.list():
        assert not has_credentials(stored.read(path))
    proxy.seen.clear()
    assert len(session.trials()) == 1000
    assert len(session.top_points(3)) == 3
    assert proxy.verbs() == {}  # what the session needed at its end is still known
    store = sweep["results"]["store"]
    for words, calls in READERS.items():
        proxy.seen.clear()
        assert commands(*(session.id if word == "ID" else word for word in words), "--store", store)
        assert proxy.verbs() == calls
    assert proxy.verbs("bars") == {"LIST": 3}
    assert check_sample(session) == 10
    proxy.seen.clear()
    again = grid.run(sweep, executor="serial")
    assert proxy.verbs() - proxy.verbs("bars") == REUSED
    assert dict(again.ledger.summary.reused) == {session.id: 1000}


def test_a_session_that_was_interrupted_is_resumed(sweep, local_rows):
    steps = iter(range(100))
    stopped = grid.run(sweep, executor="serial", watch=Watch(stopping=lambda: next(steps) > 1), unit_size=40)
    assert stopped.status == "interrupted"
    (listed,) = commands("ls", "--store", sweep["results"]["store"])
    assert listed["status"] == "interrupted"
    resumed = grid.resume(grid.Session.open(stopped.id, sweep["results"]["store"]), executor="serial")
    assert resumed.status == "done"
    assert resumed.trials().equals(local_rows)
    assert check_sample(resumed) == 4
    (listed,) = commands("ls", "--store", sweep["results"]["store"])
    assert (listed["status"], listed["datasets"]) == ("done", 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", p=0.2),
        pytest.param(Fault("reset", p=0.1), marks=pytest.mark.slow),
        Fault("reset_after", p=0.1),
        pytest.param(Fault("truncate", "GET", length=100, p=0.2), marks=pytest.mark.slow),
        Fault("flip", "GET", path=r"/(bars|trials|commits)/", length=60, times=2),
    ],
    ids=["status", "reset", "reset_after", "truncate", "flip"],
)
def test_on_a_bad_day_the_rows_are_the_same_and_each_is_there_once(sweep, proxy, local_rows, monkeypatch, fault):
    monkeypatch.setattr(s3_calls, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(aggregate, "FLUSH_ROWS", 1)
    proxy.faults, telemetry = [fault], Telemetry()
    session = grid.run(sweep, executor="serial", watch=Watch(telemetry=telemetry), unit_size=40)
    assert session.trials().equals(local_rows)
    failed = sum(action != "none" for _, _, action in proxy.seen)
    assert failed > 0
    assert len(proxy.seen) - failed < 120  # no more than on a good day: each fault is one more request
    assert (telemetry.prometheus.value("grid_storage_retries_total") or 0) <= failed
    proxy.faults = []
    assert check_sample(session) == 4
    log = list(session.folder.commits())
    ranges = sorted(r for record in log for part in record.parts for r in part.ranges)
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))


@pytest.mark.parametrize(
    ("identity", "broken", "told"),
    [
        (READER, {}, "results.store: .* no right to do this"),
        (NO_LIST, {}, "no right to do this"),
        (NO_READ, {}, "no right to do this"),
        (None, {"endpoint_url": "http://127.0.0.1:1"}, "nothing answers there"),
        (None, {"bucket": "no-such-bucket-here"}, "there is no such bucket"),
        (None, {"skew": True}, "this machine's clock is wrong"),
    ],
    ids=["write", "list", "read", "endpoint", "bucket", "clock"],
)
def test_a_store_that_is_not_in_reach_is_one_sentence_and_nothing_is_written(
    sweep, proxy, s3, bucket, monkeypatch, identity, broken, told
):
    for name, value in s3.environment(identity).items() if identity else ():
        monkeypatch.setenv(name, value)
    if "skew" in broken:
        proxy.faults = [Fault("status", status=403, code="RequestTimeTooSkewed")]
    data = sweep["data"]["store"].replace(proxy.url, broken.get("endpoint_url", proxy.url))
    data = data.replace(bucket, broken.get("bucket", bucket))
    with pytest.raises((BadInput, StorageError), match=told) as raised:
        grid.run({**sweep, "data": {**sweep["data"], "store": data}}, executor="serial")
    assert SECRET not in str(raised.value)
    assert "\n" not in str(raised.value)
    prefix = sweep["results"]["store"].split("/")[3].partition("?")[0]
    assert "Contents" not in s3.client().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")


def test_credentials_are_in_nothing_that_is_said_or_stored(desk, sweep, proxy, monkeypatch):
    monkeypatch.setattr(s3_calls, "LONGEST_PAUSE_S", 0.05)
    proxy.faults = [Fault("status", p=0.2)]
    desk.write_sweep(**sweep)
    ran = desk.run("--log-json")
    stored = provider_for(sweep["results"]["store"])
    content = [stored.read(path) for path in stored.list()]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-wrong")
    refused = desk.run("--log-json")
    assert (ran.code, refused.code) == (0, 2), ran.err + refused.err
    content += [text.encode() for outcome in (ran, refused) for text in (outcome.out, outcome.err)]
    assert any(b"driver ends with" in one or b"done, 3" in one for one in content)  # the log is among them
    assert not any(map(has_credentials, content))


def save(store, number, barrier):
    sessions = SessionStore(provider_for(store))
    barrier.wait(200)
    folder = sessions.announce(f"s{number:02d}", {"strategy": "x", "symbol": "Y"})
    folder.create_document("summary.json", {"status": "done", "metrics": {"sharpe": number}})
    sessions.render_index()


def test_of_sessions_saved_by_threads_at_once_none_is_lost(s3, bucket):
    store, barrier = f"s3://{bucket}/several?endpoint_url={s3.url}", threading.Barrier(6)
    provider_for(store).check_writable()
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda n: save(store, n, barrier), range(6))) == [None] * 6
    shown = json.loads(provider_for(store).read("index.json"))["sessions"]
    assert [entry["metrics"] for entry in shown] == [{"sharpe": n} for n in range(6)]


@pytest.mark.slow  # a minute on two cores
def test_of_sessions_saved_at_once_none_is_lost(s3, bucket):
    store = f"s3://{bucket}/many?endpoint_url={s3.url}"
    provider_for(store).check_writable()
    barrier = SPAWN.Barrier(SAVERS)
    savers = [SPAWN.Process(target=save, args=(store, n, barrier)) for n in range(SAVERS)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join(250)
    assert [saver.exitcode for saver in savers] == [0] * SAVERS
    shown = json.loads(provider_for(store).read("index.json"))["sessions"]
    assert [entry["metrics"] for entry in shown] == [{"sharpe": n} for n in range(SAVERS)]
    assert [entry["session_id"] for entry in SessionStore(provider_for(store)).entries()] == [
        f"s{n:02d}" for n in range(SAVERS)
    ]
    assert len(commands("ls", "--store", store)) == SAVERS


@pytest.mark.ray
def test_on_ray_each_object_is_fetched_once_a_node(sweep, proxy, local_rows):
    telemetry = Telemetry()
    session = grid.run({**sweep, "cluster": {"cpus": 2}}, "ray", Watch(telemetry=telemetry), unit_size=40)
    assert session.trials().equals(local_rows)
    assert telemetry.prometheus.value("grid_read_bytes_total", tier="cache") > 0
    fetched = [path for verb, path, _ in proxy.seen if verb == "GET" and "/bars/" in path]
    assert len(fetched) == len(set(fetched))
