"""A real Prometheus, as a process of the test."""

import contextlib
import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services.programs import program

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def prometheus(folder: Path, targets: dict[str, Any]) -> Iterator[str]:
    """Its address; it scrapes `targets` (an entry of `scrape_configs`, in part) twice a second."""
    config = folder / "prometheus.yml"
    scraping = {"job_name": "sweep", "scrape_interval": "500ms", "scrape_timeout": "500ms", **targets}
    config.write_text(json.dumps({"scrape_configs": [scraping]}))  # JSON is YAML
    port = free_port()
    storage = f"--storage.tsdb.path={folder / 'tsdb'}"
    process = subprocess.Popen(
        [program("prometheus"), f"--config.file={config}", storage, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def asked(url: str, expression: str) -> list[dict[str, Any]]:
    """The result of an instant query; nothing while Prometheus is starting."""
    query = urllib.parse.urlencode({"query": expression})
    with contextlib.suppress(ConnectionError, urllib.error.URLError):
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=5) as answer:  # noqa: S310
            content = json.loads(answer.read())
        assert content["status"] == "success"
        result: list[dict[str, Any]] = content["data"]["result"]
        return result
    return []


def value_of(url: str, expression: str) -> float:
    """What an expression comes to, as soon as there is one above 0."""
    until = time.monotonic() + PATIENCE_S
    while True:
        rows = asked(url, expression)
        if rows and float(rows[0]["value"][1]) > 0:
            return float(rows[0]["value"][1])
        if time.monotonic() > until:
            with urllib.request.urlopen(f"{url}/api/v1/targets", timeout=5) as answer:  # noqa: S310
                targets = json.loads(answer.read())["data"]["activeTargets"]
            found = [f"{t['scrapeUrl']} {t['health']} {t['lastError']}" for t in targets]
            pytest.fail(f"{expression} is {rows}; the targets are {found}")
        time.sleep(0.2)
