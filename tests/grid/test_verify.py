"""`grid verify` finds what is damaged, names it, and finds nothing in a session that is whole."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from grid import aggregate
from grid.cli import app
from grid.results import decode, encode
from grid.sweep import run
from grid.verify import Audit, audit
from storage.errors import BadData
from storage.ohlcv import DatasetKey, OhlcvStore
from storage.providers import LocalProvider
from storage.sessions import CommitRecord, SessionFolder, SessionStore
from tests.e2e.sweeps import DATA, small

SAMPLE = 10_000
FIRST = "commits/0000000000.json"


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A folder with bars, and with results: one session, done, of several commits."""
    root = tmp_path_factory.mktemp("audited")
    for symbol in ("AAPL", "IBM"):
        shutil.copytree(DATA / symbol, root / "data" / symbol)
    sweep = small(root / "results", space={"fast": [2, 5, 90], "slow": {"range": [5, 50, 5]}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate, "FLUSH_ROWS", 1)
        run({**sweep, "data": {**sweep["data"], "store": str(root / "data")}}, "serial", unit_size=7)
    return root


@pytest.fixture
def folder(origin, tmp_path) -> SessionFolder:
    """The session, in a copy of the results."""
    shutil.copytree(origin / "results", tmp_path / "results")
    return SessionStore(LocalProvider(tmp_path / "results")).folder("latest")


def path_of(folder: SessionFolder, name: str) -> Path:
    return Path(folder.provider.uri) / folder.session_id / name


def damaged(folder: SessionFolder) -> dict[str, str]:
    found = audit(folder, SAMPLE, 1)
    assert isinstance(found, Audit)
    return {damage.where: damage.what for damage in found.damage}


def flip(file: Path, at: int = 40) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)


def rewrite(folder: SessionFolder, change) -> None:
    """Another first record, with a checksum that is right."""
    record = folder.read_commit(0)
    path_of(folder, FIRST).write_bytes(replace(record, parts=tuple(map(change, record.parts))).encode())


def test_a_session_that_is_whole(folder):
    found = audit(folder, SAMPLE, 1)
    assert (found.damage, found.unchecked) == ([], [])
    assert found.rows == found.recomputed > 20
    assert found.commits > 2
    assert audit(folder, 3, 1).recomputed == 3


@pytest.mark.parametrize("at", [0, 40, -1])
def test_a_flipped_bit_in_a_part(folder, at):
    part = folder.read_commit(1).parts[0].path
    flip(path_of(folder, part), at)
    assert "its checksum is not the committed one" in damaged(folder)[part]
    path_of(folder, part).unlink()
    assert "there is no such object" in damaged(folder)[part]


def test_a_flipped_bit_in_a_record(folder):
    flip(path_of(folder, FIRST))
    assert list(damaged(folder)) == [FIRST]


def test_a_record_that_is_missing(folder):
    path_of(folder, FIRST).unlink()
    assert damaged(folder) == {FIRST: "is missing, while later ones are there: readers stop before it"}


def test_a_stray_record_far_behind_is_one_gap(folder):
    last = folder.commit_numbers()[-1]
    path_of(folder, "commits/9999999999.json").write_bytes(b"{}")
    found = damaged(folder)
    missing = found.pop(f"commits/{last + 1:010d}.json")
    assert missing.startswith("is missing, and all up to 9999999998, while later ones are there")
    assert list(found) == ["commits/9999999999.json"]


def test_trials_that_are_answered_twice(folder):
    first, numbers = folder.read_commit(0), folder.commit_numbers()
    folder.commit(CommitRecord(len(numbers), "w", first.parts))
    assert "a second time" in damaged(folder)[f"commits/{len(numbers):010d}.json"]


def test_trials_that_no_sweep_has(folder):
    part = folder.write_part(folder.read_part(folder.read_commit(0).parts[0]), 7, [(10_000, 10_007)], {})
    folder.commit(CommitRecord(len(folder.commit_numbers()), "w", (part,)))
    assert damaged(folder) == {"commits": "name trials beyond the last of the sweep, 59"}


def test_a_record_that_summarises_wrongly(folder):
    rewrite(folder, lambda part: replace(part, summary={**part.summary, "best": []}))
    (part,) = folder.read_commit(0).parts
    assert damaged(folder) == {part.path: "is summarised wrongly in its record"}


def test_a_part_of_other_trials(folder):
    (other,) = folder.read_commit(1).parts
    rewrite(folder, lambda part: replace(other, ranges=part.ranges))
    assert damaged(folder)[other.path] == "does not hold just the trials that its record names"


