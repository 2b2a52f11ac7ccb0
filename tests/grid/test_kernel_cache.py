"""The kernel on disk is compiled anew when one of its helpers changes, and not before."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROGRAM = """
from grid.engine import backtest
from strategies.check import sample_bars
from strategies.sma_cross import SmaCross
print(backtest(sample_bars(), SmaCross(), fee=0.001).metrics["fees"])
"""


def run(folder: Path) -> tuple[float, int]:
    """Fees paid, and how many compiled kernels there are."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=True)
    return float(done.stdout), len(list(folder.rglob("kernel.*simulate*.nbc")))


@pytest.mark.slow
def test_a_helper_that_changes_is_compiled_anew(tmp_path: Path) -> None:
    for package in ("grid", "storage", "strategies"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    fees, kernels = run(tmp_path)
    assert kernels == 1
    assert run(tmp_path) == (fees, 1)
    helper = tmp_path / "grid" / "engine" / "fills.py"
    text = helper.read_text()
    helper.write_text(text.replace("fee = value * rules.fee", "fee = value * rules.fee * 3.0"))
    assert helper.read_text() != text
    changed, kernels = run(tmp_path)
    assert changed > 1.5 * fees
    assert kernels == 2
