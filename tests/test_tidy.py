"""Rules of the house, as tests over the tracked files. They only get tighter."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from grid.cli import app
from tests.conftest import REPOSITORY

LONGEST_FUNCTION, LONGEST_FILE = 60, 350
LONG_FILES: dict[str, str] = {}
PACKAGES = ("grid/", "storage/", "strategies/")
BINARY = (".parquet", ".png")
FORBIDDEN_CALLS = {"print", "eval", "exec", "breakpoint"}
FORBIDDEN_IMPORTS = {"marshal", "shelve", "dill", "cloudpickle"}
MAY_PICKLE = {"strategies/check.py": "certifies that a strategy can be sent to a worker"}
MACHINE = re.compile(r"/(?:home|Users|root)/[a-z]|/w[o]rk/[a-z]|/s[i]mple/|--(?:extra-)?index-[u]rl[ =]|trusted-[h]ost")
COMMAND = re.compile(r"`grid ((?:[a-z]+ ?)+)|^\s*(?:\$ )?grid ((?:[a-z]+ ?)+)", re.MULTILINE)


@cache
def tracked() -> dict[str, str]:
    """The text files under version control, by path."""
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    there = [name for name in listed.stdout.splitlines() if not name.endswith(BINARY) and (REPOSITORY / name).is_file()]
    return {name: (REPOSITORY / name).read_text() for name in there}


def product() -> Iterator[tuple[str, ast.Module]]:
    for name, text in tracked().items():
        if name.startswith(PACKAGES) and name.endswith(".py"):
            yield name, ast.parse(text)


def test_functions_fit_on_a_screen() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [(name, node) for name, tree in product() for node in ast.walk(tree) if isinstance(node, kinds)]
    assert len(found) > 100
    long = [f"{name}:{n.lineno} {n.name}" for name, n in found if (n.end_lineno or 0) - n.lineno >= LONGEST_FUNCTION]
    assert long == []


def test_files_are_short_but_for_those_with_a_reason() -> None:
    lines = {name: tracked()[name].count("\n") for name, _ in product()}
    assert {name for name, n in lines.items() if n > LONGEST_FILE} == set(LONG_FILES)


def test_no_leftovers() -> None:
    found = [f"{name}: {m}" for name, _ in product() for m in re.findall(r"TODO|FIXME|XXX", tracked()[name])]
    assert found == []


def test_no_banned_call_or_import() -> None:
    found = []
    for name, tree in product():
        banned = FORBIDDEN_IMPORTS | (set() if name in MAY_PICKLE else {"pickle"})
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                found.append(f"{name}:{node.lineno} {node.func.id}()")
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
                found += [f"{name}:{node.lineno} {module}" for module in modules & banned]
    assert found == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = [f"{name}: {m}" for name, text in tracked().items() for m in MACHINE.findall(text)]
    assert found == []


def exists(words: list[str]) -> bool:
    """Whether the words begin with a command of the command line; what follows it are its arguments."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):  # typer brings a click of its own, so no isinstance
            return True
        if word not in command.commands:
            return False
        command = command.commands[word]
    return True


def test_commands_that_are_named_exist() -> None:
    """In the documents, and in the messages that tell people what to do next."""
    texts = {name: text for name, text in tracked().items() if name.endswith(".md") or name.startswith(PACKAGES)}
    named = {(name, a or b) for name, text in texts.items() for a, b in COMMAND.findall(text)}
    assert len(named) > 3
    assert sorted(f"{name}: grid {words}" for name, words in named if not exists(words.split())) == []


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", tracked()["Makefile"], re.MULTILINE))
    texts = {name: text for name, text in tracked().items() if name.endswith((".md", ".yaml")) or name == ".ci/run"}
    named = {(name, t) for name, text in texts.items() for t in re.findall(r"(?:`|^\s*)make ([a-z0-9-]+)", text, re.M)}
    assert named
    assert [f"{name}: make {target}" for name, target in sorted(named) if target not in targets] == []
