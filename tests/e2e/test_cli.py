"""The commands as people and scripts type them: what they print, write and exit with."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from grid.cli import doctor
from grid.hints import at_store
from grid.partition import CLUSTER_SETTINGS
from grid.session import Session
from tests.e2e.desk import CONTROL, ROOT, Desk, interrupt
from tests.rows import digest

HELPLESS = "..."  # what click writes where a line of help is too long


def test_plan(desk: Desk):
    before = desk.snapshot()
    outcome = desk.grid("plan", "sweep.yaml")
    assert (outcome.code, outcome.err) == (0, "")
    assert "trials  12 on 2 datasets" in outcome.out
    for told in (
        "sma_cross",
        "AAPL, IBM x 1D",
        "2010-01-01 to 2013-01-01",
        "fee 0.05 %",
        " in this process, without Ray",
    ):
        assert told in outcome.out
    told = desk.grid("plan", "sweep.yaml", "--json", "--set", "cluster.price_per_cpu_hour=1").json()
    assert (told["trials"], told["exact"], told["datasets"], told["error"]) == (12, True, 2, 0)
    assert told["bytes_read"] > 10_000
    assert told["cost"] == pytest.approx(told["cpu_seconds"] / 3600)
    assert desk.snapshot() == before


def test_run(desk: Desk):
    outcome = desk.run()
    assert outcome.code == 0
    (session,) = (path.name for path in desk.results.iterdir() if path.name[0] == "2")
    assert outcome.err == f"session {session}: 12 trials on 2 datasets\n"
    assert "Best trials: highest sharpe\n" in outcome.out
    assert "Best points: highest sharpe, median of 2 datasets\n" in outcome.out
    assert "Buy and hold, same span and costs\n" in outcome.out
    assert outcome.out.endswith(f" s.\nNext: grid show {session}\n")


def test_trials_without_a_closed_trade_are_counted(desk: Desk):
    outcome = desk.run("--set", "space.slow=[20, 1000]")  # there are 755 bars
    assert "6 trials closed no trade.\n12 trials in " in outcome.out
    assert desk.run("--set", "space.slow=[20, 1000]", "--json").json()["idle"] == 6


def test_what_looks_ahead_is_never_called_skill(desk: Desk):
    desk.write_sweep(strategy="mine:Prophet", space={"ahead": [1, 2]})
    for command in ("plan", "run"):
        warning = desk.grid(command, "sweep.yaml").err.splitlines()[0]
        assert warning.startswith("mine:Prophet looks ahead: where the data ends after bar ")
        assert warning.endswith(" Its results mean nothing; `grid strategies check` looks closer")
    shown = desk.grid("show", "latest")
    assert "none: the results mean nothing (see doubt)." in shown.out
    assert "doubt  - the strategy looks ahead: where" in shown.out
    assert desk.grid("show", "latest", "--json").json()["verdict"]["headline"] == "void"


def test_run_tells_json_alone_on_stdout(desk: Desk):
    outcome = desk.run("--json", "--set", "results.keep_best=3")
    told = outcome.json()
    assert (told["status"], told["ok"], told["failed"]) == ("done", 12, 0)
    assert [row["trial_id"] for row in told["best_trials"][:3]] == [4, 5, 2]
    assert len(told["best_trials"]) == 10  # however many keep their trades
    assert len(told["best_points"]) == 6
    assert outcome.err.startswith(f"session {told['session_id']}: ")
    document = Session.open("latest").folder.document("backtest_result.json")
    assert [row["trial_id"] for row in document["best_trials"]] == [4, 5, 2]


def test_next_commands_name_a_store_elsewhere(desk: Desk):
    out = desk.run("--set", "results.store=else where").out
    command = out.splitlines()[-1]
    assert command.endswith(f" --store '{desk.folder}/else where'")
    assert f"--store '{desk.folder}/else where'" in desk.grid("show", "latest", "--store", "else where").out


def test_a_working_directory_that_is_gone(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = Session.open(desk.session())
    gone = desk.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert at_store(session) == f" --store {desk.results}"
    outcome = desk.grid("ls")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: the working directory is gone: change into one that is there.\n"


def test_ls(desk: Desk):
    outcome = desk.grid("ls")
    assert outcome.out == f"{desk.results} holds no session yet; `grid run SWEEP` makes one.\n"
    assert desk.grid("ls", "--json").json() == []
    first, second = desk.session(), desk.session("--set", "strategy=mine:Fussy")
    assert [(row["session_id"], row["failed"]) for row in desk.grid("ls", "--json").json()] == [(first, 0), (second, 4)]
    head, *lines = desk.grid("ls").out.splitlines()
    assert head.split() == ["session", "id", "status", "strategy", "datasets", "trials", "failed", "seconds"]
    assert [line.split()[:5] for line in lines] == [
        [first, "done", "sma_cross", "2", "12"],
        [second, "done", "mine:Fussy", "2", "12"],
    ]


def test_show(desk: Desk):
    session = desk.session()
    outcome = desk.grid("show", session[:15])
    assert (outcome.code, outcome.err) == (0, "")
    for fact in (
        f"    session  {session}\n",
        "     status  done, 100 % committed\n",
        "       data  AAPL 1D (754 bars), IBM 1D (754 bars)\n",
        "     trials  12 ok, 0 failed\n",
        "      costs  fee 0.05 %, slippage 0 % a side\n",
    ):
        assert fact in outcome.out
    assert f"Next: grid show {session} --trial 4\n" in outcome.out
    told = desk.grid("show", "latest", "--json").json()
    assert (told["session_id"], told["status"], told["a_failure"]) == (session, "done", None)
    assert told["committed"] == {"ok": 12, "failed": 0, "reused": {}}


def test_show_a_trial(desk: Desk):
    desk.session()
    outcome = desk.grid("show", "latest", "--trial", "2")
    told = desk.grid("show", "latest", "--trial", "2", "--json").json()
    assert (told["trial"]["fast"], told["trial"]["slow"], told["trial"]["status"]) == (10, 20, "ok")
    assert len(told["trades"]) == told["trial"]["total_trades"] + (told["trades"][-1]["reason"] == "open")
    assert f"{len(told['trades'])} trades" in outcome.out
    assert f"total return  {100 * told['trial']['total_return']:,.1f} %" in outcome.out
    assert told["trades"][-1]["entry_time"].removesuffix(" 00:00:00+00:00") in outcome.out
    assert "+00:00" not in outcome.out


def test_top(desk: Desk):
    desk.session()
    rows = desk.grid("top", "latest", "-n", "3", "--json").json()
    assert len(rows) == 3
    assert [row["sharpe"] for row in rows] == sorted((row["sharpe"] for row in rows), reverse=True)
    lines = desk.grid("top", "latest", "-n", "3").out.splitlines()
    assert [int(line.split()[0]) for line in lines[2:]] == [row["trial_id"] for row in rows]
    points = desk.grid("top", "latest", "--points", "--json").json()
    assert len(points) == 6
    for point in points:
        assert point["score"] == pytest.approx((point["AAPL 1D"] + point["IBM 1D"]) / 2)
    assert desk.grid("top", "latest", "--points", "-n", "2").out.count("\n") == 4


def test_export(desk: Desk):
    desk.session()
    for name in ("rows.parquet", "rows.csv", "rows.arrow"):
        outcome = desk.grid("export", "latest", name)
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err.startswith(f"wrote 12 rows to {name}")
        assert ("without block_return_sum" in outcome.err) == (name == "rows.csv")
    table = pq.read_table(desk.folder / "rows.parquet")
    assert table["trial_id"].to_pylist() == list(range(12))
    assert digest(table) == digest(Session.open("latest").trials())
    with pyarrow.ipc.open_file(desk.folder / "rows.arrow") as file:
        assert file.read_all().equals(table)
    text = pyarrow.csv.read_csv(desk.folder / "rows.csv")
    assert text.column_names == [name for name in table.column_names if not name.startswith("block_")]
    assert text["sharpe"].to_pylist() == table["sharpe"].to_pylist()


def test_export_some_columns(desk: Desk):
    desk.session()
    outcome = desk.grid("export", "latest", "some.parquet", "--columns", "sharpe, fast", "--json")
    assert outcome.json() == {"rows": 12, "file": "some.parquet", "left_out": []}
    assert outcome.err == ""
    assert pq.read_table(desk.folder / "some.parquet").column_names == ["sharpe", "fast"]


def test_version(desk: Desk):
    told = desk.grid("--version")
    assert told.code == 0
    assert re.fullmatch(r"backtest-grid \d+\.\d+\.\d+, engine \d+\n", told.out)


def test_strategies(desk: Desk):
    told = desk.grid("strategies", "--json").json()
    names = [strategy["name"] for strategy in told]
    assert names == sorted(names)
    assert {"sma_cross", "volume_zone_breakout"} <= set(names)
    out = desk.grid("strategies").out
    assert all(f"\n{name}\n" in f"\n{out}" for name in names)
    (described,) = (strategy for strategy in told if strategy["name"] == "sma_cross")
    assert desk.grid("strategies", "show", "sma_cross", "--json").json() == described
    assert "[2, 100]" in desk.grid("strategies", "show", "mine:Fussy").out


def test_strategies_check(desk: Desk):
    outcome = desk.grid("strategies", "check", "sma_cross")
    assert (outcome.code, outcome.out, outcome.err) == (0, "sma_cross keeps the rules.\n", "")
    told = desk.grid("strategies", "check", "sma_cross", "--json").json()
    assert told == {"strategy": "sma_cross", "ok": True, "faults": []}


def test_doctor_leaves_nothing_behind(desk: Desk):
    before = desk.snapshot()
    told = desk.grid("doctor", "--json").json()
    assert {check["name"]: check["ok"] for check in told}.items() >= {("data", True), ("results", True)}
    assert ["ok", "data", "4", "datasets", "in", "data"] in [
        line.split() for line in desk.grid("doctor").out.splitlines()
    ]
    bad = desk.grid("doctor", "--data", "nowhere", "--results", "sweep.yaml")
    assert bad.code == 2
    assert "BAD" in bad.out
    assert "is a file and not a folder" in " ".join(bad.out.split())
    assert "name a store that can be written with --results" in bad.out
    assert desk.snapshot() == before


def test_failed_trials_are_rows_and_exit_1(desk: Desk):
    outcome = desk.run("--set", "strategy=mine:Fussy")
    assert outcome.code == 1
    error = "ValueError: cannot do 15 (mine.py:26 in signals)"
    assert f"4 trials failed; trial 4: {error}." in outcome.out
    assert f"   failures  4 trials failed; trial 4: {error}\n" in desk.grid("show", "latest").out
    assert desk.grid("show", "latest", "--json").json()["a_failure"] == [4, error]
    rows = Session.open("latest").trials(["fast", "slow", "status", "error", "sharpe"]).to_pylist()
    for row in rows:
        failed = row["fast"] == 15
        assert (row["status"], row["error"]) == (("failed", error) if failed else ("ok", None))
        assert (row["sharpe"] != row["sharpe"]) == failed
    shown = desk.grid("show", "latest", "--trial", "5")
    assert (shown.code, shown.out.splitlines()[-1]) == (0, error)
    told = desk.grid("show", "latest", "--trial", "5", "--json").json()
    assert (told["trial"]["status"], told["trial"]["slow"], told["trades"]) == ("failed", 30, [])


def test_progress_off_a_terminal_is_quiet_lines(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("grid.cli.progress.LINE_EVERY_S", 0.0)
    outcome = desk.run()
    session, *lines = outcome.err.splitlines()
    assert session.startswith("session ")
    assert lines
    assert lines[-1].startswith("100 %: 12 trials, ")
    assert not CONTROL.search(outcome.err + outcome.out)
    assert desk.run("--quiet", "--no-reuse").err.count("\n") == 1
    assert desk.run("--json", "--no-reuse").err.count("\n") == 1


def test_help_fits_on_a_line_a_command(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    outcome = desk.grid("--help")
    assert outcome.code == 0
    for command in ("plan", "run", "resume", "ls", "show", "top", "export", "doctor", "strategies", "data"):
        assert f"\n  {command} " in outcome.out
        assert desk.grid(command, "--help").code == 0
    assert HELPLESS not in outcome.out.partition("Options:")[2]
    assert max(map(len, outcome.out.splitlines())) <= 80


@pytest.mark.parametrize("width", ["80", "120"])
def test_tables_fit_the_width(desk: Desk, monkeypatch: pytest.MonkeyPatch, width: str):
    monkeypatch.setenv("COLUMNS", width)
    outputs = [desk.run().out, desk.grid("show", "latest", "--trial", "0").out, desk.grid("strategies").out]
    for out in outputs:
        assert max(map(len, out.splitlines())) <= int(width)
    assert ("a wider terminal" in outputs[1]) == (width == "80")


def test_a_process_of_its_own(desk: Desk):
    process = desk.start("run", "sweep.yaml", "--executor", "serial", "--set", "strategy=mine:Fussy")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "4 trials failed" in out
    assert err.count("\n") == 1
    assert not CONTROL.search(out + err)
    process = desk.start("run", "sweep.yaml", "--set", "strategy=sma_crss", "--json")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: sweep.yaml: there is no strategy 'sma_crss'; did you mean 'sma_cross'?")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "this machine belongs to no cluster"),
        ({"RAY_ADDRESS": "10.0.0.1:6379"}, "set RAY_health_check_initial_delay_ms, "),
        ({"RAY_ADDRESS": "10.0.0.1:6379", **CLUSTER_SETTINGS}, "Ray is set to notice them"),
        ({**CLUSTER_SETTINGS, "RAY_grpc_keepalive_time_ms": ""}, "this machine belongs to no cluster"),
    ],
)
def test_doctor_on_cut_links(environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(doctor, "CURRENT_CLUSTER", tmp_path / "none")
    check = doctor._partition(environment)
    assert check.ok
    assert told in check.found


MANY = ("--set", "strategy=mine:Fussy", "--set", "space={fast: {range: [2, 11, 1]}, slow: {range: [20, 59, 1]}}")


@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 1), (signal.SIGINT, 2), (signal.SIGTERM, 2)])
def test_an_interrupted_run_resumes_to_the_same_rows(desk: Desk, number: signal.Signals, times: int):
    """As Ctrl-C does it, and as a job's end or the notice of a spot machine does."""
    undisturbed = digest(Session.open(desk.session(*MANY)).trials())
    arguments = ("run", "sweep.yaml", "--executor", "serial", "--no-reuse", *MANY)
    process = desk.start(*arguments, PAUSE="0.01")
    desk.wait_for_heartbeat(process)
    outcome = interrupt(process, times, number)
    assert outcome.code == 130, outcome.err
    assert "stopping: finishing the units in flight (again to stop at once)\n" in outcome.err
    assert "Traceback" not in outcome.err
    cut = Session.open("latest")
    assert f"Next: grid resume {cut.id}\n" in outcome.out + outcome.err
    assert cut.ledger.done.total() < 800
    shown = desk.grid("show", "latest").out
    assert f"Next: grid resume {cut.id}\n" in shown
    resumed = desk.grid("resume", "latest", "--executor", "serial", "--json")
    assert resumed.code == 1  # fast: 11 fails
    assert resumed.json()["session_id"] == cut.id
    assert Session.open(cut.id).status == "done"
    assert digest(Session.open(cut.id).trials()) == undisturbed


