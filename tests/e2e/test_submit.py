"""What `grid submit` refuses before it asks the cluster: nobody listens at the address that is given here."""

import pytest

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
