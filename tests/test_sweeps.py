"""Kernels called for some rows at a time: the same results as for all at once, in less memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

import jitgrad
from jitgrad.lowering import sweeps


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


def both_axes(x, y):  # the column sums are made in parts, and what is made of them comes after the run
    rows = x / (1.0 + np.sum(x * x, axis=1, keepdims=True))
    return np.sum(np.exp(np.sum(rows * y, axis=0)))


def squares(x, y):
    return np.sum((x - y) ** 2 / (1.0 + x * x))


def columns(x, y):
    return np.sum(np.var(x * y, axis=0) + np.max(x, axis=0) * np.min(y, axis=0))


def regression(x, y):
    scores = x @ y[0]
    return np.sum(np.log1p(np.exp(-np.abs(scores))) + np.maximum(scores, 0.0))


PROGRAMS = (softmax_loss, layer_norm, log_sum_exp, both_axes, squares, columns, regression)


def plan_of(function):
    return function._dispatcher.last.runner.executable.plan


def cut_finely(monkeypatch, block=3_000):
    for name, value in (("LEAST_BYTES", 0), ("BLOCK_BYTES", block), ("PARALLEL_WORK", 0), ("PIECE_WORK", 20)):
        monkeypatch.setattr(sweeps, name, value)


def both_ways(program, *arguments, **options):
    """Results of the compiled gradient with sweeps and without; the first really has some."""
    swept = jitgrad.jit(jitgrad.value_and_grad(program, **options))
    found = swept(*arguments)
    assert plan_of(swept).sweeps
    with jitgrad.config(skip="sweeps"):
        plain = jitgrad.jit(jitgrad.value_and_grad(program, **options))
        expected = plain(*arguments)
        assert not plan_of(plain).sweeps
    return found, expected


@pytest.mark.parametrize("block", [1, 700, 3_000, 1 << 17])
@pytest.mark.parametrize("program", PROGRAMS)
def test_same_results_as_without(program, block, monkeypatch):
    cut_finely(monkeypatch, block)
    rng = np.random.default_rng(0)
    for shape in ((37, 11), (5, 130), (200, 13), (130, 64)):
        x, y = rng.normal(size=shape), rng.normal(size=shape)
        (value, gradients), (expected, slopes) = both_ways(program, x, y, argnums=(0, 1))
        np.testing.assert_allclose(value, expected, rtol=1e-13)
        np.testing.assert_allclose(value, program(x, y), rtol=1e-12)
        for gradient, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_allclose(gradient, slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(1000,), (7, 300), (300, 7), (3, 200, 4), (65, 2, 33)])
def test_one_kernel_is_cut_along_any_loop(shape, monkeypatch):
    cut_finely(monkeypatch)
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape)
    x[(0,) * x.ndim] = np.inf

    def programs(x):
        yield np.sum(np.tanh(x))
        yield np.max(x * x)
        yield np.sum(np.exp(-x), axis=0)
        yield np.min(x + 1.0, axis=-1)
        yield np.prod(np.cos(x), axis=-1)
        yield np.any(x > 2.0, axis=0)
        yield np.argmax(x, axis=0)
        yield x[::-1] * 2.0 + np.swapaxes(x, 0, -1).sum()

    compiled = jitgrad.jit(lambda x: tuple(programs(x)))
    found = compiled(x)
    assert plan_of(compiled).sweeps
    with np.errstate(all="ignore"):
        expectations = list(programs(x))
    for result, expected in zip(found, expectations, strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_parts_of_a_long_sum_are_put_together_accurately():
    x = np.random.default_rng(4).normal(size=(1 << 20,)) + 3.0
    compiled = jitgrad.jit(lambda x: np.sum(x))
    total = compiled(x)
    (sweep,) = plan_of(compiled).sweeps
    assert sweep.blocks > 1
    assert abs(total - math.fsum(x)) <= 1e-15 * np.sum(np.abs(x))


def test_what_is_handed_on_takes_one_block():
    x, y = np.random.default_rng(1).normal(size=(2, 4000, 100))
    swept = jitgrad.jit(jitgrad.grad(softmax_loss))
    gradient = swept(x, y)
    with jitgrad.config(skip="sweeps"):
        without = jitgrad.jit(jitgrad.grad(softmax_loss))
        np.testing.assert_array_equal(without(x, y), gradient)
        assert plan_of(swept).arena_bytes < plan_of(without).arena_bytes / 4


def test_a_regression_goes_over_its_data_once():
    """The product with the data and the one with its transpose are in one sweep, the loss too."""
    rng = np.random.default_rng(5)
    weights, data, labels = rng.normal(size=50), rng.normal(size=(10_000, 50)), rng.integers(0, 2, 10_000) * 1.0

    def loss(weights, data, labels):
        scores = data @ weights
        return np.sum(np.logaddexp(0.0, scores) - labels * scores)

    compiled = jitgrad.jit(jitgrad.value_and_grad(loss))
    compiled(weights, data, labels)
    plan = plan_of(compiled)
    (sweep,) = plan.sweeps
    reading = [k for k, step in enumerate(plan.steps) if plan.graph.inputs[1] in step.touches]
    assert len(reading) == 2 and all(sweep.start <= k < sweep.stop for k in reading)


def test_small_work_is_left_alone():
    f = jitgrad.jit(jitgrad.grad(softmax_loss))
    f(np.ones((20, 10)), np.ones((20, 10)))
    assert not plan_of(f).sweeps


def test_a_total_beside_values_of_rows_is_made_in_parts(monkeypatch):
    cut_finely(monkeypatch, 2_000)

    def variances(x, y):
        mean = np.mean(x, axis=1)
        return np.sum(np.var(x, axis=1) / (1.0 + mean * mean)) + np.sum(y[0])

    x, y = np.random.default_rng(2).normal(size=(2, 301, 20))
    (value, gradient), (expected, slope) = both_ways(variances, x, y)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-13, atol=1e-15)


# --- scatter-additions


def pairs(table, i, j):
    return np.sum(np.tanh(np.sum(table[i] * table[j], axis=-1)))


def test_gradients_of_gathers_are_added_in_one_kernel_to_one_array():
    rng = np.random.default_rng(6)
    table, i, j = rng.normal(size=(50, 24)), rng.integers(-50, 50, 300), rng.integers(0, 50, 300)
    i[:40] = j[:40] = 7  # both additions of a row meet
    compiled = jitgrad.jit(jitgrad.grad(pairs))
    gradient = compiled(table, i, j)
    plan = plan_of(compiled)
    adding = [step for step in plan.steps if any(store.indices for store in step.kernel.stores)]
    assert len(adding) == 1 and len(adding[0].kernel.stores) == 2
    assert plan.arena_bytes < 300 * 24 * 8  # the rows that are added are not stored first
    expected = np.zeros_like(table)
    slope = 1.0 - np.tanh(np.sum(table[i] * table[j], axis=-1)) ** 2
    np.add.at(expected, i, slope[:, None] * table[j])
    np.add.at(expected, j, slope[:, None] * table[i])
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-12)


def test_additions_at_indices_are_cut_along_what_is_added(monkeypatch):
    cut_finely(monkeypatch)
    rng = np.random.default_rng(7)
    table, i, j = rng.normal(size=(9, 200)), rng.integers(0, 9, 64), rng.integers(-9, 9, 64)
    (value, gradient), (expected, slope) = both_ways(pairs, table, i, j)
    compiled = jitgrad.jit(jitgrad.grad(pairs))
    np.testing.assert_allclose(compiled(table, i, j), gradient, rtol=1e-12, atol=1e-13)
    cut = {step for sweep in plan_of(compiled).sweeps for step in range(sweep.start, sweep.stop)}
    adding = [k for k, step in enumerate(plan_of(compiled).steps) if any(s.indices for s in step.kernel.stores)]
    assert adding and cut.issuperset(adding)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("base", ["computed", "input", "constant", "output", "used"])
def test_what_is_added_to(base):
    """The array that a scatter-addition starts from is made in its buffer only where nobody else wants it."""
    rng = np.random.default_rng(8)
    x, v, i = rng.normal(size=(6, 5)), rng.normal(size=(9, 5)), rng.integers(0, 6, 9)

    def program(x, v):
        start = {"computed": np.exp(x), "input": x, "constant": 0.0 * x + 1.0, "output": x * 2.0, "used": x - 1.0}[base]
        total = start + jitgrad.vjp(lambda y: y[i], x)[1](v)[0]  # start, and v added at i
        if base == "output":
            return total, start
        return (total, np.sum(start)) if base == "used" else (total, 0.0)

    total, other = jitgrad.jit(program)(x, v)
    start = {"computed": np.exp(x), "input": x, "constant": np.ones((6, 5)), "output": x * 2.0, "used": x - 1.0}[base]
    expected = start.copy()
    np.add.at(expected, i, v)
    np.testing.assert_allclose(total, expected, rtol=1e-13)
    if base == "output":
        np.testing.assert_array_equal(other, start)
    if base == "used":
        np.testing.assert_allclose(other, np.sum(start), rtol=1e-13)


def test_bad_indices_are_found_in_cut_kernels(monkeypatch):
    cut_finely(monkeypatch)
    table = np.ones((9, 200))
    compiled = jitgrad.jit(jitgrad.grad(pairs))
    good, bad = np.zeros(64, int), np.full(64, 9)
    compiled(table, good, good)
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 9"):
        compiled(table, good, bad)


# --- matrix products


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("shape", [(300, 40, 50), (70, 40, 600), (257, 300, 135), (5, 130, 64, 40), (2, 3, 300, 8, 20)])
def test_a_large_product_is_cut_without_changing_a_bit(shape, dtype, monkeypatch):
    cut_finely(monkeypatch)
    *batch, rows, terms, columns = shape
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(*batch, rows, terms)).astype(dtype), rng.normal(size=(*batch, terms, columns)).astype(dtype)
    swapped = np.ascontiguousarray(np.swapaxes(b, -1, -2))

    def products(a, b, swapped):
        return a @ b, a @ np.swapaxes(swapped, -1, -2), np.swapaxes(a @ b * 2.0, -1, -2)

    compiled = jitgrad.jit(products, threads=3)
    found = compiled(a, b, swapped)
    cut = [sweep for sweep in plan_of(compiled).sweeps if plan_of(compiled).steps[sweep.start] in products_of(compiled)]
    assert cut and all(sweep.blocks > 1 for sweep in cut)
    with jitgrad.config(skip="sweeps"):
        expected = jitgrad.jit(products)(a, b, swapped)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("extent", [129, 257, 385, 513, 577, 769, 1153])
def test_no_piece_of_a_product_is_a_single_row(extent, monkeypatch):
    """Its sums would have another order: the bits would depend on the number of threads."""
    cut_finely(monkeypatch)
    rng = np.random.default_rng(12)
    for shapes in (((extent, 20), (20, 30)), ((30, 20), (20, extent))):
        a, b = (rng.normal(size=shape) for shape in shapes)
        expected = jitgrad.jit(lambda a, b: a @ b, threads=1)(a, b)
        for threads in (2, 3, 4, 5, 8, 64):
            np.testing.assert_array_equal(jitgrad.jit(lambda a, b: a @ b, threads=threads)(a, b), expected)


def products_of(compiled):
    return [step for step in plan_of(compiled).steps if getattr(step, "routine", "") == "matmul"]


def test_a_layer_takes_its_rows_through_products_and_kernels_together(monkeypatch):
    cut_finely(monkeypatch)
    rng = np.random.default_rng(10)
    weights, data, labels = rng.normal(size=(20, 12)), rng.normal(size=(900, 20)), rng.normal(size=(900, 12))

    def loss(weights, data, labels):
        scores = data @ weights
        shifted = scores - np.max(scores, axis=1, keepdims=True)
        return np.sum(labels * (shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))))

    (value, gradient), (expected, slope) = both_ways(loss, weights, data, labels)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, slope, rtol=1e-12)
    compiled = jitgrad.jit(jitgrad.value_and_grad(loss))
    compiled(weights, data, labels)
    sweeps_of = plan_of(compiled).sweeps
    inside = {plan_of(compiled).steps[k] for sweep in sweeps_of[:1] for k in range(sweep.start, sweep.stop)}
    assert inside.issuperset(products_of(compiled))


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("extents", [(1, 3, 2), (2, 2, 2), (3, 3, 3), (4, 2, 3), (5, 8, 7), (8, 8, 8)])
def test_many_tiny_products(extents, dtype, monkeypatch):
    cut_finely(monkeypatch)
    rows, terms, columns = extents
    rng = np.random.default_rng(11)
    for batch in ((17,), (5, 7)):
        shapes = (*batch, rows, terms), (*batch, terms, columns), (*batch, rows, columns)
        a, b, c = (rng.normal(size=shape).astype(dtype) for shape in shapes)
        swapped = np.swapaxes(np.ascontiguousarray(np.swapaxes(b, -1, -2)), -1, -2)

        def loss(a, b, c):
            return np.sum(c * (a @ b))

        tolerance = dict(rtol=1e-12, atol=1e-12) if dtype == "f8" else dict(rtol=1e-4, atol=1e-4)
        for second in (b, swapped, b[::-1]):
            value, (left, right) = jitgrad.jit(jitgrad.value_and_grad(loss, argnums=(0, 1)))(a, second, c)
            np.testing.assert_allclose(value, loss(a, second, c), **tolerance)
            np.testing.assert_allclose(left, c @ np.swapaxes(second, -1, -2), **tolerance)
            np.testing.assert_allclose(right, np.swapaxes(a, -1, -2) @ c, **tolerance)


def test_tiny_products_of_nan_and_infinity():
    a, b = np.ones((20, 2, 2)), np.ones((20, 2, 2))
    a[3, 0, 0], b[4, 1, 1], b[5, 0, 0] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        expected = a @ b
    np.testing.assert_array_equal(jitgrad.jit(lambda a, b: a @ b)(a, b), expected)
