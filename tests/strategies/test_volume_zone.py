"""The volume profile: by hand, against an exact twin, and its ties."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import profile
from strategies.volume_zone_breakout import VolumeZoneBreakout
from tests.strategies import naive_indicators as naive
from tests.strategies.made_bars import bars_of, random_bars

DYADIC_BINS = st.sampled_from([1, 2, 4, 8])  # edges exact in binary, as the prices are


def by_hand():
    """Volume 200 below 11 and 150 above, in the window of the last bar."""
    return bars_of(
        [11.0, 11.0, 12.0, 11.8],
        open=[10.0, 11.0, 12.0, 10.5],
        high=[11.0, 12.0, 12.0, 12.0],
        low=[10.0, 10.0, 12.0, 10.0],
        volume=[100.0, 200.0, 50.0, 10.0],
    )


def test_the_profile_by_hand():
    above, low, width = by_hand().volume_profile(3, 2)
    assert above[3].tolist() == [350.0, 150.0]
    assert (low[3], width[3]) == (10.0, 1.0)
    assert np.isnan(above[:3]).all()


@pytest.mark.parametrize(("share", "resistance"), [(0.4, 11.0), (0.43, 10.0), (0.42857142857142855, 11.0), (1.0, 10.0)])
def test_the_resistance_by_hand_with_its_tie(share, resistance):
    row = by_hand().volume_zone(3, share, 2)
    assert np.isnan(row[:3]).all()
    assert row[3] == resistance


def test_the_signal_by_hand():
    strategy = VolumeZoneBreakout(volume_window=3, num_bins=2, top_percentile=0.4, breakout_buffer=0.05)
    signals = strategy.signals(by_hand()).normalised(4)
    assert signals.entries.indices().tolist() == [3]
    assert signals.hold == 1
    higher = strategy.model_copy(update={"breakout_buffer": 0.08}).signals(by_hand())
    assert higher.entries.count() == 0


@pytest.mark.parametrize("wicks", [True, False])
@given(bars=random_bars(), n=st.integers(1, 8), bins=DYADIC_BINS)
def test_the_profile_is_that_of_its_twin(wicks, bars, n, bins):
    above, low, width = bars.volume_profile(n, bins, wicks)
    for i in range(len(bars)):
        expected = window_profile(bars, i, n, bins, wicks)
        if expected is None:
            assert np.isnan(above[i]).all()
            continue
        edges, volumes = expected
        assert (low[i], low[i] + (bins - 1) * width[i]) == (edges[0], edges[-1])
        cumulated = [float(sum(volumes[k:])) for k in range(bins)]
        np.testing.assert_allclose(above[i], cumulated, rtol=1e-14)


@given(bars=random_bars(), n=st.integers(1, 8), bins=DYADIC_BINS, share=st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_the_resistance_is_that_of_its_twin(bars, n, bins, share):
    row = bars.volume_zone(n, share, bins)
    for i in range(len(bars)):
        expected = window_profile(bars, i, n, bins, wicks=True)
        if expected is None or not sum(expected[1]):
            assert np.isnan(row[i])
            continue
        edges, volumes = expected
        k = edges.index(Fraction(row[i]))
        wanted = float(share * float(sum(volumes)))
        assert float(sum(volumes[k:])) >= wanted * (1 - 1e-14)
        assert float(sum(volumes[k + 1 :])) < wanted * (1 + 1e-14)


@st.composite
def wild_bars(draw):
    """Bars of a slow walk, so that the range stays for a while; volumes of every size there is, and none."""
    size, seed = draw(st.integers(0, 60)), draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    prices = np.sort(100.0 + np.cumsum(rng.integers(-1, 2, (size, 1)), 0) + rng.random((size, 4)), axis=1)
    if draw(st.booleans()):
        prices = np.round(prices, draw(st.sampled_from([0, 1])))
    volume = rng.lognormal(0.0, 3.0, size) * draw(st.sampled_from([1e-320, 1e-12, 1.0, 1e15, 1e300]))
    volume[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0.0
    return bars_of(prices[:, 2], open=prices[:, 1], high=prices[:, 3], low=prices[:, 0], volume=volume)


@pytest.mark.parametrize("wicks", [True, False])
@given(bars=wild_bars(), n=st.integers(1, 20), bins=st.integers(1, 25))
def test_the_profile_counts_units_as_its_twin_does(wicks, bars, n, bins):
    above, _, width = bars.volume_profile(n, bins, wicks)
    for i in range(len(bars)):
        window = window_of(bars, i, n, wicks)
        expected = None if window is None else naive.counted_profile(*window, bins)
        if expected is None:
            assert np.isnan(above[i]).all()
            assert np.isnan(width[i])
        else:
            assert above[i].tolist() == expected


@given(bars=wild_bars(), n=st.integers(1, 20), start=st.integers(0, 60), wicks=st.booleans())
def test_a_profile_forgets_where_it_began(bars, n, start, wicks):
    part, whole = bars.slice(start, len(bars)), bars.volume_profile(n, 7, wicks)
    for known, row in zip(part.volume_profile(n, 7, wicks), whole, strict=True):
        assert known[n:].tobytes() == row[start + n :].tobytes()


@given(bars=wild_bars(), n=st.integers(1, 20), share=st.sampled_from([0.01, 0.3, 0.5, 1.0]))
def test_a_profile_that_does_not_fit_the_cache_gives_the_same_resistance(bars, n, share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile, "CHUNK", 7)
        small = dataclasses.replace(bars, cache_bytes=100)
        assert small.volume_zone(n, share).tobytes() == bars.volume_zone(n, share).tobytes()


def window_profile(bars, i, n, bins, wicks):
    window = window_of(bars, i, n, wicks)
    return None if window is None else naive.volume_profile(*window, bins)


def window_of(bars, i, n, wicks):
    """Tops, bottoms and volumes of the n bars before bar i; None where there are fewer."""
    if i < n:
        return None
    top = bars.high if wicks else np.maximum(bars.open, bars.close)
    bottom = bars.low if wicks else np.minimum(bars.open, bars.close)
    return [row[i - n : i].tolist() for row in (top, bottom, bars.volume)]


def test_no_range_or_no_volume_gives_no_resistance():
    assert np.isnan(bars_of(np.full(9, 5.0)).volume_zone(3, 0.2)).all()
    moving = bars_of(np.arange(1.0, 10.0), volume=np.zeros(9))
    assert np.isnan(moving.volume_zone(3, 0.2)).all()


def test_a_range_of_one_rounding_step_is_still_a_range():
    low = 1e8
    high = np.nextafter(low, np.inf)
    bars = bars_of([low, high] * 4)
    row = bars.volume_zone(4, 0.2, 20)
    assert set(row[4:].tolist()) <= {low, high}


def test_a_sweep_shares_the_profile_and_the_breakouts():
    bars = by_hand()
    points = [
        VolumeZoneBreakout(volume_window=3, top_percentile=p, hold_period_bars=h) for p in (0.2, 0.4) for h in (1, 2, 3)
    ]
    masks = {id(point.signals(bars).entries) for point in points}
    assert len(masks) == 2
