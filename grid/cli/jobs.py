"""`grid submit`, `grid logs`, `grid stop`: sweeps whose driver runs on the cluster."""

import shlex
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grid.addresses import jobs_address
from grid.auth import use_token
from grid.begin import new_session_id
from grid.bounds import check_space
from grid.cli.options import JobsAddress, LogJson, TokenFile
from grid.cli.output import emit, tell
from grid.cli.run import File, Json, MaxCost, MaxRuntime, MaxTrials, NoReuse, Set, read
from grid.errors import BadInput
from grid.hints import AGAIN_VARIABLE
from grid.packaging import pack
from grid.spec import Sweep
from grid.specfile import FILE_VARIABLE
from storage.sessions import SessionFolder
from strategies.registry import get

if TYPE_CHECKING:
    from grid.jobs import Job, Jobs

JobId = Annotated[str, typer.Argument(help="A session id, or the id of one of its jobs.", metavar="ID")]


def register(app: typer.Typer) -> None:
    """Put the commands of this file into `app`."""
    app.command("submit")(submit)
    app.command("logs")(logs)
    app.command("stop")(stop)


def submit(
    file: File,
    address: JobsAddress,
    set_: Set = None,
    session_id: Annotated[
        str | None, typer.Option(help="An id for the session; one that was sent before is followed, or resumed.")
    ] = None,
    shared_paths: Annotated[
        bool, typer.Option("--shared-paths", help="The cluster sees the stores' folders under the same paths.")
    ] = False,
    max_trials: MaxTrials = None,
    max_cost: MaxCost = None,
    max_runtime: MaxRuntime = None,
    no_reuse: NoReuse = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    token_file: TokenFile = None,
    log_json: LogJson = False,
    as_json: Json = False,
) -> None:
    """Send a sweep to a cluster, and follow it.

    Its driver runs there: Ctrl-C ends the following and not the sweep. Exits as `grid run` would there.
    """
    address = jobs_address(address)
    sweep = sendable(read(file, set_, None, no_reuse), shared_paths)
    session_id = session_id or new_session_id(sweep.name)
    SessionFolder(_no_provider(), session_id)  # says what is wrong with an id
    limits = {"--max-trials": max_trials, "--max-cost": max_cost, "--max-runtime": max_runtime}
    again = ["grid", "submit", str(file), "--address", address, "--session-id", session_id]
    again += [word for text in set_ or () for word in ("--set", text)]
    again += ["--shared-paths"] if shared_paths else []
    again += ["--no-reuse"] if no_reuse else []
    again += ["--token-file", str(token_file)] if token_file else []
    told = {FILE_VARIABLE: str(file), AGAIN_VARIABLE: shlex.join(again)}
    options = [word for name, value in limits.items() if value is not None for word in (name, str(value))]
    with tempfile.TemporaryDirectory() as folder:
        pack(sweep, Path(folder))
        jobs = _jobs(address)
        job = jobs.send(session_id, Path(folder), [*options, *(["--log-json"] if log_json else [])], told)
    tell(f"session {job.session_id}, job {job.job_id}", None, job_id=job.job_id)
    if detach:
        emit(asdict(job), as_json, lambda console: console.print(job.session_id))
        tell(f"Next: grid logs {shlex.quote(job.job_id)} --address {address}")
        return
    _follow(jobs, job, address, as_json)


def logs(
    job_id: JobId,
    address: JobsAddress,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job is over; exits as it does.")] = False,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """What the driver of a job has written."""
    address = jobs_address(address)
    jobs = _jobs(address)
    job = jobs.find(job_id)
    if follow:
        _follow(jobs, job, address, as_json)
    text = jobs.log(job)
    emit({**asdict(job), "log": text.splitlines()}, as_json, lambda _: _write(text))


def _write(text: str) -> None:
    sys.stdout.write(text)


def stop(
    job_id: JobId,
    address: JobsAddress,
    token_file: TokenFile = None,  # noqa: ARG001 - its callback does the work
    as_json: Json = False,
) -> None:
    """Stop a job, so that it can be resumed.

    What is in flight is finished and committed.
    """
    address = jobs_address(address)
    jobs = _jobs(address)
    job = jobs.stop(jobs.find(job_id))
    emit(asdict(job), as_json, lambda _: tell(f"job {job.job_id} is {job.status.lower()}"))
    if not job.over:
        raise BadInput(f"job {job.job_id} did not stop in time; look at `grid logs {job.job_id} --address {address}`.")


def job_rows(address: str) -> list[dict[str, Any]]:
    """The sweeps among a cluster's jobs, for `grid ls --address`."""
    return [
        {
            "job_id": job.job_id,
            "session_id": job.session_id,
            "status": _ended(job),
            "exit_code": job.exit_code,
            "started": job.started and datetime.fromtimestamp(job.started, UTC).isoformat(timespec="seconds"),
        }
        for job in _jobs(jobs_address(address)).all()
    ]


def _ended(job: "Job") -> str:
    """How a job is or ended, by what `grid run` says with its exit code: Ray calls everything but 0 failed."""
    by_code = {0: "done", 1: "done, some trials failed", 3: "refused or over a limit", 130: "stopped"}
    return by_code.get(job.code(), "failed") if job.over else job.status.lower()


def sendable(sweep: Sweep, shared_paths: bool) -> Sweep:
    """The sweep as it means the same on the cluster. Raises BadInput for stores that only this machine has."""
    check_space(get(sweep.strategy), sweep)
    stores = {"data.store": sweep.data.store, "results.store": sweep.results.store}
    for name, uri in stores.items():
        if uri.startswith("memory:") or (_is_local(uri) and not shared_paths):
            raise BadInput(
                f"{name} {uri!r} is a folder of this machine, which the cluster does not see: put it on S3 "
                "(s3://BUCKET/PREFIX), or on a mount that all nodes have under the same path, and say --shared-paths."
            )
    data = sweep.data.model_copy(update={"store": _absolute(sweep.data.store)})
    results = sweep.results.model_copy(update={"store": _absolute(sweep.results.store)})
    return sweep.model_copy(update={"data": data, "results": results})


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")


def _absolute(uri: str) -> str:
    return str(Path(uri).expanduser().absolute()) if "://" not in uri else uri


def _no_provider() -> Any:
    from storage.providers import MemoryProvider

    return MemoryProvider()


def _jobs(address: str) -> "Jobs":
    use_token()
    from grid.jobs import Jobs

    return Jobs(address)


def _follow(jobs: "Jobs", job: "Job", address: str, as_json: bool) -> None:
    """Show the driver's output on stderr until the job is over; ends the command with the driver's exit code."""
    try:
        for text in jobs.follow(job):
            sys.stderr.write(text)
            sys.stderr.flush()
    except KeyboardInterrupt:
        at = f"{shlex.quote(job.job_id)} --address {address}"
        tell(f"the job goes on; `grid logs {at} --follow` looks again, `grid stop {at}` ends it")
        raise
    ended = jobs.find(job.job_id)
    emit({**asdict(ended), "exit_code": ended.code()}, as_json, lambda _: None)
    if ended.code() and ended.exit_code is None:
        tell(f"job {ended.job_id} is {ended.status.lower()}: {ended.message[:300]}")
    raise typer.Exit(ended.code())
