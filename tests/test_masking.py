"""Branches and derivatives: nothing comes from the side not taken, and nothing is masked that should flow."""

from __future__ import annotations

import numpy as np
import pytest

from jitgrad import ops
from jitgrad.ir.aval import aval_of
from jitgrad.ir.graph import Graph, topological
from jitgrad.ir.interpret import run
from jitgrad.ir.node import call, fresh_input, full, interning
from jitgrad.transforms.forward import pushforward
from jitgrad.transforms.reverse import pullback
from jitgrad.transforms.vanishing import assume_may_vanish, may_vanish


@pytest.fixture(autouse=True)
def scope():
    with interning():
        yield


def where_positive(x, f):
    zero = full(0.0, x.aval)
    return ops.select(call("greater", x, zero), f(x), zero)


def derivatives(f, at, orders: int = 3) -> list[np.ndarray]:
    """The first `orders` derivatives of the elementwise `f` at every point, all by reverse mode."""
    at = np.asarray(at, np.float64)
    x = fresh_input(aval_of(at.shape, "f8"))
    found, value = [], f(x)
    for _ in range(orders):
        (value,) = pullback([value], [x], [full(1.0, x.aval)])
        value = full(0.0, x.aval) if value is None else value
        found.append(value)
    return run(Graph((x,), tuple(found)), [at])


