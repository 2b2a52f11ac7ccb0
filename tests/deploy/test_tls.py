"""The proxy of docs/security.md: Caddy takes it, and a certificate that is wrong ends a command in one sentence."""

from pathlib import Path

import pytest

from grid import auth
from grid.dashboard import check_dashboard
from grid.errors import BadInput
from grid.jobs import job_client
from tests.deploy.tools import checked
from tests.grid.test_jobs import answering
from tests.services.caddy import documented, tls_proxy

RAY = b'{"version": "4", "ray_version": "2.60.0"}'
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own warnings are not ours to mend


def test_caddy_takes_what_is_documented(tmp_path: Path):
    (tmp_path / "Caddyfile").write_text(documented())
    checked("caddy", "adapt", "--validate", "--config", tmp_path / "Caddyfile")


def test_the_token_goes_to_a_certificate_that_is_trusted_and_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard: list[str | None] = []
    monkeypatch.setenv(auth.TOKEN, "x" * 40)
    with answering(200, RAY, heard) as dashboard, tls_proxy(tmp_path, dashboard) as proxy:
        with pytest.raises(BadInput, match=r"the certificate of \S+ is not trusted \(unable .*\): .* in SSL_CERT_FILE"):
            check_dashboard(proxy.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority))
        with pytest.raises(BadInput, match=r"not valid for '127.0.0.1'\): give the name that it is made out to"):
            check_dashboard(proxy.url.replace("localhost", "127.0.0.1"))
        assert heard == []
        check_dashboard(proxy.url)
        assert heard == [f"Bearer {'x' * 40}"]
        assert "x" * 40 not in proxy.log.read_text()


def test_rays_client_trusts_whom_we_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By itself it would ask the package certifi, and not SSL_CERT_FILE or the system."""
    with answering(200, RAY, []) as dashboard, tls_proxy(tmp_path, dashboard) as proxy:
        with pytest.raises(ConnectionError):
            job_client(proxy.url).get_version()
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.authority))
        assert job_client(proxy.url).get_version() == "4"
