"""Several threads at once, and memory that stays flat."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jitgrad import config, grad, jit, value_and_grad, vjp
from jitgrad.frontend.trace import current
from jitgrad.runtime.dispatch import SIGNATURES

THREADS = 6


def together(work, count=THREADS):
    """Results of `work(k)` in as many threads that start at once."""
    barrier = threading.Barrier(count)

    def start(k):
        barrier.wait()
        return work(k)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@pytest.mark.parametrize("tier", ["auto", "compile", "interpret"])
def test_one_function_in_several_threads(tier):
    scale = np.array(2.0)
    f = value_and_grad(lambda x, s: np.sum(np.sin(x) * s * scale), tier=tier)

    def work(k):
        x = np.linspace(k, k + 1, 50 + k % 3)
        for _ in range(60):
            value, gradient = f(x, float(k))
            np.testing.assert_allclose(gradient, 2 * k * np.cos(x), rtol=1e-12)
            np.testing.assert_allclose(value, 2 * k * np.sum(np.sin(x)), rtol=1e-12)
        return True

    assert all(together(work))
    assert len(f._dispatcher.programs) == 3


def test_tracing_in_several_threads_at_once():
    def work(k):
        def f(x):
            for _ in range(20):
                x = np.tanh(x) * (k + 1.0)
            return np.sum(x)

        derivative = grad(f, tier="interpret")
        return derivative(np.ones(3)), grad(f)(np.ones(3))

    for first, second in together(work):
        np.testing.assert_allclose(first, second)
    assert current() is None


def test_captures_of_functions_traced_in_several_threads():
    def work(k):
        data = np.full(3, float(k))
        number = float(k)

        def f(x):
            return np.sum(x * data) * number

        derivative = grad(f)
        found = []
        for step in range(4):
            data[0] = number = float(step)
            found.append((derivative(np.ones(3)), data * number))
        return found

    for found in together(work):
        for gradient, expected in found:
            np.testing.assert_array_equal(gradient, expected)


def test_pullbacks_own_their_residuals():
    def work(k):
        x = np.full(100, 1.0 + k)
        pullbacks = [vjp(lambda x: np.exp(x / 10) * x, x * (j + 1))[1] for j in range(5)]
        for j in (3, 1, 4, 0, 2):
            z = x * (j + 1)
            (found,) = pullbacks[j](np.ones(100))
            np.testing.assert_allclose(found, np.exp(z / 10) * (1 + z / 10), rtol=1e-12)
        return True

    assert all(together(work))


def test_options_belong_to_their_thread():
    f = grad(lambda x: x * x)

    def work(k):
        with config(target="numpy" if k % 2 else "cpu"):
            for _ in range(30):
                assert f(3.0) == 6.0
                assert config.target == ("numpy" if k % 2 else "cpu")
        return config.target

    assert set(together(work)) == {"cpu"}


# --- memory


def growth(work, count, warm=50):
    """Bytes per call that are still held after `count` calls of work(k), after `warm` other calls."""
    tracemalloc.start()
    try:
        for k in range(warm):
            work(k)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for k in range(count):
            work(warm + k)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()


def test_discarded_functions_leave_nothing():
    x = np.ones(3)

    def discard(k):
        data = np.full(100, float(k))
        grad(lambda x: np.sum(x) * k + data[0])(x)
        jit(lambda x: (x * k, data), tier="interpret")(x)

    assert growth(discard, 250) < 400  # the array alone is 800


def test_a_discarded_function_goes_at_once():
    data = np.ones(1000)
    watched = weakref.ref(data)

    def make(data):
        return grad(lambda x: np.sum(x * data))

    gc.disable()
    try:
        derivative = make(data)
        for _ in range(3):
            derivative(np.ones(1000))
        del data, derivative
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("tier", ["interpret", "compile"])
def test_many_sizes_are_bounded(tier):
    f = grad(lambda x: np.sum(x * x), tier=tier)
    sizes = 2 * SIGNATURES
    assert growth(lambda k: f(np.ones(k % sizes)), sizes, warm=sizes) < 400
    assert len(f._dispatcher.programs) == SIGNATURES
    assert f.traces == 2 * sizes


def test_new_sizes_only_fill_bounded_tables():
    f = grad(lambda x: np.sum(x * x), tier="interpret")
    assert growth(lambda k: f(np.ones(10_000 + k)), 400, warm=SIGNATURES) < 1000  # the table of avals: 65536 at most


def test_many_values_of_static_arguments_and_captures_are_bounded():
    k = 0
    f = grad(lambda x, n: x * n * k, tier="interpret")
    for n in range(SIGNATURES + 50):
        k = n
        assert f(1.0, n) == n * n
    for k in range(20):
        assert f(1.0, 3) == 3 * k
    assert len(f._dispatcher.programs) <= SIGNATURES
    assert max(len(programs) for programs in f._dispatcher.programs.values()) <= 4


def test_methods_of_many_objects_are_bounded():
    class Model:
        def __init__(self):
            self.data = np.ones(1000)

        @grad
        def loss(self, x):
            return np.sum(x * self.data)

    watched = []
    for _ in range(150):
        model = Model()
        watched.append(weakref.ref(model))
        model.loss(np.ones(1000))
    del model
    gc.collect()
    assert sum(reference() is not None for reference in watched) <= 64


def test_results_are_not_kept():
    f = value_and_grad(lambda x: np.sum(x * x))
    x = np.ones(1000)
    references = [weakref.ref(f(x)[1]) for _ in range(4)]
    assert all(reference() is None for reference in references)


def test_rebound_arrays_are_not_kept():
    data = np.ones(1000)
    f = grad(lambda x: np.sum(x * data))
    for _ in range(3):
        f(np.ones(1000))
        old = weakref.ref(data)
        data = np.ones(1000)
        f(np.ones(1000))
        assert old() is None


def test_an_error_leaves_nothing_open():
    for _ in range(20):
        with pytest.raises(TypeError):
            grad(lambda x: "text")(1.0)
    assert current() is None


def test_one_arena_is_kept_and_not_another_for_the_native_entry():
    f = grad(lambda x: np.sum(np.cumsum(x * x) * np.cumsum(x)), tier="compile")
    x = np.linspace(0.0, 1.0, 50)
    for _ in range(3):
        f(x)
    ((program,),) = f._dispatcher.programs.values()
    assert program.native is not None and program.runner.executable.plan.arena_bytes > 0
    assert program.runner.executable._arenas == []
