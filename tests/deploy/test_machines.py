"""deploy/vm/, slurm/ and systemd/: Ray's own validator, AWS's own shapes, a Slurm of stubs, systemd's verifier."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.jobs import STEADY
from grid.partition import CLUSTER_SETTINGS
from tests.conftest import REPOSITORY
from tests.deploy.policies import listed, statements
from tests.deploy.tools import DEPLOY, DRAIN_S, checked

VM, SBATCH = DEPLOY / "vm", DEPLOY / "slurm" / "sweep.sbatch"
PATIENCE_S = 60


def config(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((VM / name).read_text())
    return found


@pytest.mark.parametrize("name", ["aws.yaml", "onprem.yaml"])
def test_ray_accepts_it(name: str):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config(name)))


@pytest.mark.parametrize("change", [{"max_wrokers": 3}, {"head_node_type": "none"}, {"max_workers": -1}], ids=str)
def test_rays_validator_notices_what_is_wrong(change: dict[str, Any]):
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises((ValueError, jsonschema.ValidationError)):
        validate_config(prepare_config({**config("aws.yaml"), **change}))


def test_machines_are_what_aws_calls_machines():
    """Against the shape of RunInstances; Ray adds the counts."""
    from botocore.session import Session
    from botocore.validate import ParamValidator

    shape = Session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, kind in config("aws.yaml")["available_node_types"].items():
        node = {k: v for k, v in kind["node_config"].items() if k != "SubnetIds"}  # Ray's own: it takes one of them
        report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, shape)
        assert not report.has_errors(), f"{name}: {report.generate_report()}"


def test_machines_of_aws_have_rsync_before_anybody_can_log_in():
    """A bootcmd runs before users are made, packages of cloud-init only after."""
    for name, kind in config("aws.yaml")["available_node_types"].items():
        header, _, text = kind["node_config"]["UserData"].partition("\n")
        assert header == "#cloud-config", name
        (command,) = yaml.safe_load(text)["bootcmd"]
        assert "apt-get install -y -qq rsync" in command, name
        subprocess.run(["sh", "-n", "-c", command], check=True)


def test_the_head_stays_workers_go_and_money_is_bounded():
    aws = config("aws.yaml")
    kinds = aws["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert "InstanceMarketOptions" not in kinds["on-demand"]["node_config"]
    assert kinds["on-demand"]["min_workers"] >= 1
    assert kinds["spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert kinds["on-demand"]["labels"] == STEADY, "drivers are sent there"
    assert kinds["spot"]["labels"] == {"ray.io/market-type": "spot"}
    assert aws["idle_timeout_minutes"] <= 10
    assert aws["max_workers"] <= 50
    assert aws["provider"]["cache_stopped_nodes"] is False
    assert aws["provider"]["use_internal_ips"] is True
    for kind in kinds.values():
        node = kind["node_config"]
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])


def test_profiles_and_networks_are_those_of_the_policies():
    kinds = config("aws.yaml")["available_node_types"]
    profiles = {name: kind["node_config"]["IamInstanceProfile"]["Arn"] for name, kind in kinds.items()}
    assert profiles["head"] != profiles["spot"] == profiles["on-demand"]
    head = statements(DEPLOY / "aws" / "iam" / "vm-head.json")
    named = [resource for s in head for resource in listed(s["Resource"])]
    assert profiles["spot"] in named, "the head may pass on this profile"
    node = kinds["spot"]["node_config"]
    for thing in (*node["SubnetIds"], *node["SecurityGroupIds"], node["ImageId"], node["KeyName"]):
        assert any(resource.endswith(f"/{thing}") for resource in named), thing


@pytest.mark.parametrize("name", ["aws.yaml", "onprem.yaml"])
def test_nodes_have_the_token_the_settings_and_pinned_packages(name: str):
    cluster = config(name)
    for there, here in cluster["file_mounts"].items():
        assert here.startswith("~") or (REPOSITORY / here).exists(), there
        assert there.startswith("~/"), "sent as ssh_user, before any command makes a folder"
    assert cluster["file_mounts"]["~/grid-src/token"] == "~/.ray/auth_token"
    for command in (*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]):
        assert command.startswith(". /opt/grid/environment.sh;")
    assert any("--require-hashes" in command for command in cluster["setup_commands"])
    used = set(re.findall(r"~/grid-src/[\w./-]+", "\n".join(cluster["setup_commands"])))
    sent = tuple(cluster["file_mounts"])
    assert len(used) > 3
    assert [path for path in used if not path.startswith(sent)] == []
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][-1]
    pinned = re.search(r"^botocore==(\S+)", (REPOSITORY / "requirements" / "run.txt").read_text(), re.MULTILINE)
    assert pinned
    boto3 = [c for c in cluster.get("head_setup_commands", ()) if "boto3" in c]
    assert all(f"boto3=={pinned[1]}" in command for command in boto3), "boto3 and botocore go together"


def test_variables_of_nodes_are_those_that_notice_a_cut_link():
    found = dict(re.findall(r"^(\w+)=(.*)$", (VM / "grid.env").read_text(), re.MULTILINE))
    assert found["RAY_AUTH_MODE"] == "token"
    exported = dict(re.findall(r"(RAY_[\w]+)=(\d+)", SBATCH.read_text()))
    for name, value in CLUSTER_SETTINGS.items():
        assert found[name] == exported[name] == value


def test_slow_machines_get_time_to_start():
    """In the image, on machines and on Slurm."""
    for file in (DEPLOY / "docker" / "Dockerfile", VM / "grid.env", SBATCH):
        found = dict(re.findall(r"\b(RAY_\w+)=(\d+)", file.read_text()))
        assert int(found["RAY_agent_register_timeout_ms"]) >= 120_000, file.name
        assert int(found["RAY_raylet_start_wait_time_s"]) >= 120, file.name


@pytest.mark.parametrize("name", ["aws.yaml", "onprem.yaml"])
@pytest.mark.parametrize("before", [None, "", "case $- in *i*) ;; *) return;; esac\nalias l=ls\n"])
def test_logins_have_the_variables_whatever_their_bashrc_says(name: str, before: str | None, tmp_path: Path):
    """Some machines have none, some an empty one, and most one that ends at once where nobody types. Twice is once."""
    (command,) = [c for c in config(name)["setup_commands"] if ".bashrc" in c]
    if before is not None:
        (tmp_path / ".bashrc").write_text(before)
    for _ in range(2):
        subprocess.run(["bash", "-c", command], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
        assert (tmp_path / ".bashrc").read_text() == ". /opt/grid/environment.sh\n" + (before or "")
    assert [path.name for path in tmp_path.iterdir()] == [".bashrc"]


STUBS = {
    "scontrol": 'echo "node1"\necho "node2"',
    "srun": 'echo "srun $*" >>"$LOG"\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"',
    "rm": "exit 0",  # of folders of other nodes
    "ray": 'echo "ray $*" >>"$LOG"\n[ -z "$NO_RAY" ] || exit 0\n'
    'while [ "$1" != -- ]; do shift; done\nshift\n"$@" || exit 1',  # it has a code of its own for what fails
    "grid": 'echo "grid $*" >>"$LOG"\n[ -z "$HANGS" ] || { trap "exit 130" TERM; echo $$ >"$LOG.pid"; '
    "while :; do sleep 0.05; done; }\nexit ${CODE:-0}",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, in which Slurm, Ray and the grid are stubs."""
    programs = tmp_path / "home" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, script in STUBS.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}
    home = {"HOME": str(tmp_path), "GRID_HOME": str(tmp_path / "home"), "LOG": str(tmp_path / "log")}
    return {"PATH": "/usr/bin:/bin", "SLURM_CPUS_ON_NODE": "8", **job, **home}


