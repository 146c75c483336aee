"""Rows `pairwise`: energy and forces of N points in space, a sum over N x N pairs of a function of their distance."""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy

from bench.rows.hand import FAST, prange
from bench.rows.hand import kernel as compiled
from bench.rows.row import Engine, Row, Work, everyone

SOFTENING = 0.1


# E = 1/2 sum_ij q_i q_j / sqrt(|x_i - x_j|^2 + eps)
def coulomb(e: Engine) -> Callable:
    np = e.np

    def f(x, q):
        d = x[:, None, :] - x[None, :, :]
        squared = np.sum(d * d, -1) + SOFTENING
        return 0.5 * np.sum(q[:, None] * q[None, :] / np.sqrt(squared))
    return e.jit(e.value_and_grad(f))


# dE/dx_i = -q_i sum_j q_j (x_i - x_j) / r^3; the coordinates apart, so that the loop over j is of vectors
def coulomb_by_hand(x, q):
    number = x.dtype.type
    zero, half, one, softening = number(0.0), number(0.5), number(1.0), number(SOFTENING)
    first, second, third = x[:, 0].copy(), x[:, 1].copy(), x[:, 2].copy()
    gradient, total = numpy.empty_like(x), zero
    for i in prange(q.size):
        energy, g0, g1, g2 = zero, zero, zero, zero
        for j in range(q.size):
            d0, d1, d2 = first[i] - first[j], second[i] - second[j], third[i] - third[j]
            over = one / math.sqrt(d0 * d0 + d1 * d1 + d2 * d2 + softening)
            term = q[j] * over
            pull = term * over * over
            energy += term
            g0 += pull * d0
            g1 += pull * d1
            g2 += pull * d2
        total += q[i] * energy
        gradient[i, 0], gradient[i, 1], gradient[i, 2] = -q[i] * g0, -q[i] * g1, -q[i] * g2
    return half * total, gradient


# E = 1/2 sum_{i != j} 4 (s^12 - s^6),   s^2 = 1 / |x_i - x_j|^2;   `eye` is 1 where i = j
def lennard_jones(e: Engine) -> Callable:
    np = e.np

    def f(x, eye):
        d = x[:, None, :] - x[None, :, :]
        s2 = 1.0 / (np.sum(d * d, -1) + eye)
        s6 = s2 * s2 * s2
        return 2.0 * np.sum((1.0 - eye) * (s6 * s6 - s6))
    return e.jit(e.value_and_grad(f))


# dE/dx_i = sum_j -24 (2 s^12 - s^6) s^2 (x_i - x_j)
def lennard_jones_by_hand(x, eye):
    number = x.dtype.type
    zero, one, two, scale = number(0.0), number(1.0), number(2.0), number(24.0)
    first, second, third = x[:, 0].copy(), x[:, 1].copy(), x[:, 2].copy()
    gradient, total = numpy.empty_like(x), zero
    for i in prange(x.shape[0]):
        energy, g0, g1, g2 = zero, zero, zero, zero
        for j in range(x.shape[0]):
            d0, d1, d2 = first[i] - first[j], second[i] - second[j], third[i] - third[j]
            same = one if i == j else zero
            s2 = one / (d0 * d0 + d1 * d1 + d2 * d2 + same)
            s6 = s2 * s2 * s2
            energy += (one - same) * (s6 * s6 - s6)
            pull = (two * s6 * s6 - s6) * s2
            g0 += pull * d0
            g1 += pull * d1
            g2 += pull * d2
        total += energy
        gradient[i, 0], gradient[i, 1], gradient[i, 2] = -scale * g0, -scale * g1, -scale * g2
    return two * total, gradient


def charges(rng, n: int, dtype: str) -> tuple:
    return rng.uniform(0.0, n ** (1 / 3), (n, 3)).astype(dtype), rng.choice([-1.0, 1.0], n).astype(dtype)


def fluid(rng, n: int, dtype: str) -> tuple:
    """Points near those of a cubic grid, so that no two come close."""
    side = math.ceil(n ** (1 / 3))
    grid = numpy.stack(numpy.meshgrid(*[numpy.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n]
    return (1.2 * grid + rng.uniform(-0.05, 0.05, (n, 3))).astype(dtype), numpy.eye(n, dtype=dtype)


# each pair once: three differences, their squares, the function, the force on both
def work(function: int) -> Callable[..., Work]:
    return lambda n, dtype: Work(flops=(n * (n - 1) // 2) * (3 + 5 + function + 3 + 12), dtype=dtype)


def parallel(function: Callable) -> Callable[[Engine], Callable]:
    """N points are N^2 pairs: worth a second thread from some hundred points on."""
    return compiled(function, FAST, parallel_from=1000)


PROGRAMS = (
    ("coulomb", everyone(coulomb, numba=parallel(coulomb_by_hand)), charges, work(6)),
    ("lennard-jones", everyone(lennard_jones, numba=parallel(lennard_jones_by_hand)), fluid, work(10)),
)

ROWS = tuple(
    Row(f"pairwise.{name} {n} {dtype}", programs, inputs, size={"n": n, "dtype": dtype}, tiny={"n": 4}, quick=quick,
        work=least)
    for name, programs, inputs, least in PROGRAMS
    for n, dtype, quick in ((1000, "float64", True), (1000, "float32", False), (2000, "float64", False))
)
