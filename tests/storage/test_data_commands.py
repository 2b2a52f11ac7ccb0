"""`grid data`: what its commands print, write and refuse."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from grid.cli.data import data_app
from grid.errors import BadInput
from grid.resolve import load_bars
from grid.spec import Sweep
from storage.errors import BadData, NotFound, StorageError
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.parquet import to_parquet
from storage.providers import provider_for
from tests.storage.tables import bars, changed

HEADER = "Date,Open,High,Low,Close,Volume,Adj Close"
ROWS = ["2020-01-01,10,12,9,11,100,5.5", "2020-01-02,11,13,10,12,200,6", "2020-01-07,12,14,11,13,300,6.5"]
STATED = ("--timeframe", "1D", "--calendar", "XNYS", "--tz", "UTC", "--column", "timestamp=Date")
AAPL = DatasetKey("AAPL", "1D")


class Commands:
    """Runs commands on one store; an exception of theirs is raised here, as the program's main function sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = OhlcvStore(provider_for(str(folder / "store")))
        self.file = folder / "bars.csv"
        self.file.write_text("\n".join([HEADER, *ROWS]))

    def run(self, command: str, *arguments: str, store: str | None = None) -> Result:
        where = ("--store", store or self.store.provider.uri)
        return CliRunner().invoke(data_app, [command, *arguments, *where], catch_exceptions=True)

    def out(self, command: str, *arguments: str) -> str:
        result = self.run(command, *arguments)
        if result.exception:
            raise result.exception
        return result.stdout

    def json(self, command: str, *arguments: str) -> object:
        return json.loads(self.out(command, *arguments, "--json"))

    def imports(self, *arguments: str) -> object:
        return self.json("import", str(self.file), *STATED, *arguments)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path)


def test_import_adjusts_and_reports(commands):
    told = commands.imports("--symbol", "AAPL", "--adjust-by", "Adj Close")
    assert told["files"] == ["AAPL/1D/2020.parquet"]
    assert (told["calendar"], told["adjusted"]) == ("XNYS", "yes")
    (dataset,) = told["datasets"]
    assert (dataset["symbol"], dataset["rows"], dataset["missing"]) == ("AAPL", 3, 2)
    assert (dataset["first"], dataset["last"]) == ("2020-01-01T00:00:00+00:00", "2020-01-07T00:00:00+00:00")
    table = commands.store.read(AAPL)
    assert table["close"].to_pylist() == [5.5, 6.0, 6.5]
    assert table.schema.metadata == {b"calendar": b"XNYS", b"adjusted": b"yes"}


def test_import_of_a_crypto_market_in_korean_time(commands):
    commands.file.write_text("t,o,h,l,c,v\n2020-01-01T09:00:00,1,1,1,1,5\n2020-01-02T09:00:00,1,1,1,1,5\n")
    columns = [f"--column={name}={name[0]}" for name in ("timestamp", "open", "high", "low", "close", "volume")]
    commands.json(
        "import", str(commands.file), "--symbol=KRW-BTC", "--timeframe=1D", "--calendar=24/7", "--tz=KST", *columns
    )
    info = commands.store.describe(DatasetKey("KRW-BTC", "1D"))
    assert (str(info.first), info.calendar, info.adjusted) == ("2020-01-01 00:00:00+00:00", "24/7", "no")


