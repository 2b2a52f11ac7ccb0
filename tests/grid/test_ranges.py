"""Ranges behave like a set of whole numbers."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grid.ranges import Ranges

SPAN = st.tuples(st.integers(-5, 60), st.integers(-5, 60)).map(lambda pair: (min(pair), max(pair)))


class AgainstASet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ranges = Ranges()
        self.numbers: set[int] = set()

    @rule(span=SPAN)
    def add(self, span: tuple[int, int]) -> None:
        self.ranges.add(*span)
        self.numbers |= set(range(*span))

    @rule(span=SPAN)
    def ask(self, span: tuple[int, int]) -> None:
        asked = set(range(*span))
        inside = self.ranges.intersect(*span)
        outside = self.ranges.subtract(*span)
        assert {n for part in inside for n in range(*part)} == asked & self.numbers
        assert {n for part in outside for n in range(*part)} == asked - self.numbers
        assert all(start < stop for start, stop in inside + outside)
        assert self.ranges.overlap(*span) == len(asked & self.numbers)

    @invariant()
    def same_set(self) -> None:
        parts = self.ranges.to_list()
        assert {n for part in parts for n in range(*part)} == self.numbers
        assert all(start < stop for start, stop in parts)
        assert all(a[1] < b[0] for a, b in pairwise(parts))  # sorted, and none touch
        assert self.ranges.total() == len(self.numbers)
        assert all((n in self.ranges) == (n in self.numbers) for n in range(-6, 62))
        assert Ranges(parts) == self.ranges


TestAgainstASet = AgainstASet.TestCase
TestAgainstASet.settings = settings(max_examples=50, stateful_step_count=30)


@given(st.lists(SPAN, max_size=12), st.randoms(use_true_random=False))
def test_order_of_adding_does_not_matter(spans: list[tuple[int, int]], random: object) -> None:
    shuffled = list(spans)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Ranges(spans) == Ranges(shuffled)


def test_size_of_numbers_does_not_matter() -> None:
    ranges = Ranges([(0, 10**18), (10**18 + 1, 4 * 10**18)])
    assert ranges.total() == 4 * 10**18 - 1
    assert ranges.subtract(5, 2 * 10**18) == [(10**18, 10**18 + 1)]
    assert len(ranges) == 2


def test_backward_ranges_are_refused_and_empty_ones_are_nothing() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        Ranges([(3, 2)])
    assert Ranges([(3, 3)]) == Ranges()
    assert repr(Ranges([(1, 2)])) == "Ranges([(1, 2)])"
