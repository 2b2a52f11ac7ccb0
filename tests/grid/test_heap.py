import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from grid.heap import KEPT_BYTES, LARGEST_BYTES, keep_freed

AGAIN_AND_AGAIN = """
import resource, sys
import numpy as np
from grid.heap import keep_freed

if sys.argv[1] == "kept":
    keep_freed()

def minutes():
    return np.ones(5_300_000)

minutes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    minutes()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a setting of glibc")
def test_an_array_of_the_size_of_one_that_was_freed_costs_no_page_faults():
    faults = {}
    for manner in ("kept", "as it is"):
        told = subprocess.run([sys.executable, "-c", AGAIN_AND_AGAIN, manner], capture_output=True, text=True)
        faults[manner] = int(told.stdout)
    assert faults["kept"] < 20
    assert faults["as it is"] > 10 * 20  # else there is no need for it


@pytest.mark.parametrize(
    ("most", "done"),
    [
        (1 << 40, [(-3, LARGEST_BYTES[0], 1), (-1, KEPT_BYTES, 1)]),
        (32 << 20, [(-3, LARGEST_BYTES[0], 0), (-3, LARGEST_BYTES[1], 1), (-1, KEPT_BYTES, 1)]),
        (0, [(-3, LARGEST_BYTES[0], 0), (-3, LARGEST_BYTES[1], 0)]),
    ],
)
def test_where_the_threshold_is_refused_the_other_setting_is_left_alone(most, done):
    """As glibc before 2.35 does it, and a C library that takes neither."""
    told = []

    def mallopt(what: int, size: int) -> int:
        told.append((what, size, int(what == -1 or size <= most)))
        return told[-1][2]

    keep_freed(SimpleNamespace(mallopt=mallopt))
    assert told == done
    keep_freed(SimpleNamespace())
