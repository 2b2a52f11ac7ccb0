"""The benchmark of storage runs, so that it does when somebody wants its figures."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest

from . import store


@pytest.mark.s3
def test_a_quick_table(tmp_path: Path) -> None:
    with patch.dict(os.environ):  # it sets the keys of its server
        what, _, *rows = store.table(tmp_path / "store", quick=True)
    assert what == "| what | ms | of |"
    assert [row for row in rows if "the node's cache alone" in row] == rows[7:9]