def test_rows_that_are_not_what_the_engine_says(folder):
    """One number of one row, in its last bit, and every checksum right."""
    table = decode(folder.read_part(folder.read_commit(0).parts[0]))
    skew = table["skew"].to_pylist()
    skew[0] *= 1 + 2**-52
    column = table.column_names.index("skew")
    changed = encode(table.set_column(column, table.schema.field(column), pa.array(skew)))
    rewrite(folder, lambda part: folder.write_part(changed, part.rows, list(part.ranges), part.summary))
    told = damaged(folder)
    assert told[f"trial {table['trial_id'][0].as_py()}"] == "comes out otherwise in skew"
    assert set(told) <= {f"trial {table['trial_id'][0].as_py()}", "backtest_result.json"}


@pytest.mark.parametrize(
    "name", ["metadata.json", "summary.json", "backtest_result.json", "trades.json", "signals.json"]
)
def test_documents_that_are_torn_or_gone(folder, name):
    path_of(folder, name).write_text(path_of(folder, name).read_text()[:30])
    assert "is not JSON" in damaged(folder)[name]
    path_of(folder, name).unlink()
    assert name in damaged(folder)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("summary.json", lambda d: {**d, "trials": {**d["trials"], "ok": 1}}),
        ("metadata.json", lambda d: {**d, "failed": 5}),
        (
            "metadata.json",
            lambda d: {**d, "sweep": {**d["sweep"], "execution": {**d["sweep"]["execution"], "fee": 0.1}}},
        ),
        ("metadata.json", lambda d: {name: value for name, value in d.items() if name != "strategy_source"}),
        (
            "metadata.json",
            lambda d: {**d, "datasets": [{**d["datasets"][0], "block_bars": [9] * 8}, *d["datasets"][1:]]},
        ),
        ("backtest_result.json", lambda d: {**d, "best_trials": d["best_trials"][1:]}),
        ("trades.json", lambda d: d[1:]),
    ],
)
def test_documents_that_say_something_else(folder, name, change):
    path_of(folder, name).write_text(json.dumps(change(json.loads(path_of(folder, name).read_text()))))
    assert name in damaged(folder)


def test_an_index_that_is_damaged(folder):
    flip(Path(folder.provider.uri) / "index.json")
    assert list(damaged(folder)) == ["index.json"]


@pytest.mark.parametrize("how", ["flipped", "replaced"])
def test_bars_that_are_not_those_of_the_session(folder, origin, how):
    store = OhlcvStore(LocalProvider(origin / "data"))
    (file, *_) = sorted((origin / "data/IBM/1D").glob("*.parquet"))
    before = file.read_bytes()
    try:
        if how == "flipped":
            flip(file, 500)
        else:
            table = store.read(DatasetKey("IBM", "1D"))
            year = table.filter(pa.compute.equal(pa.compute.year(table["timestamp"]), int(file.stem)))
            volume = pa.array([v + 1 for v in year["volume"].to_pylist()])
            store.write(
                year.set_column(7, "volume", volume), "XNYS", store.describe(DatasetKey("IBM", "1D")).adjusted, True
            )
        assert list(damaged(folder)) == ["bars of IBM 1D"]
    finally:
        file.write_bytes(before)


def test_what_is_damaged_is_told_with_what_to_do(folder):
    """A whole copy has to come back, or a new session takes over the rest; to resume as it is would not help."""

    def resumed() -> str:
        done = CliRunner().invoke(app, ["resume", "latest", "--store", folder.provider.uri, "--executor", "serial"])
        assert isinstance(done.exception, (BadData, SystemExit)), done.output
        return f"{done.stderr} {done.exception}"

    metadata, part = path_of(folder, "metadata.json"), path_of(folder, folder.read_commit(1).parts[0].path)
    facts = json.loads(metadata.read_text())
    flip(part)
    metadata.write_text(json.dumps({**facts, "status": "running"}))
    said = resumed()
    assert "or run its sweep as a new session, which takes over the rows that are whole" in said
    assert "Next: " not in said
    metadata.write_text(json.dumps({name: value for name, value in facts.items() if name != "strategy_source"}))
    assert f"metadata.json of session {folder.session_id} is damaged: it has no strategy_source" in resumed()


def test_the_command(folder):
    def verify(*words):
        return CliRunner().invoke(app, ["verify", "latest", "--store", folder.provider.uri, *words])

    done = verify("--json", "--sample", "3")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"], told["recomputed"], told["damage"]) == (0, True, 3, [])
    assert json.loads(verify("--json", "--seed", "7").stdout)["seed"] == 7
    part = folder.read_commit(0).parts[0].path
    flip(path_of(folder, part))
    done = verify("--json")
    assert (done.exit_code, json.loads(done.stdout)["damage"][0]["where"]) == (1, part)
    done = verify()
    assert (done.exit_code, part in done.stdout) == (1, True)
    assert "is damaged in 1 place." in done.stderr
