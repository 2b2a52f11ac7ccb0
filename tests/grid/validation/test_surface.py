"""Plateaus, what parameters decide, permuted bars, years and regimes: against twins and by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.validation.periods import by_regime, by_year
from grid.validation.permute import Prices, permuted
from grid.validation.plateau import neighbours, plateau, positions
from grid.validation.sensitivity import sensitivities


def naive_plateaus(points: list[tuple[int, int, str]], scores: list[float]) -> list[float]:
    """One step along a number is a neighbour; text has none."""
    found = []
    axes = [sorted({p[d] for p in points}) for d in (0, 1)]
    for (a, b, text), score in zip(points, scores, strict=True):
        around = []
        for (c, d, other), value in zip(points, scores, strict=True):
            steps = abs(axes[0].index(a) - axes[0].index(c)) + abs(axes[1].index(b) - axes[1].index(d))
            if other == text and steps == 1:
                around.append(value if np.isfinite(value) else -np.inf)
        middle = float(np.median([score, *around])) if around and np.isfinite(score) else np.nan
        found.append(middle if np.isfinite(middle) else np.nan)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 5), st.floats(0.5, 1))
def test_a_plateau_is_the_median_of_a_neighbourhood(seed: int, a: int, b: int, kept: float) -> None:
    random = np.random.default_rng(seed)
    whole = list(product((3, 10, 11, 40, 90)[:a], (-5, 0, 1, 7, 8)[:b], ("x", "y")))
    points = [p for p in whole if random.random() < kept] or whole
    scores = np.where(random.random(len(points)) < 0.2, np.nan, random.normal(size=len(points)))
    columns = {name: np.array(values) for name, values in zip("abc", zip(*points, strict=True), strict=True)}
    places = positions(columns)
    if len(points) < 0.25 * places.sizes.prod():
        return
    with np.errstate(invalid="ignore"):
        expected = naive_plateaus(points, scores.tolist())
    assert plateau(scores, neighbours(places)) == pytest.approx(expected, nan_ok=True)


def test_sparse_points_have_the_nearest_for_neighbours() -> None:
    random = np.random.default_rng(3)
    columns = {"a": random.random(300), "b": random.random(300), "kind": np.array(["x", "y"] * 150)}
    places = positions(columns)
    near = neighbours(places)
    assert near.shape == (300, 4)
    scaled = places.at[:, :2] / 299
    for i in (0, 17, 299):
        distance = np.abs(scaled - scaled[i]).sum(axis=1)
        distance[columns["kind"] != columns["kind"][i]] = np.inf
        distance[i] = np.inf
        assert sorted(near[i]) == sorted(np.argsort(distance)[:4])


def test_null_comes_before_every_number_and_booleans_have_no_order() -> None:
    places = positions({"stop": np.array([0.1, None, 0.2], dtype=object), "wicks": np.array([True, False, True])})
    assert places.at[:, 0].tolist() == [1, 0, 2]
    assert places.ordered.tolist() == [True, False]


def test_what_a_parameter_decides() -> None:
    random = np.random.default_rng(1)
    a, b = np.repeat(np.arange(10), 100), np.tile(np.arange(100), 10)
    scores = 2.0 * (a - a.mean()) + random.normal(0, 1, 1000)
    scores[::7] = np.nan
    found = sensitivities({"b": b, "a": a, "fixed": np.zeros(1000)}, scores)
    assert [s.name for s in found] == ["a", "b"]
    assert found[0].importance == pytest.approx(33 / 34, abs=0.01)  # variances 4 x 8.25 and 1
    assert found[1].importance < 0.02
    assert found[0].means[3] == pytest.approx(np.nanmean(scores[a == 3]))
    assert len(found[1].values) == 12
    assert sum(found[1].counts) == np.isfinite(scores).sum()


def bars_of(seed: int, n: int) -> Prices:
    random = np.random.default_rng(seed)
    close = 50 * np.cumprod(1 + random.normal(0, 0.02, n))
    opened = np.concatenate((close[:1], close[:-1])) * (1 + random.normal(0, 0.005, n))
    high = np.maximum(opened, close) * (1 + random.random(n) / 50)
    return Prices(opened, high, np.minimum(opened, close) * (1 - random.random(n) / 50), close, random.random(n))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 60))
def test_permuted_bars_have_the_same_moves(seed: int, n: int) -> None:
    bars = bars_of(seed, n)
    found = permuted(bars, seed + 1)
    assert (found.low <= np.minimum(found.open, found.close)).all()
    assert (found.high >= np.maximum(found.open, found.close)).all()
    assert found.close[0] == pytest.approx(bars.close[0])
    assert found.close[-1] == pytest.approx(bars.close[-1])
    for ours, theirs in ((bars, found), (found, bars)):
        assert np.sort(ours.close[1:] / ours.open[1:]) == pytest.approx(np.sort(theirs.close[1:] / theirs.open[1:]))
        gaps = np.sort(theirs.open[1:] / theirs.close[:-1])
        assert np.sort(ours.open[1:] / ours.close[:-1]) == pytest.approx(gaps)
    moves = zip(found.high / found.open, found.low / found.open, found.volume, strict=True)
    real = zip(bars.high / bars.open, bars.low / bars.open, bars.volume, strict=True)
    assert np.array(sorted(moves)) == pytest.approx(np.array(sorted(real)))


def test_the_order_belongs_to_the_seed_and_is_another_one() -> None:
    bars = bars_of(1, 300)
    first, again, other = (permuted(bars, seed).close for seed in (4, 4, 5))
    assert (first == again).all()
    assert abs(np.corrcoef(np.diff(np.log(first)), np.diff(np.log(other)))[0, 1]) < 0.2


def test_years_and_regimes() -> None:
    days = np.arange(17_532, 17_532 + 730)  # 2018 and 2019
    returns = np.where(days < 17_897, 0.01, -0.005)
    first, second = by_year(days, returns, 365.0)
    assert (first["year"], second["year"]) == (2018, 2019)
    assert first["total_return"] == pytest.approx(1.01**365 - 1)
    assert second["total_return"] == pytest.approx(0.995**365 - 1)
    told = {r["regime"]: r for r in by_regime(returns, returns, 365.0)}
    assert told["up"]["days"] + told["down"]["days"] == 730 - 200
    assert told["up"]["total_return"] == pytest.approx(1.01**165 * 0.995 ** (told["up"]["days"] - 165) - 1)
