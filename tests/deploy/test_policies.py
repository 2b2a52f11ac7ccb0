"""deploy/aws/: no wildcard where it matters, and what the roles may do is what a sweep needs and no more."""

import json
import random
import re
from pathlib import Path

import pytest
from aiohttp import web

import grid
from storage.errors import StorageError
from storage.providers import provider_for
from tests.conftest import REPOSITORY
from tests.deploy.policies import allowed, listed, statements
from tests.deploy.tools import DEPLOY
from tests.e2e.sweeps import small
from tests.services.fault_proxy import Fault, fault_proxy
from tests.services.seaweed import Seaweed

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


def test_the_head_may_start_spot_machines():
    """Which AWS takes for requests of their own."""
    head = statements(AWS / "iam" / "vm-head.json")
    for kind in ("instance", "volume", "network-interface", "spot-instances-request"):
        assert allowed("ec2:RunInstances", f"arn:aws:ec2:eu-central-1:111122223333:{kind}/x-1", head), kind


def test_the_budget_is_what_aws_calls_one_and_tells_somebody():
    from botocore.session import Session
    from botocore.validate import ParamValidator

    notices = json.loads((AWS / "budget-notifications.json").read_text())
    asked = {"AccountId": "111122223333", "Budget": json.loads((AWS / "budget.json").read_text())}
    shape = Session().get_service_model("budgets").operation_model("CreateBudget").input_shape
    report = ParamValidator().validate({**asked, "NotificationsWithSubscribers": notices}, shape)
    assert not report.has_errors(), report.generate_report()
    assert all(notice["Subscribers"] for notice in notices)
    text = (DEPLOY / "README.md").read_text()
    assert "--notifications-with-subscribers file://deploy/aws/budget-notifications.json" in text
    (tag,) = asked["Budget"]["CostFilters"]["TagKeyValue"]
    key, value = tag.removeprefix("user:").split("$")
    assert f"TagKey={key},Status=Active" in text, "a budget does not count by a tag that is not active"
    assert f"{{Key: {key}, Value: {value}}}" in (DEPLOY / "vm" / "aws.yaml").read_text()


def test_the_endpoint_lets_through_what_the_roles_need():
    endpoint = statements(AWS / "s3-endpoint-policy.json")
    for statement in (s for s in WORKER if s["Effect"] == "Allow"):
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                assert allowed(action, resource, endpoint), (action, resource)


def test_the_threat_model_says_what_these_roles_leave_open():
    """Nothing stops a worker that writes over a part, nor a strategy on the head that uses the head's role."""
    text = (REPOSITORY / "docs" / "security.md").read_text()
    assert may("s3:PutObject", "results/s/trials/part-1.parquet")
    assert "write over a part, an index or a heartbeat" in text
    head = {action for s in statements(AWS / "iam" / "vm-head.json") for action in listed(s["Action"])}
    assert {"ec2:RunInstances", "iam:PassRole"} <= head
    assert "the role that starts machines and gives them the worker's role" in text
    assert "the account that makes pods in the namespace" in text


def test_the_endpoint_lets_nodes_of_eks_pull_images_and_reaches_nothing_else():
    """Layers of ECR lie in a bucket of AWS, which is behind the same endpoint."""
    endpoint = statements(AWS / "s3-endpoint-policy.json")
    layers = "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/a"
    assert allowed("s3:GetObject", layers, endpoint)
    assert not allowed("s3:PutObject", layers, endpoint)
    assert not allowed("s3:PutObject", "arn:aws:s3:::somebody-elses/results/a", endpoint)


class Iam(Fault):
    """Refuses what the worker's policies do not allow, as AWS would; `refused` remembers it."""

    def __init__(self) -> None:
        super().__init__(action="status", status=403, code="AccessDenied")
        self.refused: list[tuple[str, str]] = []

    def takes(self, request: web.Request, chance: random.Random) -> bool:  # noqa: ARG002 - the proxy's signature
        _, _, key = request.path.lstrip("/").partition("/")
        context = dict(TLS)
        if request.method == "GET" and "list-type" in request.query:
            action, resource = "s3:ListBucket", BUCKET
            context["s3:prefix"] = request.query.get("prefix", "")
        else:
            verbs = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
            action, resource = f"s3:{verbs[request.method]}", f"{BUCKET}/{key}"
        if "If-None-Match" in request.headers:
            context["s3:if-none-match"] = request.headers["If-None-Match"]
        if allowed(action, resource, WORKER, **context):
            return False
        self.refused.append((action, key))
        return True


@pytest.mark.s3
def test_a_sweep_runs_with_these_rights_and_no_others(s3: Seaweed, bucket: str, tmp_path: Path):
    """The policies stand between a real store and the grid; only the deletion of its own probe is refused."""
    for file in sorted((REPOSITORY / "data").glob("*/1D/*.parquet")):
        name = file.relative_to(REPOSITORY / "data")
        if name.parts[0] in ("AAPL", "IBM"):
            s3.client().put_object(Bucket=bucket, Key=f"ohlcv/{name}", Body=file.read_bytes())
    iam = Iam()
    with fault_proxy(s3.url) as proxy:
        proxy.faults = [iam]
        stores = [f"s3://{bucket}/{part}?endpoint_url={proxy.url}" for part in ("ohlcv", "results")]
        sweep = small(Path(stores[1]))
        sweep |= {"data": {**sweep["data"], "store": stores[0]}, "results": {"store": stores[1], "keep_best": 3}}
        session = grid.run(sweep, executor="serial")
        rows = session.trials()
        assert session.status == "done"
        assert grid.Session.open(session.id, stores[1]).trials().equals(rows)
        assert {(action, key.rpartition("/")[2][:7]) for action, key in iam.refused} <= {("s3:DeleteObject", ".probe-")}
        assert iam.refused, "nothing was refused, so nothing was checked"
        with pytest.raises(StorageError, match="right"):
            provider_for(stores[0]).write("AAPL/1D/2024.parquet", b"forged")
        with pytest.raises(StorageError, match="right"):
            provider_for(stores[1]).write(f"{session.id}/commits/0000000000.json", b"{}")
        with pytest.raises(StorageError, match="right"):
            provider_for(stores[1]).delete("index.json")
    assert rows.equals(grid.run(small(tmp_path / "alone"), executor="serial").trials())
