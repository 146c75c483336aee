"""Rows `layernorm`: value and gradient through a layer normalisation with gain and shift, against a target."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import kernel, prange
from bench.rows.row import Engine, Row, Work, everyone, keeping_dtype

EPSILON = 1e-5
CHUNKS = 16      # rows are split in so many parts by the hand-written program, one partial sum each


# sum (y - t)^2 / 2,   y = g (x - mean x) / sqrt(var x + eps) + b   row by row
def normalised(e: Engine) -> Callable:
    np = e.np

    def f(x, g, b, t):
        centred = x - np.mean(x, axis=1, keepdims=True)
        y = centred / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + EPSILON) * g + b
        return 0.5 * np.sum((y - t) ** 2)
    return e.jit(e.value_and_grad(f, (0, 1, 2)))


def normalised_torch(e: Engine) -> Callable:
    torch, layer_norm = e.np, e.library.nn.functional.layer_norm

    def f(x, g, b, t):
        return 0.5 * torch.sum((layer_norm(x, g.shape, g, b, EPSILON) - t) ** 2)
    return e.value_and_grad(f, (0, 1, 2))


# r = y - t, h = (x - mean) / s, u = r g:   dx = (u - mean u - h mean(u h)) / s,  dg = sum r h,  db = sum r
def normalised_by_hand(x, g, b, t):
    number = x.dtype.type
    rows, columns = x.shape
    zero, half, one, over_n, epsilon = number(0.0), number(0.5), number(1.0), number(1.0 / columns), number(EPSILON)
    total, dx = zero, numpy.empty_like(x)
    dg, db = numpy.zeros((CHUNKS, columns), x.dtype), numpy.zeros((CHUNKS, columns), x.dtype)
    for chunk in prange(CHUNKS):
        part = zero
        for i in range(chunk * rows // CHUNKS, (chunk + 1) * rows // CHUNKS):
            mean, variance, along, across, squares = zero, zero, zero, zero, zero
            for j in range(columns):
                mean += x[i, j]
            mean *= over_n
            for j in range(columns):
                variance += (x[i, j] - mean) * (x[i, j] - mean)
            over_s = one / math.sqrt(variance * over_n + epsilon)
            for j in range(columns):
                h = (x[i, j] - mean) * over_s
                r = h * g[j] + b[j] - t[i, j]
                squares += r * r
                along += r * g[j]
                across += r * g[j] * h
                dg[chunk, j] += r * h
                db[chunk, j] += r
                dx[i, j] = r * g[j]
            along, across = along * over_n, across * over_n
            for j in range(columns):
                dx[i, j] = (dx[i, j] - along - (x[i, j] - mean) * over_s * across) * over_s
            part += squares
        total += part
    return half * total, (dx, dg.sum(axis=0), db.sum(axis=0))


def layer(rng, rows: int, columns: int, dtype: str) -> tuple:
    x, t = rng.standard_normal((2, rows, columns)) + 0.3
    g, b = 1.0 + 0.1 * rng.standard_normal((2, columns))
    return tuple(array.astype(dtype) for array in (x, g, b, t))


def work(rows: int, columns: int, dtype: str) -> Work:
    size = rows * columns * numpy.dtype(dtype).itemsize
    return Work(read=2 * size, written=size, flops=22 * rows * columns, dtype=dtype)


ROWS = tuple(
    Row(f"layernorm.{rows}x{columns} {dtype}",
        keeping_dtype(everyone(normalised, torch=normalised_torch, numba=kernel(normalised_by_hand)), dtype), layer,
        size={"rows": rows, "columns": columns, "dtype": dtype}, tiny={"rows": 3, "columns": 4}, quick=quick, work=work)
    for rows, columns, dtype, quick in ((1024, 512, "float64", True), (1024, 512, "float32", False),
                                        (16_384, 512, "float64", False), (16_384, 512, "float32", True))
)
