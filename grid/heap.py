"""What arrays free stays with the process: on years of minutes, page faults would take as long as the arithmetic."""

import ctypes
import sys
from typing import Any

KEPT_BYTES = 512 * 1024 * 1024
"""Free memory at the heap's end that goes back to the system only when it is more than this."""
LARGEST_BYTES = (1 << 30, 32 << 20)
"""Arrays of up to this size come from the heap: the first of these that the C library takes. By itself glibc maps each
one beyond 32 MB anew; up to 2.34 it refuses to be told of more.
"""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed(library: Any = None) -> None:
    """From here on, for the whole process, so call it where trials run; nothing where the C library is not glibc."""
    if library is None and not sys.platform.startswith("linux"):
        return
    mallopt = getattr(library or ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and any(mallopt(_M_MMAP_THRESHOLD, size) for size in LARGEST_BYTES):
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)  # alone it would freeze the other one at 128 kB
