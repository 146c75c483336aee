"""What the tests of the traced array share: a function run on traced arrays, its graph interpreted by NumPy."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

import jitgrad.numpy.ufuncs
import jitgrad.ops
from jitgrad.frontend.array import Array
from jitgrad.frontend.convert import as_array
from jitgrad.frontend.trace import tracing
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph, topological
from jitgrad.ir.interpret import run
from jitgrad.ir.node import constant, fresh_input
from jitgrad.transforms.reverse import pullback

WEAK = {bool: np.bool_, int: np.int64, float: np.float64}


class Session:
    """A trace whose inputs have values, so that what was traced can be computed."""

    def __init__(self, trace):
        self.trace, self.inputs, self.values = trace, [], []

    def input(self, value) -> Array:
        """A traced array that stands for `value`; weak for a Python number."""
        weak = type(value) if type(value) in WEAK else None
        array = np.asarray(value, WEAK.get(weak))
        node = fresh_input(aval_of(array.shape, array.dtype))
        self.inputs.append(node)
        self.values.append(array)
        return Array(node, weak)

    def graph(self, nodes) -> Graph:
        return Graph((*self.inputs, *[c.node for c in self.trace.captured]), tuple(nodes))

    def compute(self, nodes) -> list[np.ndarray]:
        return run(self.graph(nodes), [*self.values, *[c.array for c in self.trace.captured]])

    def value(self, array: Array) -> np.ndarray:
        return self.compute([as_array(array).node])[0]


@contextmanager
def session():
    with tracing() as trace:
        yield Session(trace)


def evaluate(function, *arguments):
    """`function` on traced arguments, with the results (an array, or a tuple of arrays) computed."""
    with session() as opened:
        result = function(*[opened.input(argument) for argument in arguments])
        several = isinstance(result, (tuple, list))
        found = opened.compute([as_array(part).node for part in (result if several else [result])])
    return tuple(found) if several else found[0]


def gradients(function, *arguments):
    """The derivatives of the sum of `function`'s elements by each argument; None where none flows."""
    with session() as opened:
        out = function(*[opened.input(argument) for argument in arguments]).node
        inputs = opened.inputs
        one = constant(1.0, out.dtype)
        seed = jitgrad.ops.broadcast_to(one, out.shape)
        found = pullback([out], inputs, [seed])
        computed = iter(opened.compute([node for node in found if node is not None]))
        return [None if node is None else next(computed) for node in found]


def operations(function, *arguments) -> list[str]:
    """The names of the primitives that `function` traces to, in order."""
    with session() as opened:
        result = function(*[opened.input(argument) for argument in arguments])
        return [n.primitive.name for n in topological([result.node]) if n.operands]


def assert_same(found, expected) -> None:
    """Equal dtype, shape and, bit by bit but for nan, elements."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)
    if expected.dtype.kind == "f":
        keep = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[keep], np.signbit(expected)[keep])


def assert_close(found, expected, ulps: int = 4) -> None:
    """Equal dtype and shape, elements within some units in the last place."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected)
        return
    np.testing.assert_allclose(found, expected, rtol=ulps * np.finfo(expected.dtype).eps, atol=0)
