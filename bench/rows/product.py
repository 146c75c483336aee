"""Rows `product`: matrix products and their two adjoints, nothing else; small ones in batches."""
from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy

from bench.rows.hand import scalar_kernel
from bench.rows.row import Engine, Row, Work, everyone


# sum over entries of (A B) C:   dA = C B',  dB = A' C
def products(e: Engine) -> Callable:
    np = e.np
    return e.jit(e.value_and_grad(lambda A, B, C: np.sum((A @ B) * C), (0, 1)))


def products_by_hand(A, B, C):
    return numpy.sum(numpy.dot(A, B) * C), (numpy.dot(C, B.T), numpy.dot(A.T, C))


def batch_by_hand(A, B, C):
    total, dA, dB = A.dtype.type(0.0), numpy.zeros_like(A), numpy.zeros_like(B)
    n = A.shape[1]
    for p in range(A.shape[0]):
        for i in range(n):
            for k in range(n):
                for j in range(n):
                    total += A[p, i, k] * B[p, k, j] * C[p, i, j]
                    dA[p, i, k] += C[p, i, j] * B[p, k, j]
                    dB[p, k, j] += A[p, i, k] * C[p, i, j]
    return total, (dA, dB)


def matrices(rng, shape: tuple[int, ...], dtype: str) -> tuple:
    return tuple(rng.standard_normal((3, *shape)).astype(dtype))


def work(shape: tuple[int, ...], dtype: str) -> Work:
    entries = prod(shape)
    size = entries * numpy.dtype(dtype).itemsize
    return Work(read=3 * size, written=2 * size, flops=entries * (6 * shape[-1] + 2), dtype=dtype)


ROWS = (
    *(Row(f"product.{count} of {n}x{n} {dtype}", everyone(products, numba=scalar_kernel(batch_by_hand)), matrices,
          size={"shape": (count, n, n), "dtype": dtype}, tiny={"shape": (3, 2, 2)}, quick=dtype == "float64", work=work)
      for count, n in ((10_000, 3), (1000, 8)) for dtype in ("float64", "float32")),
    *(Row(f"product.{n} {dtype}", everyone(products, numba=scalar_kernel(products_by_hand)), matrices,
          size={"shape": (n, n), "dtype": dtype}, tiny={"shape": (3, 3)},
          quick=(n, dtype) in {(64, "float64"), (256, "float64"), (1024, "float64"), (1024, "float32")}, work=work)
      for n in (16, 64, 128, 256, 512, 1024) for dtype in ("float64", "float32")),
)
