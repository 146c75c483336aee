"""Rows `reduction`: value and gradient through sums over everything, over rows and over columns."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import kernel, prange
from bench.rows.row import Engine, Row, everyone, keeping_dtype


def sum_of_squares(e: Engine) -> Callable:
    np = e.np
    return e.jit(e.value_and_grad(lambda x: np.sum(x * x)))


def sum_of_squares_by_hand(x):
    number = x.dtype.type
    two, total = number(2.0), number(0.0)
    gradient = numpy.empty_like(x)
    for i in prange(x.shape[0]):
        part = number(0.0)
        for j in range(x.shape[1]):
            part += x[i, j] * x[i, j]
            gradient[i, j] = two * x[i, j]
        total += part
    return total, gradient


# sum over rows or columns of  var / (1 + mean^2)
def moments(axis: int) -> Callable:
    def builder(e: Engine) -> Callable:
        np = e.np

        def f(x):
            mean = np.mean(x, axis=axis)
            return np.sum(np.var(x, axis=axis) / (1.0 + mean * mean))
        return e.jit(e.value_and_grad(f))
    return builder


def moments_torch(axis: int) -> Callable:
    def builder(e: Engine) -> Callable:
        torch = e.np

        def f(x):
            variance, mean = torch.var_mean(x, dim=axis, correction=0)
            return torch.sum(variance / (1.0 + mean * mean))
        return e.value_and_grad(f)
    return builder


# d/dx_i = 2 (x_i - m) / (n (1 + m^2)) - 2 m v / (n (1 + m^2)^2)
def moments_of_rows_by_hand(x):
    number = x.dtype.type
    rows, columns = x.shape
    one, two, over_n, total = number(1.0), number(2.0), number(1.0 / columns), number(0.0)
    gradient = numpy.empty_like(x)
    for i in prange(rows):
        mean = number(0.0)
        for j in range(columns):
            mean += x[i, j]
        mean *= over_n
        variance = number(0.0)
        for j in range(columns):
            variance += (x[i, j] - mean) * (x[i, j] - mean)
        variance *= over_n
        weight = one / (one + mean * mean)
        total += variance * weight
        scale, shift = two * over_n * weight, two * over_n * mean * variance * weight * weight
        for j in range(columns):
            gradient[i, j] = (x[i, j] - mean) * scale - shift
    return total, gradient


def moments_of_columns_by_hand(x):
    number = x.dtype.type
    rows, columns = x.shape
    one, two, over_n = number(1.0), number(2.0), number(1.0 / rows)
    mean, variance = numpy.zeros(columns, x.dtype), numpy.zeros(columns, x.dtype)
    for i in range(rows):
        for j in range(columns):
            mean[j] += x[i, j]
    for j in range(columns):
        mean[j] *= over_n
    for i in range(rows):
        for j in range(columns):
            variance[j] += (x[i, j] - mean[j]) * (x[i, j] - mean[j])
    total = number(0.0)
    scale, shift = numpy.empty(columns, x.dtype), numpy.empty(columns, x.dtype)
    for j in range(columns):
        variance[j] *= over_n
        weight = one / (one + mean[j] * mean[j])
        total += variance[j] * weight
        scale[j], shift[j] = two * over_n * weight, two * over_n * mean[j] * variance[j] * weight * weight
    gradient = numpy.empty_like(x)
    for i in prange(rows):
        for j in range(columns):
            gradient[i, j] = (x[i, j] - mean[j]) * scale[j] - shift[j]
    return total, gradient


# sum over rows of  log sum_j exp x_ij; its gradient is the softmax of each row
def logsumexp(e: Engine) -> Callable:
    np = e.np

    def f(x):
        largest = np.max(x, axis=1, keepdims=True)
        return np.sum(np.log(np.sum(np.exp(x - largest), axis=1)) + largest[:, 0])
    return e.jit(e.value_and_grad(f))


def logsumexp_autograd(e: Engine) -> Callable:
    of_rows = e.library.scipy.special.logsumexp
    return e.value_and_grad(lambda x: e.np.sum(of_rows(x, axis=1)))


def logsumexp_jax(e: Engine) -> Callable:
    of_rows = e.library.nn.logsumexp
    return e.jit(e.value_and_grad(lambda x: e.np.sum(of_rows(x, axis=1))))


def logsumexp_torch(e: Engine) -> Callable:
    torch = e.np
    return e.value_and_grad(lambda x: torch.sum(torch.logsumexp(x, dim=1)))


def logsumexp_by_hand(x):
    number = x.dtype.type
    rows, columns = x.shape
    total = number(0.0)
    gradient = numpy.empty_like(x)
    for i in prange(rows):
        largest = x[i, 0]
        for j in range(columns):
            largest = max(largest, x[i, j])
        weight = number(0.0)
        for j in range(columns):
            gradient[i, j] = math.exp(x[i, j] - largest)
            weight += gradient[i, j]
        total += math.log(weight) + largest
        weight = number(1.0) / weight
        for j in range(columns):
            gradient[i, j] *= weight
    return total, gradient


def matrix(rng, rows: int, columns: int, dtype: str) -> tuple:
    return (rng.standard_normal((rows, columns)).astype(dtype) + 0.5,)


def reduction(name: str, programs: dict, rows: int, columns: int, dtype: str) -> Row:
    programs = keeping_dtype(programs, dtype) if "moments" in name else programs
    return Row(f"reduction.{name} {rows}x{columns} {dtype}", programs, matrix,
               size={"rows": rows, "columns": columns, "dtype": dtype}, tiny={"rows": 3, "columns": 4},
               quick=dtype == "float64")


ROWS = tuple(
    reduction(name, programs, rows, columns, dtype)
    for name, programs, rows, columns in (
        ("squares", everyone(sum_of_squares, numba=kernel(sum_of_squares_by_hand)), 2000, 500),
        ("moments-axis0", everyone(moments(0), torch=moments_torch(0),
                                   numba=kernel(moments_of_columns_by_hand)), 2000, 500),
        ("moments-axis1", everyone(moments(1), torch=moments_torch(1),
                                   numba=kernel(moments_of_rows_by_hand)), 2000, 500),
        ("logsumexp", everyone(logsumexp, autograd=logsumexp_autograd, torch=logsumexp_torch,
                               jax=logsumexp_jax, numba=kernel(logsumexp_by_hand)), 10_000, 100),
    )
    for dtype in ("float64", "float32")
)
