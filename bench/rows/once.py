"""Rows `many`: a script that takes the gradients of many small functions, each of them once."""
from __future__ import annotations

import linecache
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from bench.rows.row import Engine, FreshRow, everyone

# Lines of a function of x; `a` has x's shape, {c} is a constant. With each its operations.
LINES = (
    ("a = a * x", 1), ("a = a + x", 1), ("a = a - {c}", 1), ("a = a / (x + {c})", 2), ("a = a + {c} * b", 2),
    ("a = np.sin(a)", 1), ("a = np.tanh(a)", 1), ("a = np.exp(-a)", 2), ("a = a ** 2", 1),
    ("a = np.log(1.0 + a * a)", 3),
)
ARRAY_LINES = (
    ("a = a + np.sum(a * b)", 3), ("a = a / np.sqrt(1.0 + np.sum(a * a))", 5), ("a = a * np.sum((a[1:] - a[:-1]) ** 2)", 6),
)
LEAST, MOST = 5, 30     # operations of one function
ELEMENTS = 8


def source(seed: int) -> tuple[str, bool]:
    """The text of a function, and whether it takes an array (else a scalar)."""
    rng = numpy.random.default_rng(seed)
    array = bool(rng.integers(3))
    choice = LINES + ARRAY_LINES if array else LINES
    lines, left = ["def f(x):", "    a = x", "    b = np.cos(x)"], int(rng.integers(LEAST, MOST + 1)) - 2
    while left > 0:
        line, operations = choice[rng.integers(len(choice))]
        lines.append("    " + line.format(c=round(rng.uniform(0.5, 2.0), 3)))
        left -= operations
    return "\n".join([*lines, "    return np.sum(a)" if array else "    return a", ""]), array


def define(np: Any, seed: int) -> tuple[Callable, bool]:
    """The function of `source`, its text where `inspect` finds it, as if it stood in a file."""
    text, array = source(seed)
    name = f"<small function {seed}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"np": np}
    exec(compile(text, name, "exec"), scope)
    return scope["f"], array


def gradients(e: Engine, count: int, *, compiled: bool = False) -> Callable[[int], Callable]:
    """For each sample a script of `count` gradients; the functions are there when it begins."""
    points = e.arrays(numpy.array(0.7)), e.arrays(numpy.linspace(0.5, 1.5, ELEMENTS))
    transform = (lambda f: e.jit(e.grad(f))) if compiled else e.grad

    def thunk(sample: int) -> Callable:
        functions = [define(e.np, seed) for seed in range(sample * count, (sample + 1) * count)]
        return partial(script, transform, functions, points, e.wait or (lambda result: result))
    return thunk


def script(transform: Callable, functions: list, points: tuple, wait: Callable) -> list:
    return [wait(transform(f)(points[array])) for f, array in functions]


# JAX takes 20 ms a gradient, 100 ms with jit: it is compared over fewer of them.
ROWS = (
    FreshRow("many.2000 gradients", everyone(gradients, jax=None), size={"count": 2000}, tiny={"count": 3}, quick=False),
    FreshRow("many.50 gradients", everyone(gradients), size={"count": 50}, tiny={"count": 3}, quick=True),
    FreshRow("many.50 gradients, jit for JAX", everyone(gradients, jax=partial(gradients, compiled=True)),
             size={"count": 50}, tiny={"count": 3}, quick=False),
)
