"""Log lines: for people or as JSON on stderr, and a copy beside the session, which outlives the cluster it ran on."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from storage.errors import NotFound, StorageError
from storage.sessions import SessionFolder

LOGGERS = ("grid", "storage", "strategies")
VARIABLE = "GRID_LOG"
MOST_BYTES = 2_000_000
"""driver.log keeps about its last two megabytes."""
SESSION: ContextVar[str | None] = ContextVar("session", default=None)
"""The session that log lines belong to."""
_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, session_id, message, and the fields given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "session_id": SESSION.get(),
            "message": record.getMessage(),
        }
        more = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        fields |= {name: value for name, value in more.items() if not name.startswith("_")}  # Ray adds some of its own
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class TextLines(logging.Formatter):
    """Time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        text = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class Console(logging.Handler):
    """Writes to stderr what the command line lets through: warnings for people, everything as JSON."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.as_json = False

    def switch_to_json(self) -> None:
        """From now on every line is JSON, from INFO up."""
        self.as_json = True
        self.setFormatter(JsonLines())
        self.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, whole."""
        with suppress(ValueError, OSError):  # stderr is gone: there is nobody to tell
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


class Kept(logging.Handler):
    """Collects lines, and puts them into `driver.log` of a session when told to."""

    def __init__(self, folder: SessionFolder) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(JsonLines() if json_wanted() else TextLines())
        self._folder = folder
        self._text = _earlier(folder)
        self._unstored = False
        self._storing = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one line."""
        self._text += self.format(record) + "\n"
        self._unstored = True

    def store(self) -> None:
        """Write what is new to the session's folder. Raises StorageError."""
        with self._storing:
            if not self._unstored:
                return
            self.acquire()
            text = self._text = _shortened(self._text)
            self._unstored = False
            self.release()
            try:
                self._folder.write_log(text.encode())
            except StorageError:
                self._unstored = True
                raise


@contextmanager
def console() -> Iterator[Console]:
    """Within the block the packages' log lines from INFO up reach a `Console`; the command line's choice."""
    handler = Console()
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield handler
    finally:
        for name, level in before.items():
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(level)


@contextmanager
def kept(folder: SessionFolder) -> Iterator[Kept]:
    """Within the block log lines are collected for the session, and stored at its end.

    It listens only: levels stay as the application set them, and without any handler warnings still go to stderr.
    """
    keeper = Kept(folder)
    handlers: list[logging.Handler] = [keeper]
    if not logging.getLogger(LOGGERS[0]).hasHandlers() and logging.lastResort is not None:
        handlers.append(logging.lastResort)
    token = SESSION.set(folder.session_id)
    for name in LOGGERS:
        for handler in handlers:
            logging.getLogger(name).addHandler(handler)
    try:
        yield keeper
    finally:
        for name in LOGGERS:
            for handler in handlers:
                logging.getLogger(name).removeHandler(handler)
        SESSION.reset(token)
        with suppress(StorageError):
            keeper.store()


def the_console() -> Console | None:
    """The console that `console` installed, if there is one."""
    found = [h for h in logging.getLogger(LOGGERS[0]).handlers if isinstance(h, Console)]
    return found[0] if found else None


def spoken() -> str | None:
    """How this process writes log lines: json, text, or None where it is no command line and says nothing itself."""
    there = the_console()
    return None if there is None else ("json" if there.as_json else "text")


def speak(session_id: str, manner: str | None) -> None:
    """From now on this process, a worker's, writes the session's log lines to stderr as its driver does."""
    SESSION.set(session_id)
    if manner is None or the_console() is not None:
        return
    handler = Console()
    handler.setLevel(logging.INFO)
    handler.setFormatter(JsonLines() if manner == "json" else TextLines())
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)


def json_wanted() -> bool:
    """Whether the command line was told to log JSON."""
    there = the_console()
    return there is not None and there.as_json


def _earlier(folder: SessionFolder) -> str:
    """What former drivers of the session have left."""
    try:
        return folder.read_log().decode(errors="replace")
    except NotFound:
        return ""


def _shortened(text: str) -> str:
    if len(text) <= MOST_BYTES:
        return text
    return text[-MOST_BYTES:].partition("\n")[2]


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
