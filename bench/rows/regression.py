"""Rows `regression`: value and gradient of three likelihoods of 50 variables."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import kernel, prange
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone, keeping_dtype

CHUNKS = 16      # observations are split in so many parts by the hand-written programs, one partial sum each


# mean of log(1 + exp z) - y z,   z = X w
def logistic(e: Engine) -> Callable:
    np = e.np

    def f(w, X, y):
        z = X @ w
        return np.mean(np.logaddexp(0.0, z) - y * z)
    return e.jit(e.value_and_grad(f))


def logistic_torch(e: Engine) -> Callable:
    loss = e.library.nn.functional.binary_cross_entropy_with_logits
    return e.value_and_grad(lambda w, X, y: loss(X @ w, y))


def logistic_by_hand(w, X, y):
    number = w.dtype.type
    n, k = X.shape
    one, zero, over_n = number(1.0), number(0.0), number(1.0 / n)
    parts, total = numpy.zeros((CHUNKS, k), w.dtype), zero
    for chunk in prange(CHUNKS):
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            z = zero
            for j in range(k):
                z += X[i, j] * w[j]
            small = math.exp(-abs(z))
            total += max(z, zero) + math.log1p(small) - y[i] * z
            residual = (one if z >= zero else small) / (one + small) - y[i]
            for j in range(k):
                parts[chunk, j] += residual * X[i, j]
    return total * over_n, parts.sum(axis=0) * over_n


# mean of exp z - y z,   z = X w
def poisson(e: Engine) -> Callable:
    np = e.np

    def f(w, X, y):
        z = X @ w
        return np.mean(np.exp(z) - y * z)
    return e.jit(e.value_and_grad(f))


def poisson_torch(e: Engine) -> Callable:
    loss = e.library.nn.functional.poisson_nll_loss
    return e.value_and_grad(lambda w, X, y: loss(X @ w, y))


def poisson_by_hand(w, X, y):
    number = w.dtype.type
    n, k = X.shape
    zero, over_n = number(0.0), number(1.0 / n)
    parts, total = numpy.zeros((CHUNKS, k), w.dtype), zero
    for chunk in prange(CHUNKS):
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            z = zero
            for j in range(k):
                z += X[i, j] * w[j]
            rate = math.exp(z)
            total += rate - y[i] * z
            for j in range(k):
                parts[chunk, j] += (rate - y[i]) * X[i, j]
    return total * over_n, parts.sum(axis=0) * over_n


# mean of logsumexp(z_i) - <y_i, z_i>,   z = X W, y one-hot
def softmax(e: Engine) -> Callable:
    np = e.np

    def f(W, X, Y):
        z = X @ W
        largest = np.max(z, axis=1, keepdims=True)
        normaliser = np.log(np.sum(np.exp(z - largest), axis=1)) + largest[:, 0]
        return np.mean(normaliser - np.sum(Y * z, axis=1))
    return e.jit(e.value_and_grad(f))


def softmax_autograd(e: Engine) -> Callable:
    np, logsumexp = e.np, e.library.scipy.special.logsumexp

    def f(W, X, Y):
        z = X @ W
        return np.mean(logsumexp(z, axis=1) - np.sum(Y * z, axis=1))
    return e.value_and_grad(f)


def softmax_jax(e: Engine) -> Callable:
    np, log_softmax = e.np, e.library.nn.log_softmax
    return e.jit(e.value_and_grad(lambda W, X, Y: -np.mean(np.sum(Y * log_softmax(X @ W), axis=1))))


def softmax_torch(e: Engine) -> Callable:
    loss = e.library.nn.functional.cross_entropy
    return e.value_and_grad(lambda W, X, Y: loss(X @ W, Y))


def softmax_by_hand(W, X, Y):
    number = W.dtype.type
    n, k = X.shape
    classes = W.shape[1]
    zero, over_n = number(0.0), number(1.0 / n)
    parts, total = numpy.zeros((CHUNKS, k, classes), W.dtype), zero
    for chunk in prange(CHUNKS):
        z, loss = numpy.empty(classes, W.dtype), zero
        for i in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            z[:] = zero
            for j in range(k):
                for c in range(classes):
                    z[c] += X[i, j] * W[j, c]
            largest, weight = z.max(), zero
            for c in range(classes):
                loss -= Y[i, c] * z[c]
                z[c] = math.exp(z[c] - largest)
                weight += z[c]
            loss += math.log(weight) + largest
            for c in range(classes):
                z[c] = z[c] / weight - Y[i, c]
            for j in range(k):
                for c in range(classes):
                    parts[chunk, j, c] += X[i, j] * z[c]
        total += loss
    return total * over_n, parts.sum(axis=0) * over_n


def zero_or_one(rng, n: int, k: int, dtype: str) -> tuple:
    X = rng.standard_normal((n, k))
    w = rng.standard_normal(k) * 0.1
    return w.astype(dtype), X.astype(dtype), (rng.random(n) < 0.5).astype(dtype)


def counts(rng, n: int, k: int, dtype: str) -> tuple:
    X = rng.standard_normal((n, k))
    w = rng.standard_normal(k) * 0.1
    return w.astype(dtype), X.astype(dtype), rng.poisson(1.0, n).astype(dtype)


def classes(rng, n: int, k: int, dtype: str, classes: int = 10) -> tuple:
    X = rng.standard_normal((n, k))
    W = rng.standard_normal((k, classes)) * 0.1
    return W.astype(dtype), X.astype(dtype), numpy.eye(classes, dtype=dtype)[rng.integers(0, classes, n)]


# once through the matrix for both products with it, as each row of it is needed for no longer
def work(functions: int, outputs: int) -> Callable[..., Work]:
    def of_size(n: int, k: int, dtype: str) -> Work:
        return Work(read=n * (k + outputs) * numpy.dtype(dtype).itemsize,
                    flops=n * outputs * (4 * k + functions * FUNCTION), dtype=dtype)
    return of_size


PROGRAMS = (
    ("logistic", everyone(logistic, torch=logistic_torch, numba=kernel(logistic_by_hand)), zero_or_one, work(2, 1)),
    ("poisson", everyone(poisson, torch=poisson_torch, numba=kernel(poisson_by_hand)), counts, work(1, 1)),
    ("softmax", everyone(softmax, autograd=softmax_autograd, torch=softmax_torch, jax=softmax_jax,
                         numba=kernel(softmax_by_hand)), classes, work(1, 10)),
)

ROWS = tuple(
    Row(f"regression.{name} {n}x50 {dtype}", keeping_dtype(programs, dtype), inputs,
        size={"n": n, "k": 50, "dtype": dtype}, tiny={"n": 5, "k": 3}, quick=quick, work=least)
    for name, programs, inputs, least in PROGRAMS
    for n, dtype, quick in ((10_000, "float64", True), (10_000, "float32", False), (200_000, "float64", True),
                            (200_000, "float32", False))
)
