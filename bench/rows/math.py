"""Rows `math`: one mathematical function of an array, by size and dtype.

Nothing is differentiated, so HIPS autograd's place is taken by NumPy itself, which it would call; Numba's is the loop
over the function of Python's `math` (one element after the other: LLVM does not widen the C library's).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy

from bench.rows.hand import EXACT, kernel, prange
from bench.rows.row import FUNCTION, Engine, Row, Work, everyone


def _elementwise(name: str) -> Callable[[Engine], Callable]:
    """The engine's function of that name, compiled where the engine compiles."""
    def builder(engine: Engine) -> Callable:
        function = getattr(engine.np, name)
        return engine.jit(lambda *arguments: function(*arguments)) if engine.name == "jitgrad" else engine.jit(function)
    return builder


def _unary_loop(function: Callable[[float], float]) -> Callable:
    def loop(x):
        out = numpy.empty_like(x)
        for i in prange(x.size):
            out[i] = function(x[i])
        return out
    return loop


def _power_loop(x, y):
    out = numpy.empty_like(x)
    for i in prange(x.size):
        out[i] = x[i] ** y[i]
    return out


def _real(rng, n: int, dtype: str) -> tuple:
    return (rng.uniform(-5.0, 5.0, n).astype(dtype),)


def _positive(rng, n: int, dtype: str) -> tuple:
    return (rng.uniform(0.01, 10.0, n).astype(dtype),)


def _base_and_exponent(rng, n: int, dtype: str) -> tuple:
    return (*_positive(rng, n, dtype), rng.uniform(-3.0, 3.0, n).astype(dtype))


FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "exp": (_real, _unary_loop(math.exp)),
    "log": (_positive, _unary_loop(math.log)),
    "sin": (_real, _unary_loop(math.sin)),
    "tanh": (_real, _unary_loop(math.tanh)),
    "power": (_base_and_exponent, _power_loop),
}
SIZES = (10_000, 1_000_000)


def _programs(name: str, loop: Callable) -> dict[str, Callable]:
    torch_name = {"power": "pow"}.get(name, name)
    return everyone(_elementwise(name), autograd=lambda engine: getattr(numpy, name), torch=_elementwise(torch_name),
                    numba=kernel(loop, EXACT))


def _work(n: int, dtype: str, arrays: int) -> Work:
    size = n * numpy.dtype(dtype).itemsize
    return Work(arrays * size, size, FUNCTION * n, dtype)


ROWS = tuple(
    Row(f"math.{name} 1e{round(math.log10(n))} {dtype}", _programs(name, loop), inputs,
        size={"n": n, "dtype": dtype}, tiny={"n": 7}, quick=name == "exp", settings=("1",),
        work=partial(_work, arrays=2 if name == "power" else 1))
    for name, (inputs, loop) in FUNCTIONS.items()
    for dtype in ("float64", "float32")
    for n in SIZES
)
