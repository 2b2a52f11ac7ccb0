import platform
import subprocess
import sys

import pytest

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
