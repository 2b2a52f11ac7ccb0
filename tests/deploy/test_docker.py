"""deploy/docker/: hadolint and shellcheck, what the image is made of, and that no node starts without a token."""

import json
import re
import subprocess
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import pytest

from grid.partition import CLUSTER_SETTINGS
from tests.conftest import REPOSITORY
from tests.deploy.tools import DEPLOY, checked

DOCKER = DEPLOY / "docker"
FILE = (DOCKER / "Dockerfile").read_text()
ENTRYPOINT = DOCKER / "entrypoint.sh"
ALLOWED = {"GRID_ALLOW_NO_TOKEN": "1"}
TOKEN = "0123456789abcdef" * 4


def entrypoint(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it with a `ray` that only says how it was called."""
    ray = tmp_path / "ray"
    ray.write_text('#!/bin/sh\necho "ray $* mode=${RAY_AUTH_MODE:-}"\n')
    ray.chmod(0o755)
    return subprocess.run(
        ["sh", ENTRYPOINT, *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_linters_have_nothing_to_say():
    checked("hadolint", "--failure-threshold", "style", DOCKER / "Dockerfile")
    scripts = [*sorted(DEPLOY.rglob("*.sh")), *sorted(DEPLOY.rglob("*.sbatch"))]
    assert scripts
    checked("shellcheck", "--enable=all", "--exclude=SC2250,SC2312,SC2310", *scripts)


def test_images_are_pinned_by_tag_and_digest():
    bases = re.findall(r"^FROM (\S+)", FILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base) for base in bases)


def test_nothing_unpinned_reads_the_dockerfile():
    """A `syntax` line has Docker fetch whatever image has that tag now, which then builds ours."""
    assert [line for line in FILE.splitlines() if re.match(r"#\s*syntax=(?!.*@sha256:)", line)] == []


def test_it_runs_as_nobody_in_particular_and_has_no_secret():
    users = re.findall(r"^USER (.+)$", FILE, re.MULTILINE)
    assert users[-1] == "1000:1000"
    assert "ARG" not in re.findall(r"^([A-Z]+)", FILE, re.MULTILINE), "build arguments end up in the image's history"
    assert re.search(r"RAY_AUTH_MODE=token", FILE)
    assert "--require-hashes" in FILE


def test_nodes_notice_a_cut_link():
    for name, value in CLUSTER_SETTINGS.items():
        assert re.search(rf"\b{name}={value}\b", FILE), name


def test_in_a_pod_the_disk_is_measured():
    """Else Ray tells there that it is empty, and the alert on it never fires."""
    from ray.dashboard.modules.reporter import reporter_agent

    variable = "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE"
    assert f'os.environ.get("{variable}") == "1"' in Path(reporter_agent.__file__).read_text()
    assert re.search(rf"\b{variable}=1\b", FILE)


def test_the_image_holds_all_that_is_installed_and_nothing_else():
    lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {word for words in re.findall(r"^COPY (?!--from)(.+)$", FILE, re.MULTILINE) for word in words.split()[:-1]}
    assert {word for word in copied if not word.startswith("--")} == sent
    assert lines[1] == "*"
    assert all((REPOSITORY / name).exists() for name in sent)
    packages = {path.parent.name for path in REPOSITORY.glob("*/py.typed")}
    assert {f"{package}/" for package in packages} <= sent
    for secret in (".env", ".git/config", "deploy/compose/secrets/ray_token", "results/a"):
        assert not any(fnmatch(secret, f"{name}*") for name in sent), secret


@pytest.mark.parametrize("command", [["head"], ["worker"], ["ray", "start", "--head"]], ids=" ".join)
def test_no_node_starts_without_a_token(tmp_path: Path, command: list[str]):
    short = tmp_path / "short"
    short.write_text("abc\n")
    cases = {
        "must be 'token'": {"RAY_AUTH_MODE": "disabled"},
        "no token": {"RAY_AUTH_MODE": "token"},
        "cannot be read": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")},
        "less than 32": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(short)},
    }
    for words, environment in cases.items():
        ran = entrypoint(tmp_path, *command, RAY_HEAD="h:6379", **environment)
        assert (ran.returncode, ran.stdout) == (3, ""), words
        assert words in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_nodes_start_with_a_token_or_when_told_that_none_is_needed(tmp_path: Path):
    token = tmp_path / "token"
    token.write_text(TOKEN)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_HEAD": "h:6379"}
    head = entrypoint(tmp_path, "head", **environment)
    assert head.returncode == 0, head.stderr
    assert "--head --block --num-cpus=0 " in head.stdout
    assert TOKEN not in head.stdout + head.stderr
    worker = entrypoint(tmp_path, "worker", GRID_NODE_CPUS="2", **environment)
    assert "--address=h:6379 --block" in worker.stdout
    assert "--num-cpus=2" in worker.stdout
    allowed = entrypoint(tmp_path, "head", RAY_AUTH_MODE="token", **ALLOWED)
    assert "mode=disabled" in allowed.stdout
    assert "whoever reaches this node runs code on it" in allowed.stderr


def test_other_commands_run_as_they_stand(tmp_path: Path):
    assert entrypoint(tmp_path, "echo", "a b").stdout == "a b\n"
    assert entrypoint(tmp_path, "ray", "status").stdout == "ray status mode=\n"
    assert entrypoint(tmp_path, "worker", **ALLOWED).returncode == 3  # and no head named


def test_a_sweep_with_failed_trials_is_no_failed_job(tmp_path: Path):
    """Exit codes of `grid run` as a job that is repeated when it fails takes them."""
    grid = tmp_path / "grid"
    for code, taken in {0: 0, 1: 0, 2: 2, 3: 3, 130: 130}.items():
        grid.write_text(f'#!/bin/sh\necho "$*"\nexit {code}\n')
        grid.chmod(0o755)
        ran = entrypoint(tmp_path, "sweep", "s.yaml", "--session-id", "a")
        assert (ran.returncode, ran.stdout) == (taken, "run s.yaml --session-id a\n"), code


def test_every_option_it_gives_to_ray_exists():
    """Ray's command line has them, hidden ones too."""
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    used = set(re.findall(r"(--[a-z-]+)=?", ENTRYPOINT.read_text()))
    assert len(used) > 8
    assert used <= known


def test_the_bill_of_materials_is_that_of_the_pins(tmp_path: Path):
    """What `make sbom` runs."""
    command = re.search(r"cyclonedx-py (.*) --output-file", (REPOSITORY / "Makefile").read_text())
    assert command
    checked("cyclonedx-py", *command[1].split(), "--output-file", tmp_path / "sbom.json", PYTHONWARNINGS="ignore")
    parts = {p["name"]: p for p in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (REPOSITORY / "requirements/run.txt").read_text(), re.MULTILINE))
    assert {name: part["version"] for name, part in parts.items()} == pins
    assert pins["ray"] == version("ray")
