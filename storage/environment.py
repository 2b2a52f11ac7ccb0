"""What the environment says about storage, and the `.env` files that fill it.

| variable | means |
|---|---|
| GRID_ENV | dev, staging or prod: `.env`, `.env.staging` or `.env.prod` is read; default dev |
| STORAGE_PROVIDER, STORAGE_CONFIG | the root of stores named without a scheme: its kind, JSON of its options |
| DATA_ROOT | the store of bars where nothing else names one |
| TZ | the zone of imported timestamps that carry none and for which none is stated |
| GRID_CACHE_DIR, GRID_CACHE_BYTES | the node's cache of bars from S3; 0 bytes turns it off |
| AWS_* | as everywhere: credentials, AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE |
"""

import io
import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import StorageError

FILES = {"dev": ".env", "staging": ".env.staging", "prod": ".env.prod"}
KINDS = ("local", "nfs", "s3", "memory")
CACHE_BYTES = 10_000_000_000


@dataclass(frozen=True)
class StorageSettings:
    """STORAGE_PROVIDER and the options of STORAGE_CONFIG, not yet judged."""

    kind: str
    options: Mapping[str, Any]


def load_environment(folder: Path, environment: MutableMapping[str, str] | None = None) -> Path | None:
    """Put the variables of GRID_ENV's file in `folder` into the environment, where they are not set already.

    The file read, or None where there is none. Raises `StorageError` for an unknown GRID_ENV, where staging or prod is
    asked for and its file is missing, and for a file that cannot be understood as a whole: nothing of it is used then.
    """
    environment = os.environ if environment is None else environment
    name = environment.get("GRID_ENV", "dev")
    if name not in FILES:
        raise StorageError(f"GRID_ENV is {name!r}; it is one of {', '.join(FILES)}.")
    file = folder / FILES[name]
    if not file.is_file():
        if name == "dev":
            return None
        raise StorageError(f"GRID_ENV is {name}, and {folder} has no {file.name}; copy .env.example to it.")
    for variable, text in _variables(file).items():
        environment.setdefault(variable, text)
    return file


def _variables(file: Path) -> dict[str, str]:
    """What a `.env` file sets; of several lines for one name the last counts. No message repeats a secret."""
    from dotenv.parser import parse_stream

    try:
        lines = list(parse_stream(io.StringIO(file.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise StorageError(f"{file} cannot be read ({reason}); make it a text file that you may read.") from error
    for line in lines:
        if line.error:
            text = line.original.string
            number = line.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            raise StorageError(
                f"{file}, line {number}: this sets no variable; write NAME=value, with quotes around a value closed."
            )
    return {line.key: line.value for line in lines if line.key is not None and line.value is not None}


def storage_settings(environment: Mapping[str, str]) -> StorageSettings | None:
    """What STORAGE_PROVIDER and STORAGE_CONFIG say; None where the former is not set. Raises `StorageError`."""
    kind = environment.get("STORAGE_PROVIDER", "").strip().lower()
    if not kind:
        return None
    if kind not in KINDS:
        raise StorageError(f"STORAGE_PROVIDER is {kind!r}; it is one of {', '.join(KINDS)}.")
    try:
        options = json.loads(environment.get("STORAGE_CONFIG", "") or "{}")
    except ValueError as error:
        raise StorageError('STORAGE_CONFIG is no JSON; write an object such as {"bucket": "name"}.') from error
    if not isinstance(options, dict) or any(isinstance(value, (dict, list)) for value in options.values()):
        raise StorageError('STORAGE_CONFIG must be a JSON object of plain values, such as {"bucket": "name"}.')
    return StorageSettings(kind, options)


def default_data_store() -> str:
    """DATA_ROOT, or `data`."""
    return os.environ.get("DATA_ROOT") or "data"


def default_zone() -> str | None:
    """TZ, without the colon that POSIX allows before a name; None where it is not set."""
    return os.environ.get("TZ", "").removeprefix(":") or None


def cache_folder() -> Path:
    """GRID_CACHE_DIR, or a folder of the user's cache."""
    stated = os.environ.get("GRID_CACHE_DIR")
    if stated:
        return Path(stated).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "backtest-grid" / "objects"


def cache_bytes() -> int:
    """GRID_CACHE_BYTES, or 10 GB. Raises `StorageError` for what is no number of bytes."""
    text = os.environ.get("GRID_CACHE_BYTES", "")
    try:
        limit = int(text) if text else CACHE_BYTES
    except ValueError:
        limit = -1
    if limit < 0:
        raise StorageError(f"GRID_CACHE_BYTES is {text!r}; it is a number of bytes, and 0 for no cache.")
    return limit
