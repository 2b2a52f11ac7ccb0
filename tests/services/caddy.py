"""A real Caddy; and one that ends TLS before a server of this machine as docs/security.md has it, its own authority."""

import contextlib
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.services.programs import program
from tests.services.prometheus import free_port

PATIENCE_S = 60.0
SECURITY = REPOSITORY / "docs" / "security.md"
OPTIONS = """{
    admin off
    skip_install_trust
    auto_https disable_redirects
    default_sni localhost
}
"""
"""Nothing of this machine is changed, and whoever comes by another name gets the certificate of localhost."""


@dataclass(frozen=True)
class TlsProxy:
    """Where it answers as localhost, the file of its authority, and what it logs."""

    url: str
    authority: Path
    log: Path


def documented() -> str:
    """The proxy's configuration in docs/security.md."""
    found = re.search(r"With Caddy:\n\n```text\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    assert found, "docs/security.md has no configuration of Caddy"
    return found[1]


def handshakes(port: int, authority: Path) -> bool:
    """Whether localhost:port shows a certificate that `authority` vouches for."""
    try:
        trusting = ssl.create_default_context(cafile=authority)
        with (
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
            trusting.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except OSError:  # no such file, nobody listens, or the handshake was broken off
        return False


@contextlib.contextmanager
def caddy(folder: Path, config: Path, up: Callable[[], bool], **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Caddy with those variables for its configuration, once it is `up`; what it logs and keeps is in the folder."""
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    words, log = [program("caddy"), "run", "--adapter", "caddyfile", "--config", config], folder / "caddy.log"
    with log.open("wb") as told:
        server = subprocess.Popen(words, env={**home, **variables}, stdout=told, stderr=told)
    try:
        until = time.monotonic() + PATIENCE_S
        while not up():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


@contextlib.contextmanager
def tls_proxy(folder: Path, upstream: str) -> Iterator[TlsProxy]:
    """The documented proxy on a free port of the loopback, before `upstream` (http://HOST:PORT)."""
    port, text = free_port(), documented()
    mine = {"grid.example.com {": f"https://localhost:{port} {{\n    bind 127.0.0.1\n    tls internal"}
    mine["127.0.0.1:8265"] = upstream.removeprefix("http://")
    for theirs, here in mine.items():
        assert theirs in text
        text = text.replace(theirs, here)
    (folder / "Caddyfile").write_text(OPTIONS + text)
    authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    there = TlsProxy(f"https://localhost:{port}", authority, folder / "caddy.log")
    with caddy(folder, folder / "Caddyfile", lambda: handshakes(port, authority)):  # it listens before it has one
        yield there
