"""Units are sized to take about as long as wanted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.pace import FIRST_SIZE, LONGEST_EVER_S, LONGEST_S, MOST_NUMBERS, SHORTEST_S, UNITS_WANTED, Pace

BARS = st.lists(st.integers(0, 2_000_000), min_size=1, max_size=4)
SECONDS = st.floats(0, 1e4)


def test_a_fixed_size_stays() -> None:
    pace = Pace([100, 1000], fixed=7)
    pace.learn(0, 7, 100.0)
    pace.aim(10**9, 64)
    assert [pace.size(0), pace.size(1)] == [7, 7]


def test_before_anything_is_known_a_unit_is_small() -> None:
    pace = Pace([100])
    assert pace.size(0) == FIRST_SIZE
    assert pace.seconds(0, 1000) == 1.0
    assert pace.target_s == SHORTEST_S


def test_sizes_aim_at_the_target_on_every_dataset() -> None:
    pace = Pace([1_000, 4_000])
    pace.learn(0, 100, 0.1)  # 1 us a bar
    assert pace.seconds(1, 10) == pytest.approx(0.04)
    assert [pace.size(0), pace.size(1)] == [500, 125]
    pace.target_s = 2.0
    assert [pace.size(0), pace.size(1)] == [2000, 500]


def test_what_was_learned_last_counts_more_and_settles() -> None:
    pace = Pace([1_000])
    pace.learn(0, 1, 1.0)  # the first unit compiles
    for _ in range(20):
        pace.learn(0, 100, 0.1)
    assert pace.seconds(0, 1000) == pytest.approx(1.0, rel=1)
    assert pace.size(0) * pace.seconds(0, 1) == pytest.approx(pace.target_s, rel=0.02)


@given(BARS, st.lists(st.tuples(st.integers(0, 3), st.integers(1, 10**6), SECONDS), max_size=6), st.data())
def test_sizes_and_targets_stay_in_their_bounds(bars: list[int], units: list[tuple], data: st.DataObject) -> None:
    pace = Pace(bars)
    for dataset, numbers, seconds in units:
        pace.learn(dataset % len(bars), numbers, seconds)
    left, workers = data.draw(st.integers(0, 10**12)), data.draw(st.integers(1, 10**4))
    pace.aim(left, workers)
    total = sum(pace.seconds(d, 1) for d in range(len(bars))) / len(bars) * left
    assert 0.05 <= pace.target_s <= min(max(LONGEST_S, total / UNITS_WANTED), LONGEST_EVER_S)
    for dataset in range(len(bars)):
        size = pace.size(dataset)
        assert 1 <= size <= MOST_NUMBERS
        if units:
            assert size == 1 or pace.seconds(dataset, size) <= pace.target_s * 1.001
            assert size == MOST_NUMBERS or pace.seconds(dataset, size + 1) >= pace.target_s * 0.999


def test_targets_are_long_in_a_huge_sweep_and_short_at_the_end() -> None:
    pace = Pace([1_000])
    pace.learn(0, 1000, 1.0)  # 1 ms a trial
    targets = []
    for left in (10**9, 10**6, 4_000, 400, 1):
        pace.aim(left, 4)
        targets.append(pace.target_s)
    assert targets == pytest.approx([LONGEST_EVER_S, 2.0, 0.5, 0.1, 0.1])
