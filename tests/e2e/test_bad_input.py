"""Every wrong request: its exit code, one paragraph that says what, where and what would be right, nothing written."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grid.errors import BadInput
from grid.session import Session
from grid.sweep import resume, run
from tests.e2e.desk import CONTROL, SWEEP, Desk, Outcome


def refused(desk: Desk, code: int, *arguments: str) -> str:
    """Type it, hold it against the rules of a refusal, and return the paragraph."""
    before = desk.snapshot()
    outcome = desk.grid(*arguments)
    assert desk.snapshot() == before, "something was written"
    check_paragraph(outcome, code)
    return outcome.err


def check_paragraph(outcome: Outcome, code: int) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("error: " if code == 2 else "refused: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    assert "Traceback" not in outcome.err
    assert not CONTROL.search(outcome.err)


RUN = ("run", "sweep.yaml", "--executor", "serial")

WRONG_FIELDS = {
    "no goal": ('objective={beside: ["sharpe"]}', "'sharpe' is no goal", "write it like maximize calmar"),
    "no metric as a goal": ('objective={beside: ["minimize drawdown"]}', "no metric", "did you mean 'max_drawdown'?"),
    "one goal twice": ('objective={beside: ["minimize sharpe"]}', "sharpe is more than one goal", "objective"),
    "unknown method": ("search.method=tpee", "search.method is 'tpee'", "did you mean 'tpe'?"),
    "no points asked for": ("search.method=sobol", "method sobol needs trials", "such as trials: 1000"),
    "a round of nothing": (
        "search={method: tpe, trials: 50, round: 0}",
        "search.round is 0",
        "greater than or equal to 2",
    ),
    "one round alone": ("search={method: nsga2, trials: 20, round: 20}", "no two rounds of 20", "ask for more trials"),
    "a round for nothing": ("search={method: lhs, trials: 20, round: 5}", "takes no round", "drop round"),
    "a round of halving": ("search={method: halving, trials: 90, round: 9}", "makes its rungs itself", "drop round"),
    "halving without trials": ("search.method=halving", "method halving needs trials", "such as trials: 1000"),
    "halving of few points": ("search={method: halving, trials: 90}", "6 points are no two rungs", "for 24 or more"),
    "halving of one block": (
        "search={method: halving, trials: 90} --set validation.blocks=1",
        "validation.blocks: 1 cuts it into none",
        "16 by default",
    ),
    "more blocks than bars": (
        "data.start=2012-11-01 --set validation.blocks=16 --set validation.holdout=0.9",
        "validation.blocks cuts the history into 16, and no dataset has more than",
        "fewer blocks",
    ),
    "a hold-out of everything": (
        "data.start=2012-12-31 --set validation.holdout=0.9",
        "has no bar from 2012-12-31",
        "the span without its hold-out",
    ),
    "conditions in a circle": (
        'space={fast: {values: [5, 6], when: "slow > 20"}, slow: {values: [20, 30], when: "fast > 5"}}',
        "the conditions `when` go in a circle",
        "take one of them out",
    ),
    "too many to keep": ("search={method: sobol, trials: 20000000}", "10,000,000 at most", "method: random"),
    "unknown strategy": ("strategy=sma_crss", "'sma_crss'", "did you mean 'sma_cross'?"),
    "unknown class": ("strategy=mine:Fusy", "mine has no Fusy", "did you mean 'Fussy'?"),
    "unknown module": ("strategy=yours:Fussy", "No module named 'yours'", "run where it lies"),
    "class of another kind": ("strategy=mine:NoStrategy", "NoStrategy", "subclass of strategies.Strategy"),
    "out of bounds": ("space.fast=[5, 0]", "space.fast holds 0", "Allowed: int, >= 1"),
    "out of bounds in a range": ("space.fast={range: [0, 20, 5]}", "space.fast holds 0", "Allowed: int, >= 1"),
    "out of its own strategy's bounds": (
        "strategy=mine:Fussy --set space.fast=[101]",
        "holds 101, which Fussy.fast",
        "<= 100",
    ),
    "unknown parameter": ("space.fastt=[5]", "space.fastt", "(did you mean 'fast'?)"),
    "unknown field": ("execution.fees=0.1", "execution.fees (from --set execution.fees)", "(did you mean 'fee'?)"),
    "unknown section": ("exekution.fee=0.1", "exekution", "(did you mean 'execution'?)"),
    "empty space": ("space={}", "space is empty", "name at least one parameter"),
    "no values": ("space.fast=[]", "space.fast", "no values are given"),
    "constraint excludes all": ('constraints=["fast > slow"]', "every point of the 6", "loosen a constraint"),
    "constraint calls": ('constraints=["abs(fast) < slow"]', "'abs(fast)' at character 1", "Allowed are names"),
    "constraint on nothing known": ('constraints=["fat < slow"]', "'fat'", "'fast'"),
    "missing symbol": ("data.symbols=[APPL]", "data.symbols", "did you mean 'AAPL'?"),
    "missing timeframe": ("data.timeframes=[4H]", "data.timeframes", "has AAPL as 1D, and not as 4H"),
    "no timeframe": ("data.timeframes=[2D]", "data.timeframes", "1m 3m 5m"),
    "another calendar": ("data.calendar=24/7", "AAPL 1D", "state the calendar XNYS, so that 24/7 cannot be asked for"),
    "no bars at all": ("data.store=bare", "bare holds no bars", "`grid data import`"),
    "no folder of bars": ("data.store=nowhere", "data.store: there is no folder", "relative to the folder that grid"),
    "no such timeframe anywhere": ("data.symbols=all --set data.timeframes=[4H]", "data.timeframes: ", "there are 1D"),
    "end before the data": ("data.end=1990-01-01 --set data.start=null", "data.end 1990-01-01", "choose a later end"),
    "dates the wrong way round": ("data.start=2014-01-01", "2014-01-01 does not come before end 2013-01-01", "first"),
    "no date": ("data.start=yesterday", "data.start is 'yesterday'", "write it as 2024-01-31"),
    "span without bars": (
        "data.start=2019-01-01 --set data.end=2020-01-01",
        "AAPL 1D has no bar from 2019-01-01 to 2020-01-01",
        "it has bars from 2000-03-01 to 2013-03-01",
    ),
    "start after the data": (
        "data.start=2019-01-01 --set data.end=null",
        "data.start 2019-01-01",
        "choose an earlier start",
    ),
    "results below a file": ("results.store=sweep.yaml/results", "results.store: ", "sweep.yaml is a file"),
    "results are a file": ("results.store=sweep.yaml", "results.store: ", "sweep.yaml is a file"),
    "results cannot be made": ("results.store=/proc/results", "results.store: /proc/results cannot be written", "Name"),
    "results elsewhere": (
        "results.store=gopher://x",
        "results.store: ",
        "'gopher://' are not supported; give",
    ),
    "bars elsewhere": ("data.store=gopher://x", "data.store: ", "'gopher://' are not supported; give"),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("case", WRONG_FIELDS)
def test_a_wrong_field_is_told_with_its_file(desk: Desk, case: str, command: str):
    sets, *told = WRONG_FIELDS[case]
    arguments = [word for text in sets.split(" --set ") for word in ("--set", text)]
    (desk.folder / "bare").mkdir()
    err = refused(desk, 2, command, "sweep.yaml", *arguments)
    for text in told:
        assert text in err
    assert "sweep.yaml" in err


@pytest.mark.parametrize(
    "command",
    ["ls", "tried", "data ls", "storage prune", "show latest", "top latest", "resume latest"],
)
def test_a_store_that_is_not_there_is_not_an_empty_one(desk: Desk, command: str):
    options = () if command.startswith("storage") else ("--store",)
    assert "there is no folder" in refused(desk, 2, *command.split(), *options, "resluts")
    assert "sweep.yaml is no folder" in refused(desk, 2, *command.split(), *options, "sweep.yaml")


def test_what_is_there_already_is_left_alone(desk: Desk):
    desk.session()
    refused(desk, 2, *RUN, "--set", "space.fast=[0]")
    refused(desk, 3, *RUN, "--set", "strategy=mine:Hopeless", "--set", "space={fast: [5, 6]}")
    assert desk.grid("doctor").code == 0
    before = desk.snapshot()
    assert desk.grid("plan", "sweep.yaml").code == 0
    assert desk.snapshot() == before


def rows_of(path: Path, order: list[int]) -> None:
    """Put the rows of a file into another order, not by way of the store."""
    table = pq.read_table(path)
    kept = [*order, *range(2, table.num_rows)]
    pq.write_table(table.take(pa.array(kept)), path)


def test_unsorted_bars(desk: Desk):
    file = desk.own_data()
    rows_of(file, [1, 0])
    err = refused(desk, 2, *RUN)
    assert f"{file}, IBM, row 2" in err
    assert "must be sorted by time" in err


def test_duplicated_bars(desk: Desk):
    file = desk.own_data()
    rows_of(file, [0, 0, 1])
    err = refused(desk, 2, *RUN)
    assert f"{file}, IBM, row 2: repeats the timestamp" in err


@pytest.mark.parametrize("span", ["stated", "all there is"])
@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "text", "empty"])
def test_damaged_bars(desk: Desk, damage: str, span: str):
    file = desk.own_data()
    data = bytearray(file.read_bytes())
    data[300] ^= 1
    spoilt = {"flipped bit": bytes(data), "cut off": bytes(data[:200]), "text": b"not Parquet at all", "empty": b""}
    file.write_bytes(spoilt[damage])
    whole = [] if span == "stated" else ["--set", "data.start=null", "--set", "data.end=null"]
    err = refused(desk, 2, *RUN, *whole)
    assert f"{file} is no readable Parquet file of bars" in err


def test_bars_without_a_column(desk: Desk):
    file = desk.own_data()
    pq.write_table(pq.read_table(file).drop_columns(["volume"]), file)
    assert "volume" in refused(desk, 2, *RUN)


SWEEP_FILES = {
    "nope.yaml": (None, "there is no such file"),
    "sweep.txt": ("strategy: x", "ends in .yaml, .yml, .toml, .json"),
    "broken.yaml": ("a: [", "line 1, column 5: this is no YAML"),
    "tabs.yaml": ("a:\n\tb: 1", "spaces"),
    "text.yaml": ("just some text", "and not fields such as 'strategy: sma_cross'"),
    "empty.yaml": ("", "needs at least strategy, data and space"),
    "twice.yaml": ("name: a\nname: b", "'name' is given twice"),
    "broken.toml": ("a = ", "this is no TOML"),
    "broken.json": ("{", "this is no JSON"),
    "fields.yaml": ("strategy: sma_cross", "data is missing"),
}


@pytest.mark.parametrize("name", SWEEP_FILES)
def test_a_sweep_file_that_is_none(desk: Desk, name: str):
    text, told = SWEEP_FILES[name]
    if text is not None:
        (desk.folder / name).write_text(text)
    err = refused(desk, 2, "run", name)
    assert err.startswith(f"error: {name}: ")
    assert told in err


def test_a_folder_is_no_sweep_file(desk: Desk):
    (desk.folder / "folder.yaml").mkdir()
    assert "cannot be read" in refused(desk, 2, "run", "folder.yaml")


def test_set_without_a_value(desk: Desk):
    assert "write --set execution.fee=0.001" in refused(desk, 2, *RUN, "--set", "execution.fee")


def test_the_environment_is_told_by_its_name(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRID_EXECUTION__FEE", "much")
    assert "GRID_EXECUTION__FEE" in refused(desk, 2, *RUN)


@pytest.mark.parametrize("command", ["run", "resume"])
def test_unknown_executor(desk: Desk, command: str):
    session = desk.session()
    err = refused(desk, 2, command, "sweep.yaml" if command == "run" else session, "--executor", "seriel")
    assert "'seriel' (did you mean 'serial'?); it is auto, serial or ray" in err


def test_unknown_executor_in_python(desk: Desk):
    session = Session.open(desk.session())
    before = desk.snapshot()
    with pytest.raises(BadInput, match="it is auto, serial or ray"):
        run(SWEEP, executor="seriel")
    with pytest.raises(BadInput, match="it is auto, serial or ray"):
        resume(session, executor="seriel")
    assert desk.snapshot() == before


@pytest.mark.parametrize(
    "arguments",
    [("resume",), ("show",), ("top",), ("export", "rows.csv"), ("show", "--trial", "0"), ("top", "--points")],
    ids=" ".join,
)
def test_unknown_session(desk: Desk, arguments: tuple[str, ...]):
    command, *rest = arguments
    for wanted in ("20200101", "latest"):
        err = refused(desk, 2, command, wanted, *rest)
        assert f"There is no session '{wanted}' in {desk.results}; `grid ls` lists the 0" in err
    desk.session()
    assert "lists the 1 that are there" in refused(desk, 2, command, "20200101", *rest)
    (desk.folder / "other").mkdir()
    err = refused(desk, 2, command, "20200101", *rest, "--store", "other")
    assert f"`grid ls --store {desk.folder / 'other'}` lists the 0" in err


def test_an_ambiguous_session(desk: Desk):
    desk.session()
    desk.session()
    assert "2 sessions begin with '20'" in refused(desk, 2, "show", "20")


def test_a_session_that_was_never_begun(desk: Desk):
    session = desk.session()
    (desk.results / session / "metadata.json").unlink()
    (desk.results / session / "summary.json").unlink()
    (desk.results / "index.json").unlink()  # it remembers what the finished ones said
    assert f"session {session} was announced and then never begun" in refused(desk, 2, "show", session)
    assert "never begun" in desk.grid("ls").out
    (desk.results / session / "metadata.json").write_text("{")
    assert "is not JSON" in refused(desk, 2, "show", session)
    assert desk.grid("ls", "--json").json()[0]["status"] == "damaged"


def test_a_trial_that_there_is_not(desk: Desk):
    session = desk.session("--set", 'constraints=["fast != 10"]')
    assert "no committed trial 2" in refused(desk, 2, "show", session, "--trial", "2")
    for trial in ("99", "-1"):
        err = refused(desk, 2, "show", session, "--trial", trial)
        assert f"has no trial {trial}: its numbers go from 0 to 11" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rows.xlsx",), "name it .parquet, .csv or .arrow"),
        (("nowhere/rows.csv",), "there is no folder nowhere"),
        (("sweep.yaml/rows.arrow",), "there is no folder sweep.yaml"),
        (("folder.csv",), "folder.csv cannot be written"),
        (("rows.csv", "--columns", "sharp"), "(did you mean 'sharpe'?)"),
    ],
)
def test_an_export_that_cannot_be(desk: Desk, arguments: tuple[str, ...], told: str):
    desk.session()
    (desk.folder / "folder.csv").mkdir()
    assert told in refused(desk, 2, "export", "latest", *arguments)


def test_resume_after_the_data_changed(desk: Desk):
    file = desk.own_data()
    session = desk.session()
    table = pq.read_table(file)
    pq.write_table(table.slice(0, table.num_rows - 1), file)
    err = refused(desk, 3, "resume", session)
    assert f"session {session} cannot be resumed: the data of IBM 1D changed" in err
    assert "as a new session" in err


def test_resume_after_the_strategy_changed(desk: Desk):
    session = desk.session("--set", "strategy=mine:Fussy")
    assert desk.grid("resume", session, "--executor", "serial").code == 1  # nothing changed, and some failed
    source = desk.folder / "mine.py"
    source.write_text(source.read_text().replace("self.fast > 10", "self.fast > 12"))
    err = refused(desk, 3, "resume", session)
    assert "the source of the strategy mine:Fussy changed" in err
    source.unlink()
    assert "No module named 'mine'" in refused(desk, 2, "resume", session)


def test_too_many_trials(desk: Desk):
    err = refused(desk, 3, *RUN, "--max-trials", "11")
    assert "has 12 trials and --max-trials allows 11" in err
    assert desk.run("--max-trials", "12").code == 0


def test_too_expensive(desk: Desk):
    assert "set cluster.price_per_cpu_hour" in refused(desk, 3, *RUN, "--max-cost", "1")
    err = refused(desk, 3, *RUN, "--max-cost", "0.01", "--set", "cluster.price_per_cpu_hour=1e9")
    assert "--max-cost allows 0.01" in err


def test_a_plan_over_its_budget_is_still_told(desk: Desk):
    before = desk.snapshot()
    outcome = desk.grid("plan", "sweep.yaml", "--max-trials", "11", "--json")
    assert (outcome.code, outcome.json()["trials"]) == (3, 12)
    assert outcome.err.startswith("refused: the sweep has 12 trials")
    assert desk.snapshot() == before


@pytest.mark.parametrize("command", ["run", "plan"])
def test_first_trials_that_all_fail_alike(desk: Desk, command: str):
    desk.write_sweep(strategy="mine:Hopeless", space={"fast": [5, 6, 7]})
    err = refused(desk, 3, command, "sweep.yaml")
    assert "the first 6 trials all fail alike" in err
    assert "RuntimeError: out of luck (mine.py:" in err
    assert "`grid strategies check` shows" in err


def test_results_are_proven_before_a_strategy_is_called(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAUSE", "no number, so that a call raises")
    desk.write_sweep(strategy="mine:Fussy")
    assert "trials all fail alike" in refused(desk, 3, *RUN)
    err = refused(desk, 2, *RUN, "--set", "results.store=/proc/results")
    assert err.startswith("error: sweep.yaml: results.store: /proc/results cannot be written")


def test_results_that_can_no_longer_be_written(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    session = desk.session()
    monkeypatch.setattr("storage.providers.local._finished_beside", _no_room)
    assert f"results.store: {desk.results} cannot be written" in refused(desk, 2, "resume", session)
    assert f"results.store: {desk.results} cannot be written" in refused(desk, 2, *RUN)


def _no_room(*_: object) -> object:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["sma_crss", "mine:Fusy", "mine", "yours:Fussy", ":", "mine:"])
@pytest.mark.parametrize("command", ["show", "check"])
def test_strategies_that_there_are_not(desk: Desk, command: str, name: str):
    refused(desk, 2, "strategies", command, name)


def test_a_strategy_that_breaks_the_rules(desk: Desk):
    err = refused(desk, 2, "strategies", "check", "mine:Hopeless")
    assert "mine:Hopeless breaks the rules of strategies. raises: on 0 bars: RuntimeError: out of luck" in err
    outcome = desk.grid("strategies", "check", "mine:Hopeless", "--json")
    assert (outcome.code, outcome.err, outcome.json()["ok"]) == (2, "", False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "sweep.yaml", "--set"),
        ("run", "sweep.yaml", "--max-trials", "many"),
        ("run", "sweep.yaml", "--nonsense"),
        ("top", "latest", "-n", "0"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_usage(desk: Desk, arguments: tuple[str, ...]):
    before = desk.snapshot()
    outcome = desk.grid(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Error: " in outcome.err
    assert "Traceback" not in outcome.err
    assert desk.snapshot() == before


def test_errors_keep_json_off_stdout(desk: Desk):
    for arguments in (("run", "sweep.yaml", "--set", "space={}"), ("show", "latest"), ("export", "latest", "x.csv")):
        refused(desk, 2, *arguments, "--json")


def test_brackets_in_a_message_are_no_markup(desk: Desk):
    assert "[red]:smile:" in refused(desk, 2, *RUN, "--set", "space.[red]:smile:=[1]")


def test_the_sweep_may_be_wrong_in_json_too(desk: Desk):
    (desk.folder / "sweep.json").write_text(json.dumps({**SWEEP, "strategy": "sma_crss"}))
    assert refused(desk, 2, "run", "sweep.json").startswith("error: sweep.json: there is no strategy 'sma_crss'")
    assert "mine" not in sys.modules
