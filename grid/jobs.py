"""Sweeps as Ray jobs: the driver runs on the cluster, and whoever sent it may go away. Imports Ray, as `cluster` does.

A job runs `grid run` for a session id that is chosen before it is sent. So sending it again finds the job that is
there, and sending it after that one has ended makes another job, which resumes the session.
"""

import contextlib
import hashlib
import json
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from grid.dashboard import answer, check_dashboard
from grid.errors import BadInput
from grid.heartbeat import JOB_VARIABLE
from grid.packaging import SWEEP_FILE
from grid.tail import Tail

log = logging.getLogger(__name__)

POLL_S = 1.0
QUIET_S = 5.0
"""While a job that is followed says nothing for so long, it is asked whether it is over."""
LOST_S = 60.0
"""How long the cluster may be silent while a job is followed."""
END_S = 20.0
"""How long it may keep back the last output of one that is over: its node may be gone."""
STOP_WAIT_S = 90
"""How long a driver that was asked to stop may finish and commit what is in flight."""
DRIVER_CPUS = 0.1
"""What a driver asks for, so that it is placed where work is done. No worker takes the rest of that CPU, which leaves
room for the drivers of others.
"""
STEADY = {"ray.io/market-type": "on-demand"}
"""Ray's label of nodes that nobody takes away: a driver is placed on one of them where there are any."""
STOPPED, NO_CODE = 130, 2
_SESSION, _SWEEP = "session_id", "sweep_sha256"
_RAYS_OWN = re.compile(r"^\S+ \S+\s+INFO job_(?:manager|supervisor)\.py:\d+ -- .*\n?", re.MULTILINE)
_NODES = "/api/v0/nodes?limit=10000&filter_keys=state&filter_predicates=%3D&filter_values=ALIVE"
_TALKATIVE = ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")


@dataclass(frozen=True)
class Job:
    """One Ray job of a session.

    exit_code: the driver's own, None while it runs or when it never ran. sweep: sha256 of the files it took along.
    """

    job_id: str
    session_id: str
    status: str
    exit_code: int | None
    message: str
    started: float | None
    sweep: str | None = None

    @property
    def over(self) -> bool:
        return JobStatus(self.status).is_terminal()

    def code(self) -> int:
        """What a command that followed the job exits with."""
        if self.status == JobStatus.SUCCEEDED:
            return 0
        if self.status == JobStatus.STOPPED:
            return STOPPED
        return NO_CODE if self.exit_code is None or self.exit_code < 0 else self.exit_code


