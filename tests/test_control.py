"""Loops and branches as nodes: values, printing, and derivatives to the third order in every pairing of modes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from jitgrad.errors import JitgradError
from jitgrad.ir.aval import aval_of
from jitgrad.ir.body import up_to_date
from jitgrad.ir.control import BranchMismatch, CarryMismatch, cond, loop
from jitgrad.ir.graph import Graph, structure, substitute
from jitgrad.ir.interpret import run
from jitgrad.ir.node import call, constant, fresh_input, full, interning, scope
from jitgrad.ir.text import from_text, to_text
from jitgrad.ir.verify import verify
from jitgrad.runtime.compile import compile_graph
from jitgrad.transforms.forward import pushforward
from jitgrad.transforms.reverse import pullback

NUMBER = aval_of((), "f8")


def integer(value: int):
    return constant(value, np.int64)


def recurrence(w, a, b):
    def step(i, carries):
        h, total = carries
        following = w + a * call("sin", h) * h + b * h
        return [following, total + call("log", following) + 1.0 / following]

    return loop(integer(5), [full(1.0, NUMBER), full(0.0, NUMBER)], step)[0][1]


def until(x):
    (y,), _ = loop(None, [x], lambda i, c: [c[0] * c[0] * x], lambda i, c: c[0] < full(50.0, NUMBER))
    return y * x


def branching(x, y):
    def step(i, carries):
        (z,) = carries
        grown, shrunk = lambda: [call("exp", z) * y], lambda: [call("log", z) * z * x]
        return cond(z < full(2.0, NUMBER), grown, shrunk)

    return loop(integer(6), [x], step)[0][0]


def nested(x, y):
    def step(i, carries):
        (w,), _ = loop(i, carries, lambda j, c: [call("sin", c[0]) * y + c[0]])
        inner = lambda: [loop(i, [w], lambda j, c: [call("exp", -c[0]) * x])[0][0]]  # noqa: E731
        return cond(w < full(1.0, NUMBER), lambda: [w * x], inner)

    return loop(integer(5), [x], step)[0][0]


def descent(x, y):
    """A derivative inside a loop."""

    def slope(z):
        u = fresh_input(NUMBER)
        (q,), _ = loop(integer(3), [u], lambda j, c: [call("sin", c[0]) * y + u * u])
        return substitute(pullback([q], [u], [full(1.0, NUMBER)]), {u: z})[0]

    return loop(integer(4), [x], lambda i, c: [c[0] - 0.1 * slope(c[0])])[0][0]


def reading(x, y):
    def step(i, carries):
        value = call("gather", x, i)
        return [carries[0] * call("cos", value) + value * y]

    return loop(integer(4), [full(1.0, NUMBER)], step)[0][0]


def storing(x, y):
    """A running state in an array, added to in place; elements are read where they were written."""

    def step(i, carries):
        (array,) = carries
        before = call("gather", array, i)
        return [call("scatter_add", array, call("sin", before) * y, i + full(1, i.aval))]

    (array,), _ = loop(integer(3), [x], step)
    return call("reduce_sum", array * array, axes=(0,))


def only_a_branch(x, y):
    (z,) = cond(x < y, lambda: [x * call("exp", y)], lambda: [call("log", x)])
    return z * y


VECTOR = np.array([0.3, 0.5, -0.2, 0.9])
PROGRAMS = [
    (recurrence, (0.3, 0.2, 0.5)),
    (until, (1.7,)),
    (branching, (0.7, 0.9)),
    (nested, (0.7, 0.9)),
    (descent, (0.7, 0.9)),
    (reading, (VECTOR, 0.8)),
    (storing, (VECTOR, 0.8)),
    (only_a_branch, (0.7, 0.9)),
    (only_a_branch, (0.9, 0.7)),
]
NAMED = [pytest.param(program, values, id=program.__name__) for program, values in PROGRAMS]


def summed(node):
    return call("reduce_sum", node, axes=tuple(range(node.ndim))) if node.shape else node


def derivative(mode: str, y, inputs):
    """The derivative of the scalar `y` along all ones."""
    if mode == "f":
        return pushforward([y], inputs, [full(1, x.aval) for x in inputs])[0]
    found = [summed(g) for g in pullback([y], inputs, [full(1, y.aval)]) if g is not None]
    return substitute([sum(found[1:], found[0])], {})[0]


def graph_of(program, values, modes: str) -> Graph:
    inputs = tuple(fresh_input(aval_of(np.shape(value), "f8")) for value in values)
    y = program(*inputs)
    for mode in modes:
        y = derivative(mode, y, inputs)
    return Graph(inputs, tuple(up_to_date([y])))


def at(program, values, modes: str, step: float = 0.0) -> float:
    with interning():
        graph = verify(graph_of(program, values, modes))
        return float(run(graph, [np.asarray(value, float) + step for value in values])[0])


@pytest.mark.parametrize(("program", "values"), NAMED)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_every_order_and_mode(program, values, order):
    step = 1e-5
    expected = [
        (at(program, values, below, step) - at(program, values, below, -step)) / (2 * step) for below in ["r" * (order - 1)]
    ]
    for modes in product("rf", repeat=order):
        np.testing.assert_allclose(at(program, values, "".join(modes)), expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("program", "values"), NAMED)
def test_two_derivatives_of_one_value_share_its_loops(program, values):
    """Each pullback wants other values saved; the third derivatives of both still are right together."""
    with interning():
        inputs = tuple(fresh_input(aval_of(np.shape(value), "f8")) for value in values)
        y = program(*inputs)
        first = [derivative(mode, y, inputs) for mode in "rfr"]
        second = [derivative("r", g, inputs) for g in first]
        graph = Graph(inputs, tuple(up_to_date([y, *first, *second])))
        got = run(graph, [np.asarray(value, float) for value in values])
    np.testing.assert_allclose(got[1:4], got[1], rtol=1e-10)
    np.testing.assert_allclose(got[4:], got[4], rtol=1e-9)
    np.testing.assert_allclose(got[4], at(program, values, "rr"), rtol=1e-9)


@pytest.mark.parametrize(("program", "values"), NAMED)
def test_printed_graphs_with_bodies_read_back(program, values):
    with interning():
        for modes in ("", "r", "rf"):
            graph = graph_of(program, values, modes)
            again = from_text(to_text(graph))
            assert structure(again) == structure(graph)
            arrays = [np.asarray(value, float) for value in values]
            assert run(again, arrays)[0] == run(graph, arrays)[0]


@pytest.mark.parametrize(("program", "values"), NAMED)
def test_compiled_loops_do_what_interpreted_ones_do(program, values):
    with interning():
        inputs = tuple(fresh_input(aval_of(np.shape(value), "f8")) for value in values)
        y = program(*inputs)
        r, f = derivative("r", y, inputs), derivative("f", y, inputs)
        others = [derivative(mode, g, inputs) for g, mode in ((r, "r"), (f, "r"), (r, "f"))]
        graph = Graph(inputs, tuple(up_to_date([y, r, f, *others])))
        arrays = [np.asarray(value, float) for value in values]
        executable = compile_graph(graph)
        for _ in range(2):
            np.testing.assert_allclose(executable(*arrays), run(graph, arrays), rtol=1e-11, atol=1e-12)


def test_the_loop_of_a_value_and_its_gradient_runs_once():
    with interning():
        inputs = [fresh_input(NUMBER) for _ in range(3)]
        y = recurrence(*inputs)
        gradients = pullback([y], inputs, [full(1.0, NUMBER)])
        graph = Graph(tuple(inputs), tuple(up_to_date([y, *gradients])))
    assert [node.primitive.name for node in graph.nodes].count("loop") == 2  # there and back


def test_a_sum_saves_nothing():
    """What the derivative does not read is not saved: no stack in a linear loop."""
    with interning():
        x = fresh_input(aval_of((50,), "f8"))
        (total,), _ = loop(integer(50), [full(0.0, NUMBER)], lambda i, c: [c[0] + 3.0 * call("gather", x, i)])
        graph = Graph((x,), tuple(up_to_date(pullback([total], [x], [full(1.0, NUMBER)]))))
        assert "push" not in to_text(graph) and "pop" not in to_text(graph)
        np.testing.assert_array_equal(run(graph, [np.zeros(50)])[0], np.full(50, 3.0))


def test_carries_that_never_change_are_captured():
    with interning():
        x = fresh_input(NUMBER)
        finals, _ = loop(integer(4), [x, x, full(0.0, NUMBER)], lambda i, c: [c[0], x, c[2] + c[0] * c[1]])
        assert finals[:2] == [x, x]
        assert finals[2].operands[0].params["carries"] == 1


def test_two_traces_of_one_loop_are_one_node():
    with interning():
        x = fresh_input(NUMBER)
        assert branching(x, x) is branching(x, x)


def test_a_branch_is_not_hoisted():
    with interning():
        x, p = fresh_input(aval_of((3,), "f8")), fresh_input(aval_of((), "?"))
        outside = lambda: [call("gather", x, integer(7))]  # noqa: E731
        (y,) = cond(p, outside, lambda: [full(1.0, NUMBER)])
        graph = Graph((x, p), (y,))
        assert run(graph, [np.zeros(3), np.asarray(False)])[0] == 1.0
        with pytest.raises(IndexError):
            run(graph, [np.zeros(3), np.asarray(True)])


def test_a_loop_without_steps_computes_nothing_that_may_fail():
    with interning():
        x, n = fresh_input(aval_of((3,), "f8")), fresh_input(aval_of((), "i8"))
        (y,), count = loop(n, [full(1.0, NUMBER)], lambda i, c: [c[0] + call("gather", x, integer(7))])
        graph = Graph((x, n), (y, count))
        assert [float(v) for v in run(graph, [np.zeros(3), np.asarray(0)])] == [1.0, 0.0]
        assert [float(v) for v in run(graph, [np.zeros(3), np.asarray(-2)])] == [1.0, 0.0]


def test_mismatches_leave_nothing_behind():
    with interning():
        x = fresh_input(NUMBER)
        size = len(scope().table)
        with pytest.raises(CarryMismatch) as caught:
            loop(integer(3), [x], lambda i, c: [call("less", c[0], x)])
        assert (caught.value.position, str(caught.value.first), str(caught.value.second)) == (0, "f64[]", "bool[]")
        less = call("less", x, x)
        with pytest.raises(BranchMismatch):
            cond(less, lambda: [call("exp", x)], lambda: [less])
        with pytest.raises(JitgradError):
            cond(less, lambda: [call("exp", x)], lambda: [])
        assert set(list(scope().table.values())[size:]) <= {less, integer(3)}


@pytest.mark.parametrize("modes", ["", "r", "f", "rr", "rf"])
def test_the_side_not_taken_does_not_touch_the_derivative(modes):
    def program(x):
        (safe,) = cond(full(0.0, NUMBER) < x, lambda: [call("log", x) * x], lambda: [x * x * x])
        return safe

    def in_a_loop(x):
        return loop(integer(3), [x], lambda i, c: [program(c[0]) + x])[0][0]

    for one in (program, in_a_loop):
        assert np.isfinite(at(one, (-0.4,), modes))
