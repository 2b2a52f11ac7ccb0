"""The ways through deploy/README.md: each in an order that works, with all that its next step needs."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import REPOSITORY
from tests.deploy.test_machines import config
from tests.deploy.test_monitoring import MONITORING
from tests.deploy.test_readme import SECURITY, TEXT, commands
from tests.deploy.tools import DEPLOY, checked

PINS = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", (REPOSITORY / "requirements/run.txt").read_text(), re.MULTILINE))
ORDER = {
    "Compose": [
        "./make-secrets.sh",
        "cp .env.example .env",
        "docker compose up ",
        "grid data import ",
        "grid doctor --address http://ray-head:8265 --data ",
        "grid submit sweep.yaml",
        "docker compose kill ray-head",
    ],
    "Kubernetes": [
        "kind create cluster",
        "docker build --file deploy/docker/Dockerfile --tag backtest-grid:",
        "kind load docker-image backtest-grid:",
        "aws ecr create-repository ",
        "docker push ",
        "kubectl label node ",
        "helm install prometheus ",
        "helm install kuberay-operator ",
        "kubectl create namespace ",
        "create secret generic ray-token ",
        "create secret generic valkey-password ",
        "kubectl apply --server-side -k deploy/k8s/overlays/dev",
        "wait --for=condition=HeadPodReady ",
        "port-forward ",
        "grid doctor ",
        "On `dev` this is the end, as no store is in its reach.",
        "grid submit deploy/k8s/sweep/sweep.yaml",
        "kubectl apply --server-side -k deploy/k8s/sweep\n",
        "kubectl apply --server-side -f https://github.com/kubernetes-sigs/kueue/",
        "kubectl -n kueue-system wait --for=condition=Available deployment/kueue-controller-manager ",
        "kubectl apply --server-side -k deploy/k8s/overlays/kueue",
    ],
    "AWS": [
        "export AWS_REGION=",
        "aws ec2 import-key-pair ",
        "aws ec2 create-security-group ",
        "aws s3api create-bucket ",
        "aws iam create-role --role-name backtest-grid-worker ",
        "aws iam create-instance-profile --instance-profile-name backtest-grid-worker",
        "aws iam create-role --role-name backtest-grid-head ",
        "aws iam create-instance-profile --instance-profile-name backtest-grid-head",
        "aws s3api put-bucket-policy ",
        "aws s3 cp --recursive ",
        "pip install boto3==",
        "ray up ",
        "ray exec ",
        "ray dashboard ",
        "grid doctor ",
        "grid submit ",
        "ray down ",
    ],
    "Machines of your own": [
        "apt-get install --yes rsync",
        "ray up ",
        "ray exec ",
        "grid doctor ",
        "grid submit sweep.yaml --shared-paths",
        "ray down ",
        "systemctl enable --now ray-head.service",
        "systemctl enable --now ray-worker.service",
    ],
}


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("title", ORDER)
def test_each_step_comes_after_those_that_it_needs(title: str):
    text, after = section(title), -1
    for step in ORDER[title]:
        found = text.find(step, after + 1)
        assert found > after, f"{step!r} is missing, or comes too early"
        after = found


def test_a_command_is_in_one_line_and_kubectl_is_told_the_namespace():
    """Else it is not to be copied, and looks in `default`."""
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    named = re.findall(r"`([^`]+)`", prose)
    assert [each for each in named if "\n" in each] == []
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    asked = [line for line in (*blocks.splitlines(), *named) if "kubectl " in line]
    everywhere = re.compile(
        r"kubectl (create namespace|label node|drain\b|-n kueue-system wait|apply .*-(k deploy/k8s/|f https:))"
    )
    assert len(asked) > 8
    assert [line for line in asked if "kubectl -n backtest-grid " not in line and not everywhere.search(line)] == []


def test_images_are_those_that_the_overlays_ask_for():
    built = {w for words in commands("docker") if words[0] in ("build", "push") for w in words if "backtest-grid:" in w}
    asked = {c["name"]: c for c in _images("aws")}["backtest-grid"]
    local = re.findall(r"&image (\S+)", (DEPLOY / "k8s/base/raycluster.yaml").read_text())
    assert built == {f"{asked['newName']}:{asked['newTag']}", *local}
    loaded = re.findall(r"kind load docker-image (\S+)", TEXT)
    assert loaded == local
    assert {c["name"] for c in _images("onprem")} == {"backtest-grid"}, "nodes have no image of that name"


def _images(overlay: str) -> list[dict[str, str]]:
    path = DEPLOY / "k8s" / "overlays" / overlay / "kustomization.yaml"
    found: list[dict[str, str]] = yaml.safe_load(path.read_text())["images"]
    return found


def test_variables_of_one_way_are_not_in_the_shell_of_another():
    assert re.findall(r"export (\w+)=(\S+)", TEXT) == [("AWS_REGION", config("aws.yaml")["provider"]["region"])]


def test_the_monitors_are_for_the_release_that_is_installed():
    (release,) = re.findall(r"helm install (\S+) kube-prometheus-stack .*--namespace monitoring ", TEXT)
    for overlay in ("aws", "onprem"):
        settings = yaml.safe_load((DEPLOY / "k8s/overlays" / overlay / "settings.yaml").read_text())["data"]
        assert settings["PROMETHEUS_RELEASE"] == release
        assert settings["MONITORING_NAMESPACE"] == "monitoring"
        assert f"--namespace {settings['OPERATOR_NAMESPACE']} " in TEXT


def test_machines_of_aws_have_profiles_and_the_autoscaler_its_package_here_too():
    made = {words[3] for words in commands("aws") if words[1] == "create-instance-profile"}
    kinds = config("aws.yaml")["available_node_types"].values()
    assert {kind["node_config"]["IamInstanceProfile"]["Arn"].rpartition("/")[2] for kind in kinds} == made
    filled = {tuple(words[3::2]) for words in commands("aws") if words[1] == "add-role-to-instance-profile"}
    assert filled == {(name, name) for name in made}
    assert ["install", f"boto3=={PINS['botocore']}"] in commands("pip"), "what `ray up` asks AWS with"


def test_no_token_is_shown():
    for text in (TEXT, SECURITY.read_text()):
        assert re.findall(r"get-auth-token --generate(?! >/dev/null)", text) == []


def test_files_that_are_used_on_machines_are_sent_there():
    """`~grid` is the home of the ssh_user of onprem.yaml."""
    assert config("onprem.yaml")["auth"]["ssh_user"] == "grid"
    used = re.findall(r"~(grid)?/(grid-src/[\w./@-]+)", TEXT)
    assert len(used) > 5
    for machine in ("onprem.yaml", "aws.yaml"):
        sent = {there.removeprefix("~/"): here for there, here in config(machine)["file_mounts"].items()}
        for user, path in used:
            if user and machine == "aws.yaml":
                continue
            (place,) = [there for there in sent if path == there or path.startswith(f"{there}/")]
            assert (REPOSITORY / (sent[place] + path.removeprefix(place))).is_file(), path
    worker = (DEPLOY / "systemd" / "worker.env").read_text()
    assert f"RAY_HEAD={config('onprem.yaml')['provider']['head_ip']}:6379\n" in worker


def test_prometheus_on_a_machine_has_its_token_where_a_reboot_leaves_it(tmp_path: Path):
    (command,) = re.findall(r"^(sed \S+) ~/grid-src/monitoring/prometheus.yml \|", TEXT, re.MULTILINE)
    read = (MONITORING / "prometheus.yml").read_text()
    text = subprocess.run(command.split(), input=read, capture_output=True, text=True, check=True).stdout
    (token,) = re.findall(r"credentials_file: ([^}\s]+)\}", text)
    assert not token.startswith("/run/")
    assert f"sudo install --mode=640 --group=prometheus /opt/grid/token {token}\n" in TEXT
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus", str(tmp_path)))
    (tmp_path / "ray_token").write_text("t")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "grid.yml").write_text((MONITORING / "rules" / "grid.yml").read_text())
    checked("promtool", "check", "config", tmp_path / "prometheus.yml")


def test_machines_that_do_not_drain_are_not_said_to():
    """Ray drains in the SIGTERM handler of `ray start --block`, which `ray up` could not come back from."""
    started = [c for name in ("aws.yaml", "onprem.yaml") for c in config(name)["worker_start_ray_commands"]]
    assert not any("--block" in command for command in started)
    assert "Machines of `deploy/vm/` are not, and are simply lost." in section("Growing and shrinking")
    units = [(DEPLOY / "systemd" / f"ray-{kind}.service").read_text() for kind in ("head", "worker")]
    assert all("--block" in unit for unit in units)


def test_rays_with_known_holes_are_not_taken():
    """docs/security.md names the last one that was mended, in 2.56; 2.61 changes who is asked for a token."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    (asked,) = re.findall(r'^  "(ray\[default\][^"]+)"', text, re.MULTILINE)
    taken = Requirement(asked).specifier
    assert not any(version in taken for version in ("2.50.0", "2.53.0", "2.55.1", "2.61.0"))
    assert PINS["ray"] in taken
    assert "Ray 2.56 and later" in SECURITY.read_text()


def test_the_live_tests_of_a_grid_are_in_make_e2e():
    (words,) = re.findall(r"^e2e:.*\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"tests/\S+\.py", words)
    assert all((REPOSITORY / name).is_file() for name in named)
    assert {"tests/chaos/test_head.py", "tests/e2e/test_whole.py", "tests/e2e/test_side_by_side.py"} <= set(named)
    assert "-m ray " in words, "else those marked slow are left out"


def test_all_that_is_to_be_replaced_is_said_to_be():
    """By file or folder: a sweep on a bucket MY-BUCKET, or an image of another account's, is found by nobody."""
    (said,) = re.findall(r"^Replace `MY-BUCKET`.*?; policies", TEXT, re.MULTILINE | re.DOTALL)
    named = tuple(re.findall(r"`(deploy/[^`]+)`", said))
    mine = {"secrets", "__pycache__"}
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and not mine & {*path.parts}]
    asked = {str(p.relative_to(REPOSITORY)) for p in files if re.search(r"\bMY-|\b111122223333\b", p.read_text())}
    assert {"deploy/k8s/sweep/sweep.yaml", "deploy/vm/aws.yaml", "deploy/README.md"} <= asked
    assert [file for file in asked - {"deploy/README.md"} if not file.startswith(named)] == []


def test_prometheus_on_a_machine_listens_on_the_loopback_alone():
    """Debian's listens on every address and asks for no password, and so does the exporter that it recommends."""
    text = section("Watching")
    (arguments,) = re.findall(r"^echo '(ARGS=.*)' \| sudo tee /etc/default/prometheus$", text, re.MULTILINE)
    assert arguments == 'ARGS="--web.listen-address=127.0.0.1:9090"'
    assert "apt-get install --yes --no-install-recommends prometheus\n" in text
    assert text.index(arguments) < text.index("systemctl restart prometheus")


def test_a_token_that_is_written_down_here_does_not_get_into_git():
    (name,) = re.findall(r"\| install -m 600 /dev/stdin (\S+)$", TEXT, re.MULTILINE)
    subprocess.run(["git", "check-ignore", "--quiet", name], cwd=REPOSITORY, check=True)


def test_where_the_head_works_too_it_is_said():
    """`ray symmetric-run` gives all nodes the same options, and the driver runs on the first of them."""
    assert "--num-cpus=" in (DEPLOY / "slurm" / "sweep.sbatch").read_text()
    assert "a head without CPUs, so that no driver dies with it, but on Slurm" in " ".join(TEXT.split())
