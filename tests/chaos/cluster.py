"""A Ray of several nodes, each a tree of processes of its own that can be killed, cut off and started again."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from grid.partition import CLUSTER_SETTINGS
from tests.chaos.network import Network
from tests.conftest import REPOSITORY

RAY = str(Path(sys.executable).with_name("ray"))
START_S = 120.0
PATIENT = {"RAY_agent_register_timeout_ms": "120000", "RAY_raylet_start_wait_time_s": "120"}
"""A loaded machine takes long to start a node."""


@dataclass
class Nodes:
    """Node 0 is the head, without CPUs; the others have `cpus` each. head_options: more for `ray start --head`."""

    network: Network
    folder: Path
    logs: Path
    port: int
    environment: dict[str, str]
    head_options: tuple[str, ...] = ()
    cpus: int = 1
    running: dict[int, psutil.Popen] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.network.address(0)}:{self.port}"

    def command(self, place: int, *words: str) -> list[str]:
        """What runs `words` on a machine of its own, as far as Ray can see: a driver looks for the raylets among the
        processes, and prefers the head's. Such a place has processes and folders of its own, and so has who enters it.
        """
        if not self.network.can_cut:
            return list(words)
        if place in self.running and self.alive(place):
            first = self.running[place].children()[0].pid
            there = ["nsenter", "--target", str(first), "--net", "--mount", "--pid"]
            return [*there, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(REPOSITORY), *words]
        own = self.folder / f"place-{place}"
        own.mkdir(exist_ok=True)
        (self.folder / "ray").mkdir(exist_ok=True)
        bind = ("sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", str(own), str(self.folder / "ray"))
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        return [*self.network.within(place), *apart, *bind, *words]

    def start(self, place: int) -> None:
        """Start the node of a place, and do not wait for it."""
        ip = self.network.address(place)
        head = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"]
        head += self.head_options
        member = [f"--address={self.address}", f"--num-cpus={self.cpus}"]
        command = [*(head if place == 0 else member), f"--node-ip-address={ip}", "--object-store-memory=120000000"]
        command += ["--disable-usage-stats", "--block", *([f"--temp-dir={self.folder}/ray"] if place == 0 else [])]
        log = (self.logs / f"node-{place}.log").open("ab")
        self.running[place] = psutil.Popen(
            self.command(place, RAY, "start", *command),
            env=self.environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        log.close()

    def wait_for_head(self) -> None:
        """Until the head listens; it is asked from where it is."""
        probe = f"import socket; socket.create_connection(('{self.network.address(0)}', {self.port}), 1)"
        until = time.monotonic() + START_S
        command = [*self.network.within(0), sys.executable, "-c", probe]
        while subprocess.run(command, check=False, capture_output=True).returncode:
            if time.monotonic() > until:
                raise RuntimeError(f"the head does not start: {(self.logs / 'node-0.log').read_text()[-2000:]}")
            time.sleep(0.2)

    def wait_for_node(self, place: int) -> None:
        """Until its raylet runs, with ports of its own. A member that asks before the head has entered itself gives up
        at once, as on a machine that is short of time: it is started again.
        """
        until = time.monotonic() + START_S
        while not self.alive(place):
            if time.monotonic() > until:
                raise RuntimeError(f"node {place} does not start: {(self.logs / f'node-{place}.log').read_text()}")
            if self.running[place].poll() is not None:
                self.start(place)
            time.sleep(0.1)

    def kill(self, place: int) -> None:
        """SIGKILL to every process of a node."""
        for process in self.tree(place):
            with suppress(psutil.Error):
                process.kill()
        with suppress(psutil.Error):
            self.running[place].wait(20)

    def tree(self, place: int) -> list[psutil.Process]:
        """The processes of a node."""
        try:
            top = self.running[place]
            return [*top.children(recursive=True), top]
        except psutil.Error:
            return []

    def alive(self, place: int) -> bool:
        """Whether the raylet of a node runs: one that was taken for dead ends itself when it hears of it."""
        return any(_name(process) == "raylet" for process in self.tree(place))

    def titled(self, pattern: str) -> list[psutil.Process]:
        """Processes of Ray on any node whose title, what they do at the moment, matches from its beginning."""
        found = []
        for place in self.running:
            found += [p for p in self.tree(place) if re.match(f"ray::{pattern}", _title(p))]
        return found

    def stop(self) -> None:
        for place in list(self.running):
            self.kill(place)


def _title(process: psutil.Process) -> str:
    try:
        return str((process.cmdline() or [""])[0])
    except psutil.Error:
        return ""


def runs(process: psutil.Process) -> bool:
    """Whether a process is one still, and does not only wait to be buried."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name()) if runs(process) else ""
    except psutil.Error:
        return ""


@contextmanager
def nodes(network: Network, members: int, environment: dict[str, str], logs: Path, **options: Any) -> Iterator[Nodes]:
    """A head and so many members; all of it but their `logs` is gone when the block ends. options: of `Nodes`."""
    folder = Path(tempfile.mkdtemp(prefix="gc"))  # short: the paths of Ray's sockets must fit into 107 bytes
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PYTHONPATH": str(REPOSITORY)}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    everything = {**inherited, **CLUSTER_SETTINGS, **PATIENT, **own, **environment}
    made = Nodes(network, folder, logs, free_port(), everything, **options)
    try:
        made.start(0)
        made.wait_for_head()
        made.wait_for_node(0)
        for place in range(1, members + 1):
            made.start(place)
            made.wait_for_node(place)
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """Outside 10002-19999, which Ray's workers use."""
    with socket.socket() as probe:
        for port in range(20_100 + os.getpid() % 5_000, 32_000):
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("no free port")