def test_interrupted_before_it_began(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    before = desk.snapshot()
    monkeypatch.setattr("grid.cli.run.rehearse", interrupted)
    outcome = desk.run()
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "stopped before the sweep began; nothing was written\n"
    assert desk.snapshot() == before


def test_ctrl_c_while_the_command_line_loads_is_no_traceback(desk: Desk):
    (desk.folder / "typer.py").write_text("raise KeyboardInterrupt\n")
    process = desk.start("ls", PYTHONPATH=str(desk.folder))
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", 130)


def on_a_terminal(desk: Desk, *arguments: str, **environment: str) -> str:
    """What `python -m grid ARGUMENTS` writes to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "grid", *arguments],
        cwd=desk.folder,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    written = b""
    try:
        while chunk := os.read(master, 4096):
            written += chunk
    except OSError:
        pass  # how Linux tells that the other end is closed
    finally:
        os.close(master)
    process.wait(timeout=60)
    return written.decode()


def test_who_waits_for_the_compiler_is_told(desk: Desk, tmp_path_factory: pytest.TempPathFactory):
    kernels = tmp_path_factory.mktemp("kernels")
    compiling = "compiling the engine for this processor, once on this machine"
    assert on_a_terminal(desk, "plan", "sweep.yaml", NUMBA_CACHE_DIR=str(kernels)).count(compiling) == 1
    assert compiling not in on_a_terminal(desk, "plan", "sweep.yaml", NUMBA_CACHE_DIR=str(kernels))


def test_colour_on_a_terminal_unless_not_wanted(desk: Desk):
    assert "\x1b[31merror: " in on_a_terminal(desk, "show", "latest")
    plain = on_a_terminal(desk, "show", "latest", NO_COLOR="1")
    assert plain.startswith("error: There is no session 'latest'")
    assert "\x1b" not in plain


def test_the_demo_is_a_sweep(desk: Desk):
    outcome = desk.grid("plan", str(ROOT / "examples" / "demo.yaml"), "--json")
    assert outcome.json()["trials"] == 7000
    assert Path("data").is_symlink()
