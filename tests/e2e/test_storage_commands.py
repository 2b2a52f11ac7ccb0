"""`grid storage info` and `grid storage test`, as a user meets them: codes, one sentence, no secrets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grid.cli import app, main
from grid.heartbeat import Heartbeat
from storage.providers import LocalProvider
from storage.sessions import SessionFolder
from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.seaweed import ADMIN, NO_LIST, NO_READ, READER, SECRET, WRITER

ROOT = Path(__file__).parents[2]
UNREADABLE = dict.fromkeys(("read", "create-if-absent", "stat"), "s3:GetObject")


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """Run a command; its exit code, its JSON or text, and its message."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*words, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-W", "error::ResourceWarning", "-m", "grid", "storage", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert SECRET not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout or "null"), done.stderr.strip()

    return run


@pytest.fixture
def grid_here(tmp_path, monkeypatch, capsys):
    """The same in this process, which is quicker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["grid", "storage", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, told = capsys.readouterr()
        assert SECRET not in out + told
        return ended.value.code, out, told.strip()

    return run


def failed(payload):
    return [check["name"] for check in payload["checks"] if check["ok"] is False]


def untried(payload):
    return [check["name"] for check in payload["checks"] if check["ok"] is None]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder(grid, tmp_path, scheme):
    code, payload, _ = grid("test", f"{scheme}{tmp_path}/store", "--json")
    assert (code, payload["ok"], len(payload["checks"])) == (0, True, 7)
    code, payload, _ = grid("info", f"{scheme}{tmp_path}/store", "--json")
    assert (code, payload["kind"], payload["objects"]) == (0, "local", 0)


def test_trying_a_folder_leaves_nothing_behind(grid_here, tmp_path):
    (tmp_path / "there").mkdir()
    code, out, _ = grid_here("test", "there")
    assert (code, "did not exist" in out, list((tmp_path / "there").iterdir())) == (0, False, [])
    code, out, _ = grid_here("test", "new/store")
    assert (code, "the folder did not exist" in out, (tmp_path / "new").exists()) == (0, True, False)


def test_remedies_of_a_folder_speak_of_folders(grid_here):
    code, out, _ = grid_here("test", "/proc/store")
    assert (code, "s3" in out.lower(), "give yourself the right" in out) == (2, False, True)


@pytest.mark.parametrize("name", ["file", "file/below", "/dev/null"])
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_file_is_one_sentence(grid_here, tmp_path, name, as_json):
    (tmp_path / "file").write_text("")
    code, out, told = grid_here("test", name, *as_json)
    assert (code, out, told.count("\n")) == (2, "", 0)
    assert "is a file; name a folder." in told


@pytest.mark.s3
class TestS3:
    @pytest.fixture
    def uri(self, s3, bucket):
        return f"s3://{bucket}/cli?endpoint_url={s3.url}"

    def test_a_good_bucket_keeps_nothing_of_the_test(self, grid, uri, s3):
        code, payload, told = grid("test", uri, "--json")
        assert (code, failed(payload), told) == (0, [], "")
        code, payload, _ = grid("info", uri, "--json")
        assert (code, payload["kind"], payload["objects"], payload["endpoint"]) == (0, "s3", 0, s3.url)

    @pytest.mark.parametrize(
        ("identity", "broken", "hindered"),
        [
            (READER, {"write": "s3:PutObject"}, ["read", "create-if-absent", "stat", "clock", "delete"]),
            (WRITER, {**UNREADABLE, "list": "s3:ListBucket"}, ["clock", "delete"]),
            (NO_LIST, {"list": "s3:ListBucket"}, []),
            (NO_READ, UNREADABLE, ["clock", "delete"]),
        ],
    )
    def test_rights_that_are_missing_are_told_apart(self, grid, uri, s3, identity, broken, hindered):
        """Each right that is missing with its remedy, and no remedy for what it keeps from being tried."""
        code, payload, told = grid("test", uri, "--json", **s3.environment(identity))
        assert (code, payload["ok"], set(failed(payload)), untried(payload)) == (2, False, set(broken), hindered)
        remedies = {check["name"]: check["remedy"] for check in payload["checks"] if check["remedy"]}
        assert remedies.keys() == broken.keys()
        assert all(right in remedies[name] for name, right in broken.items())
        assert told.startswith("error: s3://")
        assert told.count("\n") == 0

    @pytest.mark.parametrize(
        ("endpoint", "variables", "told"),
        [
            ("http://127.0.0.1:1", {}, "nothing answers there; check endpoint_url"),
            (None, {"AWS_SECRET_ACCESS_KEY": f"{SECRET}-wrong"}, "the secret key is not the one"),
        ],
        ids=["endpoint", "secret"],
    )
    def test_one_cause_is_told_once(self, grid_here, monkeypatch, bucket, s3, endpoint, variables, told):
        for name, value in {**s3.environment(ADMIN), **variables, "COLUMNS": "100"}.items():
            monkeypatch.setenv(name, value)
        code, out, error = grid_here("test", f"s3://{bucket}/cli?endpoint_url={endpoint or s3.url}")
        assert (code, out.count("BAD"), out.count("not tried, as write failed")) == (2, 1, 6)
        assert " ".join(out.split()).count(told) == 1
        assert not any(wrong in out for wrong in ("give the right", "NTP", "If-None-Match"))
        assert error.endswith("fails 1 check: write.")
        assert max(map(len, out.splitlines())) <= 100

    def test_the_root_needs_no_quotes(self, grid, bucket, s3):
        code, _, told = grid("info", f"s3://{bucket}?endpoint_url={s3.url}", **s3.environment(NO_LIST))
        assert (code, "Could not list in s3://" in told) == (2, True), told

    def test_wrong_secrets_and_endpoints(self, grid, uri, bucket, s3):
        code, _, told = grid("info", uri, AWS_SECRET_ACCESS_KEY=f"{SECRET}-wrong")
        assert (code, "the secret key is not the one" in told) == (2, True)
        s3_admin = s3.environment(ADMIN)
        code, _, told = grid("info", f"s3://{bucket}?endpoint_url=http://127.0.0.1:1", **s3_admin)
        assert (code, "nothing answers there" in told) == (2, True)
        code, _, told = grid("info", f"s3://no-such-bucket-here?endpoint_url={s3.url}", **s3_admin)
        assert (code, "there is no such bucket" in told) == (2, True)

    def test_a_wrong_clock(self, grid, bucket, s3):
        with fault_proxy(s3.url) as proxy:
            proxy.faults = [Fault("status", status=403, code="RequestTimeTooSkewed")]
            code, _, told = grid("info", f"s3://{bucket}?endpoint_url={proxy.url}")
        assert (code, "this machine's clock is wrong" in told) == (2, True)


NO_STORES = [
    "s3://",
    "s3://x/../y",
    f"s3://key:{SECRET}@bucket/x",
    f"s3://bucket/x?secret={SECRET}",
    f"s3://bucket/x?endpoint_url=http://key:{SECRET}@host",
    "s3://bucket/x?endpoint_url=nonsense",
    "gopher://x",
    "nfs://host/x",
    "nfs:///nowhere/at/all?mount=/nowhere",
    "",
]
CASES = [("info", uri) for uri in NO_STORES]
CASES += [
    ("test", uri) for uri in NO_STORES if not uri.startswith("nfs:///")
]  # a mount that is missing fails its checks


@pytest.mark.parametrize(("command", "uri"), CASES)
def test_bad_names_are_one_sentence(grid_here, command, uri):
    code, out, told = grid_here(command, uri)
    assert (code, out) == (2, "")
    assert told.startswith("error: ")
    assert told.count("\n") == 0


def test_pruning_lists_and_removes_and_leaves_a_living_driver_alone(tmp_path):
    def prune(*words):
        done = CliRunner().invoke(app, ["storage", "prune", str(tmp_path), *words])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout) if "--json" in words else done.stdout

    provider = LocalProvider(tmp_path)
    paths = {}
    for name in ("dead", "living"):
        part = SessionFolder(provider, name).write_part(b"nameless", 1, [(0, 1)], {})
        paths[name] = f"{name}/{part.path}"
    (tmp_path / "dead" / ".tmp-half").write_bytes(b"")
    Heartbeat(SessionFolder(provider, "living"), lambda _: None).beat()
    assert "0 temporary files and 0 nameless parts found." in prune()  # all of it is young
    told = prune("--older-than", "0", "--json")
    assert (told["temporary"], told["parts"], told["deleted"]) == (["dead/.tmp-half"], [paths["dead"]], False)
    assert told["kept"] == {"living": "a driver works on it"}
    assert "1 temporary file and 1 nameless part found; --delete removes them." in prune("--older-than", "0")
    assert "1 temporary file and 1 nameless part removed." in prune("--older-than", "0", "--delete")
    assert [path for path in provider.list() if "/trials/" in path] == [paths["living"]]
    assert not (tmp_path / "dead" / ".tmp-half").exists()
