"""What commands say where a request is odd and not wrong, or would destroy something."""

import json
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from grid import methods
from grid.budget import amounts
from grid.jobs import Job
from tests.e2e.desk import Desk


def test_export_writes_over_nothing_unasked(desk: Desk):
    desk.session()
    (desk.folder / "rows.csv").write_text("mine")
    outcome = desk.grid("export", "latest", "rows.csv")
    assert (outcome.code, "--replace" in outcome.err) == (2, True)
    assert (desk.folder / "rows.csv").read_text() == "mine"
    assert desk.grid("export", "latest", "rows.csv", "--replace").code == 0
    assert (desk.folder / "rows.csv").read_text() != "mine"


def test_what_is_done_or_asked_in_vain_is_told(desk: Desk):
    random = ("--set", "search.method=random", "--set", "search.trials=99")
    assert "note: search.trials asks for 99 points and the space has 6" in desk.grid("plan", "sweep.yaml", *random).err
    desk.session()
    resumed = desk.grid("resume", "latest", "--executor", "serial")
    assert (resumed.code, "nothing is missing" in resumed.err) == (0, True)
    outcome = desk.grid("show", "latest", "--trial", "99999")
    assert (outcome.code, "numbers go from 0 to 11" in outcome.err) == (2, True)


def test_a_plan_says_how_points_are_searched(desk: Desk):
    local = ("--set", "search={method: local, trials: 6, round: 2, seed: 4}")
    assert "search  local, seed 4, 3 rounds of 2 points" in desk.grid("plan", "sweep.yaml", *local).out
    assert json.loads(desk.grid("plan", "sweep.yaml", "--json", *local).out)["rounds"] == 3
    assert "search  grid, every point" in desk.grid("plan", "sweep.yaml").out


def test_a_method_without_its_package_names_the_extra(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(methods, "version", gone)
    before = desk.snapshot()
    for method, package in [("sobol", "scipy"), ("tpe", "optuna"), ("nsga2", "optuna"), ("cmaes", "cmaes")]:
        outcome = desk.grid("run", "sweep.yaml", "--set", f"search={{method: {method}, trials: 6}}")
        assert outcome.code == 2
        assert f"search.method {method} needs the package {package}" in outcome.err
        assert "install the extra `search`" in outcome.err
        assert outcome.err.count("\n") == 1
    assert desk.snapshot() == before
    assert desk.grid("run", "sweep.yaml", "--set", "search={method: local, trials: 6}", "-q").code == 0


def test_the_front_of_several_goals(desk: Desk):
    alone = desk.session()
    outcome = desk.grid("top", alone, "--pareto")
    assert (outcome.code, "has one goal, sharpe, and no front" in outcome.err) == (2, True)
    goals = ("--set", 'objective={maximize: sharpe, beside: ["minimize max_drawdown"]}')
    assert desk.grid("run", "sweep.yaml", "--executor", "serial", "-q", *goals).code == 0
    rows = json.loads(desk.grid("top", "latest", "--pareto", "-n", "99", "--json").out)
    every = json.loads(desk.grid("top", "latest", "-n", "99", "--json").out)
    pairs = {(row["sharpe"], -row["max_drawdown"]) for row in every}
    kept = [(row["sharpe"], -row["max_drawdown"]) for row in rows]
    assert 1 < len(kept) < len(pairs)
    assert kept == sorted(p for p in pairs if not any(o != p and o[0] >= p[0] and o[1] >= p[1] for o in pairs))[::-1]
    assert desk.grid("top", "latest", "--pareto", "--points").code == 2


def test_a_broken_environment_file_is_one_sentence_and_nothing_is_done(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRID_ENV", "prod")
    (desk.folder / ".env.prod").write_text("TZ=UTC\nDATA_ROOT='data\n")
    before = desk.snapshot()
    outcome = desk.run()
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome.err
    assert f"error: {desk.folder / '.env.prod'}, line 2: this sets no variable" in outcome.err
    assert desk.snapshot() == before


def test_a_ray_that_does_not_start_leaves_a_session_that_can_be_resumed(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """Nothing that was asked for is wrong, and the session is there: it is no bad input."""
    from grid.cluster import connect

    def too_late(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could happen because ...")

    assert desk.run("--max-runtime", "0", "-q").code == 3
    (session,) = (folder.name for folder in desk.results.glob("2*"))
    monkeypatch.setattr(connect.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(connect.ray, "init", too_late)
    for command in (("resume", session), ("run", "sweep.yaml", "--session-id", session)):
        outcome = desk.grid(*command, "--executor", "ray")
        assert outcome.code == 130, outcome.err
        assert "interrupted: no Ray starts on this machine" in outcome.err
        assert f"Next: grid resume {session}\n" in outcome.err
    monkeypatch.undo()
    monkeypatch.chdir(desk.folder)
    assert desk.grid("resume", session, "--executor", "serial", "-q").code == 0


def test_small_sums_of_money_are_told_with_enough_digits(desk: Desk):
    assert amounts(0.0934, 0.001) == ["0.093", "0.001"]
    assert amounts(12.345, 3.0) == ["12.35", "3.00"]
    assert amounts(1.0012, 1.001) == ["1.0012", "1.0010"]
    assert amounts(0.0) == ["0.00"]
    assert amounts(1e-15, 1.0) == ["0.000000000000", "1.000000000000"]
    priced = ("--max-cost", "0.000000001", "--set", "cluster.price_per_cpu_hour=0.1")
    refused = desk.grid("run", "sweep.yaml", *priced)
    assert (refused.code, "--max-cost allows 0.000000001:" in refused.err) == (3, True), refused.err


def test_a_replacement_is_asked_for_in_one_sentence(desk: Desk):
    desk.own_data()
    (desk.folder / "bars.csv").write_text("timestamp,open,high,low,close,volume\n2011-01-03,1,2,1,2,9\n")
    told = ("--symbol", "IBM", "--timeframe", "1D", "--calendar", "XNYS", "--adjusted", "yes", "--tz", "UTC")
    err = desk.grid("data", "import", "bars.csv", *told).err
    ours = "already holds 2011; nothing was written, as their replacement was not asked for. --replace asks for it."
    assert (ours in err, err.count("--replace")) == (True, 1), err


def test_the_jobs_of_a_cluster_are_listed_as_they_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    ends = {0: "done", 1: "done, some trials failed", 2: "failed", 3: "refused or over a limit", 130: "stopped"}
    jobs = [Job(f"s{c}", f"s{c}", "SUCCEEDED" if c == 0 else "FAILED", c, "", 1.7e9 + 0.123) for c in ends]
    jobs += [Job("t", "t", "STOPPED", None, "", 1.7e9), Job("u", "u", "RUNNING", None, "", None)]
    monkeypatch.setattr("grid.cli.jobs._jobs", lambda _: SimpleNamespace(all=lambda: jobs))
    rows = desk.grid("ls", "--address", "http://127.0.0.1:1", "--json").json()
    assert [row["status"] for row in rows] == [*ends.values(), "stopped", "running"]
    assert (rows[0]["started"], rows[-1]["started"]) == ("2023-11-14T22:13:20+00:00", None)
