"""The sweep file: what it accepts, what it means, and what it says when something is wrong."""

import json
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from grid.bounds import check_space
from grid.dimensions import Dimension
from grid.errors import BadInput
from grid.spec import DataSpec, Objective, Sweep
from grid.specfile import load_sweep

YAML = """
name: vzb-krw                             # an example for the KRW markets of the tests
strategy: volume_zone_breakout            # registered name, or module:Class
data: {store: data, symbols: [KRW-BTC, KRW-ETH], timeframes: [1D, 4H], start: 2022-01-01, end: 2025-01-01}
space:
  volume_window: {range: [10, 120, 10]}   # inclusive; also values, linspace, logspace, choice, or one fixed value
  top_percentile: [0.1, 0.2, 0.3]
  breakout_buffer: {linspace: [0.0, 0.02, 5]}
constraints: ["volume_window * top_percentile >= 2"]
search: {method: grid}
execution: {cash: 10000000, fee: 0.0005, slippage: 0.0002, fill: next_open, side: long, size: 1.0, stop_loss: null}
objective: {maximize: sharpe, across: median, require: ["total_trades >= 30"]}
validation: {blocks: 16, holdout: 0.2}
results: {store: results, keep_best: 20}
cluster: {address: null, cpus: null, price_per_cpu_hour: null}
"""
TOML = """
strategy = "sma_cross"
constraints = "fast < slow"
[data]
symbols = "all"
timeframes = ["1D"]
start = 2022-01-01
end = 2022-01-02T12:00:00+09:00
[space]
fast = {range = [5, 20, 5]}
slow = 30
"""
DATA: dict[str, Any] = {"symbols": ["AAPL"], "timeframes": ["1D"]}
BASE: dict[str, Any] = {"strategy": "sma_cross", "data": DATA, "space": {"fast": [5, 10], "slow": [20, 30]}}


def sweep(**changes: Any) -> Sweep:
    return Sweep(**{**BASE, **changes})


def load(folder: Path, text: str, suffix: str = ".yaml", **layers: dict[str, str]) -> Sweep:
    path = folder / f"sweep{suffix}"
    path.write_text(text, encoding="utf-8")
    return load_sweep(path, layers.get("overrides"), layers.get("environment", {}))


def test_the_example(tmp_path: Path) -> None:
    read = load(tmp_path, YAML)
    assert read.name == "vzb-krw"
    assert read.data == DataSpec(
        store="data",
        symbols=("KRW-BTC", "KRW-ETH"),
        timeframes=("1D", "4H"),
        start=date(2022, 1, 1),
        end=date(2025, 1, 1),
    )
    assert list(read.space) == ["volume_window", "top_percentile", "breakout_buffer"]
    assert list(read.space["volume_window"].axis()) == list(range(10, 130, 10))
    assert (read.objective.metric, read.objective.descending) == ("sharpe", True)
    assert (read.execution.fee, read.execution.slippage) == (0.0005, 0.0002)
    assert (read.validation.holdout, read.results.keep_best, read.cluster.cpus) == (0.2, 20, None)


def test_formats_agree(tmp_path: Path) -> None:
    read = load(tmp_path, TOML, ".toml")
    assert load(tmp_path, json.dumps(tomllib.loads(TOML), default=str), ".json") == read
    assert load(tmp_path, json.dumps(read.model_dump(mode="json")), ".yml") == read
    assert read.data.symbols == "all"
    assert read.data.end == datetime(2022, 1, 2, 3, tzinfo=UTC)
    assert read.constraints == ("fast < slow",)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"space": {"a": {"range": [1, 9, 2]}, "b": {"logspace": [0.1, 10, 3]}, "c": [None, 0.5], "d": [True, False]}},
        {"space": {"e": "text", "f": range(3, 9), "g": {"choice": ["x"]}, "h": 2.0}},
        {"data": {**DATA, "start": datetime(2024, 1, 1, 9, 30, 0, 5, tzinfo=UTC), "calendar": "XNYS"}},
        {"search": {"method": "random", "trials": 10, "seed": 7}, "objective": {"minimize": "max_drawdown"}},
        {"execution": {"size": {"units": 3}, "fee": "upbit-krw", "stop_loss": 0.1}},
        {"constraints": ["fast < slow"], "validation": {"blocks": 1}, "cluster": {"price_per_cpu_hour": 0.04}},
    ],
)
def test_json_round_trip(changes: dict[str, Any]) -> None:
    made = sweep(**changes)
    text = json.dumps(made.model_dump(mode="json"), allow_nan=False)
    again = Sweep(**json.loads(text))
    assert again == made
    assert list(again.space) == list(made.space)
    assert Sweep.model_validate_json(made.model_dump_json()) == made


