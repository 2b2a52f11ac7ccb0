"""Sweeps whose bars and results lie in a bucket: the rows of a local one, few requests, and nothing lost."""

import json
import multiprocessing
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import grid
from grid.cli import app
from grid.sweep import Watch
from storage.providers import provider_for, s3_calls
from storage.sessions import SessionStore
from tests.e2e.sweeps import DATA, small
from tests.services.fault_proxy import Fault, fault_proxy

pytestmark = pytest.mark.s3
SPAWN = multiprocessing.get_context("spawn")
SAVERS = 32


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


def commands(*words):
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_a_sweep_is_run_listed_and_shown(sweep, proxy, local_rows):
    session = grid.run(sweep, executor="serial")
    assert session.trials().equals(local_rows)
    spent, of_bars = proxy.verbs(), proxy.verbs("/bars/")
    files = len([f for s in ("AAPL", "IBM") for f in (DATA / s).rglob("*.parquet")])
    assert of_bars["GET"] <= files  # each once, for the rehearsal, the sweep and its leaders
    assert spent["PUT"] <= 16  # two of them the heartbeat's first and last, one the log's
    assert spent["LIST"] <= 14
    assert spent["GET"] - of_bars["GET"] <= 18
    assert of_bars["HEAD"] <= 5 * files
    store = sweep["results"]["store"]
    for words, most in ((("ls",), 2), (("top", session.id), 5), (("show", session.id), 6)):
        proxy.seen.clear()
        told = commands(*words, "--store", store)
        assert told
        assert sum(proxy.verbs().values()) <= most


def test_a_session_that_was_interrupted_is_resumed(sweep, local_rows):
    steps = iter(range(100))
    stopped = grid.run(sweep, executor="serial", watch=Watch(stopping=lambda: next(steps) > 1), unit_size=40)
    assert stopped.status == "interrupted"
    (listed,) = commands("ls", "--store", sweep["results"]["store"])
    assert listed["status"] == "interrupted"
    resumed = grid.resume(grid.Session.open(stopped.id, sweep["results"]["store"]), executor="serial")
    assert resumed.status == "done"
    assert resumed.trials().equals(local_rows)
    (listed,) = commands("ls", "--store", sweep["results"]["store"])
    assert (listed["status"], listed["datasets"]) == ("done", 2)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("status", p=0.2), marks=pytest.mark.slow),
        pytest.param(Fault("reset", p=0.1), marks=pytest.mark.slow),
        Fault("reset_after", p=0.1),
        pytest.param(Fault("truncate", "GET", length=100, p=0.2), marks=pytest.mark.slow),
        Fault("flip", "GET", path=r"/(bars|trials|commits)/", length=60, p=0.2),
    ],
    ids=["status", "reset", "reset_after", "truncate", "flip"],
)
def test_on_a_bad_day_the_rows_are_the_same_and_each_is_there_once(sweep, proxy, local_rows, monkeypatch, fault):
    monkeypatch.setattr(s3_calls, "LONGEST_PAUSE_S", 0.05)
    proxy.faults = [fault]
    session = grid.run(sweep, executor="serial", unit_size=40)
    assert session.trials().equals(local_rows)
    assert sum(proxy.verbs().values()) < 400
    proxy.faults = []
    log = list(session.folder.commits())
    ranges = sorted(r for record in log for part in record.parts for r in part.ranges)
    assert all(a[1] <= b[0] for a, b in pairwise(ranges))


def save(store, number, barrier):
    sessions = SessionStore(provider_for(store))
    barrier.wait(200)
    folder = sessions.announce(f"s{number:02d}", {"strategy": "x", "symbol": "Y"})
    folder.create_document("summary.json", {"status": "done", "metrics": {"sharpe": number}})
    sessions.render_index()


@pytest.mark.slow  # a minute on two cores; eight savers on a folder are in tests/storage/test_sessions.py
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
    session = grid.run({**sweep, "cluster": {"cpus": 2}}, executor="ray", unit_size=40)
    assert session.trials().equals(local_rows)
    fetched = [path for verb, path, _ in proxy.seen if verb == "GET" and "/bars/" in path]
    assert len(fetched) == len(set(fetched))
