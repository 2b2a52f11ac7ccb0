"""Bars, their cache, and what importing the package costs."""

import pickle
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from strategies import kernels
from strategies.cache import ENTRY_BYTES, RowCache
from strategies.check import sample_bars
from tests.strategies.made_bars import INDICATORS, bars_of

FRESH_IMPORT = """
import sys, strategies
from strategies import bits, kernels
compiled = [n for m in (bits, kernels) for n, f in vars(m).items() if getattr(f, "signatures", None)]
assert not compiled, compiled
assert not {"pandas", "pyarrow", "ray"} & set(sys.modules), "a heavy import"  # numba takes scipy where it is
"""


def row_of(size):
    return np.zeros(size)


def test_a_key_is_computed_once():
    bars, calls = bars_of(np.ones(10)), []
    for _ in range(3):
        row = bars.cached(("mine", 3), lambda: calls.append(1) or row_of(10))
    assert len(calls) == 1
    assert not row.flags.writeable


def test_the_cache_is_bounded_and_forgets_what_was_used_last_longest_ago():
    cache = RowCache(limit=3 * (800 + ENTRY_BYTES))
    for key in "abc":
        cache.get(key, lambda: row_of(100))
    cache.get("a", lambda: pytest.fail("a is there"))
    cache.get("d", lambda: (row_of(50), row_of(50)))
    assert [key in cache for key in "abcd"] == [True, False, True, True]
    assert cache.bytes == cache.limit


def test_what_is_too_large_is_given_and_not_kept():
    bars = bars_of(np.linspace(1.0, 2.0, 1_000), cache_bytes=20_000)
    bars.sma(5)
    first, kept, again = bars.volume_profile(5, 4)[0], len(bars.cache), bars.volume_profile(5, 4)[0]
    assert first is not again
    assert np.array_equal(first, again, equal_nan=True)
    assert not first.flags.writeable
    assert len(bars.cache) == kept
    assert bars.cache.bytes <= 20_000


def test_many_indicators_stay_within_the_bound():
    bars = bars_of(np.linspace(1.0, 2.0, 1_000), cache_bytes=100_000)
    expected = {n: bars.sma(n).copy() for n in range(1, 60)}
    assert bars.cache.bytes <= 100_000
    assert all(np.array_equal(bars.sma(n), row, equal_nan=True) for n, row in expected.items())


def test_an_error_while_computing_is_passed_on_and_nothing_kept():
    cache = RowCache(limit=10_000)
    with pytest.raises(KeyError, match="theirs") as raised:
        cache.get("a", lambda: {}["theirs"])
    assert raised.value.__context__ is None
    assert len(cache) == cache.bytes == 0


def test_threads_share_it():
    bars = bars_of(np.linspace(1.0, 2.0, 500), cache_bytes=50_000)
    expected = {n: bars_of(bars.close).sma(n) for n in range(1, 40)}
    wrong = []

    def work():
        for n, row in list(expected.items()) * 5:
            if not np.array_equal(bars.sma(n), row, equal_nan=True):
                wrong.append(n)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert bars.cache.bytes <= 50_000


def test_slices_share_columns_and_no_cache():
    bars = bars_of(np.arange(1.0, 11.0))
    bars.sma(3)
    part = bars.slice(2, 6)
    assert len(part) == 4
    assert np.shares_memory(part.close, bars.close)
    assert part.sma(3).tolist()[2:] == [4.0, 5.0]
    assert (part.symbol, part.timeframe, part.periods_per_year) == ("TEST", "1H", 8760.0)


def test_bars_are_immutable_and_travel_without_their_cache():
    bars = bars_of(np.arange(1.0, 11.0))
    bars.sma(3)
    with pytest.raises(ValueError, match="read-only"):
        bars.close[0] = 5.0
    with pytest.raises(AttributeError):
        bars.close = bars.open
    arrived = pickle.loads(pickle.dumps(bars))  # noqa: S301 -- our own bytes
    assert len(arrived.cache) == 0
    assert np.array_equal(arrived.timestamp, bars.timestamp)
    assert np.array_equal(arrived.close, bars.close)
    assert not arrived.close.flags.writeable


def test_columns_of_a_caller_stay_writable_and_other_types_are_converted():
    close = np.arange(1.0, 6.0)
    bars = bars_of(close)
    close[0] = 9.0
    assert bars.close[0] == 1.0
    whole = bars_of([1, 2, 3])
    assert whole.close.dtype == np.float64


def test_kernels_are_compiled_once_whatever_the_bars_came_from():
    bars = sample_bars(200)
    compiled = []
    for data in (bars, bars.slice(3, 90), pickle.loads(pickle.dumps(bars))):  # noqa: S301 -- our own bytes
        for indicator in INDICATORS.values():
            indicator(data)
        dispatchers = [kernel for kernel in vars(kernels).values() if hasattr(kernel, "signatures")]
        compiled.append([len(kernel.signatures) for kernel in dispatchers])
    assert compiled[0] == compiled[1] == compiled[2]


def test_importing_compiles_nothing_and_stays_light():
    subprocess.run([sys.executable, "-c", FRESH_IMPORT], check=True)
