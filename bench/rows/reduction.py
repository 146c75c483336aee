"""Rows `reduction`: value and gradient through sums over everything, over rows and over columns."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import kernel, prange
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone, keeping_dtype

CHUNKS = 16      # rows are split in so many parts by the hand-written programs, one partial sum each


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
    parts = numpy.zeros((CHUNKS, columns), x.dtype)
    for chunk in prange(CHUNKS):
        for i in range(chunk * rows // CHUNKS, (chunk + 1) * rows // CHUNKS):
            for j in range(columns):
                parts[chunk, j] += x[i, j]
    mean = parts.sum(axis=0) * over_n
    for chunk in prange(CHUNKS):
        parts[chunk] = number(0.0)
        for i in range(chunk * rows // CHUNKS, (chunk + 1) * rows // CHUNKS):
            for j in range(columns):
                parts[chunk, j] += (x[i, j] - mean[j]) * (x[i, j] - mean[j])
    variance = parts.sum(axis=0)
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


def work(functions: int, others: int) -> Callable[..., Work]:
    """So many functions and other operations for an entry, which is read, and of which the slope is written."""
    def of_size(rows: int, columns: int, dtype: str) -> Work:
        moved = rows * columns * numpy.dtype(dtype).itemsize
        return Work(moved, moved, rows * columns * (functions * FUNCTION + others), dtype)
    return of_size


def reduction(name: str, programs: dict, least: Callable, rows: int, columns: int, dtype: str, quick: bool) -> Row:
    programs = keeping_dtype(programs, dtype) if "moments" in name else programs
    return Row(f"reduction.{name} {rows}x{columns} {dtype}", programs, matrix,
               size={"rows": rows, "columns": columns, "dtype": dtype}, tiny={"rows": 3, "columns": 4},
               quick=quick, work=least)


PROGRAMS = {
    "squares": (everyone(sum_of_squares, numba=kernel(sum_of_squares_by_hand)), work(0, 3)),
    "moments-axis0": (everyone(moments(0), torch=moments_torch(0), numba=kernel(moments_of_columns_by_hand)), work(0, 7)),
    "moments-axis1": (everyone(moments(1), torch=moments_torch(1), numba=kernel(moments_of_rows_by_hand)), work(0, 7)),
    "logsumexp": (everyone(logsumexp, autograd=logsumexp_autograd, torch=logsumexp_torch, jax=logsumexp_jax,
                           numba=kernel(logsumexp_by_hand)), work(1, 4)),
}

# The large ones do not fit into a cache.
ROWS = tuple(
    reduction(name, programs, least, rows, columns, dtype, quick)
    for name, (programs, least) in PROGRAMS.items()
    for rows, columns, dtype, quick in (
        (*((10_000, 100) if name == "logsumexp" else (2000, 500)), "float64", True),
        (*((10_000, 100) if name == "logsumexp" else (2000, 500)), "float32", False),
        (20_000, 500, "float64", True),
        (20_000, 500, "float32", False),
    )
)
