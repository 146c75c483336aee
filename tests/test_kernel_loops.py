"""The loops of kernels at their edges: column and row folds around the sizes of their blocks, strides, indices."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys

import numpy as np
import pytest

import jitgrad

ROWS = (1, 2, 3, 4, 7, 8, 9, 255, 256, 257, 513)
COLUMNS = (1, 2, 7, 8, 9, 31, 33, 130)


def check(f, *arrays, rtol=1e-13, atol=0.0):
    expected, got = f(*arrays), jitgrad.jit(f)(*arrays)
    expected, got = (values if isinstance(values, tuple) else (values,) for values in (expected, got))
    for wanted, value in zip(expected, got, strict=True):
        assert value.dtype == wanted.dtype
        np.testing.assert_allclose(value, wanted, rtol=rtol, atol=atol)


def whole(shape, dtype="f8", seed=0):
    """Whole numbers: every order of addition gives the same sums."""
    return np.random.default_rng(seed).integers(-5, 6, shape).astype(dtype)


# --- folds of columns


@pytest.mark.parametrize("rows", ROWS)
def test_sums_of_columns(rows):
    for columns in COLUMNS:
        check(lambda x: np.sum(x, axis=0), whole((rows, columns)))


@pytest.mark.parametrize("columns", [1023, 1024, 1025, 2056])
@pytest.mark.parametrize("rows", [3, 300])
def test_columns_of_several_blocks(rows, columns):
    x, w = whole((rows, columns)), whole(columns, seed=1)
    check(lambda x, w: (np.sum(x, axis=0), np.max(x * w, axis=0), np.sum(x * x), x + w, np.sum(x - w, axis=0)), x, w)


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "i4", "i1", "u2", "?"])
@pytest.mark.parametrize("rows", [1, 5, 258])
def test_columns_of_every_kind(rows, dtype):
    x = whole((rows, 21), dtype) if dtype != "u2" else np.abs(whole((rows, 21))).astype(dtype)
    if dtype == "?":
        check(lambda x: (np.any(x, axis=0), np.all(x, axis=0), np.max(x, axis=0)), x)
    else:
        check(lambda x: (np.min(x, axis=0), np.max(x, axis=0)), x)
        x = np.clip(x, None, 3) if dtype == "f2" else x
        check(lambda x: np.sum(x, axis=0, dtype=x.dtype), np.clip(x, 0, 2) if dtype == "f2" else x, rtol=1e-3)


def test_products_of_columns():
    x = np.random.default_rng(0).uniform(0.9, 1.1, (301, 17))
    check(lambda x: (np.prod(x, axis=0), np.sum(x, axis=0)), x, rtol=1e-12)


def test_folds_of_outer_axes_beside_axes_that_stay():
    x, w, v = whole((260, 5, 9)), whole((5, 1), seed=1), whole(9, seed=2)
    check(lambda x, w, v: np.sum(x * w * v, axis=0), x, w, v)              # the outermost of three
    check(lambda x, w, v: np.sum(x * w * v, axis=(0, 1)), x, w, v)         # two of three, more than a chunk of rows
    check(lambda x, w, v: np.sum(x[:20] * w * v, axis=(0, 1)), x, w, v)    # less
    check(lambda x, w, v: np.sum(x * w * v, axis=1), x, w, v)              # the middle one
    check(lambda x, w, v: (np.max(x * w, axis=0), np.sum(x * v, axis=0), np.sum(x * w * v)), x, w, v)


def test_rows_and_columns_in_one_kernel():
    x = whole((263, 37))
    check(lambda x: (np.sum(x, axis=0), np.sum(x, axis=1), np.sum(x), np.max(x, axis=0), x * 2.0), x)


def test_costly_bodies_by_columns():
    x = np.random.default_rng(0).normal(size=(270, 33))
    check(lambda x: (np.sum(np.exp(x) * np.sin(x), axis=0), np.sum(np.tanh(x))), x, rtol=1e-12)


def test_row_numbers_in_sums_of_columns():
    check(lambda x: np.sum(x * np.arange(270.0)[:, None] + np.arange(11.0), axis=0), whole((270, 11)))


@pytest.mark.parametrize("rows", [9, 700])
def test_special_values_in_columns(rows):
    x = whole((rows, 12))
    x[3, 0], x[4, 1], x[rows - 1, 2] = np.nan, np.inf, -np.inf
    x[0, 3], x[rows - 2, 3] = np.inf, -np.inf
    x[:, 4] = -0.0
    with np.errstate(invalid="ignore"):
        check(lambda x: (np.sum(x, axis=0), np.max(x, axis=0), np.min(x, axis=0)), x)
        check(lambda x: (np.sum(x, axis=1), np.max(x, axis=1), np.min(x, axis=1)), np.ascontiguousarray(x.T))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_long_sums_are_accurate(dtype, axis):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (1_000_003, 3) if axis == 0 else (3, 1_000_003)).astype(dtype)
    x += np.array(0.1, dtype)  # one sign: errors that add up would show
    lines = x.T if axis == 0 else x
    exact = np.array([math.fsum(line) for line in lines.astype("f8")])
    got = jitgrad.jit(lambda x: np.sum(x, axis=axis))(x)
    bound = {"f8": 1e-14, "f4": 3e-7}[dtype]
    assert np.max(np.abs(got - exact) / exact) < bound


def test_long_sums_beside_additions_at_indices_are_accurate():
    count = 1_000_003
    index, w = np.arange(count) % 3, np.full(count, 0.1)
    value, slope = jitgrad.value_and_grad(lambda t, i, w: np.sum(t[i] * w))(np.ones(3), index, w)
    np.testing.assert_allclose(value, math.fsum(w), rtol=1e-14)
    np.testing.assert_allclose(slope, 0.1 * np.bincount(index), rtol=1e-10)


def test_a_column_does_not_depend_on_where_it_stands():
    x = np.random.default_rng(0).normal(size=(600, 1100))
    f = jitgrad.jit(lambda x: np.sum(x, axis=0))
    with jitgrad.config(skip="sweeps"):
        together = f(x)
        for start, stop in ((5, 40), (1000, 1100), (1080, 1093)):
            np.testing.assert_array_equal(f(np.ascontiguousarray(x[:, start:stop])), together[start:stop])


# --- folds of rows


@pytest.mark.parametrize("columns", [1, 2, 7, 8, 9, 50, 2047, 2048, 2049, 4100])
def test_sums_of_rows(columns):
    for rows in (1, 2, 3, 4, 5, 6, 9):
        check(lambda x: (np.sum(x, axis=1), np.max(x * 2.0, axis=1)), whole((rows, columns)))


@pytest.mark.parametrize("dtype", ["f4", "i8", "i2", "?"])
def test_rows_of_every_kind(dtype):
    x = whole((11, 45), dtype)
    check(lambda x: (np.max(x, axis=1), np.min(x, axis=1), np.any(x, axis=1), np.sum(x, axis=1)), x)


def test_a_row_does_not_depend_on_its_neighbours():
    x = np.random.default_rng(0).normal(size=(23, 77))
    f = jitgrad.jit(lambda x: (np.sum(x, axis=1), np.sum(x * x, axis=1)))
    together = f(x)
    for start, stop in ((0, 6), (3, 15), (1, 8), (16, 23)):
        for alone, whole_of in zip(f(np.ascontiguousarray(x[start:stop])), together, strict=True):
            np.testing.assert_array_equal(alone, whole_of[start:stop])


def test_values_of_rows_are_stored_beside_their_sums():
    x, b = whole((7, 13)), whole(7, seed=1)
    check(lambda x, b: (x * b[:, None], np.sum(x * b[:, None], axis=1), np.sum(x)), x, b)


# --- strides


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i2", "i1", "?"])
@pytest.mark.parametrize("step", [-1, 2, 3, -2, 5])
def test_strides_are_read(step, dtype):
    for size in (1, 2, 7, 8, 15, 16, 17, 33, 64, 65, 200):
        x = whole(size * abs(step) + 1, dtype, seed=size)
        check(lambda x: (x[::step] | x[::step]) if x.dtype == bool else x[::step] * x.dtype.type(2), x)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i2", "i1", "?"])
def test_strides_are_written(dtype):
    for size in (2, 7, 8, 15, 16, 17, 33, 64, 65, 200):
        x, y = whole(size, dtype), whole(size, dtype, seed=1)
        check(lambda x, y: (np.stack([x, y], axis=1), np.stack([y, x, x], axis=1), np.stack([x, y, y, y, x], axis=1)), x, y)


@pytest.mark.parametrize("step", [-1, 2, 3, -2])
def test_cotangents_of_strides(step):
    for size in (3, 8, 17, 40, 65):
        x = whole(size)
        w = whole(len(x[::step]), seed=1)
        expected = np.zeros(size)
        expected[::step] = w
        np.testing.assert_array_equal(jitgrad.grad(lambda x, w: np.sum(x[::step] * w))(x, w), expected)


def test_columns_of_pairs_and_triples():
    for width in (2, 3, 4):
        p = np.random.default_rng(0).normal(size=(41, width))
        f = lambda p: np.sum(np.sin(p[:, 0]) * p[:, 1] + p[:, -1] ** 2)  # noqa: E731
        step = 1e-6
        slopes = np.zeros_like(p)
        for at in np.ndindex(*p.shape):
            moved = p.copy()
            moved[at] += step
            slopes[at] = (f(moved) - f(p)) / step
        np.testing.assert_allclose(jitgrad.grad(f)(p), slopes, atol=1e-4)


@pytest.mark.parametrize("step", [-1, 2, 3])
def test_nothing_outside_of_an_array_is_touched(step):
    page = mmap.PAGESIZE
    room = mmap.mmap(-1, 3 * page)
    memory = np.frombuffer(room, np.uint8)
    if sys.platform.startswith("linux"):  # elsewhere the values alone are checked
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert protect(memory.ctypes.data, page, 0) == 0 == protect(memory.ctypes.data + 2 * page, page, 0)
    inside = memory[page : 2 * page].view("f8")
    inside[:] = np.arange(len(inside))
    f = jitgrad.jit(lambda x: x * 2.0)
    for size in (1, 5, 16, 33):
        length = (size - 1) * abs(step) + 1
        for x in (inside[:length], inside[len(inside) - length :]):
            np.testing.assert_array_equal(f(x[::step]), x[::step] * 2.0)


# --- indices


def embedded(table, i, j):
    return np.sum(np.tanh(np.sum(table[i] * table[j], axis=-1))) + np.sum(table[i[0]])


@pytest.mark.parametrize("width", [1, 3, 8, 33])
def test_one_array_at_several_indices(width):
    rng = np.random.default_rng(0)
    table, i, j = rng.normal(size=(9, width)), rng.integers(-9, 9, 50), rng.integers(0, 9, 50)
    value, slope = jitgrad.value_and_grad(embedded)(table, i, j)
    np.testing.assert_allclose(value, embedded(table, i, j), rtol=1e-13)
    expected = np.zeros_like(table)
    weight = 1.0 - np.tanh(np.sum(table[i] * table[j], axis=-1)) ** 2
    np.add.at(expected, i, weight[:, None] * table[j])
    np.add.at(expected, j, weight[:, None] * table[i])
    expected[i[0]] += 1.0
    np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cost", ["cheap", "costly"])
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_duplicates_accumulate(cost, dtype):
    def f(t, i, w):
        return np.sum(np.exp(t[i] * w)) if cost == "costly" else np.sum(t[i] * w)

    rng = np.random.default_rng(0)
    for count in (1, 7, 8, 9, 16, 100, 1003):
        for bins in (1, 2, 50):
            t, i = rng.normal(size=bins).astype(dtype), rng.integers(-bins, bins, count)
            w = rng.normal(size=count).astype(dtype)
            expected = np.zeros(bins)
            np.add.at(expected, i, (w * np.exp(t[i] * w) if cost == "costly" else w).astype("f8"))
            got = jitgrad.grad(f)(t, i, w)
            scale = 1e-12 if dtype == "f8" else 2e-5
            np.testing.assert_allclose(got, expected, rtol=scale, atol=scale * (1 + np.sum(np.abs(w))))


@pytest.mark.parametrize("bad", [9, -10, 2**40, -(2**62)])
def test_bad_indices_are_found_in_every_loop(bad):
    table, flat = np.ones((9, 20)), np.ones(9)
    for size in (1, 8, 30):
        index = np.zeros(size, np.int64)
        index[-1] = bad
        with pytest.raises(IndexError):
            jitgrad.jit(lambda t, i: np.sum(t[i], axis=1))(table, index)
        with pytest.raises(IndexError):
            jitgrad.jit(lambda t, i: t[i] * 2.0)(flat, index)
        with pytest.raises(IndexError):
            jitgrad.grad(lambda t, i: np.sum(t[i] * 2.0))(flat, index)
        with pytest.raises(IndexError):
            jitgrad.grad(lambda t, i: np.sum(np.exp(t[i])))(flat, index)


def test_fastmath_reassociates():
    x = np.random.default_rng(0).uniform(-2.0, 2.0, 1001)

    def f(x):
        p = ((x - 1.5) * x + 0.5) * x + 2.0
        return np.sum(p / (x * x + 1.0) + 0.25 * x * x * x)

    exact = jitgrad.value_and_grad(f)(x)
    with jitgrad.config(fastmath=True):
        relaxed = jitgrad.jit(jitgrad.value_and_grad(f))(x)
    for got, wanted in zip(relaxed, exact, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["fmod", "power", "remainder", "floor_divide", "arctan2", "hypot", "tan", "cbrt"])
def test_functions_of_single_numbers_in_half_precision(name):
    """They compute in float64 inside, in a kernel of one operation: nothing may be left that only a library could do."""
    function = getattr(np, name)
    numbers = [np.float16(5.5), np.float16(2.25)][: function.nin]
    for arguments in (numbers, [np.full(37, number) for number in numbers], [np.float16(np.nan)] * function.nin):
        with np.errstate(invalid="ignore"):
            expected = function(*arguments)
        found = jitgrad.jit(lambda *x: function(*x))(*arguments)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, expected, rtol=2e-3)
