"""A head that does not answer is told of, and ends the process before Ray would (`grid/cluster/head.py`)."""

import logging
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from grid.cluster import head


def test_one_that_comes_back_is_told_of_and_nothing_ends(monkeypatch, caplog):
    monkeypatch.setattr(head, "LOOK_S", 0.02)
    monkeypatch.setattr(head.os, "_exit", lambda code: pytest.fail(f"exit {code}"))
    over = threading.Event()
    with caplog.at_level(logging.WARNING), closing(_listening()) as server:
        address = "{}:{}".format(*server.getsockname())
        watching = threading.Thread(target=head._watch, args=(address, "grid resume x", lambda: None, over))
        watching.start()
        try:
            time.sleep(0.1)
            assert not caplog.messages
            server.close()
            _wait(lambda: len(caplog.messages) == 1)
            assert f"at {address} does not answer; where it is not back within 50 s" in caplog.messages[0]
            assert caplog.messages[0].endswith("Next, on a cluster that runs: grid resume x")
            with closing(_listening(int(address.rpartition(":")[2]))):
                _wait(lambda: len(caplog.messages) == 2)
                assert "answers again" in caplog.messages[1]
        finally:
            over.set()
            watching.join()


def test_one_that_stays_away_ends_the_process_as_one_that_is_resumed():
    code = (
        "import sys, threading, logging; logging.basicConfig(); from grid.cluster import head;"
        "head.LOOK_S, head.BEFORE_RAY_S = 0.02, 9.9;"
        "head._watch('127.0.0.1:1', 'grid resume x', lambda: sys.stderr.write('goodbye\\n'), threading.Event())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"RAY_gcs_rpc_server_reconnect_timeout_s": "10"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 130
    assert "interrupted: the head of the cluster at 127.0.0.1:1 is gone" in run.stderr
    assert run.stderr.count("grid resume x") == 2
    assert run.stderr.endswith("goodbye\n")


def _listening(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def _wait(until) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)
