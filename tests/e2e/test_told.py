"""What commands say where a request is odd and not wrong, or would destroy something."""

import json
from importlib.metadata import PackageNotFoundError

import pytest

from grid import methods
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