@contextlib.contextmanager
def batch(environment: dict[str, str], *arguments: str, **more: str) -> "Iterator[subprocess.Popen[str]]":
    """The script as a process; none of its own outlives the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["bash", str(SBATCH), *arguments],
        env={**environment, **more},
        text=True,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    ) as job:
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_batch_job_ends_as_its_driver_does(slurm: dict[str, str], code: int):
    with batch(slurm, "s.yaml", "mine", CODE=str(code)) as job:
        _, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == code, err
    log = Path(slurm["LOG"]).read_text()
    assert "ray symmetric-run --address node1:24711 --min-nodes 2 --num-cpus=8 " in log
    assert "grid run s.yaml --session-id mine --address node1:24711 --log-json" in log
    assert "srun --cpus-per-task=8 ray symmetric-run " in log, "else a step may be bound to one core"
    (folder,) = re.findall(r"--temp-dir=(\S+)", log.splitlines()[0])
    assert log.splitlines()[-1] == f"srun rm -rf {folder}"
    token = Path(slurm["GRID_HOME"]) / "slurm" / "4711" / "token"
    assert token.stat().st_mode & 0o077 == 0
    assert len(token.read_text()) == 64


def test_a_ray_that_did_not_start_is_no_success(slurm: dict[str, str]):
    """`ray symmetric-run` exits with 0 then."""
    with batch(slurm, "s.yaml", NO_RAY="1") as job:
        _, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 70
    assert "no driver came to an end (the launcher says 0)" in err
    assert "srun rm" not in Path(slurm["LOG"]).read_text(), "Ray's own logs say why"


@pytest.mark.parametrize(("stated", "used"), [(None, "/tmp/grid-4711/bars"), ("/local/bars", "/local/bars")])  # noqa: S108
def test_copies_of_bars_stay_on_the_node(slurm: dict[str, str], stated: str | None, used: str):
    """At home, which nodes share, each would drop files that another one has mapped."""
    grid = Path(slurm["GRID_HOME"]) / ".venv" / "bin" / "grid"
    grid.write_text('#!/bin/sh\necho "bars in $GRID_CACHE_DIR" >>"$LOG"\n')
    with batch(slurm, "s.yaml", **({"GRID_CACHE_DIR": stated} if stated else {})) as job:
        assert job.wait(PATIENCE_S) == 0
    assert f"bars in {used}\n" in Path(slurm["LOG"]).read_text()


def test_slurms_warning_reaches_the_driver(slurm: dict[str, str]):
    """srun passes a signal on to its steps, and so does this stub of it."""
    slurm = {**slurm, "HANGS": "1"}
    programs = Path(slurm["GRID_HOME"]) / ".venv" / "bin"
    on_term = "trap 'kill $(cat \"$LOG.pid\")' TERM"
    (programs / "srun").write_text(
        f'#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n"$@" &\n{on_term}\nwait\nwait\n'
    )
    with batch(slurm, "s.yaml") as job:
        until, pid = time.monotonic() + PATIENCE_S, Path(slurm["LOG"] + ".pid")
        while not (pid.exists() and pid.read_text().endswith("\n")):
            assert time.monotonic() < until
            time.sleep(0.05)
        job.send_signal(signal.SIGTERM)
        _, err = job.communicate(timeout=PATIENCE_S)
    assert job.returncode == 130, err


UNITS = sorted((DEPLOY / "systemd").glob("*.*"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]


def test_units_are_what_systemd_calls_units(tmp_path: Path):
    """With programs that are here in the place of those of /opt/grid, as systemd looks for them."""
    for unit in UNITS:
        text = re.sub(r"/opt/grid/venv/bin/\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name.replace("@.", "@nightly.")).write_text(text.replace("User=grid", "User=root"))
    names = [path for path in sorted(tmp_path.iterdir()) if path.suffix in (".service", ".timer")]
    checked("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names)


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_units_are_locked_down(unit: Path):
    checked("systemd-analyze", "security", "--offline=true", "--threshold=35", "--no-pager", unit)


def test_nodes_are_started_again_and_sweeps_only_when_that_helps():
    texts = {unit.name: unit.read_text() for unit in UNITS}
    for name in ("ray-head.service", "ray-worker.service"):
        assert "Restart=always" in texts[name]
        assert "ExecCondition=/usr/bin/test -s /opt/grid/token" in texts[name], "no token, no node"
        assert "EnvironmentFile=/opt/grid/grid.env" in texts[name]
        assert "KillMode=mixed\n" in texts[name], "else the raylet is ended beside `ray start`, which would drain it"
        assert int(re.findall(r"^TimeoutStopSec=(\d+)$", texts[name], re.MULTILINE)[0]) >= DRAIN_S + 15
        assert "ExecStop" not in texts[name]
    sweep = texts["grid-sweep@.service"]
    assert "SuccessExitStatus=1 130\n" in sweep, "failed trials are rows, and who was stopped has not failed"
    assert "RestartForceExitStatus=130\n" in sweep, (
        "a store that fails ends it with that too; `systemctl stop` it stays"
    )
    assert "RestartPreventExitStatus=2 3\n" in sweep
    assert "KillMode=mixed\n" in sweep, "the driver alone is signalled (docs/clusters.md)"


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_units_may_write_results(unit: Path):
    """Of a sweep of a timer its own and the head's, where its aggregator is; of one that is sent a worker's."""
    text = unit.read_text()
    assert "ProtectSystem=strict\n" in text, "all is read-only but what is named"
    (line,) = re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)
    assert "-/mnt/grid/results" in line.split(), "the folder of deploy/README.md, which may be missing where S3 is used"
    assert "remote-fs.target" in re.findall(r"^After=(.*)$", text, re.MULTILINE)[0].split(), "a mount at boot"
