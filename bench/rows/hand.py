"""How the hand-written Numba programs of the rows are compiled."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.rows.row import Engine

try:
    from numba import njit, prange
except ImportError:                     # then no row has a Numba column, and nobody calls what is below
    njit, prange = None, range              # type: ignore[assignment, misc]

# Sums may be reordered, products contracted, and a division by zero does not raise: without these LLVM cannot
# vectorise the loops, and the hand-written program would be a straw man.
FAST: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}

# IEEE's arithmetic as jitgrad keeps it by default: every operation rounded, sums in the order that is written.
EXACT: dict[str, Any] = {"fastmath": False, "error_model": "numpy"}

PARALLEL_FROM = 50_000   # elements of the largest argument from which Numba's threads are worth waking


def kernel(function: Callable, flags: dict[str, Any] = FAST,
           parallel_from: int = PARALLEL_FROM) -> Callable[[Engine], Callable]:
    """The builder of a hand-written program: `function` through `numba.njit`, on as many threads as pay off.

    `function` says `prange`, which is a plain `range` where it is compiled for one thread.
    """
    def builder(engine: Engine) -> Callable:
        serial = njit(**flags)(function)
        if engine.threads == 1:
            return serial
        parallel = njit(**flags, parallel=True)(function)

        def call(*arguments):
            large = max(getattr(argument, "size", 1) for argument in arguments) >= parallel_from
            return (parallel if large else serial)(*arguments)
        return call
    return builder


def scalar_kernel(function: Callable) -> Callable[[Engine], Callable]:
    """The builder of a small hand-written program, which never needs a second thread."""
    return lambda engine: njit(**FAST)(function)


__all__ = ["EXACT", "kernel", "prange", "scalar_kernel"]
