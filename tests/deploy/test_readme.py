"""deploy/README.md and docs/security.md: what they name exists, command by command."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from grid.cli import app
from tests.conftest import REPOSITORY
from tests.deploy.tools import DEPLOY, checked

README, SECURITY = DEPLOY / "README.md", REPOSITORY / "docs" / "security.md"
TEXT = README.read_text()
FILES = [p for p in sorted(DEPLOY.rglob("*")) if p.is_file() and p != README and "secrets" not in p.parts]
ELSEWHERE = {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_SHARED_CREDENTIALS_FILE", "RAY_AUTH_TOKEN_PATH", "RAY_USE_TLS"}
SHORTCUTS = {("s3", "cp"): {"--recursive", "--exclude"}, ("ecr", "get-login-password"): set[str]()}
"""Commands of AWS's program that are no operation of a service, with their options."""
"""Variables of AWS and of Ray."""


def commands(program: str) -> list[list[str]]:
    """The words of each command of that program, in code blocks, without variables and sudo before it."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    parts = [part for block in blocks for line in block.splitlines() for part in re.split(r" && | \| ", line)]
    words = [shlex.split(part) for part in parts]
    stripped = [[w for w in each if not re.match(r"^(\w+=(?!=)|sudo$)", w)] for each in words]
    return [each[1:] for each in stripped if each and each[0] == program]


def options(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if word.startswith("-") and word != "--"]


def known_to_click(command: Any, words: list[str]) -> bool:
    """Whether the words name a command that has these options."""
    while hasattr(command, "commands"):  # typer brings a click of its own, so no isinstance
        if words[0] not in command.commands:
            return False
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return set(options(words)) <= known


CHECKED = {"aws", "docker", "grid", "kubectl", "ray"}
"""Programs whose words a test of this file looks up."""
PLAIN = {".", "apt-get", "base64", "cd", "chmod", "cp", "echo", "export", "helm", "install", "kind", "make", "openssl"}
PLAIN |= {"pip", "sbatch", "sed", "ssh-keygen", "systemctl", "tee", "tr"}
"""Programs of any system whose words are looked at by eye."""


def test_no_other_program_is_called_and_the_files_given_to_it_exist():
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in re.split(r" && | \| ", line)]
    called = [[w for w in shlex.split(line) if not re.match(r"^(\w+=|sudo$)", w)] for line in lines]
    assert {words[0] for words in called if words} - CHECKED == PLAIN | {"./make-secrets.sh"}
    assert all((DEPLOY / "compose" / name).exists() for name in ("make-secrets.sh", ".env.example"))
    units = {
        word
        for words in called
        if words[:1] == ["systemctl"]
        for word in words
        if word.endswith((".timer", ".service"))
    }
    assert units == {"ray-head.service", "ray-worker.service", "grid-sweep@nightly.timer"}
    assert all((DEPLOY / "systemd" / unit.replace("@nightly", "@")).exists() for unit in units)


def test_commands_of_the_grid_and_of_ray_exist():
    from ray.scripts.scripts import cli

    grid = commands("grid") + [w[5:] for w in commands("docker") if w[1:5] == ["run", "--rm", "grid", "grid"]]
    assert len(grid) >= 8
    main = typer.main.get_command(app)
    assert [words for words in grid if words and not known_to_click(main, words)] == []
    assert len(commands("ray")) >= 3
    assert [words for words in commands("ray") if not known_to_click(cli, words)] == []


def test_no_command_has_a_secret_as_an_argument_and_none_forgets_the_token():
    """Arguments are seen by everybody on a machine. Without a token a cluster of deploy/ answers nobody."""
    asked = [w for w in commands("kubectl") if "secret" in w and "create" in w]
    assert len(asked) == 2
    assert all(options(w)[-1] == "--from-file" and w[-1].endswith("=/dev/stdin") for w in asked)
    tokens = [line for line in re.findall(r"^.*\bgrid (?:doctor|submit) .*$", TEXT, re.MULTILINE) if "`" not in line]
    tokens = [line for line in tokens if not line.startswith("docker compose run ")]  # it is in the container
    assert len(tokens) > 3
    assert [line for line in tokens if "--token-file" not in line and "RAY_AUTH_TOKEN_PATH=" not in line] == []


@pytest.mark.parametrize("program", ["docker", "kubectl"])
def test_commands_of_compose_and_kubectl_exist(program: str):
    """Each option stands in the real program's help of that command."""
    compose = [w[1:] for w in commands("docker") if w[0] == "compose"]
    asked = compose if program == "docker" else commands("kubectl")
    assert len(asked) >= 4
    binary = "docker-compose" if program == "docker" else "kubectl"
    for words in asked:
        verb = next(i for i, w in enumerate(words) if not w.startswith("-") and (i == 0 or words[i - 1] != "-n"))
        inner = words[verb + 1 : 4 if words[verb] == "run" else None]
        sub = [words[verb]] + (inner[: 2 if "secret" in inner else 1] if words[verb] == "create" else [])
        told = help_of(binary, *sub)
        assert f"{words[verb]}" in told
        for option in options(inner):
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", told), f"{program} {' '.join(words)}: {option}"


