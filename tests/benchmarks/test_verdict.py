"""The benchmark of the verdict runs, so that it does when somebody wants its figures."""

from pathlib import Path

import pytest

from . import verdict


@pytest.mark.slow
def test_a_quick_table(tmp_path: Path) -> None:
    what, _, *rows = verdict.table(tmp_path, quick=True)
    assert what.startswith("| what | size | wall s")
    assert ["10,000 trials x 12,870 splits" in rows[0], "`grid permute`" in rows[1], len(rows)] == [True, True, 2]
