"""Jobs without a cluster: addresses, tokens, and what is said when nobody, or somebody else, answers."""

import asyncio
import http.server
import json
import socketserver
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from grid import auth, jobs
from grid.addresses import check_cluster, explained, jobs_address
from grid.cluster.connect import check_entrance
from grid.dashboard import check_dashboard
from grid.errors import BadInput
from grid.jobs import Job, Jobs

pytestmark = pytest.mark.filterwarnings("default")  # Ray's own warnings are not ours to mend


@contextmanager
def answering(code: int, content: bytes, heard: list[str | None], elsewhere: str = "") -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            self.send_response(code)
            self.send_header("Location", elsewhere)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (auth.MODE, auth.TOKEN, auth.TOKEN_PATH):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("code", "token", "told"),
    [
        (401, None, "asks for a token: name its file with --token-file"),
        (401, "x", "does not accept the token"),
        (403, "x", "does not accept the token"),
        (404, None, r"is no Ray Dashboard \(it answers 404\)"),
        (200, None, "is no Ray Dashboard: its port is 8265"),
    ],
)
def test_who_answers_wrongly_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, code: int, token: str | None, told: str
):
    heard: list[str | None] = []
    if token:
        monkeypatch.setenv(auth.TOKEN, token)
    with answering(code, b"{}", heard) as address, pytest.raises(BadInput, match=f"{address} {told}"):
        check_dashboard(address)
    assert heard == [token and f"Bearer {token}"]


def test_a_dashboard_is_taken():
    with answering(200, b'{"ray_version": "2.60.0"}', []) as address:
        check_dashboard(address)


def test_the_token_is_not_handed_on_to_whom_an_answer_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(auth.TOKEN, "x" * 40)
    first: list[str | None] = []
    second: list[str | None] = []
    with answering(200, b'{"ray_version": "2"}', second) as other, answering(302, b"", first, other) as address:
        check_dashboard(address)
    assert (first, second) == ([f"Bearer {'x' * 40}"], [None])


def test_where_an_answer_leads_without_the_token_is_told(monkeypatch: pytest.MonkeyPatch):
    """As a proxy does that ends TLS, with those who come without."""
    monkeypatch.setenv(auth.TOKEN, "x" * 40)
    with (
        answering(401, b"", []) as other,
        answering(308, b"", [], f"{other}/api/version") as address,
        pytest.raises(BadInput, match=f"{address} sends us on to {other}, .*: give that address"),
    ):
        check_dashboard(address)


def test_nobody_there_is_told():
    with answering(200, b"", []) as address:
        pass
    with pytest.raises(BadInput, match=f"{address} cannot be reached"):
        check_dashboard(address)
    with pytest.raises(BadInput, match="cannot be reached"):
        check_cluster(address.removeprefix("http://"))
    check_cluster("auto")


def test_a_port_of_something_else_is_told():
    with (
        answering(200, b'{"ray_version": "2.60.0"}', []) as address,
        pytest.raises(BadInput, match=r"is not the port of a Ray cluster.*6379.*8265"),
    ):
        check_cluster(address.removeprefix("http://"))


