"""What `grid submit` refuses before it asks the cluster: nobody listens at the address that is given here."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from grid.hints import AGAIN_VARIABLE
from grid.jobs import Job
from grid.session import Session
from tests.e2e.desk import SWEEP, Desk

SEND = ("submit", "sweep.yaml", "--address", "http://127.0.0.1:1")
BUCKET = "s3://bucket/somewhere"


def refused(desk: Desk, *told: str) -> None:
    before = desk.snapshot()
    outcome = desk.grid(*SEND)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert all(text in outcome.err for text in told), outcome.err
    assert desk.snapshot() == before


def test_a_package_that_is_too_large(desk: Desk):
    with (desk.folder / "mine.py").open("a") as module:
        module.write(f"# {'9' * 51_000_000}\n")
    data = {**SWEEP["data"], "store": BUCKET}
    desk.write_sweep(strategy="mine:Fussy", data=data, results={"store": BUCKET})
    refused(desk, "would take 51 MB along and 50 MB are allowed; the largest: mine.py (51 MB), sweep.json (0 MB).")


@pytest.mark.parametrize(("bars", "results"), [("data", BUCKET), (BUCKET, "results")])
def test_a_folder_that_only_this_machine_has(desk: Desk, bars: str, results: str):
    desk.write_sweep(data={**SWEEP["data"], "store": bars}, results={"store": results})
    refused(desk, "is a folder of this machine", "s3://BUCKET/PREFIX", "--shared-paths")


def test_otherwise_the_cluster_is_asked(desk: Desk):
    desk.write_sweep(data={**SWEEP["data"], "store": BUCKET}, results={"store": BUCKET})
    refused(desk, "http://127.0.0.1:1 cannot be reached")


def test_a_driver_is_told_what_its_user_calls_the_sweep_and_how_it_is_sent_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    """Each message of the driver is read by who sent it, and he has neither `sweep.json` nor the session's code."""
    sent: dict[str, Any] = {}

    class Cluster:
        def send(self, session_id: str, folder: Path, options: list[str], told: dict[str, str]) -> Job:
            sent.update(folder=json.loads((folder / "sweep.json").read_text()), options=options, told=told)
            return Job(session_id, session_id, "PENDING", None, "", None)

    monkeypatch.setattr("grid.cli.jobs._jobs", lambda _: Cluster())
    asked = (*SEND, "--session-id", "k1", "--shared-paths", "--set", "objective.maximize=sortino")
    assert desk.grid(*asked, "--max-runtime", "9", "--detach").code == 0
    again = sent["told"][AGAIN_VARIABLE]
    assert sent["folder"]["objective"]["maximize"] == "sortino"
    assert sent["options"] == ["--max-runtime", "9.0"]
    assert again.startswith("grid submit sweep.yaml --address http://127.0.0.1:1 --session-id k1 ")
    first, _ = dict(sent), sent.clear()
    assert desk.grid(*shlex.split(again)[1:], "--detach").code == 0, "it works as it stands"
    assert sent["folder"] == first["folder"]
    assert sent["told"] == first["told"]

    for name, text in first["told"].items():
        monkeypatch.setenv(name, text)
    (desk.folder / "sweep.yaml").rename(desk.folder / "sweep.json")
    (desk.folder / "sweep.json").write_text(json.dumps({**SWEEP, "strategy": "sma_crss"}))
    assert desk.grid("run", "sweep.json").err.startswith("error: sweep.yaml: ")
    (desk.folder / "sweep.json").write_text(json.dumps({**SWEEP, "nonsense": 1}))
    assert desk.grid("run", "sweep.json").err.startswith("error: sweep.yaml: ")
    (desk.folder / "sweep.json").write_text(json.dumps(SWEEP))
    stopped = desk.grid("run", "sweep.json", "--max-runtime", "0", "--executor", "serial")
    assert f"Next: {again}\n" in stopped.out
    assert "grid resume" not in stopped.out + stopped.err


def test_a_session_of_a_job_is_sent_again_and_not_resumed_here(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRID_JOB", "k1")
    assert desk.run("--max-runtime", "0", "-q", "--session-id", "k1").code == 3
    monkeypatch.delenv("GRID_JOB")
    assert Session.open("k1").status == "interrupted"
    for told in (desk.grid("show", "k1").out, desk.grid("watch", "k1").err):
        assert "Next: grid submit SWEEP --address http://HEAD:8265 --session-id k1\n" in told
