"""What README.md shows, run as it stands there: commands, Python, sweep files, the demo's numbers, the links."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grid.cli import main
from grid.spec import Sweep
from grid.specfile import load_sweep

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
NOT_YET = {"docs/benchmarks.md", "docs/chaos.md"}  # `make bench` and `make chaos` write them


def blocks(language: str, containing: str = "") -> list[str]:
    found = [text for kind, text in BLOCKS if kind == language and containing in text]
    assert found, f"README.md has no {language} block with {containing!r}"
    return found


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files that the README tells to write, and the bundled bars in `data`."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "channel.py").write_text(blocks("python", "# channel.py")[0])
    (tmp_path / "channel.yaml").write_text(blocks("yaml", "# channel.yaml")[0])
    (tmp_path / "every-field.yaml").write_text(blocks("yaml", "# every-field.yaml")[0])
    (tmp_path / "bars.csv").write_text(blocks("csv")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("COLUMNS", "100")
    yield tmp_path
    sys.modules.pop("channel", None)


def type_in(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one line of a shell block in this process; returns its exit code."""
    words = shlex.split(line, comments=True)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            patch.setenv(*words.pop(0).split("=", 1))
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("desk")
def test_commands_run_in_the_order_of_the_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    typed = [line for line in lines if not re.match(r"git |cd |make ", line)]
    assert len(typed) > 10
    for line in typed:
        assert type_in(line, monkeypatch) == 0, f"{line}: {capsys.readouterr().err}"


def test_python_runs(desk: Path, capsys: pytest.CaptureFixture[str]):
    code = blocks("python", "import grid")[0]
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own text
    assert len(list((desk / "results").glob("*/trials"))) == 1
    assert names["again"].metrics["sharpe"] == names["best"].sharpe[0]  # type: ignore[attr-defined]
    assert "entry_time" in capsys.readouterr().out


def test_the_long_sweep_states_every_field(desk: Path):
    def fields_of(model: object) -> dict[str, object]:
        return {name: getattr(model, name) for name in type(model).model_fields}  # type: ignore[attr-defined]

    sweep = load_sweep(desk / "every-field.yaml", environment={})
    assert sweep.model_fields_set == set(Sweep.model_fields)
    for name, section in fields_of(sweep).items():
        if hasattr(section, "model_fields_set"):
            assert section.model_fields_set == set(fields_of(section)), name
    assert {dimension.form for dimension in sweep.space.values()} == {"range", "linspace", "logspace", "values"}


@pytest.mark.usefixtures("desk")
def test_the_demo_shows_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert type_in(f"grid run {ROOT}/examples/demo.yaml --executor serial -q", monkeypatch) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for line in blocks("text", "Best trials")[0].splitlines():
        assert line == "..." or line.split() in shown, f"README.md shows {line!r}, the demo does not"


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("document", [path.relative_to(ROOT).as_posix() for path in DOCUMENTS])
def test_links_lead_somewhere(document: str):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            there = os.path.normpath(path.parent / target)
            assert Path(there).exists() or Path(there).relative_to(ROOT).as_posix() in NOT_YET, target
