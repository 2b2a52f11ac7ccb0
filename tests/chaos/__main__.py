"""`python -m tests.chaos SEEDS [FIRST]`: play so many seeds and write docs/chaos.md."""

import os
import platform
import sys
import tempfile
import uuid
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.benchmarks.machine import processor
from tests.chaos.network import Namespaces
from tests.chaos.play import Play, Report, Stage
from tests.chaos.processes import shared_memory
from tests.chaos.schedule import KINDS, OF_LINKS, OUTCOMES, schedule
from tests.chaos.stage import CPUS, OF_A_DRIVER, stage
from tests.conftest import REPOSITORY
from tests.services.seaweed import seaweed

EVENTS = 6
MEMBERS = 2
AT_ONCE = 2
"""Seeds that are played side by side, each on a stage of its own; most of a play is waiting."""
TARGET = REPOSITORY / "docs" / "chaos.md"


def main() -> None:
    seeds, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        before = shared_memory()
        (folder := Path(name) / "seaweed").mkdir()
        with seaweed(folder) as server, ExitStack() as stages:
            for variable, value in server.environment().items():
                patch.setenv(variable, value)
            bucket = f"chaos-{uuid.uuid4().hex[:8]}"
            server.client().create_bucket(Bucket=bucket)
            made: list[Stage] = []
            while len(made) < min(AT_ONCE, seeds) and (not made or made[0].nodes.network.can_cut):
                (place := Path(name) / f"stage-{len(made)}").mkdir()
                made.append(stages.enter_context(stage(server, bucket, place, MEMBERS)))
            reports = play_all(made, range(first, first + seeds))
        left = len(shared_memory() - before)
    TARGET.write_text(page(reports, isinstance(made[0].nodes.network, Namespaces), left))
    sys.stdout.write(f"wrote {TARGET.name}\n")
    sys.exit(0 if len(reports) == seeds and all(report.clean for report in reports) and not left else 1)


def play_all(stages: list[Stage], seeds: range) -> list[Report]:
    """Each seed on the stage that is free; those that were played, where it is broken off."""
    cuts = stages[0].nodes.network.can_cut
    kinds = KINDS if cuts else tuple(kind for kind in KINDS if kind not in OF_LINKS)
    free: SimpleQueue[Stage] = SimpleQueue()
    for each in stages:
        free.put(each)

    def on_a_stage(seed: int) -> Report:
        mine = free.get()
        try:
            return play(mine, seed, kinds)
        finally:
            free.put(mine)

    with ThreadPoolExecutor(len(stages)) as pool:
        plays = [pool.submit(on_a_stage, seed) for seed in seeds]
        try:
            wait(plays, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            sys.stdout.write("broken off: the seeds that are played now are the last\n")
        pool.shutdown(cancel_futures=True)
    return [done.result() for done in plays if not done.cancelled()]


def play(made: Stage, seed: int, kinds: tuple[str, ...]) -> Report:
    report = Play(made, seed, schedule(seed, EVENTS, kinds)).run()
    faults = ", ".join(f"{kind} {count}" if count > 1 else kind for kind, count in report.faults.items())
    verdict = "the same rows" if report.clean else f"NOT CLEAN: {report}"
    sys.stdout.write(f"seed {seed}: {report.seconds:.0f} s, {report.drivers} drivers, {verdict} ({faults})\n")
    sys.stdout.flush()
    return report


def page(reports: list[Report], namespaces: bool, shared: int) -> str:
    faults: Counter[str] = sum((report.faults for report in reports), Counter())
    missed: Counter[str] = sum((report.impossible for report in reports), Counter())
    where = "network namespaces of their own, each on a link" if namespaces else "one machine's loopback, with no link"
    left = sum(len(report.left) for report in reports)
    late = EVENTS * len(reports) - faults.total() - missed.total()
    packages = ", ".join(f"{name} {version(name)}" for name in ("ray", "pyarrow", "numpy"))
    rows = [row for kind in KINDS for row in rows_of(kind, faults, missed)]
    return "\n".join(
        [
            "# Chaos",
            "",
            f"A real sweep on a real Ray of three nodes, a head without CPUs and two of {CPUS} CPUs each, of which a",
            f"driver takes at most {OF_A_DRIVER}, while a schedule of faults from a seed goes on. Bars and results are",
            "in an S3 server (SeaweedFS) behind a proxy that breaks requests. A driver that ends before the sweep is",
            "followed by another one. At the end every committed row is compared, bit for bit, with those of a sweep",
            "that nothing disturbed. `make chaos SEEDS=100` plays it and rewrites this page; a seed repeats its",
            "schedule, not the scheduling of the machine.",
            "",
            f"Played {datetime.now(UTC):%Y-%m-%d} on {processor()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, {packages}; the nodes in {where}.",
            "",
            "| what | count |",
            "|---|---|",
            f"| seeds, from {reports[0].seed} | {len(reports)} |",
            f"| rows expected | {sum(r.rows for r in reports):,} |",
            f"| rows lost | {sum(r.lost for r in reports)} |",
            f"| rows doubled | {sum(r.doubled for r in reports)} |",
            f"| rows failed that should not have | {sum(r.failed for r in reports)} |",
            f"| sweeps whose rows are not the undisturbed ones, bit for bit | {sum(not r.same for r in reports)} |",
            f"| drivers | {sum(r.drivers for r in reports)} |",
            f"| processes and temporary files left | {left} |",
            f"| objects left in shared memory | {shared} |",
            f"| seconds in all, {AT_ONCE if namespaces else 1} at a time | {sum(r.seconds for r in reports):,.0f} |",
            "",
            "Faults that did something, and those that did nothing: the victim was not there for some seconds, no",
            "request met what was to become of requests, or the second driver, which begins with `--force`, was given",
            "nothing to do, or no driver before it went on. Where it worked and committed nothing, the commit log had",
            f"all of it from the other one already. {late} more faults came too late, as the sweep was done.",
            "",
            "| fault | did something | did nothing |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def rows_of(kind: str, faults: Counter[str], missed: Counter[str]) -> list[str]:
    """The lines of a kind of fault: one, or one for each way in which it may end and one for those that did nothing."""
    if kind not in OUTCOMES:
        return [f"| {kind} | {faults[kind]} | {missed[kind]} |"]
    return [*(f"| {name} | {faults[name]} | |" for name in OUTCOMES[kind]), f"| {kind}, neither | | {missed[kind]} |"]


if __name__ == "__main__":
    main()
