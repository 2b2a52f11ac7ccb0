"""What arrays free stays with the process: on years of minutes, page faults would take as long as the arithmetic."""

import ctypes
import sys

KEPT_BYTES = 512 * 1024 * 1024
"""Free memory at the heap's end that goes back to the system only when it is more than this."""
LARGEST_BYTES = 1 << 30
"""Arrays of up to this size come from the heap. By itself glibc maps each one beyond 32 MB anew."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed() -> None:
    """From here on, for the whole process; nothing where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES)
