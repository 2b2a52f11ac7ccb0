"""The table of telemetry: its rules, its document, and that what happens in a sweep arrives in it."""

import re
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from grid.account import Account, Limits
from grid.aggregate import Progress, Receipt
from grid.dispatch import CAUSES
from grid.errors import BadInput
from grid.observe import Observer
from grid.sweep import Watch, run
from grid.telemetry import BY_NAME, LABELS, TABLE, Telemetry, markdown
from tests.e2e.sweeps import small

DOCUMENT = Path(__file__).parents[2] / "docs" / "telemetry.md"


def test_names_are_in_base_units_and_labels_are_bounded():
    assert len(BY_NAME) == len(TABLE)
    for metric in TABLE:
        assert re.fullmatch(r"grid(_[a-z]+)+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert set(metric.labels) <= set(LABELS)
        assert metric.help.endswith(".")
        assert not re.search(r"_(ms|minutes|hours|kb|mb|percent)(_|$)", metric.name)


def test_the_document_shows_the_table():
    assert markdown() in DOCUMENT.read_text(), "docs/telemetry.md is older than grid/telemetry.py"


def test_the_document_names_every_cause():
    for cause in CAUSES:
        assert cause in BY_NAME["grid_attempts_total"].help


def test_a_record_needs_the_labels_of_the_table():
    with pytest.raises(ValueError, match="grid_trials_total has the labels"):
        Telemetry().record("grid_trials_total", 1, state="ok")
    with pytest.raises(KeyError):
        Telemetry().record("grid_tirals_total", 1)


def observer_of(telemetry: Telemetry, now: list[float]) -> tuple[Observer, Account]:
    account = Account(Limits(), 3600.0, lambda: now[0])
    return Observer(telemetry, "s", account, Progress(10, 7, 3, None, 1)), account


def test_counts_that_come_as_totals_become_differences():
    telemetry, now = Telemetry(), [0.0]
    observer, _ = observer_of(telemetry, now)
    for ok, failed in ((7, 3), (9, 3), (9, 4), (20, 4)):
        observer.receipt(Receipt("w", 0, 0, Progress(ok + failed, ok, failed, None, 2), (0.02,), retries=ok))
    observer.attempts(Counter(first=3))
    observer.attempts(Counter(first=5, split=2))
    value = telemetry.prometheus.value
    assert value("grid_trials_total", strategy="s", state="ok") == 13
    assert value("grid_trials_total", strategy="s", state="failed") == 1
    assert value("grid_commit_seconds_count") == 4
    assert value("grid_storage_retries_total") == 20
    assert value("grid_attempts_total", cause="first") == 5
    assert value("grid_attempts_total", cause="split") == 2


def test_what_is_held_costs_and_efficiency_is_the_share_that_worked():
    telemetry, now = Telemetry(), [0.0]
    observer, account = observer_of(telemetry, now)
    account.hold(4)
    now[0] = 10.0
    observer.worked(30.0)
    observer.spent()
    account.hold(0)
    now[0] = 99.0
    observer.spent()
    value = telemetry.prometheus.value
    assert value("grid_cpu_seconds_total") == 40.0
    assert value("grid_cost_total") == 40.0  # 3600 an hour is 1 a second
    assert value("grid_efficiency_ratio") == 0.75
    assert value("grid_cpus") == 0


def test_another_sink_hears_what_happens_within_its_block_only():
    telemetry, heard = Telemetry(), []

    class Ear:
        def record(self, metric, value, labels):
            heard.append((metric.name, value, labels))

    with telemetry.also(Ear()):
        telemetry.record("grid_cpus", 2)
    telemetry.record("grid_cpus", 3)
    assert heard == [("grid_cpus", 2, {})]
    assert telemetry.prometheus.value("grid_cpus") == 3


def test_a_sweep_in_this_process_fills_it(tmp_path: Path):
    telemetry = Telemetry()
    session = run(small(tmp_path, cluster={"price_per_cpu_hour": 1.0}), "serial", Watch(telemetry=telemetry))
    value = telemetry.prometheus.value
    assert value("grid_trials_total", strategy="sma_cross", state="ok") == session.metadata["ok"]
    assert value("grid_attempts_total", cause="first") == value("grid_units_finished_total", state="done")
    assert value("grid_read_bytes_total", tier="store") > 10_000
    assert 0 < value("grid_kernel_seconds_total", strategy="sma_cross") < value("grid_cpu_seconds_total")
    assert value("grid_commit_seconds_count") == session.ledger.next_n
    assert value("grid_heartbeat_timestamp_seconds") > 1.6e9
    assert value("grid_cost_total") > 0


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def test_it_is_served_on_loopback_and_stops():
    telemetry = Telemetry()
    with telemetry.served(0) as port:
        telemetry.record("grid_cpus", 2)
        assert "\ngrid_cpus 2.0\n" in scraped(port)
        with pytest.raises(BadInput, match=f"--metrics-port {port} cannot be opened"), telemetry.served(port):
            pass
    with pytest.raises(OSError, match="refused"):
        scraped(port)
