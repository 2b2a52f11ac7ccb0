"""Every node of a cluster asked at once: sent as a Ray job, which asks each node by a task that is pinned to it."""

import json
import shlex
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import ray
from ray.job_submission import JobStatus
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from grid.checkup import Node, called, look
from grid.dashboard import check_dashboard
from grid.errors import BadInput
from grid.jobs import job_client

MARK = "grid: "
PATIENCE_S = 180.0
NODE_S = 60.0
POLL_S = 0.5
NOT_TRIED = "-"


def ask(address: str, data: str | None, results: str | None) -> list[Node]:
    """What every node of the cluster behind that Dashboard says of itself.

    Raises BadInput for a cluster that is not there, does not let us in, or cannot run this package.
    """
    answer = answer_of(address, "grid.cluster.checkup", data or NOT_TRIED, results or NOT_TRIED)
    return [Node(**node) for node in answer]


def answer_of(address: str, module: str, *words: str) -> Any:
    """What a module says (`say`) that is run as a job on the cluster behind that Dashboard; raises as `ask` does."""
    check_dashboard(address)
    try:
        told = _run(address, f"exec {shlex.join(['python', '-m', module, *words])}")
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        gist = " ".join(str(error).split())[:300]
        raise BadInput(f"{address} did not answer as a Ray cluster does ({gist}).") from error
    return parsed(told, address)


def say(answer: Any) -> None:
    """Write the line that `answer_of` looks for."""
    sys.stdout.write(f"{MARK}{json.dumps(answer)}\n")


def _run(address: str, entrypoint: str) -> str:
    """What a job of that command wrote; nothing of it is left behind."""
    client, job = job_client(address), f"check-{uuid.uuid4().hex[:12]}"
    client.submit_job(entrypoint=entrypoint, submission_id=job, metadata={"sent_by": "backtest-grid"})
    until = time.monotonic() + PATIENCE_S
    while not JobStatus(client.get_job_status(job)).is_terminal():
        if time.monotonic() > until:
            client.stop_job(job)
            raise BadInput(f"{address} did not run the check in {PATIENCE_S:.0f} s; look at `ray status` on its head.")
        time.sleep(POLL_S)
    told: str = client.get_job_logs(job)
    client.delete_job(job)
    return told


def parsed(told: str, address: str) -> Any:
    """The answer in what the job wrote. Raises BadInput where it wrote none."""
    answers = [line.removeprefix(MARK) for line in told.splitlines() if line.startswith(MARK)]
    if not answers:
        last = " ".join(told.split())[-300:]
        raise BadInput(
            f"the head of {address} cannot run this check ({last}): `python` on the path of its processes must have "
            "this version of backtest-grid."
        )
    return json.loads(answers[-1])


def nodes(data: str | None, results: str | None) -> list[Node]:
    """The nodes of the cluster that this process is connected to; those with CPUs try the stores too."""
    there = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    began = time.time()
    looking = ray.remote(num_cpus=0, max_retries=0)(look)
    calls = {}
    for node in there:
        works = node["Resources"].get("CPU", 0) > 0
        pinned = looking.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        calls[pinned.remote(*((data, results) if works else (None, None)))] = node
    done, late = ray.wait(list(calls), num_returns=len(calls), timeout=NODE_S)
    answered = [(calls[ref], _answer(ref)) for ref in done]
    ended = time.time()
    known = [(node["NodeManagerHostname"], node["NodeID"]) for node in there]
    names = {node_id: name for (_, node_id), name in zip(known, called(known), strict=True)}
    silent = [names[calls[ref]["NodeID"]] for ref in late]
    silent += [names[node["NodeID"]] for node, answer in answered if answer is None]
    return [_with(node, answer, (began, ended), silent) for node, answer in answered if answer is not None]


def _answer(ref: Any) -> Node | None:
    """None for a node that was lost meanwhile."""
    try:
        answer: Node = ray.get(ref)
    except ray.exceptions.RayError:
        return None
    return answer


def _with(node: dict[str, Any], answer: Node, asked: tuple[float, float], silent: Sequence[str]) -> Node:
    """The answer with what Ray says of the node. Its clock is off by what lies outside of the time it was asked in."""
    resources, head = node["Resources"], "node:__internal_head__" in node["Resources"]
    return replace(
        answer,
        head=head,
        cpus=resources.get("CPU", 0.0),
        object_store=resources.get("object_store_memory", 0.0),
        id=node["NodeID"],
        skew_s=max(asked[0] - answer.time, answer.time - asked[1], 0.0),
        silent=tuple(silent) if head else (),
    )


def main(data: str, results: str) -> None:
    """What the job runs: one line for `parsed`."""
    ray.init(address="auto", log_to_driver=False)
    found = nodes(*(None if uri == NOT_TRIED else uri for uri in (data, results)))
    say([asdict(node) for node in found])


if __name__ == "__main__":
    main(*sys.argv[1:])
