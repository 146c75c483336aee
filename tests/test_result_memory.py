"""Memory of large results: used again when a result is dropped, never while anybody can see it."""

from __future__ import annotations

import gc
import resource

import numpy as np
import pytest

import jitgrad
from jitgrad.runtime import result_memory
from jitgrad.runtime.result_memory import LARGE, empty

N = 2 * LARGE // 8


def handler_name(array=None):
    return np._core.multiarray.get_handler_name(*(() if array is None else (array,)))


@pytest.mark.parametrize("static", [False, True])  # by the native entry, and by the long way
def test_a_dropped_result_makes_room_for_the_next(static):
    double = jitgrad.jit(lambda x, k: x * k)
    x = np.arange(float(N))
    k = 2 if static else 2.0
    for _ in range(3):
        result = double(x, k)
    address = result.ctypes.data
    assert result.flags.owndata and result.base is None
    other = double(x, k)
    assert other.ctypes.data != address
    np.testing.assert_array_equal(result, other)
    del result
    again = double(x, k)
    assert again.ctypes.data == address
    np.testing.assert_array_equal(again, 2.0 * x)


def test_views_keep_their_memory():
    double = jitgrad.jit(lambda x: x * 2.0)
    x = np.arange(float(N))
    double(x)
    view = double(x)[10:20]
    for _ in range(20):
        double(x * 0.0)
    np.testing.assert_array_equal(view, 2.0 * np.arange(10.0, 20.0))


def test_only_large_results_are_made_with_the_handler_and_it_is_put_back():
    before = handler_name()
    small, large = jitgrad.jit(lambda x: (x[:10] + 1.0, x + 1.0))(np.zeros(N))
    assert handler_name() == before == handler_name(np.empty(N))
    assert handler_name(large) == handler_name(empty((N,), np.dtype("f8"))) == "jitgrad_results"
    assert handler_name(empty((10,), np.dtype("f8"))) == before
    assert small.shape == (10,)


def test_results_can_be_resized():
    array = empty((N,), np.dtype("f8"))
    array[:] = np.arange(N)
    array.resize(2 * N, refcheck=False)
    np.testing.assert_array_equal(array[:N], np.arange(N))
    array.resize(5, refcheck=False)
    np.testing.assert_array_equal(array, np.arange(5))


def test_what_is_kept_is_bounded():
    def kilobytes():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() // 1024

    sizes = np.random.default_rng(0).integers(LARGE // 8, 20 * LARGE // 8, 400)
    before = kilobytes()
    for size in sizes:
        arrays = [empty((int(size) + k,), np.dtype("f8")) for k in range(3)]
        for array in arrays:
            array[::100] = 1.0
        del arrays, array
    gc.collect()
    assert kilobytes() - before < (result_memory.MOST_KEPT >> 10) + 100_000
