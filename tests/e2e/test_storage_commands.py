"""`grid storage info` and `grid storage test`, as a user meets them: codes, one sentence, no secrets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.seaweed import ADMIN, NO_LIST, NO_READ, READER, SECRET, WRITER

ROOT = Path(__file__).parents[2]


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


def failed(payload):
    return [check["name"] for check in payload["checks"] if not check["ok"]]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder(grid, tmp_path, scheme):
    code, payload, _ = grid("test", f"{scheme}{tmp_path}/store", "--json")
    assert (code, payload["ok"], len(payload["checks"])) == (0, True, 7)
    code, payload, _ = grid("info", f"{scheme}{tmp_path}/store", "--json")
    assert (code, payload["kind"], payload["objects"]) == (0, "local", 0)


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
        ("identity", "broken"),
        [
            (READER, ["write", "read", "create-if-absent", "list", "stat", "clock", "delete"]),
            (WRITER, ["read", "create-if-absent", "list", "stat", "clock", "delete"]),
            (NO_LIST, ["list"]),
            (NO_READ, ["read", "create-if-absent", "stat", "clock", "delete"]),
        ],
    )
    def test_rights_that_are_missing_are_told_apart(self, grid, uri, s3, identity, broken):
        code, payload, told = grid("test", uri, "--json", **s3.environment(identity))
        assert (code, failed(payload)) == (2, broken)
        assert all(check["remedy"] for check in payload["checks"] if not check["ok"])
        assert told.startswith("error: s3://")
        assert told.count("\n") == 0

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


@pytest.mark.parametrize(
    "uri",
    [
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
    ],
)
@pytest.mark.parametrize("command", ["info", "test"])
def test_bad_names_are_one_sentence(grid, command, uri):
    if command == "test" and uri.startswith("nfs:///"):
        pytest.skip("told by each of its checks")
    code, payload, told = grid(command, uri)
    assert (code, payload) == (2, None)
    assert told.startswith("error: ")
    assert told.count("\n") == 0
