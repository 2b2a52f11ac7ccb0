"""A cluster whose Dashboard is reached through the proxy of docs/security.md alone, a real Caddy that ends TLS."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid.session import Session
from grid.sweep import run
from tests.e2e.cluster import Cluster, running
from tests.e2e.desk import MINE, Outcome
from tests.e2e.sweeps import small
from tests.rows import digest
from tests.services.caddy import TlsProxy, tls_proxy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SEND = ("submit", "sweep.yaml", "--shared-paths", "--session-id", "by-tls", "--json", "--address")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running("--num-cpus=2") as there:
        (there.folder / "mine.py").write_text(MINE)
        yield there


@pytest.fixture(scope="module")
def proxy(cluster: Cluster) -> Iterator[TlsProxy]:
    folder = cluster.folder / "proxy"
    folder.mkdir()
    with tls_proxy(folder, cluster.url) as found:
        yield found


@pytest.fixture(scope="module")
def sweep(cluster: Cluster) -> dict[str, Any]:
    spec = small(cluster.folder / "results", strategy="mine:Fussy", space={"fast": [2, 5, 10], "slow": [20, 30]})
    spec["constraints"] = []
    (cluster.folder / "sweep.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return spec


def refused(outcome: Outcome, *told: str) -> None:
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert all(text in outcome.err for text in ("error: the certificate of ", "SSL_CERT_FILE", *told)), outcome.err


@pytest.mark.usefixtures("sweep")
def test_a_certificate_that_is_wrong_ends_the_command_and_nothing_is_sent(cluster: Cluster, proxy: TlsProxy):
    trusting = {"SSL_CERT_FILE": str(proxy.authority)}
    refused(cluster.grid(*SEND, proxy.url), "is not trusted (unable to get local issuer certificate)")
    other = proxy.url.replace("localhost", "127.0.0.1")
    refused(cluster.grid(*SEND, other, **trusting), "certificate is not valid for '127.0.0.1'")
    assert cluster.grid("ls", "--address", proxy.url, "--json", **trusting).json() == []
    wrong = cluster.folder / "wrong"
    wrong.write_text(secrets.token_hex(32))
    told = cluster.grid("ls", "--address", proxy.url, token=wrong, **trusting)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "does not accept the token" in told.err


def test_a_sweep_is_sent_and_followed_by_tls(
    cluster: Cluster, proxy: TlsProxy, sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    trusting = {"SSL_CERT_FILE": str(proxy.authority)}
    sent = cluster.grid(*SEND, proxy.url, **trusting)
    assert sent.code == 0, sent.err
    session = Session.open("by-tls", sweep["results"]["store"])
    assert session.status == "done"
    monkeypatch.syspath_prepend(str(cluster.folder))
    alone = run({**sweep, "results": {"store": str(tmp_path), "keep_best": 3}}, "serial")
    assert digest(session.trials()) == digest(alone.trials())
    listed = cluster.grid("ls", "--address", proxy.url, "--json", **trusting).json()
    assert [(job["job_id"], job["status"]) for job in listed] == [("by-tls", "done")]
    assert "12 trials on 2 datasets" in cluster.grid("logs", "by-tls", "--address", proxy.url, **trusting).out
    seen = cluster.grid("doctor", "--address", proxy.url, "--json", **trusting)
    assert {c["name"]: c["ok"] for c in seen.json()}["authentication"], seen.out
    assert cluster.token.read_text() not in proxy.log.read_text()