REFUSED = {
    "no adjustment stated": ([], BadInput, "say --adjusted yes, no or unknown, or adjust them with --adjust-by COLUMN"),
    "adjustment contradicted": (["--adjust-by=Adj Close", "--adjusted=no"], BadInput, "--adjusted no cannot be"),
    "adjustment unknown": (["--adjusted=maybe"], BadInput, "'maybe' is not one of yes, no, unknown"),
    "mapping": (["--adjusted=no", "--column=open"], BadInput, "--column 'open' should be our name"),
    "mapping twice": (["--adjusted=no", "--column=timestamp=Date"], BadInput, "once each"),
    "mapping to nothing": (["--adjusted=no", "--column=open=opens"], BadData, "did you mean 'Open'"),
    "calendar": (["--adjusted=no", "--calendar=LSE"], BadData, "Calendar 'LSE' is unknown"),
    "second symbol": (["--adjusted=no", "--symbol=IBM"], BadData, "state exactly one symbol"),
    "file": (["--adjusted=no", "--symbol=A/B"], BadData, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_import_refuses_and_writes_nothing(commands, name):
    arguments, error, told = REFUSED[name]
    with pytest.raises(error) as raised:
        commands.imports("--symbol", "AAPL", *arguments)
    assert told in str(raised.value)
    assert commands.store.provider.list() == []


BAD_ROWS = [
    "2020-01-08,12,14,11,nan,1,1",
    "2020-01-01,12,14,11,13,1,1",
    "2020-01-07,12,14,11,13,1,1",
    "2020-01-08,1,9,2,3,1,1",
]


@pytest.mark.parametrize("row", BAD_ROWS)
def test_import_of_a_bad_row_names_it_and_writes_nothing(commands, row):
    commands.file.write_text("\n".join([HEADER, *ROWS, row]))
    with pytest.raises(BadData, match=rf"^{commands.file}, AAPL, row 4: ") as raised:
        commands.imports("--symbol", "AAPL", "--adjusted", "no")
    assert "\n" not in str(raised.value)
    assert commands.store.provider.list() == []


@pytest.mark.parametrize("missing", ["--timeframe", "--calendar"])
def test_timeframe_and_calendar_must_be_stated(commands, missing):
    stated = {"--timeframe": "1D", "--calendar": "24/7"}
    del stated[missing]
    result = commands.run("import", str(commands.file), *(f"{name}={value}" for name, value in stated.items()))
    assert result.exit_code == 2
    assert missing in result.output


def test_import_replaces_only_if_asked(commands):
    commands.imports("--symbol", "AAPL", "--adjusted", "no")
    with pytest.raises(StorageError, match="already holds 2020; nothing was written"):
        commands.imports("--symbol", "AAPL", "--adjusted", "no")
    commands.imports("--symbol", "AAPL", "--adjust-by", "Adj Close", "--replace")
    assert commands.store.describe(AAPL).adjusted == "yes"


@pytest.mark.parametrize(
    ("rows", "left_out", "added", "option"),
    [
        (ROWS, (), ("--symbol", "AAPL"), "--replace"),
        (ROWS[::-1], (), ("--symbol", "AAPL"), "--sort"),
        (ROWS, ("--tz", "UTC"), ("--symbol", "AAPL"), "--tz"),
        (ROWS, (), (), "--symbol"),
        (ROWS, ("--column", "timestamp=Date"), ("--symbol", "AAPL"), "--column"),
        (ROWS, (), ("--symbol", "AAPL", "--time-format", "%Y/%m"), "--time-format"),
        (ROWS, (), ("--symbol", "AAPL", "--delimiter", "ab"), "--delimiter"),
    ],
)
def test_a_refusal_names_the_option_that_helps(commands, monkeypatch, rows, left_out, added, option):
    monkeypatch.delenv("TZ", raising=False)
    commands.imports("--symbol", "AAPL", "--adjust-by", "Adj Close")
    commands.file.write_text("\n".join([HEADER, *rows]))
    stated = [word for word in STATED if word not in left_out]
    with pytest.raises(StorageError, match=option):
        commands.out("import", str(commands.file), *stated, "--adjusted", "no", *added)


def test_ls(commands):
    with pytest.raises(BadInput, match="there is no folder"):
        commands.out("ls")
    (commands.folder / "store").mkdir()
    assert commands.json("ls") == []
    assert "There are no datasets in" in commands.out("ls")
    commands.store.write(bars("2019-12-30", 4, "KRW-BTC", "4H"), "24/7", "no")
    (dataset,) = commands.json("ls")
    assert dataset.pop("bytes") > 1000
    assert dataset == {
        "symbol": "KRW-BTC",
        "timeframe": "4H",
        "rows": 4,
        "first": "2019-12-30T00:00:00+00:00",
        "last": "2019-12-30T12:00:00+00:00",
        "years": [2019],
        "calendar": "24/7",
        "adjusted": "no",
    }
    assert commands.out("ls").splitlines()[1].split()[:4] == ["KRW-BTC", "4H", "4", "2019-12-30"]


@pytest.mark.usefixtures("commands")
def test_the_store_is_the_folder_data_by_default():
    OhlcvStore(provider_for("data")).write(bars("2020-01-01", 2), "XNYS", "no")
    result = CliRunner().invoke(data_app, ["ls", "--json"])
    assert json.loads(result.stdout)[0]["symbol"] == "AAPL"


def test_check_of_good_data_reports_gaps(commands):
    commands.imports("--symbol", "AAPL", "--adjusted", "no")
    report = commands.json("check")
    gaps = {"rows": 3, "missing": 2, "rule": "weekdays without a bar, where bars are over 4 days apart"}
    gaps["gaps"] = [{"after": "2020-01-02T00:00:00+00:00", "missing": 2}]
    dataset = {"symbol": "AAPL", "timeframe": "1D", "problems": [], "gaps": gaps}
    assert report == {"store": commands.store.provider.uri, "datasets": [dataset], "not_in_layout": []}
    assert "AAPL 1D: good, missing: 2" in commands.out("check", "--symbol", "AAPL")


def test_check_without_a_calendar_knows_no_gaps(commands):
    commands.store.provider.write("AAPL/1D/2020.parquet", to_parquet(bars("2020-01-01", 3)))
    assert commands.json("check")["datasets"][0]["gaps"] is None
    assert "gaps unknown" in commands.out("check")
    assert commands.json("check", "--calendar", "24/7")["datasets"][0]["gaps"]["missing"] == 0


def test_check_reports_every_bad_row_and_fails(commands):
    bad = changed(changed(bars("2020-01-01", 5), 1, {"close": float("nan")}), 3, {"low": 500.0})
    commands.store.provider.write("AAPL/1D/2020.parquet", to_parquet(bad))
    commands.store.write(bars("2020-01-01", 5, "IBM"), "XNYS", "no")
    result = commands.run("check", "--json")
    assert isinstance(result.exception, BadData)
    assert "breaks the rules of the store in 2 places: " in str(result.exception)
    problems = json.loads(result.stdout)["datasets"][0]["problems"]
    assert [(problem["symbol"], problem["row"]) for problem in problems] == [("AAPL", 2), ("AAPL", 4)]
    assert problems[0]["where"] == f"{commands.store.provider.uri}/AAPL/1D/2020.parquet"
    assert "close is nan" in problems[0]["rule"]
    assert "AAPL 1D: 2 problems" in commands.run("check").stdout
    assert commands.run("check", "--symbol", "IBM").exception is None


def test_check_tells_files_that_belong_to_no_dataset(commands):
    commands.store.write(bars("2020-01-01", 5), "XNYS", "no")
    commands.store.provider.write("AAPL/1d/2020.parquet", b"")
    with pytest.raises(BadData, match=r"AAPL/1d/2020\.parquet belongs to no dataset"):
        commands.out("check")


def test_check_of_unknown_names(commands):
    with pytest.raises(BadInput, match=r"holds no bars: name another store with --store, or import some"):
        commands.out("check", "--symbol", "IBM")
    with pytest.raises(BadData, match="Calendar 'X' is unknown"):
        commands.out("check", "--calendar", "X")


def test_resample_writes_a_dataset_of_the_same_statements(commands):
    commands.store.write(bars("2019-12-30", 14), "XNYS", "yes")
    told = commands.json("resample", "AAPL", "--from", "1D", "--to", "1W")
    assert told["files"] == ["AAPL/1W/2019.parquet", "AAPL/1W/2020.parquet"]
    info = commands.store.describe(DatasetKey("AAPL", "1W"))
    assert (info.rows, info.calendar, info.adjusted) == (2, "XNYS", "yes")
    with pytest.raises(StorageError, match="already holds"):
        commands.out("resample", "AAPL", "--from", "1D", "--to", "1W")
    assert "AAPL 1W: 2 bars" in commands.out("resample", "AAPL", "--from", "1D", "--to", "1W", "--replace")


def test_resample_needs_a_calendar_and_takes_none_from_thin_air(commands):
    commands.store.provider.write("AAPL/1D/2020.parquet", to_parquet(bars("2020-01-06", 7)))
    resample = ("resample", "AAPL", "--from", "1D", "--to", "1W")
    with pytest.raises(BadInput, match="state no calendar; say --calendar"):
        commands.out(*resample)
    commands.out(*resample, "--calendar", "24/7")
    info = commands.store.describe(DatasetKey("AAPL", "1W"))
    assert (info.calendar, info.adjusted) == ("24/7", "unknown")
    commands.store.write(bars("2020-01-06", 7, "IBM"), "XNYS", "no")
    with pytest.raises(BadInput, match="state the calendar XNYS, not 24/7"):
        commands.out("resample", "IBM", "--from", "1D", "--to", "1W", "--calendar", "24/7")


def test_resample_of_what_is_not_there(commands):
    with pytest.raises(NotFound, match="There is no dataset AAPL 1D"):
        commands.out("resample", "AAPL", "--from", "1D", "--to", "1W")
    commands.store.write(bars("2020-01-06", 7), "XNYS", "no")
    with pytest.raises(BadData, match="Bars of 1D cannot become 1H"):
        commands.out("resample", "AAPL", "--from", "1D", "--to", "1H")
    assert commands.store.datasets() == [AAPL]


def test_other_kinds_of_store_are_refused(commands):
    result = commands.run("ls", store="gopher://bucket")
    assert isinstance(result.exception, StorageError)


def test_times_without_a_zone_are_those_of_tz(commands, monkeypatch):
    stated = [word for word in STATED if word not in ("--tz", "UTC")]
    monkeypatch.setenv("TZ", ":Asia/Seoul")
    told = commands.json("import", str(commands.file), *stated, "--symbol=AAPL", "--adjusted=no")
    assert told["zone_by_tz"] == "Asia/Seoul"
    assert told["datasets"][0]["first"] == "2019-12-31T15:00:00+00:00"
    text = commands.out("import", str(commands.file), *stated, "--symbol=IBM", "--adjusted=no")
    assert "Times without a zone were taken as Asia/Seoul, as TZ says." in text
    assert commands.imports("--symbol=X", "--adjusted=no")["zone_by_tz"] is None
    commands.file.write_text("\n".join([HEADER, *(row.replace(",", "T00:00:00Z,", 1) for row in ROWS)]))
    told = commands.json("import", str(commands.file), *stated, "--symbol=Y", "--adjusted=no")
    assert (told["zone_by_tz"], told["datasets"][0]["first"]) == (None, "2020-01-01T00:00:00+00:00")
    monkeypatch.setenv("TZ", "KST-9")
    commands.file.write_text("\n".join([HEADER, *ROWS]))
    with pytest.raises(BadData, match="Time zone 'KST-9' is unknown"):
        commands.json("import", str(commands.file), *stated, "--symbol=Z", "--adjusted=no")


def test_data_root_is_the_store_where_none_is_named(commands, monkeypatch):
    commands.imports("--symbol=AAPL", "--adjusted=no")
    monkeypatch.setenv("DATA_ROOT", commands.store.provider.uri)
    listed = CliRunner().invoke(data_app, ["ls", "--json"])
    assert [one["symbol"] for one in json.loads(listed.stdout)] == ["AAPL"]
    sweep = Sweep(strategy="sma_cross", data={"symbols": ["AAPL"], "timeframes": ["1D"]}, space={"fast": [5]})
    assert sweep.data.store == commands.store.provider.uri
    assert len(load_bars("AAPL", "1D").close) == 3
