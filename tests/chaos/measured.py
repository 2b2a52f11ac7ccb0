"""Memory that is in use, and not only held by an allocator."""

import ctypes
import re
from pathlib import Path

import pyarrow as pa

from grid.cluster.actors import AggregatorActor


class MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 tells of the heaps of all threads, bytes."""

    _fields_ = [(f"field_{place}", ctypes.c_size_t) for place in range(8)]
    _fields_ += [("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def held_free() -> float:
    """MB that glibc of this process holds and nobody uses."""
    told = ctypes.CDLL("libc.so.6").mallinfo2
    told.restype = MallInfo
    free: int = told().fordblks
    return free / 1e6


def in_use_mb() -> float:
    """MB of this process' own, without its files and what it shares: whether a page of a library is another process'
    too changes with those beside it.
    """
    (own,) = re.findall(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(own) * 1024 / 1e6 - held_free()


class Measured(AggregatorActor.__ray_metadata__.modified_class):  # type: ignore[attr-defined, misc]
    """The aggregator of a sweep, which tells its memory too."""

    def in_use_mb(self) -> float:
        pa.default_memory_pool().release_unused()
        return in_use_mb()
