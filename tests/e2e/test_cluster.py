"""Sweeps on a cluster behind a token, with bars and results on S3: sent, followed, stopped and sent again."""

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.session import Session
from grid.sweep import run
from grid.telemetry import TABLE
from storage.providers import provider_for
from storage.sessions import SessionFolder
from tests.e2e.cluster import PATIENCE_S, Cluster, free_port, running
from tests.e2e.desk import Outcome
from tests.e2e.sweeps import small
from tests.rows import digest
from tests.sampled import check_sample
from tests.services.prometheus import asked, prometheus, value_of
from tests.services.seaweed import SECRET, Seaweed

pytestmark = [pytest.mark.ray, pytest.mark.s3]

MODULE = '''
"""A strategy that only the folder of its author has."""

import helper_of_mine
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Mine(Strategy):
    """`sma_cross` that takes its time until it is released."""

    depends_on = (helper_of_mine,)

    fast: int = Field(10, ge=1, le=1000)
    slow: int = Field(30, ge=1, le=1000)

    def signals(self, bars: Bars) -> Signals:
        helper_of_mine.wait()
        return cross(bars.sma(self.fast), bars.sma(self.slow))
'''
HELPER = """
import os
import time


def wait():
    if not os.path.exists({released!r}):
        time.sleep(0.04)
"""
FOREIGN = "Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n"


@pytest.fixture(scope="module")
def cluster(s3: Seaweed) -> Iterator[Cluster]:  # noqa: ARG001 - its environment is that of the nodes
    """Its nodes, and whoever types in its folder, have the credentials of the S3 server."""
    with running() as there:
        yield there