def test_defaults_and_models_instead_of_dicts() -> None:
    made = Sweep(
        strategy="sma_cross",
        data=DataSpec(symbols=("AAPL",), timeframes=("1D",)),
        space={"fast": Dimension.model_validate([5, 10]), "slow": [20, 30]},
        objective=Objective(),
    )
    assert made == sweep()
    assert (made.search.method, made.validation.blocks, made.validation.holdout) == ("grid", 16, 0.0)
    assert (made.execution.cash, made.execution.fill, made.execution.side) == (10_000_000, "next_open", "long")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2024-01-31", date(2024, 1, 31)),
        (date(2024, 1, 31), date(2024, 1, 31)),
        ("2024-01-31T00:00:00Z", date(2024, 1, 31)),
        ("2024-01-31T09:00:00+09:00", date(2024, 1, 31)),
        ("2024-01-31 09:30", datetime(2024, 1, 31, 9, 30, tzinfo=UTC)),
        (datetime(2024, 1, 31, 9), datetime(2024, 1, 31, 9, tzinfo=UTC)),
        (None, None),
    ],
)
def test_dates(given: object, expected: object) -> None:
    start = DataSpec.model_validate({**DATA, "start": given}).start
    assert start == expected
    assert type(start) is type(expected)


def test_precedence(tmp_path: Path) -> None:
    environment = {"GRID_EXECUTION__FEE": "0.002", "GRID_NAME": "from-env", "GRID_REQUIRE_SHARED": "1", "HOME": "/"}
    layers = {"environment": environment, "overrides": {"execution.fee": "1e-3", "space.fast": "{range: [1, 3, 1]}"}}
    assert load(tmp_path, YAML, environment=environment).execution.fee == 0.002
    read = load(tmp_path, TOML, ".toml", **layers)
    assert (read.name, read.execution.fee, list(read.space["fast"].axis())) == ("from-env", 0.001, [1, 2, 3])
    assert list(read.space) == ["fast", "slow"]


def test_the_environment_is_the_processes_own_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRID_VALIDATION__BLOCKS", "4")
    path = tmp_path / "sweep.toml"
    path.write_text(TOML)
    assert load_sweep(path).validation.blocks == 4


