"""A cluster as operators have it: a head without CPUs and two workers, each a process of its own, behind a token."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from grid.session import Session
from grid.sweep import run
from grid.telemetry import TABLE
from tests.e2e.desk import Outcome
from tests.e2e.sweeps import small
from tests.rows import digest

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).parent / "ray"
PATIENCE_S = 60.0
pytestmark = pytest.mark.ray

MODULE = '''
"""A strategy that only the folder of its author has."""

import helper_of_mine
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross


class Mine(Strategy):
    """`sma_cross` that takes its time on the cluster."""

    depends_on = (helper_of_mine,)

    fast: int = Field(10, ge=1, le=1000)
    slow: int = Field(30, ge=1, le=1000)

    def signals(self, bars: Bars) -> Signals:
        helper_of_mine.wait()
        return cross(bars.sma(self.fast), bars.sma(self.slow))
'''
HELPER = "import os\nimport time\n\n\ndef wait():\n    time.sleep(float(os.environ.get('PAUSE', '0')))\n"


def free_port() -> int:
    """A port below those that Ray gives to its workers."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            if (port := int(probe.getsockname()[1])) > 20_000:
                return port


@dataclass
class Cluster:
    """Its processes, where it answers, and the folder in which users of it type."""

    folder: Path
    token: Path
    gcs: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def environment(self, token: Path | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GRID_"))}
        path = f"{RAY.parent}{os.pathsep}{kept['PATH']}"
        settings = {
            "RAY_agent_register_timeout_ms": "120000",
            "RAY_raylet_start_wait_time_s": "120",
            "RAY_metrics_report_interval_ms": "1000",
            "PAUSE": "0.04",
        }
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **settings, **auth}

    def start(self, *options: str) -> None:
        with (self.folder / f"ray-{len(self.processes)}.log").open("wb") as log:
            agent = f"--dashboard-agent-listen-port={free_port()}"  # three nodes share one machine
            command = [str(RAY), "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", agent]
            command += options
            self.processes.append(
                subprocess.Popen(command, env=self.environment(self.token), stdout=log, stderr=log, cwd=self.folder)
            )

    def wait_until_up(self, nodes: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                found = self.asked("/api/v0/nodes")["data"]["result"]["result"]
                if len([node for node in found if node["state"] == "ALIVE"]) >= nodes:
                    return
            logs = "\n".join(log.read_text()[-1500:] for log in self.folder.glob("ray-*.log"))
            assert time.monotonic() < until, f"the cluster did not come up:\n{logs}"
            time.sleep(0.3)

    def asked(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}{path}")  # noqa: S310 - http, from above
        request.add_header("Authorization", f"Bearer {self.token.read_text()}")
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return json.loads(answer.read())

    def end(self) -> None:
        """Each process that was started here, and its children; nobody else's."""
        family = [child for p in self.processes for child in psutil.Process(p.pid).children(recursive=True)]
        for process in reversed(self.processes):
            process.terminate()
        psutil.wait_procs(family, timeout=5)
        for process in [*family, *(psutil.Process(p.pid) for p in self.processes if p.poll() is None)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.processes:
            process.wait()

    def begin(self, *arguments: str, token: Path | None = None) -> "subprocess.Popen[str]":
        """`grid ARGUMENTS` as a user of the cluster types it; by default with the cluster's token."""
        return subprocess.Popen(
            [sys.executable, "-m", "grid", *arguments],
            cwd=self.folder,
            env=self.environment(token or self.token),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def grid(self, *arguments: str, token: Path | None = None) -> Outcome:
        process = self.begin(*arguments, token=token)
        out, err = process.communicate(timeout=PATIENCE_S)
        return Outcome(process.returncode, out, err)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="grid-", ignore_cleanup_errors=True) as name:  # sockets need short paths
        folder = Path(name)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        there = Cluster(folder, token)
        try:
            there.start(
                *("--head", f"--port={there.gcs}", "--num-cpus=0", f"--temp-dir={folder / 'ray'}"),
                *(f"--dashboard-port={there.dashboard}", "--object-store-memory=100000000"),
            )
            there.wait_until_up(1)
            for nodes in (2, 3):  # one after the other: two nodes of one machine that start at once get in their way
                there.start(f"--address=127.0.0.1:{there.gcs}", "--num-cpus=1", "--object-store-memory=100000000")
                there.wait_until_up(nodes)
            yield there
        finally:
            there.end()


@pytest.fixture
def sweep(cluster: Cluster) -> dict[str, Any]:
    """About 330 trials of 40 ms of a strategy that no node has, written to the cluster's folder."""
    (cluster.folder / "mine_alone.py").write_text(MODULE)
    (cluster.folder / "helper_of_mine.py").write_text(HELPER)
    space = {"fast": {"range": [2, 20, 1]}, "slow": {"range": [5, 50, 5]}}
    spec = small(cluster.folder / "results", strategy="mine_alone:Mine", space=space)
    (cluster.folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return spec


def test_submit_follow_stop_and_submit_again(
    cluster: Cluster, sweep: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The rows are those of one process, although the driver was stopped on its way."""
    send = ("submit", "sweep.yaml", "--address", cluster.url, "--shared-paths", "--session-id", "s1")
    detached = cluster.grid(*send, "--detach", "--json")
    assert detached.code == 0, detached.err
    assert detached.json()["job_id"] == "s1"
    again = cluster.begin(*send, "--json")  # finds the job that is there, and follows it
    wait_for_commits(cluster.folder / "results" / "s1", 1)
    series = wait_for_series(cluster, "ray_grid_kernel_seconds_total")
    names = [actor["name"] for actor in cluster.asked("/api/v0/actors?detail=1")["data"]["result"]["result"]]
    stopped = cluster.grid("stop", "s1", "--address", cluster.url, "--json")
    assert stopped.json()["status"] == "STOPPED", stopped.err
    _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 130, err
    assert "session s1, job s1" in err
    assert any(name.startswith("s1 worker ") for name in names if name)
    assert any(name.startswith("s1 aggregator ") for name in names if name)
    there = ("--store", str(cluster.folder / "results"))
    assert cluster.grid("watch", "s1", *there, "-q").code == 130
    log = (cluster.folder / "results" / "s1" / "driver.log").read_text()
    assert "ray executor" in log
    assert "interrupted" in log

    resumed = cluster.grid(*send, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json()["job_id"] == "s1.2"
    session = Session.open("s1", str(cluster.folder / "results"))
    assert session.status == "done"
    jobs = json_of(cluster.grid("ls", "--address", cluster.url, "--json"))
    assert [(job["job_id"], job["status"]) for job in jobs] == [("s1", "stopped"), ("s1.2", "succeeded")]
    assert "s1" in cluster.grid("logs", "s1.2", "--address", cluster.url).out
    monkeypatch.syspath_prepend(str(cluster.folder))
    alone = run({**sweep, "results": {"store": str(tmp_path), "keep_best": 3}}, "serial")
    assert session.metadata["fingerprint"] == alone.metadata["fingerprint"]
    assert digest(session.trials()) == digest(alone.trials())
    assert {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in series} <= {
        f"ray_{metric.name}" for metric in TABLE
    }


@pytest.mark.usefixtures("sweep")
def test_the_drivers_own_exit_code_comes_back(cluster: Cluster):
    refused = cluster.grid(
        *("submit", "sweep.yaml", "--address", cluster.url, "--shared-paths", "--max-trials", "5", "--json")
    )
    assert refused.code == 3, refused.err
    assert "--max-trials allows 5" in refused.err
    assert refused.json()["exit_code"] == 3


def one_sentence(outcome: Outcome, *told: str) -> None:
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1, outcome.err
    assert "Traceback" not in outcome.err
    for text in told:
        assert text in outcome.err


@pytest.mark.usefixtures("sweep")
def test_without_the_right_token_nobody_is_let_in(cluster: Cluster):
    wrong, none = cluster.folder / "wrong", cluster.folder / "none"
    wrong.write_text(secrets.token_hex(32))
    send = ("submit", "sweep.yaml", "--address", cluster.url, "--shared-paths", "--detach")
    one_sentence(cluster.grid(*send, "--token-file", str(wrong)), "does not accept the token")
    one_sentence(cluster.grid(*send, "--token-file", str(none)), "cannot be read")
    one_sentence(cluster.grid("ls", "--address", cluster.url, token=wrong), "does not accept the token")
    bare = cluster.environment(None)
    command = [sys.executable, "-m", "grid", *send]
    ended = subprocess.run(command, cwd=cluster.folder, env=bare, capture_output=True, text=True, timeout=PATIENCE_S)
    one_sentence(Outcome(ended.returncode, ended.stdout, ended.stderr), "asks for a token", "--token-file")


@pytest.mark.slow  # Ray takes some twenty seconds to give up
def test_a_driver_without_the_right_token_is_told(cluster: Cluster):
    wrong = cluster.folder / "wrong"
    wrong.write_text(secrets.token_hex(32))
    (cluster.folder / "mine.yaml").write_text(yaml.safe_dump(small(cluster.folder / "refused")))
    run_there = ("run", "mine.yaml", "--address", f"127.0.0.1:{cluster.gcs}", "-q")
    outcome = cluster.grid(*run_there, token=wrong)
    assert outcome.code == 2, outcome.err
    assert "Traceback" not in outcome.err
    assert "does not answer as a Ray cluster" in outcome.err
    assert "--token-file" in outcome.err


@pytest.mark.usefixtures("sweep")
def test_what_cannot_be_reached_is_told(cluster: Cluster):
    nobody = f"http://127.0.0.1:{free_port()}"
    one_sentence(cluster.grid("submit", "sweep.yaml", "--address", nobody, "--shared-paths"), nobody, "8265")
    one_sentence(cluster.grid("submit", "sweep.yaml", "--address", cluster.url), "--shared-paths", "s3://")
    one_sentence(cluster.grid("logs", "who", "--address", cluster.url), "no job or session 'who'")


def json_of(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return outcome.json()


def wait_for_commits(session: Path, wanted: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while len(list(session.glob("commits/*.json"))) < wanted:
        assert time.monotonic() < until, "nothing was committed"
        time.sleep(0.05)


def wait_for_series(cluster: Cluster, wanted: str) -> set[str]:
    """The names of our series on the ports of Ray's nodes, once `wanted` is among them."""
    until = time.monotonic() + 20
    while True:
        found = {line.split("{")[0] for line in exported(cluster) if line.startswith("ray_grid_")}
        if wanted in found:
            return found
        assert time.monotonic() < until, f"Ray exports {found}"
        time.sleep(0.3)


def exported(cluster: Cluster) -> list[str]:
    """What the nodes export, line by line, as far as they answer."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        targets = {target for group in cluster.asked("/api/prometheus/sd") for target in group["targets"]}
        for target in targets:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as answer:
                lines += answer.read().decode().splitlines()
    return lines
