import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies import Bits, SignalError, above, at_least, at_most, below, crosses_above, crosses_below

VALUES = st.sampled_from([0.0, -0.0, 1.0, 2.0, np.nan, np.inf, -np.inf, 1e-300])
SIZES = st.one_of(st.sampled_from([0, 1, 63, 64, 65, 127, 128, 129]), st.integers(0, 300))
MASKS = SIZES.flatmap(lambda n: hnp.arrays(np.bool_, n))
PAIRS = SIZES.flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=VALUES)] * 2))
COMPARISONS = [
    (above, np.greater),
    (below, np.less),
    (at_least, np.greater_equal),
    (at_most, np.less_equal),
]


@given(MASKS)
def test_packing_loses_nothing(mask):
    bits = Bits.pack(mask)
    assert np.array_equal(bits.unpack(), mask)
    assert bits.n == len(bits) == mask.size
    assert bits.count() == mask.sum()
    assert np.array_equal(bits.indices(), np.flatnonzero(mask))
    assert bits == Bits(bits.words, mask.size)


@given(SIZES.flatmap(lambda n: st.tuples(*[hnp.arrays(np.bool_, n)] * 2)))
def test_combining_is_that_of_bool_arrays(pair):
    a, b = pair
    p, q = Bits.pack(a), Bits.pack(b)
    assert p & q == Bits.pack(a & b)
    assert p | q == Bits.pack(a | b)
    assert ~p == Bits.pack(~a)
    assert (p == q) == np.array_equal(a, b)


@pytest.mark.parametrize(("ours", "numpys"), COMPARISONS)
@given(PAIRS, VALUES)
def test_comparisons_are_numpys(ours, numpys, pair, level):
    a, b = pair
    assert np.array_equal(ours(a, b).unpack(), numpys(a, b))
    assert np.array_equal(ours(a, level).unpack(), numpys(a, level))
    assert np.array_equal(ours(level, b).unpack(), numpys(level, b))


@given(PAIRS, VALUES)
def test_a_cross_is_two_comparisons(pair, level):
    a, b = pair
    for x, y in ((a, b), (a, np.full(a.size, level)), (np.full(b.size, level), b)):
        left = level if x is not a else x
        right = level if y is not b else y
        up, down = np.zeros(a.size, bool), np.zeros(a.size, bool)
        up[1:] = (x[:-1] <= y[:-1]) & (x[1:] > y[1:])
        down[1:] = (x[:-1] >= y[:-1]) & (x[1:] < y[1:])
        assert np.array_equal(crosses_above(left, right).unpack(), up)
        assert np.array_equal(crosses_below(left, right).unpack(), down)


def test_the_state_at_the_end_of_warm_up_is_no_cross():
    fast, slow = np.array([1.0, 2.0, 3.0, 1.0]), np.array([np.nan, 1.0, 1.0, 2.0])
    assert crosses_above(fast, slow).count() == 0
    assert crosses_below(fast, slow).indices().tolist() == [3]


def test_integers_slices_and_numpy_numbers_are_compared_too():
    rows = np.arange(20).reshape(4, 5)
    assert above(rows[2], np.int64(11)).indices().tolist() == [2, 3, 4]
    assert above(np.arange(10.0)[::2], np.float64(4.0)).indices().tolist() == [3, 4]
    assert below(np.array(4.0), rows[1]).count() == 5


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (np.zeros(3), np.zeros(4), "rows of 3 and 4 bars"),
        (1.0, 2.0, "two numbers"),
        (np.zeros((2, 2)), 1.0, "one-dimensional"),
    ],
)
@pytest.mark.parametrize("compare", [above, below, at_least, at_most, crosses_above, crosses_below])
def test_what_cannot_be_compared_is_refused(compare, a, b, text):
    with pytest.raises(SignalError, match=text):
        compare(a, b)


def test_masks_are_immutable_and_travel():
    bits = above(np.arange(100.0), 50)
    with pytest.raises(ValueError, match="read-only"):
        bits.words[0] = 1
    with pytest.raises(AttributeError):
        bits.n = 3
    arrived = pickle.loads(pickle.dumps(bits))  # noqa: S301 -- our own bytes
    assert arrived == bits
    assert hash(arrived) == hash(bits)
    assert not arrived.words.flags.writeable
    assert repr(bits) == "Bits(49 of 100)"


def test_unsound_masks_are_refused():
    with pytest.raises(SignalError, match=r"needs uint64\[2\]"):
        Bits(np.zeros(1, np.uint64), 65)
    with pytest.raises(SignalError, match="beyond its last bar"):
        Bits(np.array([8], np.uint64), 3)
    with pytest.raises(SignalError, match=r"bool array, got float64\[2\]"):
        Bits.pack(np.zeros(2))
    with pytest.raises(SignalError, match="5 and 6 bars"):
        Bits.zeros(5) & Bits.zeros(6)
    with pytest.raises(TypeError, match="not with ndarray"):
        Bits.zeros(5) | np.zeros(5, bool)
    assert Bits.zeros(5) != "a mask"
