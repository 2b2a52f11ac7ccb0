"""The bytes of `index.json`."""

import hashlib
import json
from typing import Any

_SEAL = b', "sha256": "'


def encoded_index(entries: list[dict[str, Any]]) -> bytes:
    """A line an entry, and the sha256 of all before it at the end: it is checked without being written again."""
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False, allow_nan=False) for entry in entries)
    body = f'{{"sessions": [\n{lines}\n]'.encode()
    return body + _SEAL + f'{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def decoded_index(data: bytes) -> list[dict[str, Any]] | None:
    """The entries; None where the content is not as `encoded_index` wrote it."""
    body, _, seal = data.rpartition(_SEAL)
    if seal != f'{hashlib.sha256(body).hexdigest()}"}}\n'.encode():
        return None
    entries: list[dict[str, Any]] = json.loads(body + b"}")["sessions"]
    return entries
