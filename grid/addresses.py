"""Addresses of Ray clusters: which kinds there are, and whether somebody is there. Imports no Ray."""

import os
import re
import socket
from urllib.parse import urlsplit

from grid.errors import BadInput

ANSWER_S = 5.0


def refuse_client(address: str, what: str) -> None:
    """Raises BadInput for an address of Ray Client, through which every row would travel."""
    if address.startswith("ray://"):
        raise BadInput(
            f"{what} {address!r} is one of Ray Client, which the grid does not use: it breaks with its connection. "
            "Send the sweep to the cluster with `grid submit SWEEP --address http://HEAD:8265`, or give host:port "
            "(6379) from a machine of the cluster."
        )


def explained(address: str) -> str:
    """`address` if `cluster.address` may be that: auto, local or host:port. Raises ValueError saying what is wrong."""
    if address.startswith("ray://"):
        raise ValueError(
            "it is one of Ray Client, which breaks with its connection and is not used; send the sweep to the cluster "
            "with `grid submit SWEEP --address http://HEAD:8265`, or give host:port from a machine of the cluster"
        )
    if re.match(r"https?://", address):
        raise ValueError("it is one for jobs; use it with `grid submit SWEEP --address`, or give host:port here")
    return address


def jobs_address(address: str) -> str:
    """`address` if it can be one for jobs, http://HOST:PORT. Raises BadInput."""
    refuse_secrets(address)
    refuse_client(address, "--address")
    if not _is_web(address):
        host = re.split("[:/]", re.sub(r"^\w*:?/*", "", address) if "//" in address else address)[0]
        host = host if host not in ("", "auto") else "HOST"
        raise BadInput(
            f"--address {address!r} is none for jobs: write http://{host}:8265, the address of the cluster's Dashboard."
        )
    return address.rstrip("/")


def _is_web(address: str) -> bool:
    """Whether it is http or https, a host, a port that can be one, and perhaps a path."""
    if not re.fullmatch(r"https?://\S+", address):
        return False
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is none
        return False


def refuse_secrets(address: str) -> None:
    """Raises BadInput, without repeating it, for an address that holds more than scheme, host, port and path."""
    if re.search(r"[@?#]", address):
        raise BadInput(
            "the cluster's address holds more than http://HOST:8265 or HOST:6379 (one of @, ? and #), and may hold a "
            "secret: a token goes into a file, --token-file, or into RAY_AUTH_TOKEN."
        )


def check_cluster(address: str) -> None:
    """Raises BadInput when nobody listens at host:port, or not Ray, sooner and in fewer words than Ray does."""
    if address in ("auto", "local"):
        return
    refuse_secrets(address)
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise BadInput(
            f"cluster.address {address!r} is none of auto, local and host:port (6379 unless told otherwise)."
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_S) as there:
            greeted = bool(os.environ.get("RAY_USE_TLS")) or _speaks_grpc(there)
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"cluster.address {address!r} cannot be reached ({getattr(error, 'strerror', None) or error}): start a "
            "cluster there with `ray start --head`, or leave the address out to work on this machine."
        ) from error
    if not greeted:
        raise BadInput(
            f"cluster.address {address!r} is not the port of a Ray cluster: `ray start --head` says which it is, 6379 "
            "unless told otherwise. The Dashboard's (8265) is for `grid submit SWEEP --address http://HOST:8265`."
        )


def _speaks_grpc(there: socket.socket) -> bool:
    """Whether the other side answers the greeting of HTTP/2 with its settings, as every gRPC server does at once."""
    try:
        there.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        answer = there.recv(9)
    except OSError:
        return False
    return answer[3:4] == b"\x04"
