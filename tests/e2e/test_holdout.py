"""A sentinel in the hold-out: however its bars are spoilt, no row, leader or document of a sweep knows of it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grid.resolve import resolve
from grid.session import Session
from grid.spec import Sweep
from grid.sweep import run
from tests.e2e.sweeps import DATA, small
from tests.rows import digest

PRICES = ("open", "high", "low", "close")
DAY_NS = 86_400_000_000_000
DOCUMENTS = ("backtest_result.json", "trades.json", "performance_curve.json", "signals.json")


@pytest.fixture
def sweep(tmp_path: Path) -> dict[str, Any]:
    """The small sweep, on bars of its own."""
    for symbol in ("AAPL", "IBM"):
        shutil.copytree(DATA / symbol, tmp_path / "data" / symbol)
    made = small(tmp_path / "results")
    made["results"]["reuse"] = False  # each run is to read the bars
    return {**made, "data": {**made["data"], "store": str(tmp_path / "data")}}


def cut_of(sweep: dict[str, Any]) -> int:
    return resolve(Sweep(**sweep)).cut


def spoil(folder: Path, first_ns: int, stop_ns: int) -> int:
    """Other prices and volumes for the bars that open in [first, stop), as valid as the right ones; how many."""
    dice, spoilt = np.random.default_rng(1), 0
    for file in folder.rglob("*.parquet"):
        table = pq.read_table(file)
        times = table["timestamp"].cast(pa.int64()).to_numpy()
        inside = (times >= first_ns) & (times < stop_ns)
        if not inside.any():
            continue
        factor = np.where(inside, dice.uniform(0.01, 1000.0, len(times)), 1.0)
        for name in (*PRICES, "volume"):
            column = pa.array(table[name].to_numpy() * factor)
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        pq.write_table(table, file)
        spoilt += int(inside.sum())
    return spoilt


def known_of(session: Session) -> tuple[Any, ...]:
    """All that a session says of its trials, but for names and times."""
    contents = [session.folder.document(name) for name in DOCUMENTS]
    contents[0] = {k: v for k, v in contents[0].items() if k != "session_id"}
    facts = [{k: v for k, v in d.items() if k != "seconds_per_trial"} for d in session.metadata["datasets"]]
    return digest(session.trials()), session.top_points(5), contents, facts, session.metadata["fingerprint"]


def test_bars_of_the_hold_out_are_not_seen(sweep: dict[str, Any], tmp_path: Path) -> None:
    clean = known_of(run(sweep, "serial"))
    spoilt = spoil(tmp_path / "data", cut_of(sweep) - DAY_NS + 1, np.iinfo(np.int64).max)  # with what ends in it
    assert spoilt > 1000
    assert known_of(run(sweep, "serial")) == clean


def test_the_last_bar_before_it_is_seen(sweep: dict[str, Any], tmp_path: Path) -> None:
    """The sentinel can speak: one bar earlier, the rows are others."""
    clean = run(sweep, "serial")
    cut = cut_of(sweep)
    assert 1 <= spoil(tmp_path / "data", cut - 6 * DAY_NS, cut - DAY_NS + 1) <= 10
    assert digest(run(sweep, "serial").trials()) != digest(clean.trials())


def test_a_bar_that_spans_its_beginning_belongs_to_it(sweep: dict[str, Any]) -> None:
    """A week's bar must not tell of days that the daily bars hold out: whatever the cut, all bars seen are over."""
    for fraction in (0.1, 0.2, 0.3, 0.33, 0.5):
        resolved = resolve(Sweep(**{**sweep, "validation": {"blocks": 8, "holdout": fraction}}))
        for dataset in range(len(resolved.datasets)):
            assert resolved.load(dataset).bars.timestamp[-1] + DAY_NS <= resolved.cut
