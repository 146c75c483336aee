"""Runs of row-wise kernels called strip by strip: the same bits as one after another, in less memory."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad
from jitgrad.lowering import strips


def softmax_loss(x, y):
    shifted = x - np.max(x, axis=1, keepdims=True)
    logs = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return -np.mean(np.sum(y * logs, axis=1))


def layer_norm(x, y):
    centred = x - np.mean(x, axis=1, keepdims=True)
    scaled = centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    return np.sum(np.tanh(scaled * y) ** 2)


def log_sum_exp(x, y):
    top = np.max(x, axis=-1, keepdims=True)
    return np.sum(np.log(np.sum(np.exp(x - top), axis=-1)) + top[..., 0]) + np.sum(x * y)


def both_axes(x, y):  # the column sums cannot be in the run of the rows
    rows = x / (1.0 + np.sum(x * x, axis=1, keepdims=True))
    return np.sum(np.exp(np.sum(rows * y, axis=0)))


PROGRAMS = (softmax_loss, layer_norm, log_sum_exp, both_axes)


def plan_of(function):
    return function._dispatcher.last.runner.executable.plan


@pytest.mark.parametrize("block", [1, 700, 3_000, 1 << 17])
@pytest.mark.parametrize("program", PROGRAMS)
def test_same_bits_as_without(program, block, monkeypatch):
    monkeypatch.setattr(strips, "LEAST_BYTES", 0)
    monkeypatch.setattr(strips, "BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    for shape in ((37, 11), (5, 130), (200, 3)):
        x, y = rng.normal(size=shape), rng.normal(size=shape)
        stripped = jitgrad.jit(jitgrad.value_and_grad(program, argnums=(0, 1)))
        plain = jitgrad.jit(jitgrad.value_and_grad(program, argnums=(0, 1)))
        value, gradients = stripped(x, y)
        assert plan_of(stripped).strips
        with jitgrad.config(skip="strips"):
            expected, slopes = plain(x, y)
            assert not plan_of(plain).strips
        assert value == expected
        for gradient, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_array_equal(gradient, slope)


def test_what_is_handed_on_takes_one_block():
    x, y = np.random.default_rng(1).normal(size=(2, 4000, 100))
    with_strips = jitgrad.jit(jitgrad.grad(softmax_loss))
    gradient = with_strips(x, y)
    with jitgrad.config(skip="strips"):
        without = jitgrad.jit(jitgrad.grad(softmax_loss))
        np.testing.assert_array_equal(without(x, y), gradient)
        assert plan_of(with_strips).arena_bytes < plan_of(without).arena_bytes / 4


def test_small_work_is_left_alone():
    f = jitgrad.jit(jitgrad.grad(softmax_loss))
    f(np.ones((20, 10)), np.ones((20, 10)))
    assert not plan_of(f).strips


def variances(x, y):  # the rows' values are wanted one by one and in a total: the total is taken out of the run
    mean = np.mean(x, axis=1)
    return np.sum(np.var(x, axis=1) / (1.0 + mean * mean)) + np.sum(y[0])


def test_a_total_beside_values_of_rows_is_taken_out(monkeypatch):
    monkeypatch.setattr(strips, "LEAST_BYTES", 0)
    monkeypatch.setattr(strips, "BLOCK_BYTES", 2_000)
    x, y = np.random.default_rng(2).normal(size=(2, 301, 20))
    f = jitgrad.jit(jitgrad.value_and_grad(variances))
    value, gradient = f(x, y)
    (strip,) = plan_of(f).strips
    assert strip.stop - strip.start >= 6
    with jitgrad.config(skip="strips"):
        expected, slope = jitgrad.jit(jitgrad.value_and_grad(variances))(x, y)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(value, variances(x, y), rtol=1e-13)
