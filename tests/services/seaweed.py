"""A real S3 server, SeaweedFS, from its wheel."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADMIN, READER, WRITER, NO_LIST, NO_READ = "admin", "reader", "writer", "no-list", "no-read"
ACTIONS = {
    ADMIN: ["Admin", "Read", "Write", "List", "Tagging"],
    READER: ["Read", "List"],
    WRITER: ["Write"],
    NO_LIST: ["Read", "Write"],
    NO_READ: ["List", "Write"],
}
SECRET = "not-so-secret"  # noqa: S105 - of a server that lives as long as a test


@dataclass(frozen=True)
class Seaweed:
    """A running server and its identities, each with its actions and with its name as access key."""

    url: str

    def environment(self, identity: str = ADMIN) -> dict[str, str]:
        """The AWS_* variables of one identity, without the endpoint."""
        return {
            "AWS_ACCESS_KEY_ID": f"key-of-{identity}",
            "AWS_SECRET_ACCESS_KEY": f"{SECRET}-{identity}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A plain client of the administrator, without the code under test."""
        from botocore.config import Config
        from botocore.session import Session

        names = self.environment()
        return Session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """The server, warm, for as long as the block lasts."""
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": f"key-of-{name}", "secretKey": f"{SECRET}-{name}"}],
            "actions": actions,
        }
        for name, actions in ACTIONS.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    port = _free_ports()
    with (folder / "log").open("wb") as log:
        home = {**os.environ, "HOME": str(folder)}
        server = subprocess.Popen(_command(folder, port), stdout=log, stderr=log, env=home)
    try:
        running = Seaweed(f"http://127.0.0.1:{port}")
        _wait(running.url, server)
        _warm(running.client())
        yield running
    finally:
        server.kill()  # nothing in it is wanted any more, and an orderly end takes it 20 s
        server.wait(10)


def _command(folder: Path, port: int) -> list[str]:
    weed = Path(sys.executable).with_name("weed")
    program = str(weed) if weed.exists() else shutil.which("weed") or "weed"
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": port + 1,
        "volume.port": port + 2,
        "filer.port": port + 3,
        "s3.port": port,
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.volumeSizeLimitMB": 512,
        "volume.max": 100,
        "master.telemetry": "false",
    }
    return [program, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]


def _free_ports() -> int:
    """The first of four that are free, each with the one 10,000 above it."""
    for port in random.sample(range(12_000, 30_000, 10), 100):
        if all(_is_free(port + i + above) for i in range(4) for above in (0, 10_000)):
            return port
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if server.poll() is not None:
            raise RuntimeError(f"SeaweedFS ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own server
            return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("SeaweedFS does not answer")


def _warm(client: Any) -> None:
    """The first write makes a volume, which takes seconds and may fail once."""
    client.create_bucket(Bucket="warm")
    until = time.monotonic() + 120
    while True:
        try:
            client.put_object(Bucket="warm", Key="up", Body=b"")
            return
        except Exception:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
