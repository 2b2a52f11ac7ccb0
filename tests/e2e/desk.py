"""A folder to type `grid` in: a sweep file, the bundled bars, strategies of its own."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "strategy": "sma_cross",
    "data": {
        "store": "data",
        "symbols": ["AAPL", "IBM"],
        "timeframes": ["1D"],
        "start": "2010-01-01",
        "end": "2013-01-01",
    },
    "space": {"fast": [5, 10, 15], "slow": [20, 30]},
    "validation": {"blocks": 4},
}

MINE = '''
"""Strategies that lie in the working directory."""

import os
import time

import numpy as np
from pydantic import Field

from strategies import Bars, Signals, Strategy, cross

CALLS = []


class Fussy(Strategy):
    """A cross that refuses a fast average above 10; each trial takes PAUSE seconds until a file `released` is there."""

    fast: int = Field(5, ge=2, le=100)
    slow: int = Field(30, ge=3, le=1000)

    def signals(self, bars: Bars) -> Signals:
        CALLS.append(self.fast)
        if not os.path.exists("released"):
            time.sleep(float(os.environ.get("PAUSE", "0")))
        if self.fast > 10:
            raise ValueError(f"cannot do {self.fast}")
        return cross(bars.sma(self.fast), bars.sma(self.slow))


class Hopeless(Strategy):
    """A strategy that always raises."""

    fast: int = Field(5, ge=2, le=100)

    def signals(self, bars: Bars) -> Signals:
        raise RuntimeError("out of luck")


class Prophet(Strategy):
    """Buys before a rise."""

    ahead: int = Field(1, ge=1, le=100)

    def signals(self, bars: Bars) -> Signals:
        rises = np.roll(bars.close, -self.ahead) > bars.close
        return Signals(rises, ~rises)


class NoStrategy:
    """Something else."""
'''


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Desk:
    """The working directory, and `grid` typed in it: in this process, or in one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").symlink_to(ROOT / "data")
        (folder / "mine.py").write_text(MINE)
        self.write_sweep()

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def write_sweep(self, **changes: Any) -> None:
        """Write sweep.yaml: the small sweep with these fields changed."""
        (self.folder / "sweep.yaml").write_text(yaml.safe_dump({**SWEEP, **changes}, sort_keys=False))

    def own_data(self) -> Path:
        """Bars that a test may spoil, in the place of the bundled ones; returns a file of them."""
        (self.folder / "data").unlink()
        target = self.folder / "data" / "IBM" / "1D"
        target.mkdir(parents=True)
        for year in (2010, 2011, 2012):
            name = f"{year}.parquet"
            (target / name).write_bytes((ROOT / "data" / "IBM" / "1D" / name).read_bytes())
        self.write_sweep(data={**SWEEP["data"], "symbols": ["IBM"]})
        return target / "2011.parquet"

    def grid(self, *arguments: str) -> Outcome:
        """`grid ARGUMENTS` in this process, by the program's own main function."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "argv", ["grid", *arguments])
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(sys, "dont_write_bytecode", True)
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            finally:
                sys.modules.pop("mine", None)
        return Outcome(code, out.getvalue(), err.getvalue())

    def run(self, *arguments: str) -> Outcome:
        """`grid run sweep.yaml` on the serial executor."""
        return self.grid("run", "sweep.yaml", "--executor", "serial", *arguments)

    def session(self, *arguments: str) -> str:
        """The id of a session that was just run."""
        outcome = self.run("--json", *arguments)
        assert outcome.code in (0, 1), outcome.err
        session_id: str = outcome.json()["session_id"]
        return session_id

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """`python -m grid ARGUMENTS` as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "grid", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def snapshot(self) -> dict[str, bytes]:
        """Every file and folder below the working directory; bars that are linked to are left out."""
        found = {}
        for folder, folders, names in os.walk(self.folder):
            found |= {str(Path(folder, name).relative_to(self.folder)): b"" for name in folders}
            paths = [Path(folder, name) for name in names]
            found |= {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}
        return found

    def release(self) -> None:
        """From now on trials of `Fussy` take no time, in all processes."""
        (self.folder / "released").touch()

    def wait_for_heartbeat(self, process: "subprocess.Popen[str]") -> None:
        """Until the sweep of a process that was started is worked on: it beats once it listens to signals."""
        until = time.monotonic() + PATIENCE_S
        while not any(f'"pid": {process.pid},' in beat.read_text() for beat in self.results.glob("*/heartbeat.json")):
            assert time.monotonic() < until, "no sweep was begun"
            time.sleep(0.02)


def interrupt(process: "subprocess.Popen[str]", times: int, number: signal.Signals = signal.SIGINT) -> Outcome:
    """Send a signal, and again for each time it was answered."""
    assert process.stderr is not None
    told = process.stderr.readline()
    for _ in range(times):
        process.send_signal(number)
        told += process.stderr.readline()
    out, err = process.communicate(timeout=PATIENCE_S)
    return Outcome(process.returncode, out, told + err)
