"""What `grid doctor --address` makes of what nodes tell; the live cluster is in tests/e2e/test_cluster.py."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from grid.checkup import Check, Node, authentication, judged, look
from grid.cluster.checkup import MARK, parsed
from grid.errors import BadInput
from grid.partition import CLUSTER_SETTINGS

HERE = {"python": "3.11.7", "ray": "2.60.0", "backtest-grid": "0.1.0", "numpy": "2.4.0"}
WORKER = Node(
    host="w1",
    time=1000.0,
    versions=HERE,
    missing_settings=(),
    threads="1",
    shared_memory=4_000_000_000,
    data="",
    results="",
    cpus=8.0,
    object_store=2e9,
)
HEAD = replace(WORKER, host="h", head=True, cpus=0.0, data=None, results=None)


def checks(*nodes: Node, here: dict[str, str] = HERE) -> dict[str, Check]:
    return {check.name: check for check in judged(nodes, here)}


def faults(*nodes: Node) -> dict[str, str]:
    return {name: check.found for name, check in checks(*nodes).items() if not check.ok}


def test_a_good_cluster_has_no_fault():
    assert faults(HEAD, WORKER, replace(WORKER, host="w2")) == {}
    assert checks(HEAD, WORKER)["object store"].found == "2.0 GB to 2.0 GB"


@pytest.mark.parametrize(
    ("name", "told", "change"),
    [
        ("versions", "w2: ray 2.59.0 and on the head 2.60.0", {"versions": {**HERE, "ray": "2.59.0"}}),
        ("object store", "w2: only 0.1 GB", {"object_store": 1e8}),
        (
            "object store",
            "w2: 2.0 GB of store in 0.1 GB of /dev/shm, so it lies on disk",
            {"shared_memory": 67_108_864},
        ),
        ("threads", "w2: NUMBA_NUM_THREADS is not set", {"threads": None}),
        ("threads", "w2: NUMBA_NUM_THREADS is 8", {"threads": "8"}),
        ("cut links", "w2: 8 settings missing", {"missing_settings": tuple(CLUSTER_SETTINGS)}),
        ("clocks", "w2: 40 s off", {"skew_s": 40.0}),
        ("data", "w2: access denied", {"data": "access denied"}),
        ("results", "w2: no bucket", {"results": "no bucket"}),
    ],
)
def test_each_fault_names_the_node_and_the_remedy(name: str, told: str, change: dict[str, object]):
    spoilt = replace(WORKER, host="w2", **change)
    assert faults(HEAD, WORKER, spoilt) == {name: told}
    assert len(checks(HEAD, WORKER, spoilt)[name].remedy) > 20


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"python": "3.11.2", "numpy": "2.0.0"}, None),
        ({"python": "3.12.7"}, "python 3.12 and on the nodes 3.11"),
        ({"ray": "2.59.0"}, "ray 2.59.0 and on the nodes 2.60.0"),
        ({"backtest-grid": "0.2.0"}, "backtest-grid 0.2.0 and on the nodes 0.1.0"),
    ],
)
def test_of_the_machine_that_asks_only_what_sending_needs_is_compared(change: dict[str, str], told: str | None):
    """An image has another patch of Python than one's own machine, and nothing is computed there."""
    found = checks(HEAD, WORKER, here={**HERE, **change})
    assert found["versions"].ok, "nodes are compared with each other"
    assert found["this machine"].ok is (told is None)
    assert told is None or found["this machine"].found == told


def test_faults_of_the_cluster_as_a_whole():
    assert set(faults(HEAD)) == {"nodes"}
    assert faults(replace(HEAD, cpus=4.0), WORKER) == {"head": "h: 4 CPUs for work"}
    silent = faults(replace(HEAD, silent=("w9",)), WORKER)
    assert silent == {"nodes": "1 besides the head, 8 CPUs; no answer from w9"}


def test_nodes_of_one_host_name_are_told_apart():
    """Workers on one machine, or machines that were cloned; of whose names are their own nothing more is told."""
    twins = [replace(WORKER, host="vm", id=f"{i}{'f' * 55}", threads=None) for i in "ab"]
    alone = replace(WORKER, host="w3", id="c" * 56, threads=None)
    told = "vm (node afffffffffff): NUMBA_NUM_THREADS is not set; vm (node bfffffffffff): NUMBA_NUM_THREADS is not set"
    assert faults(HEAD, *twins, alone) == {"threads": f"{told}; w3: NUMBA_NUM_THREADS is not set"}


def test_one_thread_or_many_is_the_same_on_a_node_of_one_cpu():
    assert faults(HEAD, replace(WORKER, cpus=1.0, threads=None)) == {}


def test_stores_that_were_not_tried_are_no_fault_and_said():
    untried = replace(WORKER, data=None, results=None)
    assert faults(HEAD, untried) == {}
    assert "name a store that nodes reach with --data" in checks(HEAD, untried)["data"].found


def test_a_node_looks_at_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in CLUSTER_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    node = look(str(tmp_path / "none"), str(tmp_path / "results"))
    assert set(node.missing_settings) == set(CLUSTER_SETTINGS)
    assert node.data
    assert "holds no bars" in node.data
    assert node.results == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert (look(None, None).data, look(None, None).results) == (None, None)


def test_answers_travel_as_one_line_among_others():
    line = f"{MARK}{json.dumps([asdict(HEAD), asdict(WORKER)])}"
    nodes = parsed(f"2026 INFO worker.py: connecting\n{line}\n", "http://h:8265")
    assert [node["host"] for node in nodes] == ["h", "w1"]
    with pytest.raises(BadInput, match=r"cannot run this check \(No module named grid\.cluster\.checkup\)"):
        parsed("No module named grid.cluster.checkup\n", "http://h:8265")


@contextmanager
def dashboard(code: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("code", "ok"), [(401, True), (403, True), (200, False), (404, False)])
def test_a_cluster_that_lets_everybody_in_is_a_fault(code: int, ok: bool):
    with dashboard(code) as url:
        check = authentication(url)
    assert check.ok is ok
    if code == 200:
        assert "whoever reaches it runs code" in check.found
        assert "RAY_AUTH_MODE=token" in check.remedy