@contextmanager
def greeting() -> Iterator[str]:
    """Somebody who answers the greeting of HTTP/2 as a gRPC server does, and says no more."""

    class Greet(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(33)
            self.request.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    with socketserver.TCPServer(("127.0.0.1", 0), Greet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_mode_without_a_token_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray itself would abort the process."""
    monkeypatch.setenv(auth.MODE, "token")
    monkeypatch.setattr(auth, "DEFAULT", tmp_path / "auth_token")
    with greeting() as address, pytest.raises(BadInput, match=f"{address} asks for a token.*--token-file"):
        check_entrance(address)
    (tmp_path / "auth_token").write_text("abc")
    assert auth.the_token() == "abc"
    monkeypatch.delenv(auth.MODE)
    assert auth.the_token() is None


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_a_cluster_of_the_environment_is_of_the_right_kind_too(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(BadInput, match=f"RAY_ADDRESS '{address}': .*grid submit"):
        check_entrance("auto")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("head:8265", "head"),
        ("head", "head"),
        ("auto", "HOST"),
        ("", "HOST"),
        ("ftp://head", "head"),
        ("http://head:port", "head"),
        ("http://head:70000", "head"),
        ("http://", "HOST"),
    ],
)
def test_an_address_that_is_none_for_jobs(address: str, host: str):
    with pytest.raises(BadInput, match=f"write http://{host}:8265"):
        jobs_address(address)


@pytest.mark.parametrize("address", ["auto", "", "http://", "http://:8265"])
def test_an_address_without_a_host(address: str):
    with pytest.raises(BadInput, match="write http://HOST:8265"):
        jobs_address(address)


@pytest.mark.parametrize("address", ["http://u:SECRET@head:8265", "http://head:8265/?token=SECRET", "u:SECRET@head:1"])
@pytest.mark.parametrize("take", [jobs_address, check_cluster])
def test_a_secret_in_an_address_is_refused_and_not_repeated(take: Callable[[str], object], address: str):
    with pytest.raises(BadInput, match="--token-file") as told:
        take(address)
    assert "SECRET" not in str(told.value)


def test_a_port_that_does_not_speak_http_is_told():
    with greeting() as address, pytest.raises(BadInput, match=r"does not speak HTTP.*8265.*6379"):
        check_dashboard(f"http://{address}")


def test_an_address_of_jobs_is_none_of_a_cluster():
    with pytest.raises(ValueError, match="grid submit"):
        explained("http://head:8265")
    assert explained("head:6379") == "head:6379"
    assert jobs_address("http://head:8265/") == "http://head:8265"


def test_a_token_turns_the_mode_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auth.os, "environ", environ := {})
    auth.use_token()
    assert environ == {}
    file = tmp_path / "token"
    file.write_text("abc\n")
    auth.use_token(file)
    assert environ == {"RAY_AUTH_TOKEN_PATH": str(file), "RAY_AUTH_MODE": "token"}
    assert auth.the_token() == "abc"
    monkeypatch.setattr(auth.os, "environ", environ := {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"})
    auth.use_token()
    assert environ["RAY_AUTH_MODE"] == "disabled"  # who says so means it


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), (b"", "is empty"), (b"\xff", "it is no text")])
def test_a_token_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, told: str):
    monkeypatch.setattr(auth.os, "environ", {})
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadInput, match=f"the token file {file} .*{told}"):
        auth.use_token(file)


def test_blanks_around_a_token_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch):
    """`export RAY_AUTH_TOKEN="$(cat token; echo)"`, or an entry in a secret that ends in a new line."""
    monkeypatch.setattr(auth.os, "environ", environ := {"RAY_AUTH_TOKEN": " abc\r\n"})
    heard: list[str | None] = []
    with answering(200, b'{"ray_version": "2.60.0"}', heard) as address:
        check_dashboard(address)
    assert heard == ["Bearer abc"]
    auth.use_token()
    assert environ == {"RAY_AUTH_TOKEN": "abc", "RAY_AUTH_MODE": "token"}


@pytest.mark.parametrize("token", ["SECRET\nSECRET", "SECRET SECRET", "SECRET\x00", "SECRET\u20ac", "SECRET\x7f"])
def test_a_token_that_is_none_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str):
    monkeypatch.setattr(auth.os, "environ", {"RAY_AUTH_TOKEN": token})
    (tmp_path / "token").write_text(token, "utf-8")
    for ask in (lambda: check_dashboard("http://127.0.0.1:1"), lambda: auth.use_token(tmp_path / "token")):
        with pytest.raises(BadInput, match=r"(RAY_AUTH_TOKEN|token) holds no token: one is a single word") as raised:
            ask()
        assert "SECRET" not in str(raised.value)


def test_an_error_that_may_repeat_the_token_is_not_repeated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("grid.dashboard.the_token", lambda: "SECRET\n")
    with answering(200, b"", []) as address, pytest.raises(BadInput, match="cannot be reached") as raised:
        check_dashboard(address)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "exit_code", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 3, 3),
        ("FAILED", 130, 130),
        ("FAILED", None, 2),
        ("FAILED", -9, 2),
        ("STOPPED", None, 130),
    ],
)
def test_the_exit_code_is_the_drivers(status: str, exit_code: int | None, code: int):
    assert Job("j", "s", status, exit_code, "", None).code() == code


class Forgetful:
    """A cluster that takes a job in and loses its answer on the way back, or has one of the same id already."""

    def __init__(self, answers: list[Exception | None], takes_in: bool) -> None:
        self.answers, self.takes_in = answers, takes_in
        self.jobs: list[SimpleNamespace] = []
        self.variables: dict[str, str] = {}
        self.asked: dict[str, object] = {}

    def get_job_logs(self, _: str) -> str:
        return ""

    def list_jobs(self) -> list[SimpleNamespace]:
        return self.jobs

    def submit_job(
        self, submission_id: str, metadata: dict[str, str], runtime_env: dict[str, Any], **asked: object
    ) -> None:
        self.variables, self.asked = runtime_env["env_vars"], asked
        if self.takes_in:
            details = {"driver_exit_code": None, "message": None, "start_time": len(self.jobs)}
            self.jobs.append(
                SimpleNamespace(submission_id=submission_id, metadata=metadata, status="RUNNING", **details)
            )
        if answer := self.answers.pop(0):
            raise answer


@contextmanager
def jobs_of(
    cluster: Forgetful, monkeypatch: pytest.MonkeyPatch, nodes: Sequence[dict[str, object]] = ()
) -> Iterator[Jobs]:
    monkeypatch.setattr("grid.jobs.job_client", lambda _: cluster)
    answer = {"ray_version": "2.60.0", "data": {"result": {"result": nodes}}}
    with answering(200, json.dumps(answer).encode(), []) as address:
        yield Jobs(address)


def node(kind: str | None = None, head: bool = False) -> dict[str, object]:
    labels = {"ray.io/node-group": "a"}
    return {"is_head_node": head, "labels": labels if kind is None else {**labels, "ray.io/market-type": kind}}


@pytest.mark.parametrize(
    ("nodes", "selector"),
    [
        ([], None),
        ([node(), node("spot")], None),
        ([node("on-demand", head=True), node("spot")], None),
        ([node("spot"), node("on-demand")], {"ray.io/market-type": "on-demand"}),
    ],
)
def test_a_driver_is_placed_on_a_node_that_stays_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, object]], selector: object
):
    cluster = Forgetful([None], takes_in=True)
    with jobs_of(cluster, monkeypatch, nodes) as jobs:
        jobs.send("s1", tmp_path, [])
    assert cluster.asked["entrypoint_label_selector"] == selector
    assert 0 < float(str(cluster.asked["entrypoint_num_cpus"])) < 1, "a head without CPUs is no place for it"


def test_a_cluster_that_does_not_say_its_nodes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cluster = Forgetful([None], takes_in=True)
    monkeypatch.setattr("grid.jobs.job_client", lambda _: cluster)
    with (
        answering(200, b'{"ray_version": "2.60.0"}', []) as address,
        pytest.raises(BadInput, match=f"{address} did not answer as a Ray cluster does"),
    ):
        Jobs(address).send("s1", tmp_path, [])
    assert cluster.asked == {}


def test_a_job_whose_answer_was_lost_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cluster = Forgetful([RuntimeError("HTTP 500: submission id s1 exists already")], takes_in=True)
    with jobs_of(cluster, monkeypatch) as jobs:
        assert jobs.send("s1", tmp_path, []).job_id == "s1"
        assert jobs.send("s1", tmp_path, []).job_id == "s1"
        cluster.jobs[0].status = "STOPPED"
        cluster.answers = [None]
        assert jobs.send("s1", tmp_path, []).job_id == "s1.2"


def test_a_session_that_runs_another_sweep_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with jobs_of(Forgetful([None], takes_in=True), monkeypatch) as jobs:
        (tmp_path / "sweep.json").write_text("{}")
        first = jobs.send("s1", tmp_path, [])
        assert jobs.send("s1", tmp_path, []) == first
        (tmp_path / "sweep.json").write_text('{"fee": 1}')
        with pytest.raises(BadInput, match=r"job s1 is running session s1 with another sweep.*grid stop s1"):
            jobs.send("s1", tmp_path, [])


def test_the_driver_has_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cluster = Forgetful([None], takes_in=True)
    with jobs_of(cluster, monkeypatch) as jobs:
        jobs.send("s1", tmp_path, [], {"GRID_SWEEP_FILE": "mine.yaml"})
    assert (cluster.variables["GRID_SWEEP_FILE"], cluster.variables["GRID_JOB"]) == ("mine.yaml", "s1")


def test_a_job_that_was_not_taken_in_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cluster = Forgetful([RuntimeError("No available agent to submit job")], takes_in=False)
    with jobs_of(cluster, monkeypatch) as jobs, pytest.raises(BadInput, match="No available agent"):
        jobs.send("s1", tmp_path, [])


LINES = ["one\n", "two\n", "three\n", "four\n", "five\n"]


class Tailed:
    """A client whose tails go as they are told: how many lines each sends, and how it ends."""

    def __init__(self, *tails: tuple[int, str]) -> None:
        self.tails, self.left, self.asked, self.over = tails, list(tails), 0, False

    async def tail_job_logs(self, _: str) -> AsyncIterator[str]:
        lines, then = self.left.pop(0)
        for line in LINES[:lines]:
            yield line
        if then == "breaks":
            raise aiohttp.ServerDisconnectedError
        while then == "hangs":
            await asyncio.sleep(10)
        self.over = not self.left

    def list_jobs(self) -> list[SimpleNamespace]:
        if not self.left and self.tails[-1][1] == "hangs":
            self.over = True
        status = "SUCCEEDED" if self.over else "RUNNING"
        about = {"submission_id": "s1", "metadata": {"session_id": "s1"}, "status": status, "message": ""}
        return [SimpleNamespace(**about, driver_exit_code=0, start_time=1)]

    def get_job_logs(self, _: str) -> str:
        self.asked += 1
        return "".join(LINES)


@pytest.mark.parametrize(
    "tails",
    [
        [(5, "ends")],
        [(2, "breaks"), (0, "breaks"), (4, "breaks"), (5, "ends")],
        [(4, "ends"), (1, "ends")],
        [(2, "breaks"), (3, "hangs")],
        [(0, "ends")],
    ],
)
def test_what_is_followed_is_tailed_and_told_once(
    tails: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    monkeypatch.setattr(jobs, "QUIET_S", 0.05)
    client, here = Tailed(*tails), Jobs.__new__(Jobs)
    here._address, here._client = "http://far", client  # type: ignore[assignment]
    told = list(here.follow(here.find("s1")))
    assert "".join(told) == "".join(LINES)
    assert client.left == []
    assert client.asked == 1, "the whole log once, at the end"
    assert all(told)


def test_a_cluster_that_is_silent_for_long_ends_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    monkeypatch.setattr(jobs, "LOST_S", 0.1)
    client, here = Tailed(*[(1, "breaks")] * 1000), Jobs.__new__(Jobs)
    here._address, here._client = "http://far", client  # type: ignore[assignment]
    job = here.find("s1")

    def silent() -> None:
        raise ConnectionError("no route to host")

    client.list_jobs = silent  # type: ignore[assignment,method-assign]
    with pytest.raises(BadInput, match=r"http://far did not answer as a Ray cluster does \(no route to host\)"):
        list(here.follow(job))


def test_where_no_tail_comes_through_the_output_comes_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind a proxy that passes no WebSocket: the cluster answers, so it is not given up."""
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    monkeypatch.setattr(jobs, "LOST_S", 0.0)
    client, here = Tailed(*[(0, "breaks")] * 20, (0, "ends")), Jobs.__new__(Jobs)
    here._address, here._client = "http://far", client  # type: ignore[assignment]
    assert list(here.follow(here.find("s1"))) == ["".join(LINES)]
    assert caplog.text.count("the driver's output is held up") == 1


def test_what_ray_says_about_starting_a_driver_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rays = "2026-11-24 20:51:07,123\tINFO job_manager.py:568 -- Runtime env is setting up.\n"
    lines = [rays, "session s1\n", "50 %\n", rays, "end"]
    monkeypatch.setattr(f"{__name__}.LINES", lines)
    monkeypatch.setattr(jobs, "POLL_S", 0.01)
    here = Jobs.__new__(Jobs)
    here._address, here._client = "http://far", Tailed((3, "breaks"), (4, "ends"))  # type: ignore[assignment]
    assert "".join(here.follow(here.find("s1"))) == "session s1\n50 %\nend"
    assert here.log(here.find("s1")) == "session s1\n50 %\nend"
