"""Addresses of Ray clusters: which kinds there are, and whether somebody is there. Imports no Ray."""

import os
import re
import socket

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
    refuse_client(address, "--address")
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        host = address.split(":")[0] or "HOST"
        host = "HOST" if host == "auto" else host
        raise BadInput(
            f"--address {address!r} is none for jobs: write http://{host}:8265, the address of the cluster's Dashboard."
        )
    return address.rstrip("/")


def check_cluster(address: str) -> None:
    """Raises BadInput when nobody listens at host:port, or not Ray, sooner and in fewer words than Ray does."""
    if address in ("auto", "local"):
        return
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
