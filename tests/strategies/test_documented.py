"""The two strategies of docs/strategies.md are the same rule, and both are fit for a sweep."""

import importlib
import re
from pathlib import Path

import pytest

from strategies.check import check_strategy, sample_bars
from tests.conftest import REPOSITORY


def test_the_plain_and_the_quick_strategy_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (REPOSITORY / "docs" / "strategies.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", code)
        assert name is not None
        (tmp_path / name[1]).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    plain = importlib.import_module("plain_cross").PlainCross
    quick = importlib.import_module("quick_cross").QuickCross
    bars = sample_bars()
    for strategy in (plain, quick):
        check_strategy(strategy)
    # 60 bars: longer than the flat stretch, in which the rounding of plain sums crosses
    ours, theirs = (kind(fast=7, slow=60).signals(bars).normalised(len(bars)) for kind in (plain, quick))
    assert ours.entries.count() > 5
    assert (ours.entries, ours.exits) == (theirs.entries, theirs.exits)
