"""CSCV, selection and splits against twins that do it the slow way."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from grid.validation.cscv import cscv
from grid.validation.moments import Chunk, excess, over, sharpe
from grid.validation.selection import choose
from grid.validation.splits import Folds, Split, Walk, combinatorial, mask, walk_forward
from tests.grid.validation.made_moments import moments_of

Floats = NDArray[np.float64]


def naive_ratio(returns: Floats) -> float:
    """Sharpe ratio of returns; 0 for those that never move."""
    if len(returns) < 2 or returns.var() <= 1e-12 * (returns**2).mean():
        return 0.0
    return float(returns.mean() / returns.std(ddof=1))


def naive_cscv(returns: Floats, blocks: int) -> tuple[list[int], list[int], list[float], list[float]]:
    """best, rank, in sample, out of sample, split by split."""
    parts = np.split(returns, blocks)
    found: tuple[list[int], list[int], list[float], list[float]] = ([], [], [], [])
    for chosen in combinations(range(blocks), blocks // 2):
        inside = np.concatenate([parts[b] for b in chosen])
        outside = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        ratios = [naive_ratio(column) for column in inside.T]
        after = [naive_ratio(column) for column in outside.T]
        best = int(np.argmax(ratios))
        rank = 1 + sum(other < after[best] - 1e-12 for other in after)
        for values, value in zip(found, (best, rank, ratios[best], after[best]), strict=True):
            values.append(value)  # type: ignore[arg-type]
    return found


def made(seed: int, trials: int, blocks: int, per_block: int = 6) -> Floats:
    """Returns with copies, flat trials and flat halves among them."""
    random = np.random.default_rng(seed)
    returns = random.normal(0.001, 0.02, (blocks * per_block, trials))
    returns[:, random.random(trials) < 0.2] = 0.0
    returns[: len(returns) // 2, random.random(trials) < 0.2] = 0.0
    copied = random.integers(0, trials, trials)
    keep = random.random(trials) < 0.7
    return np.where(keep, returns, returns[:, copied])


def chunks_of(returns: Floats, blocks: int, cuts: list[int]) -> list[Chunk]:
    whole = moments_of(returns, np.linspace(0, len(returns), blocks + 1).astype(np.int64))
    edges = [0, *sorted(cuts), returns.shape[1]]
    parts = [slice(a, b) for a, b in pairwise(edges) if a < b]
    return [Chunk(whole.ids[p], whole.sums[p], whole.squares[p], whole.bars) for p in parts]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 90),
    st.sampled_from([4, 6, 8]),
    st.lists(st.integers(0, 90)),
    st.integers(1, 3),
)
def test_cscv_equals_its_twin(seed: int, trials: int, blocks: int, cuts: list[int], threads: int) -> None:
    returns = made(seed, trials, blocks)
    parts = chunks_of(returns, blocks, [min(c, trials) for c in cuts])[::-1]  # parts come in any order
    found = cscv(lambda: parts, blocks, threads)
    best, rank, inside, outside = naive_cscv(returns, blocks)
    assert found.trials == trials
    same = found.best == best
    # two trials that differ in rounding only may take each other's place
    assert found.in_sample == pytest.approx(inside, rel=1e-9, abs=1e-12)
    assert found.out_of_sample[same] == pytest.approx(np.array(outside)[same], rel=1e-9, abs=1e-12)
    assert found.rank[same].tolist() == np.array(rank)[same].tolist()
    assert same.mean() > 0.9


def test_copies_of_one_trial_are_never_worse_than_each_other() -> None:
    returns = np.repeat(made(3, 1, 8) + 1e-4, 40, axis=1)
    found = cscv(lambda: chunks_of(returns, 8, [7, 20]), 8)
    assert set(found.best.tolist()) == {0}
    assert set(found.rank.tolist()) == {1}


def moments_by_trial(chunk: Chunk, order: NDArray[np.int64]) -> list[Chunk]:
    """The trials of a chunk in another order, cut in three."""
    cuts = np.array_split(order, 3)
    return [Chunk(chunk.ids[c], chunk.sums[c], chunk.squares[c], chunk.bars, chunk.periods) for c in cuts]


def test_trials_that_are_nearly_as_good_lead_alike_in_any_order() -> None:
    """Multiples of one trial: Sharpe ratios that are equal, and differ in the last digits once they are computed."""
    random = np.random.default_rng(8)
    chunk = moments_of(made(4, 1, 8) * random.uniform(0.1, 10, 60), np.arange(0, 49, 6))
    orders = [np.arange(60), *(random.permutation(60) for _ in range(5))]
    first, *others = [cscv(lambda o=o: moments_by_trial(chunk, o), 8) for o in orders]  # type: ignore[misc]
    for found in others:
        for name in ("best", "rank", "in_sample", "out_of_sample"):
            assert getattr(found, name).tolist() == getattr(first, name).tolist(), name


def test_sharpe_ratios_over_blocks_do_not_depend_on_the_other_trials() -> None:
    chunk = moments_of(made(6, 101, 16), np.arange(0, 97, 6))
    chosen = np.random.default_rng(6).random((29, 16)) < 0.5
    whole = over(chunk, chosen)
    for cut in range(1, 101, 7):
        one, other = (slice(0, cut), slice(cut, None))
        parts = [over(Chunk(chunk.ids[s], chunk.sums[s], chunk.squares[s], chunk.bars), chosen) for s in (one, other)]
        assert np.concatenate(parts).tobytes() == np.ascontiguousarray(whole).tobytes()


def test_more_than_16_blocks_are_joined_to_16() -> None:
    returns = made(5, 12, 16, per_block=4)
    fine, coarse = chunks_of(returns, 32, []), chunks_of(returns, 16, [])
    joined, plain = cscv(lambda: fine, 32), cscv(lambda: coarse, 16)
    assert len(joined.rank) == len(plain.rank) == 12_870
    assert joined.rank.tolist() == plain.rank.tolist()


def test_trials_of_coarser_bars_compare_by_their_annual_ratio() -> None:
    random = np.random.default_rng(2)
    daily = moments_of(random.normal(0.002, 0.01, (320, 3)), np.arange(0, 321, 40), 365.0)
    weekly = moments_of(random.normal(0.002, 0.01, (80, 3)), np.arange(0, 81, 10), 52.0)
    weekly = Chunk(weekly.ids + 3, weekly.sums, weekly.squares, weekly.bars, weekly.periods)
    found = cscv(lambda: [daily, weekly], 8)
    for k, chosen in enumerate(combinations(range(8), 4)):
        blocks = np.isin(np.arange(8), chosen)[None]
        ratios = np.concatenate([over(daily, blocks)[:, 0], over(weekly, blocks)[:, 0]])
        assert found.best[k] == ratios.argmax()
        assert found.in_sample[k] == pytest.approx(ratios.max())


@pytest.mark.parametrize("blocks", [2, 5, 7, 0])
def test_cscv_refuses_other_numbers_of_blocks(blocks: int) -> None:
    with pytest.raises(ValueError, match="even number of blocks"):
        cscv(list, blocks)


def test_sharpe_of_blocks_is_that_of_their_bars() -> None:
    returns = made(9, 5, 4)
    chunk = moments_of(returns, np.array([0, 6, 6, 18, 24]), 365.0)
    chosen = np.array([[True, True, False, True], [False, False, True, False], [False, True, False, False]])
    found = over(chunk, chosen)
    rows = np.r_[0:6, 18:24]
    for i in range(5):
        for f, picked in enumerate((returns[rows, i], returns[6:18, i])):
            expected = naive_ratio(picked) * np.sqrt(365.0)
            assert np.nan_to_num(found[i, f]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert np.isnan(found[:, 2]).all()
    less = over(excess(chunk, 0.001), chosen[:1])[:, 0]
    assert less[0] == pytest.approx(float(sharpe(12, *_sums(returns[rows, 0] - 0.001), 365.0)))


def _sums(returns: Floats) -> tuple[float, float]:
    return float(returns.sum()), float((returns**2).sum())


def test_choosing_on_train_and_looking_at_test() -> None:
    returns = made(11, 60, 8)
    splits = [*walk_forward(8, Walk(4, 1)), *combinatorial(8, Folds(4, 2, 0, 1))]
    parts = chunks_of(returns, 8, [13, 40])[::-1]
    found = choose(lambda: parts, splits, 8)
    stitched: list[Floats] = []
    for f, split in enumerate(splits):
        train, test = (np.repeat(mask(rows, 8), 6) for rows in (split.train, split.test))
        ratios = [naive_ratio(column) for column in returns[train].T]
        assert found.in_sample[f] == pytest.approx(max(ratios), rel=1e-9)
        chosen = returns[test, found.best[f]]
        assert np.nan_to_num(found.out_of_sample[f]) == pytest.approx(naive_ratio(chosen), rel=1e-9, abs=1e-9)
        stitched.append(chosen)
    ratios = found.path_ratios(4, 4)
    assert len(ratios) == 3
    # the second path: groups 0 and 2 are tested together first in split 1, then 1 and 3 in split 4
    picked = [returns[g * 12 : g * 12 + 12, found.best[4 + s]] for g, s in enumerate((1, 3, 3, 4))]
    assert ratios[1] == pytest.approx(naive_ratio(np.concatenate(picked)), rel=1e-9)
    assert found.walked(range(4)) == pytest.approx(naive_ratio(np.concatenate(stitched[:4])), rel=1e-9)


def test_nobody_is_chosen_where_nobody_trades() -> None:
    chunk = moments_of(np.zeros((8, 3)), np.array([0, 2, 4, 6, 8]))
    found = choose(lambda: [chunk], walk_forward(4, Walk(2, 1)), 4)
    assert found.best.tolist() == [-1, -1]
    assert np.isnan(found.in_sample).all()
    assert np.isnan(found.walked(range(2)))


@given(st.integers(2, 60), st.integers(2, 10), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_no_train_row_is_near_a_test_row(n: int, groups: int, tested: int, purge: int, embargo: int) -> None:
    try:
        splits = combinatorial(n, Folds(groups, tested, purge, embargo))
    except ValueError:
        return
    for split in splits:
        train, test = (np.flatnonzero(mask(rows, n)) for rows in (split.train, split.test))
        gaps = train[:, None] - test[None, :]
        assert (gaps != 0).all()
        assert (gaps[gaps < 0] < -purge).all()
        assert (gaps[gaps > 0] > purge + embargo).all()


@pytest.mark.parametrize("walk", [Walk(10, 3), Walk(8, 1, purge=2), Walk(0, 1), Walk(1, 0)])
def test_a_walk_that_does_not_fit_is_refused(walk: Walk) -> None:
    with pytest.raises(ValueError, match="train"):
        walk_forward(10, walk)


def test_folds_that_cannot_be_made_are_refused() -> None:
    for folds in (Folds(1), Folds(11), Folds(4, 4), Folds(4, 0)):
        with pytest.raises(ValueError, match="cannot be made"):
            combinatorial(10, folds)
    with pytest.raises(ValueError, match="leave nothing"):
        combinatorial(10, Folds(2, 1, 5))
    assert combinatorial(4, Folds(2))[0] == Split(((2, 4),), ((0, 2),), (0,))
