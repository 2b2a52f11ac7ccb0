"""Where no cache of compiled kernels can be written, a temporary folder of this user's takes its place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strategies import compiling
from tests.conftest import REPOSITORY


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compiling.tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"backtest-grid-kernels-{os.getuid()}"


def test_a_folder_that_can_be_written_is_left_to_numba(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    compiling.keep_kernels_somewhere(environment)
    assert environment == {"XDG_CACHE_HOME": str(tmp_path)}


def test_the_temporary_folder_is_this_users_alone(temporary):
    assert compiling.temporary_folder() == temporary
    assert temporary.stat().st_mode & 0o777 == 0o700
    assert compiling.temporary_folder() == temporary
    temporary.chmod(0o777)
    other = compiling.temporary_folder()
    assert other != temporary
    assert other.stat().st_mode & 0o777 == 0o700


def test_no_link_is_followed(temporary, tmp_path):
    temporary.symlink_to(tmp_path)
    assert compiling.temporary_folder() != temporary


def test_where_no_cache_can_be_written_commands_work(tmp_path: Path) -> None:
    for package in ("grid", "storage", "strategies"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("grid/engine", "grid/validation", "strategies"):
        (tmp_path / folder / "__pycache__").write_text("no folder")  # stops root as well
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    nowhere = str(tmp_path / "grid" / "__init__.py")
    kept = {name: os.environ[name] for name in ("PATH",)}
    environment = {**kept, "HOME": nowhere, "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "grid", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    assert f"kept in {temporary}/backtest-grid-kernels-{os.getuid()}" in " ".join(done.stdout.split())
