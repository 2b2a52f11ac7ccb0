"""deploy/compose/: read by the real CLI, by a linter of security, and held to the rules of the house."""

import configparser
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.cli import main
from grid.sweep import run
from tests.conftest import REPOSITORY
from tests.deploy.test_readme import commands
from tests.deploy.tools import DEPLOY, DRAIN_S, checked
from tests.services import seaweed
from tests.services.programs import program

COMPOSE = DEPLOY / "compose"
EXAMPLE = COMPOSE / ".env.example"
IMAGE = (DEPLOY / "docker" / "Dockerfile").read_text()
FILES = ("--env-file", EXAMPLE, "--profile", "*", "--file", COMPOSE / "compose.yaml")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services as the CLI resolves them."""
    return json.loads(checked("docker-compose", *FILES, "config", "--format", "json"))["services"]


def make_secrets(folder: Path) -> Path:
    subprocess.run(["sh", COMPOSE / "make-secrets.sh", folder], check=True, capture_output=True)
    return folder


def test_the_cli_and_the_linter_accept_it():
    checked("docker-compose", *FILES, "config", "--quiet")
    checked("compose-lint", "check", "--fail-on", "high", COMPOSE / "compose.yaml")


def test_only_the_loopback_is_published(services: dict[str, Any]):
    published = {name: port for name, s in services.items() for port in s.get("ports", ())}
    assert {"ray-head", "prometheus", "grafana", "s3"} == set(published)
    assert {port["host_ip"] for port in published.values()} == {"127.0.0.1"}
    assert all(port["target"] not in (6379, 10001) for port in published.values())


def test_every_service_is_hardened_limited_and_looked_after(services: dict[str, Any]):
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "s3" else []), (
            "without it Caddy is no program"
        )
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name
        assert not service["user"].startswith(("0", "root")), name
        assert service["healthcheck"].get("disable", False) is (name == "grid"), "a command of the grid ends by itself"
        assert name == "grid" or service["healthcheck"]["test"], name
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert service.get("privileged") is None, name
        mounts = [v for v in service.get("volumes", ()) if v["type"] == "bind"]
        assert all(Path(v["source"]).is_relative_to(DEPLOY) and v["read_only"] for v in mounts), name
        assert all(Path(v["source"]).exists() for v in mounts), name


def test_images_of_others_are_pinned_by_digest(services: dict[str, Any]):
    others = {n: s["image"] for n, s in services.items() if not s["image"].startswith("backtest-grid:")}
    assert len(others) == 5
    assert all(re.search(r":[\w.-]+@sha256:[0-9a-f]{64}$", image) for image in others.values()), others


def test_secrets_are_files_and_go_where_they_are_needed(services: dict[str, Any]):
    held = {name: {s["source"] for s in service.get("secrets", ())} for name, service in services.items()}
    for name in ("ray-head", "ray-worker", "grid"):
        assert "ray_token" in held[name]
    assert "aws_credentials" not in held["ray-head"], "nothing runs on the head that reads a store"
    assert {name for name, secrets in held.items() if "s3.json" in secrets} == {"seaweedfs"}
    words = re.compile("password|secret|token", re.IGNORECASE)
    for service in services.values():
        for variable, value in (service.get("environment") or {}).items():
            if words.search(variable) and not words.search(value):
                assert value in ("false", "true")
            assert not re.fullmatch(r"[0-9a-f]{32,}", str(value))


def test_object_store_fits_into_shared_memory_and_both_into_the_limit(services: dict[str, Any]):
    for name in ("ray-head", "ray-worker"):
        service = services[name]
        store, shm = int(service["environment"]["GRID_OBJECT_STORE_BYTES"]), int(service["shm_size"])
        sizes = [re.search(r"size=(\d+)([mg])", each) for each in service["tmpfs"]]
        folders = sum(int(found[1]) * {"m": 2**20, "g": 2**30}[found[2]] for found in sizes if found)
        assert all(sizes), "without a size it may take half of the machine"
        assert store <= shm, name
        assert shm + folders <= int(service["deploy"]["resources"]["limits"]["memory"]) / 2, name
        disks = {v["target"] for v in service["volumes"] if v["type"] == "volume"}
        assert disks == {"/var/lib/ray", "/var/cache/grid"}, "what is spilled and kept is not in memory"
        assert all(f" {folder}" in IMAGE for folder in disks), "a volume has the owner that its folder has in the image"
    assert services["ray-worker"]["deploy"]["replicas"] == 2


def test_grafana_fetches_and_reports_nothing(services: dict[str, Any]):
    settings = services["grafana"]["environment"]
    assert settings["GF_PLUGINS_PREINSTALL_DISABLED"] == settings["GF_SECURITY_DISABLE_GRAVATAR"] == "true"
    assert settings["GF_ANALYTICS_REPORTING_ENABLED"] == settings["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"


def test_the_dashboard_shows_no_frames_of_a_grafana_that_lets_none_in(services: dict[str, Any]):
    from ray.dashboard.modules.metrics.metrics_head import GRAFANA_HOST_DISABLED_VALUE, GRAFANA_HOST_ENV_VAR

    grafana, head = services["grafana"]["environment"], services["ray-head"]["environment"]
    assert "GF_SECURITY_ALLOW_EMBEDDING" not in grafana
    assert {name: value for name, value in head.items() if "GRAFANA" in name} == {
        GRAFANA_HOST_ENV_VAR: GRAFANA_HOST_DISABLED_VALUE
    }


def test_the_heads_address_is_given_to_nobody_else(services: dict[str, Any]):
    head = ip_address(services["ray-head"]["networks"]["grid"]["ipv4_address"])
    text = checked("docker-compose", *FILES, "config", "--format", "json")
    (pool,) = json.loads(text)["networks"]["grid"]["ipam"]["config"]
    assert head in ip_network(pool["subnet"])
    assert head not in ip_network(pool["ip_range"])
    assert ip_network(pool["ip_range"]).subnet_of(ip_network(pool["subnet"]))


def test_the_first_sweep_runs_on_the_bars_that_are_brought_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """README.md's import and sweep.yaml as they stand, but for the stores."""
    (words,) = [w for w in commands("grid") if w[:2] == ["data", "import"]]
    words[words.index("--store") + 1] = str(tmp_path / "bars")
    monkeypatch.chdir(COMPOSE)
    monkeypatch.setattr("sys.argv", ["grid", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    sweep = yaml.safe_load((COMPOSE / "sweep.yaml").read_text())
    assert "{store} {results}".format(store=sweep["data"]["store"], results=sweep["results"]["store"]) == (
        "s3://ohlcv?profile=data s3://results?profile=results"
    )
    sweep["data"]["store"], sweep["results"]["store"] = str(tmp_path / "bars"), str(tmp_path / "results")
    session = run(sweep, "serial")
    assert (session.status, session.metadata["failed"]) == ("done", 0)
    assert session.metadata["ok"] > 100


def test_no_work_on_the_head_and_as_many_workers_as_one_likes(services: dict[str, Any]):
    """The entrypoint starts a head without CPUs (test_docker.py); nothing of a worker is its own but its number."""
    assert services["ray-head"]["command"] == ["head"]
    worker = services["ray-worker"]
    assert worker["command"] == ["worker"]
    assert not {"container_name", "hostname", "ports"} & set(worker)
    assert worker["networks"] == {"grid": None}
    text = checked("docker-compose", *FILES, "config", "--format", "json", GRID_WORKERS="7")
    assert json.loads(text)["services"]["ray-worker"]["deploy"]["replicas"] == 7


def test_nodes_have_time_for_rays_own_draining(services: dict[str, Any]):
    for name in ("ray-head", "ray-worker"):
        parts = re.findall(r"(\d+)([ms])", services[name]["stop_grace_period"])
        assert sum(int(number) * {"m": 60, "s": 1}[unit] for number, unit in parts) >= DRAIN_S + 15, name
        assert services[name]["init"], "it passes on the signal"


def test_the_head_keeps_its_state_in_valkey_which_keeps_it_on_disk(services: dict[str, Any]):
    head, valkey = services["ray-head"], services["valkey"]
    assert head["environment"]["RAY_REDIS_ADDRESS"] == "valkey:6379"
    secret = Path(head["environment"]["GRID_REDIS_PASSWORD_FILE"]).name
    assert all(secret in [held["source"] for held in service["secrets"]] for service in (head, valkey))
    assert "appendonly yes" in valkey["command"][-1]
    assert [v["target"] for v in valkey["volumes"] if v["type"] == "volume"] == ["/data"]


def test_every_variable_is_in_the_example_and_the_other_way_round():
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", (COMPOSE / "compose.yaml").read_text()))
    assert used == set(re.findall(r"^(\w+)=", EXAMPLE.read_text(), re.MULTILINE))


def test_without_its_variables_it_says_what_to_do():
    words = [
        program("docker-compose"),
        "--env-file",
        "/dev/null",
        "--file",
        str(COMPOSE / "compose.yaml"),
        "config",
        "-q",
    ]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode != 0
    assert "copy .env.example to .env" in ran.stderr


def test_secrets_are_long_closed_to_others_kept_and_not_in_git(tmp_path: Path):
    folder = make_secrets(tmp_path / "secrets")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(before["ray_token"].strip()) == 64
    assert len({before["ray_token"], before["valkey_password"], before["grafana_password"]}) == 3
    make_secrets(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    declared = re.findall(r"\{file: secrets/([\w.]+)\}", (COMPOSE / "compose.yaml").read_text())
    assert {*declared, "aws_admin_credentials"} == set(before)
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert {"deploy/compose/secrets/", ".env"} <= set(ignored)


@contextmanager
def store(command: list[str], secrets: Path, folder: Path) -> Iterator[str]:
    """SeaweedFS as the stack starts it, on free ports of the loopback; its URL."""
    port = seaweed._free_ports()
    here = {"-dir": f"{folder}", "-ip": "127.0.0.1", "-ip.bind": "127.0.0.1", "-s3.config": f"{secrets / 's3.json'}"}
    here |= {"-s3.port": port, "-master.port": port + 1, "-volume.port": port + 2, "-filer.port": port + 3}
    here |= {"-s3.port.iceberg": 0, "-s3.port.lance": 0}
    options = {**dict(word.split("=", 1) for word in command[1:]), **here}
    words = [seaweed._command(folder, port)[0], command[0], *(f"{name}={value}" for name, value in options.items())]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env={"HOME": str(folder)})
    try:
        seaweed._wait(f"http://127.0.0.1:{port}", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait(10)


def allowed(url: str, secrets: Path, identity: str, operation: str, **arguments: Any) -> bool:
    """Whether that identity may do that; the first writes are tried for a while, as they make a volume."""
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from botocore.session import Session

    found = configparser.ConfigParser()
    found.read([secrets / "aws_credentials", secrets / "aws_admin_credentials"])
    keys = found[identity]
    client = Session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=keys["aws_access_key_id"],
        aws_secret_access_key=keys["aws_secret_access_key"],
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10, "mode": "standard"}),
    )
    try:
        getattr(client, operation)(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return False
        raise
    return True


@pytest.mark.s3
def test_the_store_gives_each_role_its_rights(services: dict[str, Any], tmp_path: Path):
    """The stack's own command and the secrets it is given, in a real SeaweedFS."""
    secrets = make_secrets(tmp_path / "secrets")
    (tmp_path / "objects").mkdir()
    bars, rows = {"Bucket": "ohlcv", "Key": "a"}, {"Bucket": "results", "Key": "a"}
    with store(services["seaweedfs"]["command"], secrets, tmp_path / "objects") as url:
        assert allowed(url, secrets, "admin", "put_object", **bars, Body=b"1")
        assert allowed(url, secrets, "data", "get_object", **bars)
        assert allowed(url, secrets, "data", "list_objects_v2", Bucket="ohlcv")
        assert not allowed(url, secrets, "data", "put_object", **bars, Body=b"2")
        assert not allowed(url, secrets, "data", "list_objects_v2", Bucket="results")
        assert allowed(url, secrets, "results", "put_object", **rows, Body=b"1")
        assert allowed(url, secrets, "results", "get_object", **rows)
        assert not allowed(url, secrets, "results", "get_object", **bars)
        assert not allowed(url, secrets, "results", "put_object", **bars, Body=b"2")
