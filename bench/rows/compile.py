"""Rows `compile` and `once`: the first gradient of a function that nobody has seen before."""
from __future__ import annotations

import linecache
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from bench.rows.row import SETTINGS, Engine, FreshRow, everyone, waiting

# Ten operations, bounded in any order: lines of a chain that starts at a = x and may use x and a constant c.
PIECES = (
    ("a = a * x", 1), ("a = a + x", 1), ("a = a - {c}", 1), ("a = a / (x + {c})", 2),
    ("a = np.sin(a)", 1), ("a = np.tanh(a)", 1), ("a = np.exp(-a * a)", 3),
)
LONG = 500      # operations from which only the setting "all" is measured: JAX takes 10 s for a compile
PIECE_OPERATIONS = sum(count for _, count in PIECES)


def source(operations: int, seed: int) -> str:
    """The text of a function of an array, a chain of so many elementwise operations and a sum."""
    rng = numpy.random.default_rng(seed)
    lines = ["def f(x):", "    a = x"]
    for _ in range(operations // PIECE_OPERATIONS):
        for piece in rng.permutation(len(PIECES)):
            lines.append("    " + PIECES[piece][0].format(c=round(rng.uniform(0.5, 2.0), 3)))
    return "\n".join([*lines, "    return np.sum(a)", ""])


# Scalar code as loops unroll to it: one of four variables from two of them, bounded in any order, ten operations.
SCALAR_PIECES = (
    "{v} = 0.7 * {u} + 0.3 * {w}", "{v} = {u} * np.cos({w})", "{v} = np.tanh({w} + x)", "{v} = {u} / (1.5 + {w} * {w})",
)
SCALAR_OPERATIONS = 10


def scalar_source(operations: int, seed: int) -> str:
    """The text of a function of a number: straight-line code of so many operations on four variables."""
    rng = numpy.random.default_rng(seed)
    lines = ["def f(x):", "    a, b, c, d = x, 0.5 * x, x * x, 1.0 - x"]
    for _ in range(operations // SCALAR_OPERATIONS):
        for piece in rng.permutation(len(SCALAR_PIECES)):
            v, u, w = rng.choice(list("abcd"), 3)
            lines.append("    " + SCALAR_PIECES[piece].format(v=v, u=u, w=w))
    return "\n".join([*lines, "    return a + b + c + d", ""])


def define(np: Any, text: str, name: str) -> Callable:
    """The function `f` of the text, which `inspect` finds as if it stood in a file."""
    name = f"<{name}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"np": np}
    exec(compile(text, name, "exec"), scope)
    return scope["f"]


def first_gradient(e: Engine, operations: int, elements: int, *, compiled: bool) -> Callable[[int], Callable]:
    """The first gradient of a chain of operations on so many elements."""
    x = e.arrays(numpy.random.default_rng(0).uniform(0.5, 1.5, elements))
    transform = (lambda f: e.jit(e.grad(f))) if compiled else e.grad

    def thunk(sample: int) -> Callable:
        seed = 2 * sample + compiled                                  # no function is in both families
        f = define(e.np, source(operations, seed), f"chain {operations} {seed}")
        return waiting(e, lambda x: transform(f)(x), (x,))
    return thunk


def first_scalar_gradient(e: Engine, operations: int) -> Callable[[int], Callable]:
    """The first gradient of straight-line scalar code, of a Python number."""
    def thunk(sample: int) -> Callable:
        f = define(e.np, scalar_source(operations, sample), f"scalar {operations} {sample}")
        return waiting(e, lambda x: e.jit(e.grad(f))(x), (0.4,))
    return thunk


def rows(family: str, programs: dict, sizes: dict[int, bool]) -> tuple[FreshRow, ...]:
    return tuple(FreshRow(f"{family}.chain {operations}", programs,
                          size={"operations": operations, "elements": 1000},
                          tiny={"operations": max(10, operations // 4), "elements": 3}, quick=quick,
                          settings=SETTINGS if operations < LONG else ("all",))
                 for operations, quick in sizes.items())


# `compile` is jit against jit. `once` is what a user pays who asks for one gradient and does not say jit.
ROWS = (
    *rows("compile", everyone(partial(first_gradient, compiled=True), autograd=None, torch=None),
          {10: True, 100: True, 500: False, 2000: False}),
    *(FreshRow(f"compile.scalar {operations}", everyone(first_scalar_gradient, autograd=None, torch=None),
               size={"operations": operations}, tiny={"operations": 20}, quick=quick, settings=("all",))
      for operations, quick in ((200, True), (500, True), (1000, False), (2000, False))),
    *rows("once", everyone(partial(first_gradient, compiled=False)), {10: True, 100: True, 500: False}),
)