@cache
def help_of(binary: str, *words: str) -> str:
    told = checked(binary, *words, "--help")
    return told + (checked(binary, "options") if binary == "kubectl" else "")


def test_commands_of_aws_exist():
    """By the service models of botocore: a command is an operation, an option a field of its input."""
    from botocore import xform_name
    from botocore.session import Session

    session = Session()
    asked = commands("aws")
    assert len(asked) >= 8
    assert all(set(options(words)) <= SHORTCUTS[*command] for *command, words in shortened(asked))
    for service, operation, *words in (each for each in asked if tuple(each[:2]) not in SHORTCUTS):
        model = session.get_service_model({"s3api": "s3"}.get(service, service))
        named = {xform_name(name, "-"): name for name in model.operation_names}
        assert operation in named, operation
        members = model.operation_model(named[operation]).input_shape.members
        known = {f"--{xform_name(name, '-')}" for name in members}
        assert set(options(words)) <= known, (operation, set(options(words)) - known)


def shortened(asked: list[list[str]]) -> list[tuple[str, str, list[str]]]:
    return [(service, name, words) for service, name, *words in asked if (service, name) in SHORTCUTS]


def named_paths(text: str) -> Iterator[str]:
    yield from re.findall(r"(?<![\w/.~-])((?:deploy|docs|requirements|tests|grid)/[\w./@-]+)", text)
    yield from re.findall(r"\]\((?!http)([^)#]+)\)", text)


@pytest.mark.parametrize("document", [README, SECURITY], ids=lambda path: path.name)
def test_every_path_exists(document: Path):
    found = {name.rstrip(".") for name in named_paths(document.read_text())}
    assert len(found) > 6
    made = {f"deploy/compose/secrets/{name}" for name in ("ray_token", "valkey_password", "grafana_password")}
    made.add("deploy/compose/secrets/aws_credentials")  # test_compose.py sees them made
    missing = [n for n in found - made if not ((REPOSITORY / n).exists() or (document.parent / n).exists())]
    assert missing == []


def test_every_port_is_somebodys():
    table = TEXT.split("## Ports")[1].split("## ")[0]
    ports = {int(port) for row in re.findall(r"^\| ([\d, -]+) \|", table, re.M) for port in re.findall(r"\d+", row)}
    assert len(ports) > 10
    there = "\n".join(path.read_text() for path in FILES)
    rays_own = {10001, 10002, 19999}
    assert {port for port in ports - rays_own if not re.search(rf"\b{port}\b", there)} == set()
    from ray.scripts.scripts import start

    defaults = {parameter.default for parameter in start.params}
    assert {10002, 19999} <= defaults


def test_ports_that_are_published_or_allowed_are_in_the_table():
    there = "\n".join(path.read_text() for path in FILES if path.suffix in (".yaml", ".service"))
    used = set(re.findall(r"127\.0\.0\.1:(\d+):\d+", there)) | set(re.findall(r"containerPort: (\d+)", there))
    table = TEXT.split("## Ports")[1].split("## ")[0]
    assert {port for port in used if port not in re.findall(r"\d+", table)} == set()


@pytest.mark.parametrize("document", [README, SECURITY], ids=lambda path: path.name)
def test_every_variable_exists(document: Path):
    there = "\n".join(path.read_text() for path in FILES)
    named = set(re.findall(r"\b((?:GRID|RAY|API|MONITORING|AWS|MY)_[A-Za-z_]+)", document.read_text()))
    assert {name for name in named - ELSEWHERE if name not in there} == set()


def test_every_overlay_is_told_of_and_every_folder():
    overlays = {f"deploy/k8s/overlays/{path.name}" for path in (DEPLOY / "k8s" / "overlays").iterdir()}
    assert overlays <= set(re.findall(r"deploy/k8s/overlays/\w+", TEXT))
    for folder in (path.name for path in DEPLOY.iterdir() if path.is_dir()):
        assert f"deploy/{folder}/" in TEXT or folder == "docker", folder


def test_the_dashboards_command_line_of_alerts_exists():
    """Alerts tell people which command to type."""
    texts = (DEPLOY / "monitoring" / "rules" / "grid.yml").read_text()
    named = re.findall(r"`grid ([a-z ]+)`", texts)
    assert len(named) > 4
    main = typer.main.get_command(app)
    assert [words for words in named if not known_to_click(main, words.split())] == []


def test_alerts_that_people_are_told_of_exist():
    there = set(re.findall(r"alert: (\w+)", (DEPLOY / "monitoring" / "rules" / "grid.yml").read_text()))
    texts = [SECURITY, *(DEPLOY / "monitoring").rglob("*.yml"), *(DEPLOY / "monitoring").rglob("*.json")]
    told = {name for text in texts for name in re.findall(r"\b(?:Grid|Ray)(?:[A-Z][a-z]+){2,}", text.read_text())}
    assert len(told) > 10
    assert told - {"RayNodeType"} <= there