L = 1 + np.log(4)
POINTS = [0.0, -1.0, np.nan, -np.inf, 4.0]
CASES = {
    "x log x": (lambda x: x * call("log", x), (np.log(4) + 1, 1 / 4, -1 / 16)),
    "1 / x": (lambda x: 1.0 / x, (-1 / 16, 2 / 64, -6 / 256)),
    "sqrt": (lambda x: call("sqrt", x), (1 / 4, -1 / 32, 3 / 256)),
    "sqrt x sqrt x": (lambda x: call("sqrt", x) * call("sqrt", x), (1.0, 0.0, 0.0)),
    "exp(-1/x)": (
        lambda x: call("exp", -1.0 / x),
        tuple(np.exp(-1 / 4) * c for c in (1 / 16, -7 / 256, 73 / 4096)),
    ),
    "log(x) / x": (
        lambda x: call("log", x) / x,
        ((1 - np.log(4)) / 16, (2 * np.log(4) - 3) / 64, (11 - 6 * np.log(4)) / 256),
    ),
    "x**x": (
        lambda x: call("power", x, x),
        (256 * L, 256 * (L**2 + 1 / 4), 256 * (L**3 + 3 / 4 * L - 1 / 16)),
    ),
    "max over log": (lambda x: call("maximum", call("log", x), full(-9.0, x.aval)), (1 / 4, -1 / 16, 2 / 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_where_takes_one_side_only_at_every_order(name):
    f, expected = CASES[name]
    for found, at_four in zip(derivatives(lambda x: where_positive(x, f), POINTS), expected, strict=True):
        np.testing.assert_array_equal(found[:4], 0.0)
        assert found[4] == pytest.approx(at_four, rel=1e-12, abs=1e-15)


def test_elements_that_are_not_selected_send_nothing():
    x = fresh_input(aval_of((3,), "f8"))
    root = call("sqrt", x) * call("log", x)
    index = fresh_input(aval_of((1,), "i8"))
    for picked in (ops.strided_slice(root, (1,), (2,), (1,)), ops.gather(root, index)):
        (gradient,) = pullback([picked], [x], [full(1.0, picked.aval)])
        (value,) = run(Graph((x, index), (gradient,)), [np.array([0.0, 1.0, 4.0]), np.array([1])])
        assert value[0] == 0 and value[1] == 1


def test_a_mask_in_the_value_is_none_in_the_second_derivative():
    """d/dw of the gradient of w sqrt(x) is 1 / (2 sqrt(x)), also where w = 0 and no gradient flows."""
    w, x = fresh_input(aval_of((2,), "f8")), fresh_input(aval_of((2,), "f8"))
    (gradient,) = pullback([w * call("sqrt", x)], [x], [full(1.0, x.aval)])
    (by_reverse,) = pullback([gradient], [w], [full(1.0, x.aval)])
    (by_forward,) = pushforward([gradient], [w], [full(1.0, x.aval)])
    values = run(Graph((w, x), (gradient, by_reverse, by_forward)), [np.zeros(2), np.array([4.0, 0.0])])
    np.testing.assert_array_equal(values[0], [0, 0])
    np.testing.assert_array_equal(values[1], [0.25, np.inf])
    np.testing.assert_array_equal(values[2], [0.25, np.inf])


def test_products_stay_plain_where_there_is_no_branch():
    x = fresh_input(aval_of((3,), "f8"))
    out = call("tanh", x * call("sin", x)) + call("exp", x)
    (gradient,) = pullback([out], [x], [fresh_input(out.aval)])
    assert "masked_product" not in {node.primitive.name for node in topological([gradient])}


def test_a_known_cotangent_needs_no_mask():
    x = fresh_input(aval_of((3,), "f8"))
    total = ops.reduce_sum(call("log", x), (0,))
    (gradient,) = pullback([total], [x], [full(1.0, total.aval)])
    assert "masked_product" not in {node.primitive.name for node in topological([gradient])}


@pytest.mark.parametrize(
    "make, expected",
    (
        (lambda x, z: ops.select(call("greater", x, z), x, z), True),
        (lambda x, z: ops.select(call("greater", x, z), x, x * 2.0), False),
        (lambda x, z: x + ops.select(call("greater", x, z), x, z), False),
        (lambda x, z: ops.place(ops.strided_slice(x, (0,), (2,), (1,)), (3,), (1,), (1,)), True),
        (lambda x, z: ops.scatter_add(z, x, ops.iota((3,))), True),
        (lambda x, z: ops.scatter_add(x, x, ops.iota((3,))), False),
        (lambda x, z: ops.concatenate([z, ops.select(call("greater", x, z), x, z)], 0), True),
        (lambda x, z: ops.cast(ops.select(call("greater", x, z), x, z), "f4"), True),
        (lambda x, z: call("exp", ops.select(call("greater", x, z), x, z)), False),
        (lambda x, z: ops.reduce_sum(-ops.select(call("greater", x, z), x, z), (0,)), True),
        (lambda x, z: call("divide", x, ops.select(call("greater", x, z), x, z)), False),
    ),
)
def test_what_may_vanish(make, expected):
    x = fresh_input(aval_of((3,), "f8"))
    assert may_vanish(make(x, full(0.0, x.aval))) is expected


def test_an_input_may_be_said_to_vanish():
    x = fresh_input(aval_of((3,), "f8"))
    assert not may_vanish(x)
    y = fresh_input(aval_of((3,), "f8"))
    assume_may_vanish(y)
    assert may_vanish(-y)


def test_may_vanish_of_a_deep_chain():
    x = fresh_input(aval_of((3,), "f8"))
    zero = full(0.0, x.aval)
    node = ops.select(call("greater", x, zero), x, zero)
    for _ in range(100_000):
        node = -node
    assert may_vanish(node)


def test_product_over_zeros_at_third_order():
    """f = product of four numbers: every partial derivative is a product of the others."""
    x = fresh_input(aval_of((4,), "f8"))
    value, basis = ops.reduce_prod(x, (0,)), []
    for k in range(3):
        direction = np.zeros(4)
        direction[k] = 1.0
        basis.append((fresh_input(x.aval), direction))
    (gradient,) = pullback([value], [x], [full(1.0, value.aval)])
    along = ops.reduce_sum(gradient * basis[0][0], (0,))
    (second,) = pullback([along], [x], [full(1.0, along.aval)])
    (third,) = pushforward([second], [x], [basis[1][0]])
    graph = Graph((x, *[b for b, _ in basis]), (gradient, second, third))
    values = run(graph, [np.array([0.0, 0.0, 3.0, 5.0]), *[d for _, d in basis]])
    np.testing.assert_array_equal(values[0], 0)
    np.testing.assert_array_equal(values[1], [0, 15, 0, 0])
    np.testing.assert_array_equal(values[2], [0, 0, 5, 3])
