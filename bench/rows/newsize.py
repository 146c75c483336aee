"""Rows `newsize`: the same function on arrays whose size is another one at every call."""
from __future__ import annotations

from collections.abc import Callable

import numpy

from bench.rows import elementwise, regression
from bench.rows.row import Engine, FreshRow, everyone, map_leaves, waiting

STEP = 17        # how much longer the arrays are at each call


def growing(program: Callable, inputs: Callable) -> Callable:
    """`program`, compiled once for size `n`, then called with n + 17, n + 34, ..."""
    def builder(e: Engine, n: int, **size) -> Callable[[int], Callable]:
        call = program(e)

        def thunk(sample: int) -> Callable:
            arguments = inputs(numpy.random.default_rng(sample), n=n + STEP * sample, **size)
            return waiting(e, call, map_leaves(e.arrays, arguments))
        return thunk
    return builder


ROWS = (
    FreshRow("newsize.elementwise", everyone(growing(elementwise.transcendental, elementwise.points)),
             size={"n": 1000, "dtype": "float64"}, tiny={"n": 7}),
    FreshRow("newsize.regression", everyone(growing(regression.logistic, regression.zero_or_one),
                                            torch=growing(regression.logistic_torch, regression.zero_or_one)),
             size={"n": 1000, "k": 20, "dtype": "float64"}, tiny={"n": 5, "k": 3}),
)
