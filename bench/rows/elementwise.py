"""Rows `elementwise`: value and gradient of the sum of an elementwise chain, by size and dtype."""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy

from bench.rows.hand import EXACT, kernel, prange
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone

BLOCK = 4096     # hand-written sums go by blocks: one float32 sum of 1e7 terms would lose 3 of its 7 digits


# f = p / q + x^3 / 4,   p = x^3 - 1.5 x^2 + 0.5 x + 2,   q = x^2 + 1
def rational(e: Engine) -> Callable:
    np = e.np

    def f(x):
        p = ((x - 1.5) * x + 0.5) * x + 2.0
        return np.sum(p / (x * x + 1.0) + 0.25 * x * x * x)
    return e.jit(e.value_and_grad(f))


def rational_fastmath(e: Engine) -> Callable:
    """The same with jitgrad's fastmath option, for a hand-written kernel that has Numba's."""
    program = rational(e)

    def call(x):
        with e.library.config(fastmath=True):
            return program(x)
    return call


# f' = (p' - (p / q) 2 x) / q + 3 x^2 / 4,   p' = 3 x^2 - 3 x + 0.5
def rational_by_hand(x):
    number = x.dtype.type
    one, two, half, quarter = number(1.0), number(2.0), number(0.5), number(0.25)
    three, threehalves = number(3.0), number(1.5)
    gradient = numpy.empty_like(x)
    total = number(0.0)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        points, slopes = x[block * BLOCK:(block + 1) * BLOCK], gradient[block * BLOCK:(block + 1) * BLOCK]
        part = number(0.0)
        for i in range(points.size):
            v = points[i]
            over_q = one / (v * v + one)
            ratio = (((v - threehalves) * v + half) * v + two) * over_q
            part += ratio + quarter * v * v * v
            slopes[i] = (three * v * (v - one) + half - two * v * ratio) * over_q + three * quarter * v * v
        total += part
    return total, gradient


# f = exp(-x^2 / 2) tanh x + x sin x
def transcendental(e: Engine) -> Callable:
    np = e.np

    def f(x):
        return np.sum(np.exp(-0.5 * x * x) * np.tanh(x) + x * np.sin(x))
    return e.jit(e.value_and_grad(f))


# f' = exp(-x^2 / 2) (1 - tanh^2 x - x tanh x) + sin x + x cos x
def transcendental_by_hand(x):
    number = x.dtype.type
    one, half = number(1.0), number(0.5)
    gradient = numpy.empty_like(x)
    total = number(0.0)
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        points, slopes = x[block * BLOCK:(block + 1) * BLOCK], gradient[block * BLOCK:(block + 1) * BLOCK]
        part = number(0.0)
        for i in range(points.size):
            v = points[i]
            bell, rise, sine = math.exp(-half * v * v), math.tanh(v), math.sin(v)
            part += bell * rise + v * sine
            slopes[i] = bell * (one - rise * rise - v * rise) + sine + v * math.cos(v)
        total += part
    return total, gradient


def points(rng, n: int, dtype: str) -> tuple:
    return (rng.uniform(-2.0, 2.0, n).astype(dtype),)


def work(functions: int, others: int) -> Callable[..., Work]:
    """So many functions and other operations for an element, which is read, and of which the slope is written."""
    def of_size(n: int, dtype: str) -> Work:
        moved = n * numpy.dtype(dtype).itemsize
        return Work(read=moved, written=moved, flops=n * (functions * FUNCTION + others), dtype=dtype)
    return of_size


SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
QUICK = {*itertools.product((10, 100, 10_000, 1_000_000, 10_000_000), ("float64",)), (1_000_000, "float32")}

ROWS = tuple(
    Row(f"elementwise.{name} 1e{round(math.log10(n))} {dtype}", programs, points,
        size={"n": n, "dtype": dtype}, tiny={"n": 7}, quick=(n, dtype) in QUICK, work=least)
    for name, programs, least in (
        ("rational", everyone(rational, numba=kernel(rational_by_hand, EXACT)), work(0, 24)),
        ("rational-fastmath", {"jitgrad": rational_fastmath, "numba": kernel(rational_by_hand)}, work(0, 24)),
        ("transcendental", everyone(transcendental, numba=kernel(transcendental_by_hand)), work(4, 14)))
    for dtype in ("float64", "float32")
    for n in SIZES
)
