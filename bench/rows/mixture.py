"""Rows `mixture`: log-likelihood of points under a mixture of normal densities with diagonal covariances, and gradient."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import kernel, prange
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone

CHUNKS = 16      # points are split in so many parts by the hand-written program, one partial sum each


# sum_n log sum_k exp(l_nk),   l_nk = w_k + sum_d log s_kd - 1/2 sum_d (s_kd (x_nd - m_kd))^2
def log_densities(np) -> Callable:
    def of(w, m, s, x):
        z = (x[:, None, :] - m) * s
        return w + np.sum(np.log(s), 1) - 0.5 * np.sum(z * z, 2)
    return of


def mixture(e: Engine) -> Callable:
    np, densities = e.np, log_densities(e.np)

    def f(w, m, s, x):
        logs = densities(w, m, s, x)
        largest = np.max(logs, axis=1, keepdims=True)
        return np.sum(np.log(np.sum(np.exp(logs - largest), axis=1)) + largest[:, 0])
    return e.jit(e.value_and_grad(f, (0, 1, 2)))


def mixture_autograd(e: Engine) -> Callable:
    np, densities, logsumexp = e.np, log_densities(e.np), e.library.scipy.special.logsumexp
    return e.value_and_grad(lambda w, m, s, x: np.sum(logsumexp(densities(w, m, s, x), axis=1)), (0, 1, 2))


def mixture_jax(e: Engine) -> Callable:
    np, densities, logsumexp = e.np, log_densities(e.np), e.library.nn.logsumexp
    return e.jit(e.value_and_grad(lambda w, m, s, x: np.sum(logsumexp(densities(w, m, s, x), axis=1)), (0, 1, 2)))


def mixture_torch(e: Engine) -> Callable:
    torch, densities = e.np, log_densities(e.np)
    return e.value_and_grad(lambda w, m, s, x: torch.sum(torch.logsumexp(densities(w, m, s, x), dim=1)), (0, 1, 2))


# p = softmax l:   dw_k = sum_n p,  dm_kd = sum_n p s^2 (x - m),  ds_kd = sum_n p (1 / s - s (x - m)^2)
def mixture_by_hand(w, m, s, x):
    number = x.dtype.type
    (points, dimensions), components = x.shape, w.size
    zero, half, one, total = number(0.0), number(0.5), number(1.0), number(0.0)
    constant = w.copy()
    for k in range(components):
        for d in range(dimensions):
            constant[k] += math.log(s[k, d])
    dw = numpy.zeros((CHUNKS, components), x.dtype)
    dm = numpy.zeros((CHUNKS, components, dimensions), x.dtype)
    ds = numpy.zeros((CHUNKS, components, dimensions), x.dtype)
    for chunk in prange(CHUNKS):
        logs, part = numpy.empty(components, x.dtype), zero
        for i in range(chunk * points // CHUNKS, (chunk + 1) * points // CHUNKS):
            for k in range(components):
                squares = zero
                for d in range(dimensions):
                    z = (x[i, d] - m[k, d]) * s[k, d]
                    squares += z * z
                logs[k] = constant[k] - half * squares
            largest, weight = logs.max(), zero
            for k in range(components):
                logs[k] = math.exp(logs[k] - largest)
                weight += logs[k]
            part += math.log(weight) + largest
            weight = one / weight
            for k in range(components):
                p = logs[k] * weight
                dw[chunk, k] += p
                for d in range(dimensions):
                    away = x[i, d] - m[k, d]
                    dm[chunk, k, d] += p * away
                    ds[chunk, k, d] += p * away * away
        total += part
    weights = dw.sum(axis=0)
    slopes = weights.reshape((components, 1)) / s - s * ds.sum(axis=0)
    return total, (weights, s * s * dm.sum(axis=0), slopes)


def cloud(rng, points: int, components: int, dimensions: int, dtype: str) -> tuple:
    m = rng.standard_normal((components, dimensions))
    s = rng.uniform(0.5, 2.0, (components, dimensions))
    x = m[rng.integers(0, components, points)] + rng.standard_normal((points, dimensions))
    return tuple(array.astype(dtype) for array in (rng.standard_normal(components), m, s, x))


# for each point and component one exp; for each dimension of those 5 operations there and 5 back
def work(points: int, components: int, dimensions: int, dtype: str) -> Work:
    pairs = points * components
    return Work(read=points * dimensions * numpy.dtype(dtype).itemsize, flops=pairs * (FUNCTION + 4 + 10 * dimensions),
                dtype=dtype)


ROWS = tuple(
    Row(f"mixture.{points}x{components}x{dimensions} {dtype}",
        everyone(mixture, autograd=mixture_autograd, torch=mixture_torch, jax=mixture_jax, numba=kernel(mixture_by_hand)),
        cloud, size={"points": points, "components": components, "dimensions": dimensions, "dtype": dtype},
        tiny={"points": 4, "components": 3, "dimensions": 2}, quick=quick, work=work)
    for points, components, dimensions, dtype, quick in (
        (10_000, 16, 8, "float64", True), (10_000, 16, 8, "float32", False), (1000, 200, 2, "float64", False))
)