def test_yaml_without_its_surprises(tmp_path: Path) -> None:
    text = "strategy: s\ndata: {symbols: [ON, NO, 000660], timeframes: 1H}\nspace: {a: [1e-3, .5, 2.], b: [on, off]}"
    read = load(tmp_path, text)
    assert read.data.symbols == ("ON", "NO", "000660")
    assert list(read.space["a"].axis()) == [0.001, 0.5, 2.0]
    assert list(read.space["b"].axis()) == ["on", "off"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"excution": {}}, ["excution is no known field", "'execution'", "name, strategy, data"]),
        ({"execution": {"fea": 1}}, ["execution.fea is no known field (did you mean 'fee'?)", "slippage"]),
        ({"objective": {"maximze": "sharpe"}}, ["objective.maximze", "'maximize'"]),
        ({"execution": {"fee": 5}}, ["execution.fee is 5: it should be less than 1"]),
        ({"execution": {"fee": "upbit"}}, ["execution.fee is 'upbit'", "upbit-krw"]),
        ({"execution": {"size": 5}}, ["execution.size is 5", "less than or equal to 1", "{units: 3}"]),
        ({"execution": {"size": {"unit": 5}}}, ["execution.size is {'unit': 5}", "'units'"]),
        ({"execution": {"fill": "nextopen"}}, ["execution.fill is 'nextopen'", "did you mean 'next_open'"]),
        ({"execution": None}, ["execution is empty", "section of fields"]),
        ({"objective": {"maximize": "sharp"}}, ["objective.maximize is 'sharp'", "did you mean 'sharpe'", "calmar"]),
        ({"objective": {"maximize": "sharpe", "minimize": "fees"}}, ["maximize: sharpe", "give one"]),
        ({"objective": {"require": ["trades > 3"]}}, ["'trades' at character 1", "'total_trades'"]),
        ({"objective": {"across": "max"}}, ["objective.across is 'max'", "'median', 'min' or 'mean'"]),
        ({"space": {}}, ["space is empty", "fast: [5, 10]"]),
        ({"space": {"fast": []}}, ["space.fast: no values"]),
        ({"space": {"fast": {"rnge": [1, 2, 3]}}}, ["space.fast: there is no form 'rnge'", "{range: [lo, hi, step]}"]),
        ({"space": {"fast": {"range": [1, 2, 1], "values": [1]}}}, ["space.fast: one form", "range, values"]),
        ({"space": {"fast": {"range": [5, 1, 1]}}}, ["space.fast: range [5, 1, 1] holds nothing"]),
        ({"space": {"fast": {"range": [1, 5, 0]}}}, ["never moves", "the step above 0"]),
        ({"space": {"fast": {"range": [1, 5]}}}, ["takes three numbers and got 2"]),
        ({"space": {"fast": {"range": [1, "x", 1]}}}, ["'x' is not a finite number"]),
        ({"space": {"fast": {"range": 5}}}, ["range takes a list and got 5"]),
        ({"space": {"fast": {"linspace": [0, 1, 2.5]}}}, ["linspace [0, 1, 2.5]", "number of points"]),
        ({"space": {"fast": {"linspace": [1, 1, 5]}}}, ["repeats one value"]),
        ({"space": {"fast": {"linspace": [0, 1, 10**18]}}}, ["too small"]),
        ({"space": {"fast": {"logspace": [0, 1, 5]}}}, ["above zero"]),
        ({"space": {"fast": [1, 1]}}, ["space.fast: the value 1 is given twice"]),
        ({"space": {"sharpe": [1]}}, ["'sharpe' has the name of a result"]),
        ({"space": {"a b": [1]}}, ["'a b' is no name"]),
        ({"space": 5}, ["space is 5", "section of fields"]),
        ({"constraints": ["fast < slw"]}, ["'slw' at character 8", "did you mean 'slow'"]),
        ({"constraints": ["max(fast, 3) < slow"]}, ["'max(fast, 3)' at character 1", "a call"]),
        ({"constraints": ["fast < 'a'"]}, ["compares text with a number"]),
        ({"constraints": [5]}, ["constraints is [5]", "text"]),
        ({"data": {**DATA, "start": "2025-01-01", "end": "2022-01-01"}}, ["2025-01-01 does not come before", "data:"]),
        ({"data": {**DATA, "start": "2025-01-01", "end": "2025-01-01"}}, ["does not come before"]),
        ({"data": {**DATA, "start": "yesterday"}}, ["data.start is 'yesterday': no date", "2024-01-31"]),
        ({"data": {**DATA, "end": "2022-13-01"}}, ["data.end is '2022-13-01': no date"]),
        ({"data": {**DATA, "end": 20220101}}, ["data.end is 20220101: no date"]),
        ({"data": {**DATA, "end": date(9999, 1, 1)}}, ["years 1700 to 2200"]),
        ({"data": {**DATA, "timeframes": ["1d"]}}, ["no timeframe '1d' (did you mean '1D'?)", "15m"]),
        ({"data": {**DATA, "timeframes": ["1D", "1D"]}}, ["'1D' is named twice"]),
        ({"data": {**DATA, "symbols": []}}, ["data.symbols is []: name one or more"]),
        ({"data": {**DATA, "symbols": [660]}}, ["660 is none (quotes make it text)"]),
        ({"data": {**DATA, "symbols": ["../x"]}}, ["data.symbols", "'../x'"]),
        ({"data": {"timeframes": ["1D"]}}, ["data.symbols is missing", "[KRW-BTC, KRW-ETH]"]),
        ({"data": {**DATA, "calendar": "nyse"}}, ["did you mean 'XNYS'", "24/7"]),
        ({"search": {"method": "random"}}, ["search: method random needs trials"]),
        ({"search": {"trials": 5}}, ["search: method grid", "drop trials"]),
        ({"search": {"method": "random", "trials": 0}}, ["search.trials is 0"]),
        ({"validation": {"blocks": 0, "holdout": 2}}, ["validation.blocks is 0", "validation.holdout is 2", "0.9"]),
        ({"name": "a/b"}, ["name is 'a/b'", "letters"]),
        ({"strategy": ""}, ["strategy is ''"]),
        ({"results": {"keep_best": "x"}}, ["results.keep_best is 'x'"]),
        ({"execution": {"cash": float("inf")}}, ["execution.cash is inf"]),
        ({"cluster": {"price_per_cpu_hour": float("nan")}}, ["cluster.price_per_cpu_hour is nan"]),
        ({f"x{i}": 1 for i in range(6)}, ["(2 more fields are wrong.)"]),
    ],
)
def test_bad_input_is_one_clear_paragraph(changes: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        sweep(**changes)
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith((".", ".)"))
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("text", "suffix", "says"),
    [
        ("", ".yaml", "the file is empty"),
        ("# only a comment\n", ".yaml", "the file is empty"),
        ("", ".toml", "the file is empty"),
        ("", ".json", "the file is empty"),
        ("- 1", ".yaml", "holds a list"),
        ("strategy: s\ndata: [1,\nspace: 2", ".yaml", "line 3"),
        ("strategy: s\n\tdata: 1", ".yaml", "line 2"),
        ("a: 1\nb: 2\na: 3", ".yaml", "line 3, column 1: this is no YAML: the field 'a' is given twice"),
        ("a: !!python/object:os.system x", ".yaml", "line 1"),
        ("a: 1\n---\nb: 2", ".yaml", "this is no YAML"),
        ("a =\nb = 1", ".toml", "line 1"),
        ("{\n'a'", ".json", "line 2, column 1: this is no JSON"),
        ('{"a": 1, "a": 2}', ".json", "'a' is given twice"),
        ("{}", ".json", "the file is empty"),
        ("x", ".txt", "ends in .yaml, .yml, .toml, .json, and this one in .txt"),
        ("x", "", "and this name has no ending"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, suffix: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path, text, suffix)
    assert str(refused.value).startswith(str(tmp_path / f"sweep{suffix}: "))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        load_sweep(tmp_path / "none.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        load_sweep(tmp_path / "folder.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_sweep(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({"overrides": {"execution.fea": "1"}}, "execution.fea (from --set execution.fea) is no known field"),
        ({"overrides": {"execution.fee": "7"}}, "execution.fee is 7 (from --set execution.fee)"),
        ({"overrides": {"strategy.x": "1"}}, "--set strategy.x cannot be set: strategy is 'sma_cross'"),
        ({"overrides": {"data.symbols": "[a,"}}, "--set data.symbols=[a,"),
        ({"overrides": {"..": "1"}}, "write it like execution.fee"),
        ({"environment": {"GRID_EXECUTION__FEE": "7"}}, "execution.fee is 7 (from GRID_EXECUTION__FEE)"),
        ({"environment": {"GRID_EXECUTON__FEE": "7"}}, "GRID_EXECUTON__FEE names no section"),
        ({"environment": {"GRID_DATA__START": "2023-01-01"}}, "does not come before"),
    ],
)
def test_bad_layers_name_where_they_come_from(tmp_path: Path, layers: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        load(tmp_path, TOML, ".toml", **layers)
    assert says in str(refused.value)


class Example(BaseModel):
    fast: int = Field(10, ge=2, le=500)
    buffer: float = Field(gt=0)
    strict: bool = True
    mode: Literal["a", "b"] = "a"
    stop: float | None = None


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"fats": [5], "buffer": 1}, ["has no parameter 'fats' (did you mean 'fast'?)", "fast, buffer, strict"]),
        ({"fast": [5]}, ["space.buffer is missing", "float, > 0"]),
        ({"fast": [5, 1], "buffer": 1}, ["space.fast holds 1", "Example.fast", "int, >= 2, <= 500, default 10"]),
        ({"fast": {"range": [2, 10**9, 1]}, "buffer": 1}, ["holds 1000000000", "<= 500"]),
        ({"fast": range(2, 600), "buffer": 1}, ["holds 501"]),
        ({"fast": {"linspace": [2, 9, 5]}, "buffer": 1}, ["holds 3.75", "int"]),
        ({"buffer": ["1"]}, ["without quotes"]),
        ({"buffer": 1, "strict": 1}, ["would be read as True"]),
        ({"buffer": True}, ["would be read as 1.0"]),
        ({"buffer": 1, "mode": ["a", "c"]}, ["holds 'c'", "'a' or 'b'"]),
    ],
)
def test_a_space_the_strategy_refuses(space: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(BadInput) as refused:
        check_space(Example, sweep(strategy="example", space=space))
    for part in says:
        assert part in str(refused.value)


def test_a_space_the_strategy_takes() -> None:
    taken = {"fast": {"range": [2, 500, 1]}, "buffer": [1, 2], "strict": [True, False], "mode": "b", "stop": [None, 1]}
    check_space(Example, sweep(space=taken))
    with pytest.raises(BadInput, match="exclude every point of the 4 in the space"):
        check_space(Example, sweep(space={"fast": [2, 3], "buffer": [1, 2]}, constraints=["fast < buffer"]))