class Jobs:
    """The sweeps among the jobs of one cluster."""

    def __init__(self, address: str) -> None:
        """Raises BadInput, in one sentence, for a cluster that is not there or does not let us in."""
        check_dashboard(address)
        self._address = address
        self._client = self._asked(lambda: job_client(address))

    def send(self, session_id: str, folder: Path, options: list[str], told: Mapping[str, str] | None = None) -> Job:
        """Run the packed sweep in `folder` as that session; the job that does so already, if there is one.

        told: variables for the driver's messages, which say how its user calls what was sent. Raises
        BadInput where the session's job is running another sweep.
        """
        before, sweep = self._of(session_id), _digest(folder)
        if alive := [job for job in before if not job.over]:
            return self._same(alive[-1], sweep)
        job_id = session_id if not before else f"{session_id}.{len(before) + 1}"
        try:
            metadata = {_SESSION: session_id, _SWEEP: sweep, "sent_by": "backtest-grid"}
            request = _request(job_id, metadata, folder, options, told or {})
            steady = STEADY if self._has_steady_nodes() else None
            self._asked(lambda: self._client.submit_job(**request, entrypoint_label_selector=steady))
        except BadInput:
            if alive := [job for job in self._of(session_id) if not job.over]:
                return self._same(alive[-1], sweep)  # the answer was lost on its way, or somebody else was faster
            raise
        return self.find(job_id)

    def _same(self, job: Job, sweep: str) -> Job:
        if job.sweep != sweep:
            raise BadInput(
                f"job {job.job_id} is running session {job.session_id} with another sweep or another strategy: end it "
                f"with `grid stop {job.job_id} --address {self._address}`, or send this one under another --session-id."
            )
        return job

    def _has_steady_nodes(self) -> bool:
        """Whether some node besides the head says that nobody takes it away."""
        nodes = self._asked(lambda: json.loads(answer(self._address, _NODES))["data"]["result"]["result"])
        return any(STEADY.items() <= node["labels"].items() for node in nodes if not node["is_head_node"])

    def _of(self, session_id: str) -> list[Job]:
        return [job for job in self.all() if job.session_id == session_id]

    def all(self) -> list[Job]:
        """Every sweep that the cluster knows of, the oldest first."""
        details = self._asked(self._client.list_jobs)
        jobs = [_job(d) for d in details if _SESSION in (d.metadata or {})]
        return sorted(jobs, key=lambda job: job.started or 0.0)

    def find(self, some_id: str) -> Job:
        """The job of that id, or the latest one of that session. Raises BadInput."""
        jobs = self.all()
        exact = [job for job in jobs if job.job_id == some_id]
        found = [job for job in jobs if job.session_id == some_id] or exact
        if not found:
            raise BadInput(
                f"{self._address} knows no job or session {some_id!r}; `grid ls --address {self._address}` lists them."
            )
        return exact[0] if exact and exact[0].session_id != some_id else found[-1]

    def log(self, job: Job) -> str:
        """What the driver has written so far, without what Ray says about starting it."""
        return _RAYS_OWN.sub("", self._output(job))

    def _output(self, job: Job) -> str:
        return str(self._asked(lambda: self._client.get_job_logs(job.job_id)))

    def follow(self, job: Job) -> Iterator[str]:
        """The driver's output as it grows, until the job is over.

        It is sent once, and again from its beginning when the connection is lost. What the last one did not send is
        read at the end: a tail ends in the same way when its node is gone.
        """
        seen, heard, over, told = 0, time.monotonic(), job.over, False
        while not over:
            try:
                for text in self._tailed(job, seen):
                    seen, heard = seen + len(text), time.monotonic()
                    if shown := _RAYS_OWN.sub("", text):
                        yield shown
            except BadInput as error:
                if not told:
                    log.warning("the driver's output is held up: %s", error)
                told = True
            try:
                over, heard = self.find(job.job_id).over, time.monotonic()
            except BadInput:
                if time.monotonic() - heard > LOST_S:
                    raise
            if not over:
                time.sleep(POLL_S)
        if shown := _RAYS_OWN.sub("", self._rest(job, seen)):
            yield shown

    def _tailed(self, job: Job, seen: int) -> Iterator[str]:
        """What one connection sends after the first `seen` characters, and "" where it is quiet and the job runs."""
        passed = 0
        with contextlib.closing(Tail(self._client.tail_job_logs(job.job_id))) as tail:
            while (text := self._asked(lambda: tail.more(QUIET_S))) is not None:
                passed += len(text)
                if passed > seen:
                    yield text[-(passed - seen) :]
                    seen = passed
                elif not text:
                    if self.find(job.job_id).over:
                        return
                    yield ""

    def _rest(self, job: Job, seen: int) -> str:
        """The output of a job that is over, after the first `seen` characters."""
        until = time.monotonic() + END_S
        while True:
            try:
                return self._output(job)[seen:]
            except BadInput as error:
                if time.monotonic() > until:
                    log.warning("the end of the driver's output cannot be read: %s", error)
                    return ""
                time.sleep(POLL_S)

    def stop(self, job: Job) -> Job:
        """Ask the driver to finish what is in flight, and wait until the job is over."""
        if not job.over:
            self._asked(lambda: self._client.stop_job(job.job_id))
        until = time.monotonic() + STOP_WAIT_S + 10
        while not (now := self.find(job.job_id)).over and time.monotonic() < until:
            time.sleep(POLL_S)
        return now

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """The cluster's answer; what goes wrong on the way is one sentence."""
        try:
            with _quiet():
                return ask()
        except (ConnectionError, RuntimeError, OSError, ValueError, LookupError, TypeError) as error:
            raise BadInput(f"{self._address} did not answer as a Ray cluster does ({_gist(error)}).") from error


def _gist(error: Exception) -> str:
    """What went wrong, without the cluster's own traceback: the last line of one says it."""
    said, _, trace = str(error).partition("Traceback (most recent call last):")
    last = [line.strip() for line in trace.splitlines() if line.strip()][-1:]
    return " ".join(" ".join([said, *last]).split())[:300].rstrip(". ")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's own words about packages and connections off the terminal."""
    levels = {name: logging.getLogger(name).level for name in _TALKATIVE}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def job_client(address: str) -> JobSubmissionClient:
    """Ray's client for jobs. It trusts the authorities that Python does: SSL_CERT_FILE, or those of the system."""
    trusted = ssl.get_default_verify_paths()
    return JobSubmissionClient(address, verify=trusted.cafile or trusted.capath or True)


def _request(
    job_id: str, metadata: dict[str, str], folder: Path, options: list[str], told: Mapping[str, str]
) -> dict[str, Any]:
    """What Ray is asked to run, and where."""
    python = ["python", "-m", "grid", "run", SWEEP_FILE, "--session-id", metadata[_SESSION], "--address", "auto"]
    variables = {
        JOB_VARIABLE: job_id,
        "GRID_DRIVER_CPUS": str(DRIVER_CPUS),
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
        **told,
    }
    return {
        "entrypoint": " ".join(["exec", *python, *options]),
        "submission_id": job_id,
        "runtime_env": {"working_dir": str(folder), "env_vars": variables},
        "metadata": metadata,
        "entrypoint_num_cpus": DRIVER_CPUS,
    }


def _job(details: JobDetails) -> Job:
    return Job(
        job_id=details.submission_id or "",
        session_id=(details.metadata or {})[_SESSION],
        status=JobStatus(details.status).value,
        exit_code=details.driver_exit_code,
        message=" ".join((details.message or "").split()),
        started=None if details.start_time is None else details.start_time / 1000,
        sweep=(details.metadata or {}).get(_SWEEP),
    )


def _digest(folder: Path) -> str:
    """sha256 of the files below a folder, and of their names."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    return found.hexdigest()
