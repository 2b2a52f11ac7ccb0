"""The statistics against the reference cases in ../shared/golden, whose conventions and tolerances are stated there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid.validation import sharpe as skill
from grid.validation.cscv import Cscv, cscv
from grid.validation.multiple import benjamini_hochberg, holm
from grid.validation.reality import long_run_variance, reality_check
from grid.validation.splits import Folds, Split, Walk, combinatorial, paths, walk_forward
from tests.goldens import Floats, case_bars, golden
from tests.grid.validation.made_moments import moments_of

pytestmark = pytest.mark.shared
CLOSED = 1e-9


def returns_of(shared: Path, entry: dict[str, Any]) -> Floats:
    """The matrix of a case: one of two seeded recipes, or twelve averages on bitcoin."""
    if "seed42" in entry["id"]:
        return np.random.default_rng(42).standard_normal((800, 20)) * 0.01
    if "seed7" in entry["id"]:
        made = np.random.default_rng(7).standard_normal((640, 10)) * 0.01
        made[:, 3] += 0.0015
        return made
    close = case_bars(shared, entry["input"]).close
    change = close[1:] / close[:-1] - 1
    columns = []
    for fast, slow in entry["input"]["columns_fast_slow"]:
        held = averages(close, fast)[:-1] > averages(close, slow)[:-1]
        columns.append(np.concatenate(([0.0], change * held)))
    return np.stack(columns, axis=1)[150:1750]


def averages(close: Floats, n: int) -> Floats:
    mean = np.full(len(close), np.nan)
    mean[n - 1 :] = np.lib.stride_tricks.sliding_window_view(close, n).mean(axis=1)
    return mean


def entries(kind: str) -> list[str]:
    return {
        "pbo": ["normal_seed42_800x20_S8", "edge_seed7_640x10_S8", "btc_sma_grid_S16"],
        "dsr": ["btc_sma_grid", "normal_seed42"],
        "reality_check": ["normal_seed42", "edge_seed7"],
    }[kind]


def find(shared: Path, kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in golden(shared, "overfitting")[kind] if e["id"] == name)
    return found


def cscv_of(returns: Floats, blocks: int) -> Cscv:
    edges = np.linspace(0, len(returns), blocks + 1).astype(np.int64)
    chunk = moments_of(returns, edges)
    return cscv(lambda: [chunk], blocks)


@pytest.mark.parametrize("name", entries("pbo"))
def test_probability_of_backtest_overfitting(shared: Path, name: str) -> None:
    entry = find(shared, "pbo", name)
    expected, found = entry["expected"], cscv_of(returns_of(shared, entry), entry["S"])
    assert len(found.rank) == expected["combinations"]
    assert found.pbo == expected["pbo_logit_le_0"]
    assert found.probability_of_loss == expected["prob_oos_loss"]
    relative = found.rank / (found.trials + 1)
    logits = np.log(relative / (1 - relative))
    for ours, theirs in ((logits.mean(), "mean"), (logits.min(), "min"), (logits.max(), "max")):
        assert ours == pytest.approx(expected[f"logit_{theirs}"], rel=CLOSED)
    slope, intercept = found.degradation
    assert slope == pytest.approx(expected["degradation_slope"], rel=CLOSED)
    assert intercept == pytest.approx(expected["degradation_intercept"], rel=CLOSED)
    for k, split in enumerate(expected["first_combinations"]):
        assert (found.best[k], found.rank[k]) == (split["best_column"], split["oos_rank_ascending"])
        assert logits[k] == pytest.approx(split["logit"], rel=CLOSED)
        assert found.in_sample[k] == pytest.approx(split["is_sharpe"], rel=CLOSED)
        assert found.out_of_sample[k] == pytest.approx(split["oos_sharpe"], rel=CLOSED)


@pytest.mark.parametrize("name", entries("dsr"))
def test_deflated_sharpe(shared: Path, name: str) -> None:
    entry = find(shared, "dsr", name)
    expected = entry["expected"]
    source = find(shared, "pbo", "btc_sma_grid_S16") if name == "btc_sma_grid" else entry
    returns = returns_of(shared, source)
    ratios = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    best = int(ratios.argmax())
    column = returns[:, best] - returns[:, best].mean()
    moments = [float((column**k).mean()) for k in (2, 3, 4)]
    skew, kurtosis = moments[1] / moments[0] ** 1.5, moments[2] / moments[0] ** 2
    record = skill.Record(float(ratios[best]), len(returns), skew, kurtosis)
    variance = float(ratios.var(ddof=1))
    assert best == expected["best_column"]
    for ours, theirs in (
        (record.sharpe, "best_sharpe_per_bar"),
        (variance, "variance_of_trial_sharpes_ddof1"),
        (skill.expected_maximum(len(ratios)), "expected_max_z"),
        (skill.no_skill_sharpe(variance, len(ratios)), "SR0"),
        (skill.probabilistic_sharpe(record), "PSR_vs_0"),
        (skill.deflated_sharpe(record, variance, len(ratios)), "DSR"),
        (skill.minimum_track_record(record), "min_track_record_length_95_vs_0_bars"),
    ):
        assert ours == pytest.approx(expected[theirs], rel=CLOSED), theirs


def test_tables_of_the_closed_forms(shared: Path) -> None:
    tables = golden(shared, "overfitting")
    for row in tables["emax_minbtl_table"]:
        assert skill.expected_maximum(row["N"]) == pytest.approx(row["emax"], rel=CLOSED)
        assert skill.minimum_backtest_years(row["N"]) == pytest.approx(row["minbtl_years_target_1"], rel=CLOSED)
    for row in tables["psr_mintrl_table"]:
        record = skill.Record(row["sr"], row["T"], row["skew"], row["kurt"])
        assert skill.probabilistic_sharpe(record, row["bench"]) == pytest.approx(row["psr"], rel=CLOSED)
        assert skill.minimum_track_record(record, row["bench"]) == pytest.approx(row["mintrl95"], rel=CLOSED)


@pytest.mark.parametrize("name", entries("reality_check"))
def test_reality_check_and_superior_predictive_ability(shared: Path, name: str) -> None:
    entry = find(shared, "reality_check", name)
    expected, allowed = entry["expected"], entry["tolerance"]["p_abs"]
    returns, block = returns_of(shared, entry), entry["block_size_mean"]
    found = reality_check(returns, block, entry["reps"], seed=1)
    assert found.best == expected["best_column"]
    assert found.white_statistic == pytest.approx(expected["white_statistic_sqrtT_max_mean"], rel=CLOSED)
    assert found.spa_statistic == pytest.approx(expected["hansen_statistic_studentized"], rel=CLOSED)
    assert np.sqrt(long_run_variance(returns, 1 / block)) == pytest.approx(expected["omega_kernel"], rel=CLOSED)
    assert found.white == pytest.approx(expected["white_reality_check_p"]["own"], abs=allowed["white"])
    for centring in ("lower", "consistent", "upper"):
        ours, theirs = getattr(found, centring), expected["own_studentized_spa_p"][centring]
        assert ours == pytest.approx(theirs, abs=allowed[centring]), centring


def test_many_tests(shared: Path) -> None:
    for entry in golden(shared, "overfitting")["multiple_testing"]:
        p_values = np.array(entry["p_values"])
        for ours, theirs in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
            assert ours(p_values) == pytest.approx(entry["expected"][theirs]["adjusted"], rel=CLOSED)


def plain(splits: list[Split]) -> list[dict[str, Any]]:
    return [{"train": [list(r) for r in s.train], "test": [list(r) for r in s.test]} for s in splits]


def without_groups(splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"train": s["train"], "test": s["test"]} for s in splits]


def split_case(shared: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in golden(shared, "splits")["cases"] if c["id"] == name)
    return found


@pytest.mark.parametrize(
    ("name", "walk"),
    [
        ("wf_rolling", Walk(250, 100)),
        ("wf_purged", Walk(250, 100, purge=10)),
        ("wf_expanding_reduce", Walk(300, 120, purge=5, anchored=True, reduce_test=True)),
        ("tss5", Walk(20, 16, anchored=True)),
        ("tss4_gap", Walk(40, 15, purge=3)),
    ],
)
def test_walk_forward(shared: Path, name: str, walk: Walk) -> None:
    case = split_case(shared, name)
    assert plain(walk_forward(case["n"], walk)) == without_groups(case["splits"])


@pytest.mark.parametrize("name", ["pk_5", "cpcv_6_2", "cpcv_5_2_nopurge"])
def test_combinatorial_purged_cross_validation(shared: Path, name: str) -> None:
    case = split_case(shared, name)
    given = case["params"]
    folds = Folds(given["groups"], given["test_groups"], given["purge_bars"], given["embargo_bars"])
    splits = combinatorial(case["n"], folds)
    assert plain(splits) == without_groups(case["splits"])
    assert [list(s.groups) for s in splits] == [s["test_groups"] for s in case["splits"]]
    found = paths(splits, folds.groups)
    assert len(found) == case["n_paths"]
    place = {(split, g): j for j, path in enumerate(found) for g, split in enumerate(path)}
    assert [[place[i, g] for g in s.groups] for i, s in enumerate(splits)] == case["path_of_test_group"]


def test_purge_by_the_horizon_of_labels(shared: Path) -> None:
    case = split_case(shared, "label_h4_5fold")
    horizon, embargo = case["params"]["label_horizon_bars"], 2
    touching = combinatorial(case["n"], Folds(case["params"]["k"], 1, horizon - 1, embargo))
    assert plain(touching) == case["splits_afml_7_3"]
    strict = combinatorial(case["n"], Folds(case["params"]["k"], 1, horizon, embargo))
    assert plain(strict) == case["splits_strict"]
