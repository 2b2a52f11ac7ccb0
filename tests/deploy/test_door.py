"""deploy/compose/door.py: nodes of the stack reach S3, and nothing else of SeaweedFS."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.deploy.test_compose import COMPOSE, FILES
from tests.deploy.tools import checked
from tests.services import seaweed

PATIENCE_S = 60


def test_nodes_reach_nothing_of_the_store_but_its_door():
    """Through its filer whoever reaches that reads, replaces and deletes bars without a key."""
    services = json.loads(checked("docker-compose", *FILES, "config", "--format", "json"))["services"]
    store, door = services["seaweedfs"], services["s3"]
    assert (set(store["networks"]), store.get("ports")) == ({"store"}, None)
    assert {name for name, service in services.items() if "store" in service["networks"]} == {"seaweedfs", "s3"}
    assert door["command"] == ["python", "/etc/door.py", "0.0.0.0:8333", "seaweedfs:8333"]
    (mount,) = door["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == (str(COMPOSE / "door.py"), "/etc/door.py", True)
    for name in ("ray-head", "ray-worker", "grid"):
        assert services[name]["environment"]["AWS_ENDPOINT_URL"] == "http://s3:8333", name


@contextlib.contextmanager
def door(port: int, store: str) -> Iterator["subprocess.Popen[bytes]"]:
    """It, before that store, once it is open."""
    with subprocess.Popen([sys.executable, COMPOSE / "door.py", f"127.0.0.1:{port}", store]) as process:
        try:
            until = time.monotonic() + PATIENCE_S
            while not _open(port):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def _open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.s3
def test_s3_is_spoken_through_it(s3: seaweed.Seaweed, bucket: str):
    """Signatures hold, and what is large comes whole both ways."""
    port = seaweed._free_ports()
    body = bytes(range(256)) * 20_000
    with door(port, s3.url.removeprefix("http://")):
        client = seaweed.Seaweed(f"http://127.0.0.1:{port}").client()
        client.put_object(Bucket=bucket, Key="a", Body=body)
        assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == body


def test_a_store_that_is_away_ends_connections_and_not_the_door():
    port = seaweed._free_ports()
    with door(port, f"127.0.0.1:{port + 1}") as process:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
        assert process.poll() is None
