"""deploy/aws/: no wildcard where it matters, and what the roles may do is what a sweep needs and no more."""

import re
from pathlib import Path

import pytest

from tests.deploy.policies import allowed, listed, statements
from tests.deploy.tools import DEPLOY

AWS = DEPLOY / "aws"
BUCKET = "arn:aws:s3:::MY-BUCKET"
POLICIES = [p for p in sorted(AWS.rglob("*.json")) if '"Statement"' in p.read_text()]
POLICY = statements(AWS / "bucket-policy.json")
WORKER = [*statements(AWS / "iam" / "read-data.json"), *statements(AWS / "iam" / "write-results.json"), *POLICY]
TLS = {"aws:SecureTransport": "true"}


def may(action: str, path: str, **context: str) -> bool:
    """Whether a worker may do that to an object; by TLS, unless the context says otherwise."""
    return allowed(action, f"{BUCKET}/{path}", WORKER, **{**TLS, **context})


@pytest.mark.parametrize("file", POLICIES, ids=lambda path: path.name)
def test_no_wildcard_gives_more_than_a_folder(file: Path):
    for statement in statements(file):
        actions = listed(statement["Action"])
        assert not any("*" in action for action in actions), statement["Sid"]
        for resource in listed(statement.get("Resource", ())):
            if resource == "*":
                assert all(re.match(r"ec2:Describe", action) for action in actions), statement["Sid"]
            else:
                assert "*" not in resource.split("/")[0], statement["Sid"]
        if statement["Effect"] == "Allow" and "iam/" in str(file):
            assert statement.get("Principal") != "*", statement["Sid"]


def test_a_role_is_passed_to_workers_only_and_only_the_head_starts_machines():
    passed = [s for file in POLICIES for s in statements(file) if "iam:PassRole" in listed(s["Action"])]
    assert [r for s in passed for r in s["Resource"] if ":role/" in r] == [
        "arn:aws:iam::111122223333:role/backtest-grid-worker"
    ]
    starting = {f.name for f in POLICIES for s in statements(f) if "ec2:RunInstances" in listed(s["Action"])}
    assert starting == {"vm-head.json"}


def test_workers_read_bars_and_nothing_replaces_them():
    assert may("s3:GetObject", "ohlcv/BTC_KRW/1D/2024.parquet")
    assert not may("s3:PutObject", "ohlcv/BTC_KRW/1D/2024.parquet")
    assert not may("s3:DeleteObject", "ohlcv/BTC_KRW/1D/2024.parquet")
    assert not may("s3:GetObject", "somebody-elses/secret")


def test_workers_write_results_and_read_them_back_but_delete_nothing():
    """What `storage/` asks for when a session is written: PUT, GET, HEAD (which is s3:GetObject), LIST."""
    for path in ("results/s/trials/part-1.parquet", "results/s/heartbeat.json", "results/index.json"):
        assert may("s3:PutObject", path)
        assert may("s3:GetObject", path)
    assert may("s3:PutObject", "results/.probe-1", **{"s3:if-none-match": "*"})
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not may(action, "results/s/trials/part-1.parquet")
    assert not may("s3:PutObject", "elsewhere/a")


def test_what_is_committed_cannot_be_replaced_even_by_a_worker():
    for path in ("results/s/commits/0000000000.json", "results/catalog/s.json"):
        assert may("s3:PutObject", path, **{"s3:if-none-match": "*"}), "created only if absent, as the grid does"
        assert not may("s3:PutObject", path)


def test_lists_are_of_our_folders():
    for prefix, expected in {"ohlcv/": True, "results/s/": True, "ohlcv": True, "": False, "other/": False}.items():
        assert allowed("s3:ListBucket", BUCKET, WORKER, **{**TLS, "s3:prefix": prefix}) is expected, prefix


def test_nothing_goes_without_tls():
    assert not may("s3:GetObject", "ohlcv/a", **{"aws:SecureTransport": "false"})


def test_the_head_of_virtual_machines_ends_machines_of_its_cluster_only():
    head = statements(AWS / "iam" / "vm-head.json")
    machine = "arn:aws:ec2:eu-central-1:111122223333:instance/i-1"
    ours = {"aws:ResourceTag/ray-cluster-name": "backtest-grid"}
    assert allowed("ec2:TerminateInstances", machine, head, **ours)
    assert not allowed("ec2:TerminateInstances", machine, head, **{"aws:ResourceTag/ray-cluster-name": "other"})
    assert not allowed("ec2:RunInstances", "arn:aws:ec2:eu-central-1:111122223333:subnet/subnet-other", head)
    assert not allowed("s3:GetObject", f"{BUCKET}/ohlcv/a", head)


def test_the_endpoint_lets_through_what_the_roles_need():
    endpoint = statements(AWS / "s3-endpoint-policy.json")
    for statement in (s for s in WORKER if s["Effect"] == "Allow"):
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                assert allowed(action, resource, endpoint), (action, resource)
