"""What a job takes along: the strategy's own modules and nothing else."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grid.cli.jobs import sendable
from grid.errors import BadInput
from grid.packaging import check_size, pack
from grid.spec import Sweep

HEAD = "from strategies import Bars, Signals, Strategy\n"
CLASS = (
    "\n\nclass {name}({base}):\n    {line}\n    def signals(self, bars: Bars) -> Signals:\n        return Signals()\n"
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules on the path, forgotten again afterwards."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(folder: Path, name: str, head: str = "", line: str = "pass", base: str = "Strategy") -> None:
    path = folder / f"{name.replace('.', '/')}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + head + CLASS.format(name="Mine", base=base, line=line))


def sweep_of(strategy: str, **changes: Any) -> Sweep:
    data = {"symbols": ["AAPL"], "timeframes": ["1D"], "store": "data"}
    return Sweep(**{"strategy": strategy, "data": data, "space": {"a": [1]}, **changes})


def packed(tmp_path: Path, strategy: str) -> list[str]:
    folder = tmp_path / "packed"
    folder.mkdir()
    return [str(path) for path in pack(sweep_of(strategy), folder)]


def test_a_strategy_that_is_installed_sends_the_sweep_alone(tmp_path: Path):
    assert packed(tmp_path, "sma_cross") == ["sweep.json"]
    again = Sweep(**json.loads((tmp_path / "packed" / "sweep.json").read_text()))
    assert again == sweep_of("sma_cross")


def test_a_module_of_ones_own_is_sent_and_its_neighbours_are_not(tmp_path: Path, desk: Path):
    module(desk, "zone_alone", "import numpy\nimport json\n")
    (desk / "secret.txt").write_text("not yours")
    module(desk, "zone_other")
    assert packed(tmp_path, "zone_alone:Mine") == ["sweep.json", "zone_alone.py"]


def test_what_it_declares_to_depend_on_and_inherits_from_is_sent(tmp_path: Path, desk: Path):
    module(desk, "zone_pack.base")
    (desk / "zone_pack" / "__init__.py").write_text("")
    (desk / "zone_helper.py").write_text("X = 1\n")
    head = "import zone_helper\nfrom zone_pack.base import Mine as Base\n"
    module(desk, "zone_pack.deep.leaf", head, "depends_on = (zone_helper,)", "Base")
    (desk / "zone_pack" / "deep" / "__init__.py").write_text("")
    expected = [
        "zone_helper.py",
        *(f"zone_pack/{n}" for n in ("__init__.py", "base.py", "deep/__init__.py", "deep/leaf.py")),
    ]
    assert packed(tmp_path, "zone_pack.deep.leaf:Mine") == ["sweep.json", *expected]


@pytest.mark.parametrize(
    "head",
    ["import zone_forgotten\n", "from zone_forgotten import X\n", "def f():\n    from zone_forgotten import X\n"],
)
def test_an_import_that_would_be_missing_is_told_before_it_is(tmp_path: Path, desk: Path, head: str):
    (desk / "zone_forgotten.py").write_text("X = 1\n")
    module(desk, "zone_needy", head)
    with pytest.raises(BadInput, match=r"imports zone_forgotten,.*depends_on = \(zone_forgotten,\)"):
        packed(tmp_path, "zone_needy:Mine")


def test_a_module_full_of_data_is_not_sent(tmp_path: Path, desk: Path):
    (desk / "zone_table.py").write_text(f"# {'9' * 51_000_000}\n")
    module(desk, "zone_heavy", "import zone_table\n", "depends_on = (zone_table,)")
    with pytest.raises(BadInput, match=r"take 51 MB along and 50 MB are allowed; the largest: zone_table.py \(51 MB\)"):
        packed(tmp_path, "zone_heavy:Mine")


def test_too_much_is_refused_with_the_largest_files():
    check_size({"a": 50_000_000})
    with pytest.raises(BadInput, match=r"60 MB along and 50 MB are allowed; the largest: big.py \(58 MB\), b \(2 MB\)"):
        check_size({"b": 2_000_000, "big.py": 58_000_000})


SMA = {"fast": [5]}


@pytest.mark.parametrize(
    ("data", "results", "named"),
    [
        ("data", "s3://bucket/r", "data.store 'data'"),
        ("s3://bucket/d", "results", "results.store 'results'"),
        ("file:///srv/d", "s3://bucket/r", "data.store 'file:///srv/d'"),
    ],
)
def test_a_folder_of_this_machine_is_refused_unless_it_is_shared(data: str, results: str, named: str):
    given = {"symbols": ["AAPL"], "timeframes": ["1D"], "store": data}
    sweep = Sweep(strategy="sma_cross", data=given, space=SMA, results={"store": results})
    with pytest.raises(BadInput, match=rf"{named} is a folder of this machine.*s3://.*--shared-paths"):
        sendable(sweep, False)
    assert sendable(sweep, True).data.store in (data, str(Path("data").absolute()))


def test_memory_is_never_shared():
    sweep = sweep_of("sma_cross", space=SMA, results={"store": "memory://x"})
    with pytest.raises(BadInput, match=r"results\.store 'memory://x'"):
        sendable(sweep, True)


def test_s3_goes_as_it_is():
    given = {"symbols": ["AAPL"], "timeframes": ["1D"], "store": "s3://bucket/d"}
    sweep = Sweep(strategy="sma_cross", data=given, space=SMA, results={"store": "s3://bucket/r"})
    assert sendable(sweep, False) == sweep
