"""Rows `graph`: a loop over numbers that unrolls to thousands of nodes: trace, compile and first gradient."""
from __future__ import annotations

from collections.abc import Callable

import numpy

from bench.rows.row import Engine, FreshRow, everyone, waiting

STEP_NODES = 5      # operations of one turn of the loop
JAX_UP_TO = 2000    # nodes beyond which XLA takes minutes


def unrolled(e: Engine, nodes: int) -> Callable[[int], Callable]:
    """The first gradient of a map iterated in a Python loop, about `nodes` operations."""
    np = e.np

    def thunk(sample: int) -> Callable:
        turns = nodes // STEP_NODES + sample        # another graph each time: what was compiled before is of no use

        def f(x):
            a, b = x, 0.5 * x
            for _ in range(turns):
                a = 0.6 * a + np.sin(b)
                b = 0.3 * a * b
            return a + b
        start = e.arrays(numpy.array(0.4)) if e.name == "torch" else 0.4
        return waiting(e, lambda x: e.jit(e.grad(f))(x), (start,))
    return thunk


ROWS = tuple(
    FreshRow(f"graph.{nodes} nodes", everyone(unrolled, **({} if nodes <= JAX_UP_TO else {"jax": None})),
             size={"nodes": nodes}, tiny={"nodes": 15}, quick=quick, settings=("all",))
    for nodes, quick in ((1000, True), (2000, False), (10_000, True), (100_000, False))
)
