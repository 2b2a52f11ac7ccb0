"""Work in a child process: what it says is heard, and what becomes of it is told."""

import os
import signal
import sys
import time

import psutil
import pytest

from grid.apart import Fallen, answers


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]


def test_what_the_child_says_comes_in_order():
    assert list(answers(lambda say: [say(i) for i in range(100)], 60)) == list(range(100))


def test_the_child_is_another_process_and_is_gone_at_the_end():
    before = children()
    (pid,) = answers(lambda say: say(os.getpid()), 60)
    assert pid != os.getpid()
    assert not psutil.pid_exists(pid)
    assert children() == before


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "it killed its process (SIGKILL)"),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), "it killed its process (SIGTERM)"),
        (lambda: os.abort(), "it killed its process (SIGABRT)"),
        (lambda: os._exit(7), "it ended its process (exit code 7)"),
        (lambda: os._exit(0), "it ended its process (exit code 0)"),
    ],
)
def test_a_child_that_dies_is_told_after_what_it_said(deed, told):
    heard = answers(lambda say: (say("a"), deed(), say("b")), 60)
    assert next(heard) == "a"
    with pytest.raises(Fallen) as fallen:
        next(heard)
    assert (str(fallen.value), fallen.value.overdue) == (told, False)


def _for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize("deed", [_for_ever, lambda: time.sleep(1000)])
def test_a_child_that_is_silent_is_ended(deed):
    before = children()
    with pytest.raises(Fallen, match=r"it took longer than 0\.3 s") as fallen:
        list(answers(lambda _: deed(), 0.3))
    assert fallen.value.overdue
    assert children() == before


def test_talking_keeps_it_alive():
    def slow(say):
        for i in range(4):
            time.sleep(0.5)
            say(i)

    assert list(answers(slow, 1.5)) == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [ValueError("ours"), SystemExit(3)])
def test_an_error_of_ours_is_an_error_here(error):
    def broken(_):
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        list(answers(broken, 60))


def test_whoever_stops_listening_ends_it():
    before = children()
    heard = answers(lambda say: [say(i) for i in range(10**9)], 60)
    assert next(heard) == 0
    heard.close()
    assert children() == before


@pytest.mark.skipif(sys.platform != "linux", reason="a process is told of its parent's end on Linux only")
def test_it_ends_with_its_parent():
    """The child of a process that is killed does not go on for ever."""

    def parent(say):
        for pid in answers(lambda say: (say(os.getpid()), time.sleep(1000)), 60):
            say(pid)

    heard = answers(parent, 60)
    grandchild = psutil.Process(next(heard))
    heard.close()  # kills the parent with SIGKILL
    grandchild.wait(20)
