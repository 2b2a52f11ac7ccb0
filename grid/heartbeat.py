"""A sign of life of the driver, in the session's folder: readers tell a running session from an interrupted one.

It guards nothing. What keeps two drivers apart is the commit log; the heartbeat only spares them the double work.
Its age is told by when the store says that it was written. Who writes to the store anyway asks it what time it is; who
only reads takes its own clock for that.
"""

import contextvars
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grid.errors import Refused
from storage.clock import StoreClock
from storage.errors import BadData, NotFound, StorageError
from storage.providers import store_option
from storage.sessions import SessionFolder

log = logging.getLogger(__name__)

EVERY_S = 5.0
STALE_S = 30.0
LONGEST_GOODBYE_S = 2.0
JOB_VARIABLE = "GRID_JOB"
"""Set by `grid submit`: the id of the Ray job that the driver is."""
NAME = "heartbeat.json"


@dataclass(frozen=True)
class Beat:
    """Who drives a session. time: Unix seconds, of one that is read by the store's clock. place: the machine and
    process namespace in which `pid` is a process, and `process_start` tells it from a later one of the same pid. ended:
    the driver said goodbye. cut_short: it was told to end at once.
    """

    time: float
    driver: str
    pid: int
    process_start: str
    host: str
    place: str
    job: str | None
    ended: bool
    cut_short: bool = False

    @property
    def died_at_work(self) -> bool:
        """Whether that driver, if it is gone, did not end by itself: a trial may have killed or held it."""
        return not self.ended or self.cut_short

    def alive(self, now: float) -> bool:
        """Whether that driver is to be taken for running."""
        return not self.ended and now - self.time < STALE_S and not self._known_dead()

    def who(self, now: float) -> str:
        """The driver in words."""
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, heard of {max(now - self.time, 0):.0f} s ago"

    def _known_dead(self) -> bool:
        return self.place == _place() and _process_start(self.pid) != self.process_start


def read_beat(folder: SessionFolder) -> Beat | None:
    """The last heartbeat of a session; None where there is none, or none that can be read."""
    try:
        content = folder.document(NAME)
        told = {name: content[name] for name in Beat.__dataclass_fields__}
        return Beat(**{**told, "time": folder.modified(NAME)})
    except (NotFound, BadData, KeyError, TypeError):
        return None


def status_of(said: str, folder: SessionFolder) -> str:
    """A session's status, given what its metadata says: running and interrupted depend on whether a driver lives.

    Without any heartbeat it is just being begun, or its driver died while it was.
    """
    if said == "done":
        return said
    beat = read_beat(folder)
    if beat is None:
        begun = said != "running" or time.time() - folder.modified("metadata.json") < STALE_S
        return said if begun else "interrupted"
    if beat.alive(time.time()):
        return "running"
    return "interrupted" if said == "running" else said


def refuse_second_driver(folder: SessionFolder) -> None:
    """Raises Refused while another driver of the session seems to live."""
    beat = read_beat(folder)
    if beat is None or beat.ended:
        return
    clock = StoreClock(folder.provider)
    if warning := clock.warning():
        log.warning("%s", warning)
    if beat.alive(now := clock.now()):
        watch = f"grid watch {folder.session_id}{store_option(folder.provider.uri)}"
        raise Refused(
            f"session {folder.session_id} is being run by {beat.who(now)}: `{watch}` attaches to it. If that driver is "
            f"gone, wait until it has been silent for {STALE_S:.0f} s, or say --force; its "
            "commits stay valid, and no trial is committed twice."
        )


class Heartbeat:
    """Writes the heartbeat of one driver. A store that does not answer delays it and nothing else.

    on_beat: told the Unix time of each beat that was written. chores: done with each beat, on the same thread.
    """

    def __init__(
        self, folder: SessionFolder, on_beat: Callable[[float], None], chores: Sequence[Callable[[], None]] = ()
    ) -> None:
        self._folder, self._on_beat, self._chores = folder, on_beat, chores
        self._driver = uuid.uuid4().hex
        self._process_start = _process_start(os.getpid())
        self._ended = threading.Event()
        self._cut_short = False
        self._one_at_a_time = threading.Lock()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Within the block it beats every five seconds; at its end the driver says goodbye."""
        self.beat()
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._keep_beating,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            self._cut_short = True
            raise
        finally:
            self._ended.set()
            thread.join(LONGEST_GOODBYE_S)
            if not thread.is_alive():
                self.beat()

    def goodbye(self) -> None:
        """Say it now, for a process that is about to end without leaving the block; takes 2 seconds at most."""
        self._ended.set()
        last = threading.Thread(target=self._everything, name="goodbye", daemon=True)
        last.start()
        last.join(LONGEST_GOODBYE_S)

    def beat(self) -> None:
        """Write it now; with `ended` once the block is over."""
        with self._one_at_a_time:
            beat = self._content()
            try:
                self._folder.write_document(NAME, {**asdict(beat), "at": _utc(beat.time)})
            except StorageError as error:
                log.warning("the heartbeat could not be written: %s", error)
                return
            self._on_beat(beat.time)

    def _keep_beating(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._everything()

    def _everything(self) -> None:
        for each in (self.beat, *self._chores):
            try:
                each()
            except StorageError as error:
                log.debug("what the heartbeat does besides failed: %s", error)
            except Exception:
                log.exception("the heartbeat goes on without something that failed")

    def _content(self) -> Beat:
        return Beat(
            time=time.time(),
            driver=self._driver,
            pid=os.getpid(),
            process_start=self._process_start,
            host=platform.node(),
            place=_place(),
            job=os.environ.get(JOB_VARIABLE),
            ended=self._ended.is_set(),
            cut_short=self._cut_short,
        )


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _place() -> str:
    """What two processes that can see each other's pid have in common; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """When a process began, in ticks since boot; empty for one that is gone or only waits to be buried."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def _stat(pid: int) -> list[Any]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
