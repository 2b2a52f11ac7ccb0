"""Where compiled kernels are kept, decided as this is imported: before numba, which fails where it finds no place."""

import os
import stat
import sys
import tempfile
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def keep_kernels_somewhere(environment: MutableMapping[str, str] = os.environ) -> None:
    """Where numba could write none of its cache folders, name it a temporary one that is this user's alone."""
    if any(_can_write(folder) for folder in usual_folders(environment)):
        return
    environment[VARIABLE] = str(temporary_folder())
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = environment[VARIABLE]


def usual_folders(environment: MutableMapping[str, str]) -> Sequence[Path]:
    """Where numba looks: the folder that is stated, beside the source, and in the user's cache."""
    stated = environment.get(VARIABLE)
    user = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - never raises
    beside = Path(__file__).parent / "__pycache__"
    return [*([Path(stated)] if stated else []), beside, Path(user) / "numba"]


def temporary_folder() -> Path:
    """One for all processes of this user; compiled code is loaded from it, so that nobody else may write there."""
    folder = _usual_temporary()
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="backtest-grid-kernels-"))


def in_temporary_folder() -> str | None:
    """The temporary folder that kernels are kept in, None where they have a lasting one."""
    stated = os.environ.get(VARIABLE, "")
    return stated if Path(stated).name.startswith("backtest-grid-kernels-") else None


def _usual_temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"backtest-grid-kernels-{os.getuid()}"


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


keep_kernels_somewhere()
