"""Compiled programs called from njit code."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad
from jitgrad.errors import UsageTypeError

numba = pytest.importorskip("numba")


def test_value_and_gradient_inside_an_njit_loop():
    weights = np.arange(5.0) + 1
    step = jitgrad.to_numba(jitgrad.value_and_grad(lambda x, s: np.sum(s * weights * x * x)), np.ones(5), 1.0)

    @numba.njit
    def descend(x, rate):
        value = 0.0
        for _ in range(50):
            value, gradient = step(x, 1.0)
            x = x - rate * gradient
        return value, x

    x = np.linspace(1, 2, 5)
    expected = x.copy()
    for _ in range(50):
        value = np.sum(weights * expected * expected)
        expected = expected - 0.03 * 2 * weights * expected
    got, point = descend(x, 0.03)
    np.testing.assert_allclose(got, value, rtol=1e-12)
    np.testing.assert_allclose(point, expected, rtol=1e-12)
    weights[:] = 0.0  # captured by reference
    assert step(x, 1.0)[0] == 0.0


def test_strided_arguments_matrices_and_threads():
    f = jitgrad.to_numba(lambda a, b: np.tanh(a @ b), np.ones((4, 3)), np.ones((3, 2)))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)).T, rng.normal(size=(6, 2))[::2]
    np.testing.assert_allclose(f(a, b), np.tanh(a @ b), rtol=1e-12)

    @numba.njit
    def many(a, b):
        total = 0.0
        for _ in range(200):  # temporaries die and their memory is used again
            total += f(a, b)[0, 0]
        return total

    np.testing.assert_allclose(many(a, b), 200 * np.tanh(a @ b)[0, 0], rtol=1e-12)


def test_errors():
    f = jitgrad.to_numba(lambda x, i: x[i], np.arange(5.0), np.array([1, 2]))
    np.testing.assert_array_equal(f(np.arange(5.0), np.array([4, -1])), [4.0, 4.0])
    with pytest.raises(IndexError):
        f(np.arange(5.0), np.array([0, 5]))
    with pytest.raises(ValueError, match="another shape"):
        f(np.arange(6.0), np.array([0, 1]))
    for wrong in (np.arange(5), np.arange(5, dtype=np.float32), np.arange(5) * 1j):  # its bytes mean other numbers
        with pytest.raises(TypeError, match="argument 0 has another dtype than the float64"):
            f(wrong, np.array([0, 1]))
    with pytest.raises(TypeError, match="argument 1 has another dtype"):
        f(np.arange(5.0), np.array([0, 1], np.int32))
    with pytest.raises(UsageTypeError, match="example 0 is a list"):
        jitgrad.to_numba(np.sum, [1.0])
    with pytest.raises(UsageTypeError, match="tuple of them"):
        jitgrad.to_numba(lambda x: {"a": x}, np.ones(2))