@pytest.fixture(scope="module")
def sweep(cluster: Cluster, s3: Seaweed, bars: str) -> dict[str, Any]:
    """Minutes of trials until they are released, of a strategy that no node has, in the cluster's folder."""
    (cluster.folder / "mine_alone.py").write_text(MODULE)
    (cluster.folder / "helper_of_mine.py").write_text(HELPER.format(released=str(cluster.folder / "released")))
    space = {"fast": {"range": [2, 40, 1]}, "slow": {"range": [5, 100, 1]}}
    spec = small(Path("unused"), strategy="mine_alone:Mine", space=space)
    spec["data"] = {**spec["data"], "store": f"s3://{bars}/bars?endpoint_url={s3.url}"}
    spec["results"] = {**spec["results"], "store": f"s3://{bars}/results-of-jobs?endpoint_url={s3.url}"}
    (cluster.folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return spec


@pytest.fixture(scope="module")
def sending(cluster: Cluster) -> tuple[str, ...]:
    """The command that sends the sweep as session s1, and finds it when it was sent before."""
    return ("submit", "sweep.yaml", "--address", cluster.url, "--session-id", "s1", "--json")


@pytest.fixture(scope="module")
def underway(cluster: Cluster, sweep: dict[str, Any], sending: tuple[str, ...]) -> SessionFolder:
    """Session s1, sent and left alone, its first trials committed. It goes on until the last test stops it."""
    detached = cluster.grid(*sending, "--detach")
    assert detached.code == 0, detached.err
    assert detached.json()["job_id"] == "s1"
    folder = SessionFolder(provider_for(sweep["results"]["store"]), "s1")
    until = time.monotonic() + PATIENCE_S
    while folder.read_commit(0) is None:
        assert time.monotonic() < until, cluster.grid("logs", "s1", "--address", cluster.url).out
        time.sleep(0.1)
    return folder


def one_sentence(outcome: Outcome, *told: str) -> None:
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for text in told:
        assert text in outcome.err


@pytest.mark.usefixtures("sweep")
def test_who_has_no_token_or_a_wrong_one_sends_nothing(cluster: Cluster):
    wrong, none = cluster.folder / "wrong", cluster.folder / "none"
    wrong.write_text(secrets.token_hex(32))
    send = ("submit", "sweep.yaml", "--address", cluster.url, "--detach")
    one_sentence(cluster.grid(*send, "--token-file", str(wrong)), "does not accept the token")
    one_sentence(cluster.grid(*send, "--token-file", str(none)), "cannot be read")
    one_sentence(cluster.grid("ls", "--address", cluster.url, token=wrong), "does not accept the token")
    one_sentence(without_token(cluster, *send), "asks for a token", "--token-file")
    named = without_token(cluster, "ls", "--address", cluster.url, "--token-file", str(cluster.token), "--json")
    assert json_of(named) == []  # nothing was sent, and naming the file is enough


def without_token(cluster: Cluster, *arguments: str) -> Outcome:
    ended = subprocess.run(
        [sys.executable, "-m", "grid", *arguments],
        cwd=cluster.folder,
        env=cluster.environment(None),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def test_a_doctor_sees_every_node(cluster: Cluster, s3: Seaweed, bars: str):
    stores = [f"s3://{bars}/{name}?endpoint_url={s3.url}" for name in ("bars", "results-of-a-doctor")]
    asked = ("doctor", "--address", cluster.url, "--data", stores[0], "--results", stores[1], "--json")
    seen = cluster.grid(*asked)
    found = {check["name"]: check for check in seen.json()}
    fine = {name for name, check in found.items() if check["ok"]}
    assert fine == {
        "authentication",
        "nodes",
        "head",
        "versions",
        "this machine",
        "threads",
        "clocks",
        "data",
        "results",
    }, seen.out
    assert found["nodes"]["found"] == "2 besides the head, 2 CPUs"
    assert found["data"]["found"] == "reached from 2 nodes"
    assert "only 0.1 GB" in found["object store"]["found"]
    assert "8 settings missing" in found["cut links"]["found"]
    assert "RAY_grpc_keepalive_time_ms=5000" in found["cut links"]["remedy"]
    assert seen.code == 2
    assert cluster.token.read_text() not in seen.out + seen.err
    one_sentence(without_token(cluster, *asked), "asks for a token", "--token-file")


def test_a_cluster_is_measured(cluster: Cluster):
    asked = ("bench", "--address", cluster.url, "--seconds", "0.05")
    seen = cluster.grid(*asked, "--json")
    found = seen.json()
    assert (seen.code, found["cpus"]) == (0, 2)
    assert found["speeds"][0]["what"] == "sma_cross, long"
    assert found["efficiency"] == found["rate_together"] / (2 * found["rate_alone"]) > 0
    refused = without_token(cluster, *asked)
    assert (refused.code, refused.out) == (2, "")
    assert "asks for a token" in refused.err


def test_a_driver_without_the_right_token_is_told_and_writes_nothing(cluster: Cluster):
    (cluster.folder / "wrong").write_text(secrets.token_hex(32))
    (cluster.folder / "mine.yaml").write_text(yaml.safe_dump(small(cluster.folder / "refused")))
    run_there = ("run", "mine.yaml", "--address", f"127.0.0.1:{cluster.gcs}", "-q")
    one_sentence(cluster.grid(*run_there, token=cluster.folder / "wrong"), "does not accept the token", "--token-file")
    one_sentence(without_token(cluster, *run_there), "asks for a token", "--token-file")
    assert not list((cluster.folder / "refused").rglob("*.json"))


@pytest.mark.usefixtures("sweep")
def test_what_cannot_be_reached_is_told(cluster: Cluster):
    nobody = f"http://127.0.0.1:{free_port()}"
    local = ("--set", "results.store=results")
    one_sentence(cluster.grid("submit", "sweep.yaml", "--address", nobody), nobody, "8265")
    one_sentence(cluster.grid("submit", "sweep.yaml", "--address", cluster.url, *local), "--shared-paths", "s3://")
    one_sentence(cluster.grid("logs", "who", "--address", cluster.url), "no job or session 'who'")


def test_a_wrong_port_is_told(cluster: Cluster):
    (cluster.folder / "mine.yaml").write_text(yaml.safe_dump(small(cluster.folder / "refused")))
    outcome = cluster.grid("run", "mine.yaml", "--address", f"127.0.0.1:{cluster.dashboard}", "-q")
    one_sentence(outcome, "is not the port of a Ray cluster", "6379")


@pytest.mark.parametrize(
    ("file", "content", "strategy", "told"),
    [
        ("only_here.py", None, "only_here:Mine", ("no worker can start on the cluster", "only_here", "grid submit")),
        ("numba-0.1.dist-info/METADATA", FOREIGN, "sma_cross", ("where the driver has 0.1", "rows could differ")),
    ],
    ids=["module", "version"],
)
def test_workers_that_are_not_like_the_driver_get_no_work(
    cluster: Cluster, file: str, content: str | None, strategy: str, told: tuple[str, ...]
):
    """The driver alone has the strategy's module, or another Numba than the nodes."""
    alone, store = cluster.folder / f"alone-{strategy[0]}", cluster.folder / f"unlike-{strategy[0]}"
    (alone / file).parent.mkdir(parents=True)
    (alone / file).write_text(content or MODULE.replace("helper_of_mine", "pprint").replace("wait()", "pformat(1)"))
    (cluster.folder / "unlike.yaml").write_text(yaml.safe_dump(small(store, strategy=strategy)))
    address = f"127.0.0.1:{cluster.gcs}"
    outcome = cluster.grid("run", "unlike.yaml", "--address", address, "-q", PYTHONPATH=str(alone))
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    (error,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert all(text in error for text in told), error
    session = Session.open("latest", str(store))
    assert session.status == "interrupted"
    assert session.ledger.next_n == 0


def test_the_dashboard_tells_session_and_units(cluster: Cluster, underway: SessionFolder):
    """Actors and tasks by session, and each unit in the log of its worker.

    The driver is on one of the nodes and not on the head.
    """
    name = underway.session_id
    heads = [node["node_id"] for node in cluster.listed("nodes") if node["is_head_node"]]
    assert len(heads) == 1
    assert cluster.asked(f"/api/jobs/{name}")["driver_node_id"] not in [None, *heads]
    actors = {actor["name"] or "" for actor in cluster.listed("actors") if actor["state"] == "ALIVE"}
    assert any(actor.startswith(f"{name} worker ") for actor in actors)
    assert any(actor.startswith(f"{name} aggregator ") for actor in actors)
    tasks = {task["name"] for task in cluster.listed("tasks")}
    assert {f"{name} trials", f"{name} bars"} <= tasks
    logs = "".join(log.read_text() for log in (cluster.folder / "ray").glob("session_2*/logs/worker-*.err"))
    assert re.search(rf"session {name}: trials \[0, \d+\) on AAPL 1D\n", logs)


@pytest.mark.usefixtures("underway")
def test_a_real_prometheus_reads_the_running_job(cluster: Cluster, tmp_path: Path):
    """It scrapes the ports that Ray exports, which need no token."""
    found = [{"targets": group["targets"]} for group in cluster.asked("/api/prometheus/sd")]
    scraping = {"static_configs": found, "scrape_interval": "2s", "scrape_timeout": "2s"}
    with prometheus(tmp_path, scraping) as url:
        assert value_of(url, 'ray_grid_trials_total{state="ok", strategy="mine_alone:Mine"}') > 0
        assert value_of(url, "ray_grid_kernel_seconds_total") > 0
        assert abs(value_of(url, "ray_grid_heartbeat_timestamp_seconds") - time.time()) < 60
        names = {row["metric"]["__name__"] for row in asked(url, '{__name__=~"ray_grid_.*"}')}
        known = {f"ray_{metric.name}" for metric in TABLE}
        assert {re.sub("_(bucket|count|sum)$", "", name) for name in names} <= known
        assert value_of(url, 'count(count by (Name) (ray_tasks{Name=~"s1 trials.*"}))') == 1


def test_stopped_and_sent_again_it_has_the_rows_of_one_process(
    cluster: Cluster,
    sweep: dict[str, Any],
    sending: tuple[str, ...],
    underway: SessionFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Found where it runs, stopped, sent again and stopped by a limit, sent again and done."""
    store = sweep["results"]["store"]
    following = cluster.begin(*sending)
    assert "session s1, job s1\n" in following.stderr.readline()
    stopped = cluster.grid("stop", "s1", "--address", cluster.url, "--json")
    assert stopped.json()["status"] == "STOPPED", stopped.err
    _, err = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 130, err
    assert f"Next: grid submit sweep.yaml --address {cluster.url} --session-id s1\n" in err
    assert "grid resume" not in err
    assert "job_manager.py" not in err
    assert cluster.grid("watch", "s1", "--store", store, "-q").code == 130
    log = underway.read_log().decode()
    assert "ray executor" in log
    assert "interrupted" in log

    limited = cluster.grid(*sending, "--max-runtime", "1", "--log-json")
    assert limited.code == 3, limited.err
    assert limited.json()["job_id"] == "s1.2"
    assert limited.json()["exit_code"] == 3
    assert "--max-runtime allows 1 s" in limited.err
    said = [json.loads(line) for line in limited.err.splitlines() if line.startswith("{")]
    assert {line["session_id"] for line in said if line["logger"] == "grid.sweep"} == {"s1"}

    (cluster.folder / "released").touch()
    resumed = cluster.grid(*sending, "--log-json")
    assert resumed.code == 0, resumed.err
    assert resumed.json()["job_id"] == "s1.3"
    assert any(line["session_id"] == "s1" and "trials [" in line["message"] for line in json_lines_of_workers(cluster))
    session = Session.open("s1", store)
    assert session.status == "done"
    jobs = json_of(cluster.grid("ls", "--address", cluster.url, "--json"))
    assert [(job["job_id"], job["status"]) for job in jobs] == [
        ("s1", "stopped"),
        ("s1.2", "refused or over a limit"),
        ("s1.3", "done"),
    ]
    told = cluster.grid("logs", "s1.3", "--address", cluster.url).out
    assert "s1" in told
    stored = [session.folder.provider.read(path).decode("latin-1") for path in session.folder.provider.list()]
    for text in (told, err, limited.err, resumed.err, *stored):
        assert not any(secret in text for secret in (cluster.token.read_text(), SECRET, "key-of-"))
    monkeypatch.syspath_prepend(str(cluster.folder))
    alone = run({**small(tmp_path), **{name: sweep[name] for name in ("strategy", "space")}}, "serial")
    assert session.metadata["fingerprint"] == alone.metadata["fingerprint"]
    assert digest(session.trials()) == digest(alone.trials())
    assert check_sample(session) > 0


def json_lines_of_workers(cluster: Cluster) -> list[dict[str, Any]]:
    logs = (cluster.folder / "ray").glob("session_2*/logs/worker-*.err")
    return [json.loads(line) for log in logs for line in log.read_text().splitlines() if line.startswith("{")]


def json_of(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome.json()
