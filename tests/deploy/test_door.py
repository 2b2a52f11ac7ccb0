"""deploy/compose/Caddyfile: nodes of the stack reach S3, and nothing else of SeaweedFS, by a real Caddy."""

import contextlib
import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.probing import try_all
from storage.providers import provider_for
from tests.deploy.test_compose import COMPOSE, FILES
from tests.deploy.tools import checked
from tests.services import seaweed
from tests.services.caddy import caddy
from tests.services.prometheus import free_port

CADDYFILE = COMPOSE / "Caddyfile"
HOST = "127.0.0.1"


def test_nodes_reach_nothing_of_the_store_but_its_door():
    """Through its filer whoever reaches that reads, replaces and deletes bars without a key."""
    services = json.loads(checked("docker-compose", *FILES, "config", "--format", "json"))["services"]
    store, door = services["seaweedfs"], services["s3"]
    assert (set(store["networks"]), store.get("ports")) == ({"store"}, None)
    assert {name for name, service in services.items() if "store" in service["networks"]} == {"seaweedfs", "s3"}
    assert (door["command"], door["entrypoint"], door.get("environment")) == (None, None, None), "those of the image"
    (mount,) = door["volumes"]
    assert (mount["source"], mount["target"], mount["read_only"]) == (str(CADDYFILE), "/etc/caddy/Caddyfile", True)
    for name in ("ray-head", "ray-worker", "grid"):
        assert services[name]["environment"]["AWS_ENDPOINT_URL"] == "http://s3:8333", name


def test_it_leads_to_s3_alone():
    config = json.loads(checked("caddy", "adapt", "--validate", "--config", CADDYFILE))
    assert config["admin"] == {"disabled": True, "config": {"persist": False}}
    assert config["apps"].pop("tls") == {"disable_storage_clean": True}
    assert set(config["apps"]) == {"http"}
    (server,) = config["apps"]["http"]["servers"].values()
    assert (server["listen"], server["automatic_https"]) == (["0.0.0.0:8333"], {"disable": True})
    ((handler,),) = [route["handle"] for route in server["routes"]]
    assert (handler["handler"], handler["upstreams"]) == ("reverse_proxy", [{"dial": "seaweedfs:8333"}])


@contextlib.contextmanager
def door(folder: Path, store: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """It, before that store, once it is open; its port. It writes nothing, as its file system may not be written to."""
    port = free_port()
    places = {"LISTEN_ADDRESS": HOST, "LISTEN_PORT": str(port), "UPSTREAM": store}
    with caddy(folder, CADDYFILE, lambda: _open(port), **places) as process:
        yield port, process
    assert [path.name for path in folder.iterdir()] == ["caddy.log"]


def _open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((HOST, port)) == 0


def answer(port: int, method: str, target: str, **headers: str) -> tuple[int, bytes]:
    """To that request, its target as it is put."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=30)) as connection:
        connection.request(method, target, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.s3
def test_s3_is_spoken_through_it(s3: seaweed.Seaweed, bucket: str, tmp_path: Path):
    """Signatures hold, of awkward keys too; what is large comes whole both ways; what is there is not replaced."""
    large, key = bytes(range(256)) * 20_000, "door/a b+c=d/é%2F'(1)"
    with door(tmp_path, s3.url.removeprefix("http://")) as (port, _):
        client: Any = seaweed.Seaweed(f"http://{HOST}:{port}").client()
        client.put_object(Bucket=bucket, Key=key, Body=large, IfNoneMatch="*")
        with pytest.raises(client.exceptions.ClientError) as refused:
            client.put_object(Bucket=bucket, Key=key, Body=b"another", IfNoneMatch="*")
        assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == large
        assert client.get_object(Bucket=bucket, Key=key, Range="bytes=256-511")["Body"].read() == large[:256]
        listed = client.list_objects_v2(Bucket=bucket, Prefix="door/a b")["Contents"]
        assert [(found["Key"], found["Size"]) for found in listed] == [(key, len(large))]
        tried = try_all(provider_for(f"s3://{bucket}/door?endpoint_url=http://{HOST}:{port}"))
        assert [trial for trial in tried if trial.ok is not True] == []
        assert answer(port, "GET", f"/{bucket}?list-type=2")[0] == 403, "without a signature"


@pytest.mark.s3
def test_no_way_of_asking_leads_to_the_filer(s3: seaweed.Seaweed, tmp_path: Path):
    """It lists its folders to whoever asks it itself."""
    store = s3.url.removeprefix("http://")
    filer = int(store.rpartition(":")[2]) + 3
    name, wants = f"{HOST}:{filer}", {"Accept": "application/json"}
    status, listing = answer(filer, "GET", "/buckets/", **wants)
    assert (status, json.loads(listing)["Path"]) == (200, "/buckets")
    with door(tmp_path, store) as (port, _):
        ways = {
            "its name": ("GET", "/buckets/", {"Host": name}),
            "as of a forward proxy": ("GET", f"http://{name}/buckets/", {}),
            "a tunnel": ("CONNECT", name, {}),
            "headers of proxies": ("GET", "/buckets/", {"X-Forwarded-Host": name, "X-Forwarded-Port": str(filer)}),
        }
        for way, (method, target, headers) in ways.items():
            status, body = answer(port, method, target, **wants, **headers)
            assert status >= 400, way
            assert b"FullPath" not in body, way


def test_a_request_goes_on_as_it_was_signed_and_before_it_is_whole(tmp_path: Path):
    with socket.create_server((HOST, 0)) as store, door(tmp_path, f"{HOST}:{store.getsockname()[1]}") as (port, _):
        store.settimeout(30)
        with socket.create_connection((HOST, port), 30) as client:
            client.sendall(b"PUT /b/a%20b%2Fc//d?x=%2F&y= HTTP/1.1\r\nHost: s3:8333\r\nContent-Length: 8\r\n\r\nhalf")
            upstream, _ = store.accept()
            with upstream:
                upstream.settimeout(30)
                heard = b""
                while not heard.endswith(b"\r\n\r\nhalf"):
                    more = upstream.recv(4096)
                    assert more, heard
                    heard += more
    line, *headers = heard.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert line == b"put /b/a%20b%2fc//d?x=%2f&y= http/1.1"
    assert {b"host: s3:8333", b"content-length: 8"} <= set(headers)
    assert not any(header.startswith((b"accept-encoding:", b"transfer-encoding:")) for header in headers)


def test_a_store_that_is_away_is_told_and_is_not_the_end(tmp_path: Path):
    with door(tmp_path, f"{HOST}:{free_port()}") as (port, process):
        for _ in range(2):
            assert answer(port, "GET", "/")[0] == 502
        assert process.poll() is None
