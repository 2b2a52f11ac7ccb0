"""A Ray cluster as operators have it: a head without CPUs and nodes of one, each a process, behind a token."""

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

from tests.e2e.desk import ROOT, Outcome

RAY = Path(sys.executable).parent / "ray"
PATIENCE_S = 120.0


def free_port() -> int:
    """A port above those that Ray gives to its workers."""
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
    nodes: tuple[str, ...] = ("--num-cpus=1", "--num-cpus=1")
    """Options of `ray start`, for each node besides the head."""
    head: tuple[str, ...] = ()
    """More options of `ray start --head`."""
    gcs: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    agents: list[int] = field(default_factory=list)
    """Ports of the agents of its nodes, the head's first."""

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
        }
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **settings, **auth}

    def start(self) -> None:
        """The head, then its nodes one after the other: nodes of one machine that start at once are in their way."""
        head = f"--head --port={self.gcs} --num-cpus=0 --dashboard-port={self.dashboard}"
        self._start(*head.split(), f"--temp-dir={self.folder / 'ray'}", *self.head)
        for number, options in enumerate(self.nodes, 1):
            self.wait_until_up(number)
            self._start(f"--address=127.0.0.1:{self.gcs}", *options.split())
        self.wait_until_up(1 + len(self.nodes))

    def _start(self, *options: str) -> None:
        with (self.folder / f"ray-{len(self.processes)}.log").open("wb") as log:
            self.agents.append(free_port())  # three nodes share one machine
            agent = f"--dashboard-agent-listen-port={self.agents[-1]}"
            command = [str(RAY), "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", agent]
            command += ["--object-store-memory=100000000", *options]
            self.processes.append(
                subprocess.Popen(command, env=self.environment(self.token), stdout=log, stderr=log, cwd=self.folder)
            )

    def wait_until_up(self, nodes: int) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError):
                if len([node for node in self.listed("nodes") if node["state"] == "ALIVE"]) >= nodes:
                    return
            logs = "\n".join(log.read_text()[-1500:] for log in self.folder.glob("ray-*.log"))
            assert time.monotonic() < until, f"the cluster did not come up:\n{logs}"
            time.sleep(0.2)

    def listed(self, what: str) -> list[dict[str, Any]]:
        """What the Dashboard lists: nodes, actors or tasks."""
        found: list[dict[str, Any]] = self.asked(f"/api/v0/{what}?detail=1")["data"]["result"]["result"]
        return found

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

    def begin(self, *arguments: str, token: Path | None = None, **environment: str) -> "subprocess.Popen[str]":
        """`grid ARGUMENTS` as a user of the cluster types it; by default with the cluster's token."""
        return subprocess.Popen(
            [sys.executable, "-m", "grid", *arguments],
            cwd=self.folder,
            env={**self.environment(token or self.token), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def grid(self, *arguments: str, token: Path | None = None, **environment: str) -> Outcome:
        """How it ended."""
        process = self.begin(*arguments, token=token, **environment)
        out, err = process.communicate(timeout=PATIENCE_S)
        return Outcome(process.returncode, out, err)


@contextlib.contextmanager
def running(*nodes: str, kind: type[Cluster] = Cluster) -> Iterator[Cluster]:
    """A cluster in a folder of its own, with a token of its own; nodes: see `Cluster`, its kind's unless said."""
    with tempfile.TemporaryDirectory(prefix="grid-", ignore_cleanup_errors=True) as name:  # sockets need short paths
        folder = Path(name)
        (folder / "token").write_text(secrets.token_hex(32))
        there = kind(folder, folder / "token", nodes=nodes or kind.nodes)
        try:
            there.start()
            yield there
        finally:
            there.end()
