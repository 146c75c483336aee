"""The interpreter: values, freshness of results, memory, errors; and the checks of `verify`."""

from __future__ import annotations

import warnings
import weakref

import numpy as np
import pytest

from jitgrad import ops
from jitgrad.errors import InternalError, UsageIndexError
from jitgrad.ir import interpret
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.interpret import run
from jitgrad.ir.node import Node, call, constant, fresh_input, full, interning
from jitgrad.ir.primitive import PRIMITIVES
from jitgrad.ir.verify import verify


@pytest.fixture(autouse=True)
def scope():
    with interning():
        yield


def vector(n: int = 3, dtype="f8") -> Node:
    return fresh_input(aval_of((n,), dtype))


def test_values_in_the_order_of_the_outputs():
    x, y = vector(), vector()
    total, product = run(Graph((x, y), (x + y, x * y)), [np.arange(3.0), np.full(3, 2.0)])
    np.testing.assert_array_equal(total, [2, 3, 4])
    np.testing.assert_array_equal(product, [0, 2, 4])


def test_no_warnings_are_emitted():
    x = vector()
    graph = Graph((x,), (call("log", x), 1.0 / x, ops.cast(x, np.int32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(graph, [np.array([0.0, -1.0, np.nan])])


def test_results_share_memory_with_nothing():
    x = fresh_input(aval_of((2, 3), "f8"))
    turned, flat = ops.transpose(x, (1, 0)), ops.reshape(x, (6,))
    array = np.arange(6.0).reshape(2, 3)
    results = run(Graph((x,), (x, x, turned, flat, full(1.0, x.aval))), [array])
    for k, result in enumerate(results):
        assert result.flags.c_contiguous and result.flags.writeable and result.base is None
        assert not any(np.shares_memory(result, other) for other in [array, *results[:k]])
    np.testing.assert_array_equal(results[2], array.T)


def test_results_without_axes_are_arrays():
    x = vector()
    (total, one) = run(Graph((x,), (ops.reduce_sum(x, (0,)), constant(1.0, "f8"))), [np.arange(3.0)])
    assert isinstance(total, np.ndarray) and total.shape == () and total == 3
    assert isinstance(one, np.ndarray) and one.shape == () and one.flags.writeable


def test_inputs_that_no_output_needs_are_allowed():
    x, y = vector(), vector()
    np.testing.assert_array_equal(run(Graph((x, y), (x + x,)), [np.ones(3), np.ones(3)])[0], 2)


def test_an_array_that_does_not_fit_its_input_is_refused():
    x = vector()
    with pytest.raises(InternalError, match="input of f64"):
        run(Graph((x,), (x,)), [np.ones(3, np.float32)])


def test_values_are_freed_when_last_used(monkeypatch):
    x = vector(10_000)
    node = x
    for _ in range(50):
        node = call("sin", node)
    alive, most, real = weakref.WeakSet(), [0], interpret.evaluate

    class Tracked(np.ndarray):
        """An array that can be weakly referenced by hash of identity."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def watched(node, values):
        result = real(node, values).view(Tracked)
        alive.add(result)
        most[0] = max(most[0], len(alive))
        return result

    monkeypatch.setattr(interpret, "evaluate", watched)
    run(Graph((x,), (node,)), [np.ones(10_000)])
    assert most[0] <= 3


def test_a_hundred_thousand_nodes():
    x = vector(2)
    node = x
    for _ in range(50_000):
        node = call("negative", node * 1.0)
    (result,) = run(Graph((x,), (node,)), [np.ones(2)])
    np.testing.assert_array_equal(result, 1)


@pytest.mark.parametrize("index", (3, -4, 10**12))
def test_an_index_outside_names_index_axis_size_and_line(index):
    x, i = vector(), fresh_input(aval_of((2,), "i8"))
    node = ops.gather(x, i)  # the line
    with pytest.raises(
        UsageIndexError, match=rf"index {index} is out of bounds for axis 0 with size 3"
    ) as caught:
        run(Graph((x, i), (node,)), [np.arange(3.0), np.array([0, index])])
    assert caught.value.where == node.where and "# the line" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 8
    assert isinstance(caught.value, IndexError)


def test_an_index_outside_of_a_later_axis():
    x = fresh_input(aval_of((3, 2), "f8"))
    i, j = fresh_input(aval_of((1,), "i8")), fresh_input(aval_of((1,), "i8"))
    v = vector(1)
    graph = Graph((x, v, i, j), (ops.scatter_add(x, v, i, j),))
    with pytest.raises(UsageIndexError, match="index 2 is out of bounds for axis 1 with size 2"):
        run(graph, [np.ones((3, 2)), np.ones(1), np.array([2]), np.array([2])])
    assert run(graph, [np.ones((3, 2)), np.ones(1), np.array([-3]), np.array([-1])])[0][0, 1] == 2


def test_an_index_into_nothing():
    x, i = fresh_input(aval_of((0,), "f8")), fresh_input(aval_of((1,), "i8"))
    with pytest.raises(UsageIndexError, match="axis 0 with size 0"):
        run(Graph((x, i), (ops.gather(x, i),)), [np.zeros(0), np.array([0])])


# --- verify


def test_verify_returns_the_graph():
    x = vector()
    graph = Graph((x,), (call("sin", x) + 1.0,))
    assert verify(graph) is graph


def wrong_graph(kind: str) -> Graph:
    x = vector()
    match kind:
        case "aval":
            return Graph((x,), (Node(PRIMITIVES["sin"], (x,), {}, aval_of((3,), "f4"), None),))
        case "operands":
            return Graph((x,), (Node(PRIMITIVES["add"], (x, constant(1.0, "f8")), {}, x.aval, None),))
        case "stranger":
            return Graph((x,), (call("sin", vector()),))
        case "twice":
            return Graph((x, x), (x,))
        case "leaf":
            return Graph((call("sin", x),), (x,))
        case "parameter":
            return Graph(
                (x,),
                (
                    Node(
                        PRIMITIVES["reshape"], (x,), {"shape": (np.int64(3), 1)}, aval_of((3, 1), "f8"), None
                    ),
                ),
            )
        case "list":
            return Graph(
                (x,), (Node(PRIMITIVES["reshape"], (x,), {"shape": [3, 1]}, aval_of((3, 1), "f8"), None),)
            )
        case "constant":
            return Graph(
                (x,), (Node(PRIMITIVES["constant"], (), {"value": np.float32(1)}, aval_of((), "f8"), None),)
            )


@pytest.mark.parametrize(
    "kind", ("aval", "operands", "stranger", "twice", "leaf", "parameter", "list", "constant")
)
def test_verify_refuses(kind):
    with pytest.raises(InternalError, match="malformed after simplify"):
        verify(wrong_graph(kind), "simplify")
