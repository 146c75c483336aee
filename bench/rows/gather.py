"""Rows `gather`: value and gradient through rows and numbers picked by index, whose gradients are added up by index."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import scalar_kernel
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone


# sum over pairs of (<E_i, E_j> - y)^2 / 2
def pairs(e: Engine) -> Callable:
    np = e.np

    def f(table, i, j, y):
        miss = np.sum(table[i] * table[j], 1) - y
        return 0.5 * np.sum(miss * miss)
    return e.jit(e.value_and_grad(f))


# dE_i += miss E_j,  dE_j += miss E_i: on one thread, since two pairs may have a row in common
def pairs_by_hand(table, i, j, y):
    number = table.dtype.type
    half, total = number(0.5), number(0.0)
    gradient = numpy.zeros_like(table)
    for k in range(y.size):
        a, b, product = i[k], j[k], number(0.0)
        for d in range(table.shape[1]):
            product += table[a, d] * table[b, d]
        miss = product - y[k]
        total += miss * miss
        for d in range(table.shape[1]):
            gradient[a, d] += miss * table[b, d]
        for d in range(table.shape[1]):
            gradient[b, d] += miss * table[a, d]
    return half * total, gradient


# sum over k of w_k sin x_{i_k}: the gradient is an index-add of numbers
def numbers(e: Engine) -> Callable:
    np = e.np
    return e.jit(e.value_and_grad(lambda x, i, w: np.sum(w * np.sin(x[i]))))


def numbers_by_hand(x, i, w):
    total, gradient = x.dtype.type(0.0), numpy.zeros_like(x)
    for k in range(i.size):
        total += w[k] * math.sin(x[i[k]])
        gradient[i[k]] += w[k] * math.cos(x[i[k]])
    return total, gradient


def embedding(rng, rows: int, columns: int, count: int, dtype: str) -> tuple:
    i, j = rng.integers(0, rows, (2, count))
    table = rng.standard_normal((rows, columns)) / math.sqrt(columns)
    return table.astype(dtype), i, j, rng.standard_normal(count).astype(dtype)


def picked(rng, rows: int, count: int, dtype: str) -> tuple:
    return (rng.standard_normal(rows).astype(dtype), rng.integers(0, rows, count),
            rng.standard_normal(count).astype(dtype))


# the rows are in no order: each is read where a pair needs it, and so is its gradient, which is written as well
def pairs_work(rows: int, columns: int, count: int, dtype: str) -> Work:
    size = numpy.dtype(dtype).itemsize
    return Work(read=count * (16 + size) + rows * columns * size, written=rows * columns * size,
                flops=count * (6 * columns + 4), dtype=dtype)


def numbers_work(rows: int, count: int, dtype: str) -> Work:
    size = numpy.dtype(dtype).itemsize
    return Work(read=count * (8 + size) + rows * size, written=rows * size,
                flops=count * 4 + 2 * FUNCTION * min(rows, count), dtype=dtype)


ROWS = (
    *(Row(f"gather.pairs 2e5 of 50000x32 {dtype}", everyone(pairs, numba=scalar_kernel(pairs_by_hand)), embedding,
          size={"rows": 50_000, "columns": 32, "count": 200_000, "dtype": dtype},
          tiny={"rows": 5, "columns": 3, "count": 8}, quick=dtype == "float64", work=pairs_work)
      for dtype in ("float64", "float32")),
    *(Row(f"gather.numbers 1e6 of 1e5 {dtype}", everyone(numbers, numba=scalar_kernel(numbers_by_hand)), picked,
          size={"rows": 100_000, "count": 1_000_000, "dtype": dtype}, tiny={"rows": 4, "count": 9},
          quick=dtype == "float64", work=numbers_work)
      for dtype in ("float64", "float32")),
)
