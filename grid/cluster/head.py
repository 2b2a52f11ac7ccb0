"""The head of a cluster, lost while its driver lives: Ray waits, and then ends the process without a word of ours."""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

log = logging.getLogger(__name__)

LOOK_S = 5.0
CONNECT_S = 3.0
BEFORE_RAY_S = 10.0
"""So long before Ray would end the process it ends as one that was interrupted: Ray's exit code is 1, which is also
that of a sweep that is done and has failed trials.
"""
PATIENCE_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
RAYS_PATIENCE_S = 60.0


@contextmanager
def watched(next_command: str, goodbye: Callable[[], None]) -> Iterator[None]:
    """Within the block the log is told of a head that does not answer, with what to do then (`next_command`).

    Where it stays away for as long as Ray waits, by default 60 s, the process says `goodbye`, so that another one may
    go on at once, and ends with exit code 130.
    """
    over, address = threading.Event(), ray.get_runtime_context().gcs_address
    thread = threading.Thread(
        target=_watch, args=(address, next_command, goodbye, over), name="head-watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _watch(address: str, next_command: str, goodbye: Callable[[], None], over: threading.Event) -> None:
    patience = float(os.environ.get(PATIENCE_VARIABLE, RAYS_PATIENCE_S)) - BEFORE_RAY_S
    heard, told = time.monotonic(), False
    while not over.wait(LOOK_S):
        silent = time.monotonic() - heard
        if _answers(address):
            if told:
                log.warning("the head of the cluster answers again, after %.0f s", silent)
            heard, told = time.monotonic(), False
        elif silent > patience:
            log.error("interrupted: the head of the cluster at %s is gone; %s", address, _then(next_command))
            sys.stderr.flush()
            goodbye()
            os._exit(130)
        elif not told:
            told = True
            log.warning(
                "the head of the cluster at %s does not answer; where it is not back within %.0f s this driver ends, "
                "and %s",
                address,
                patience,
                _then(next_command),
            )


def _then(next_command: str) -> str:
    return f"what was committed is kept. Next, on a cluster that runs: {next_command}"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError:
        return False
    return True
