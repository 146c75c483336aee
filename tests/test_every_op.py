"""Generated from the declarations of all primitives: avals, derivatives, documented points."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from jitgrad.ir.aval import Aval, aval_of
from jitgrad.ir.graph import Graph
from jitgrad.ir.interpret import run
from jitgrad.ir.node import apply, call, fresh_input, full, interning
from jitgrad.ir.primitive import PRIMITIVES
from jitgrad.ir.verify import verify
from jitgrad.runtime.compile import compile_graph
from jitgrad.transforms.forward import pushforward
from jitgrad.transforms.reverse import pullback
from tests.op_samples import (
    DTYPES,
    ELEMENTWISE,
    FLOATING,
    NAMES,
    arity,
    cases,
    evaluate,
    floating_cases,
    inputs_for,
    operands,
    or_zeros,
    supports,
)

every_op = pytest.mark.parametrize("name", NAMES)
every_floating_op = pytest.mark.parametrize("name", FLOATING)
targets = pytest.mark.parametrize("target", ("numpy", "cpu"))


# --- avals


@every_op
def test_aval_is_that_of_numpys_result(name):
    primitive, rng = PRIMITIVES[name], np.random.default_rng(1)
    for shapes, params in cases(primitive):
        for dtype in (d for kind in primitive.samples.kinds for d in DTYPES[kind]):
            if not supports(primitive, dtype, params):
                continue
            arrays = operands(primitive, shapes, dtype, rng)
            with np.errstate(all="ignore"):
                expected = np.asarray(primitive.reference(*arrays, **params))
            aval = primitive.aval(*[aval_of(a.shape, a.dtype) for a in arrays], **params)
            assert aval == Aval(expected.shape, expected.dtype), (name, dtype, params)


# --- derivatives


def close(found, expected, rtol, what):
    scale = max(1.0, max((np.abs(e).max() for e in expected if e.size), default=1.0))
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=rtol, atol=rtol * scale, err_msg=str(what))


def dot(left, right) -> float:
    return sum(float(np.sum(a * b)) for a, b in zip(left, right, strict=True))


@every_floating_op
def test_jvp_against_differences(name):
    for d, what in floating_cases(name):
        tangents = inputs_for(d.points)
        (jvp,) = pushforward([d.out], d.x, tangents)
        values = d.random_like(d.x)
        if name == "stop_gradient":
            assert jvp is None
            continue
        found = d.value(or_zeros([jvp], [d.out]), d.points, tangents, values)
        close(found, d.differences([d.out], values), 1e-7, what)


@every_floating_op
def test_jvp_with_one_tangent_missing_is_that_with_a_zero(name):
    for d, what in floating_cases(name):
        for k in range(len(d.x)):
            tangent = inputs_for(d.points[k : k + 1])
            alone = [tangent[0] if j == k else None for j in range(len(d.x))]
            filled = [tangent[0] if j == k else full(0.0, x.aval) for j, x in enumerate(d.x)]
            nodes = [or_zeros(pushforward([d.out], d.x, t), [d.out])[0] for t in (alone, filled)]
            left, right = d.value(nodes, d.points, tangent, d.random_like(tangent))
            close([left], [right], 1e-14, what)


@every_floating_op
def test_vjp_is_the_transpose_of_jvp(name):
    for d, what in floating_cases(name):
        (cotangent,), tangents = inputs_for([np.empty(d.out.shape)]), inputs_for(d.points)
        jvp = or_zeros(pushforward([d.out], d.x, tangents), [d.out])
        vjp = or_zeros(pullback([d.out], d.x, [cotangent]), d.x)
        ct, t = d.random_like([cotangent]), d.random_like(tangents)
        values = d.value([*jvp, *vjp], d.points, (cotangent, *tangents), [*ct, *t])
        left, right = dot(ct, values[:1]), dot(values[1:], t)
        assert left == pytest.approx(right, rel=1e-11, abs=1e-11), what


@every_floating_op
@pytest.mark.parametrize("dtype", ("f4", "f2"))
def test_derivatives_have_the_avals_of_what_they_belong_to(name, dtype):
    primitive, rng = PRIMITIVES[name], np.random.default_rng(2)
    for shapes, params in cases(primitive):
        with interning():
            inputs = inputs_for(operands(primitive, shapes, dtype, rng))
            out = apply(primitive, *inputs, **params)
            if out.dtype.kind != "f":
                continue
            tangents = [fresh_input(x.aval) if x.dtype.kind == "f" else None for x in inputs]
            jvp = primitive.jvp(tangents, inputs, out, **params) if any(tangents) else None
            vjp = primitive.vjp(fresh_input(out.aval), inputs, out, **params)
            assert jvp is None or jvp.aval == out.aval
            for x, share in zip(inputs, vjp, strict=True):
                assert share is None or (share.aval == x.aval and x.dtype.kind == "f")


@every_floating_op
def test_second_order_in_every_pairing_of_modes(name):
    """d^2/ds dt of <ct, op(x + s u + t v)>, by differences of the gradient and each mode over each mode."""
    for d, what in floating_cases(name):
        (cotangent,), u, v = inputs_for([np.empty(d.out.shape)]), inputs_for(d.points), inputs_for(d.points)
        more = (cotangent, *u, *v)
        values = [*d.random_like([cotangent]), *d.random_like(u), *d.random_like(v)]
        ct, along_u, along_v = values[0], values[1 : 1 + len(u)], values[1 + len(u) :]
        gradient = or_zeros(pullback([d.out], d.x, [cotangent]), d.x)
        expected = dot(d.differences(gradient, along_v, more, values), along_u)

        forward = or_zeros(pushforward([d.out], d.x, u), [d.out])
        by_ff = or_zeros(pushforward(forward, d.x, v), forward)
        by_fr = or_zeros(pushforward(gradient, d.x, v), gradient)
        by_rr = or_zeros(pullback(gradient, d.x, u), d.x)
        by_rf = or_zeros(pullback(forward, d.x, [cotangent]), d.x)
        found = iter(d.value([*by_ff, *by_fr, *by_rr, *by_rf], d.points, more, values))
        results = [
            dot([ct], [next(found)]),
            dot([next(found) for _ in by_fr], along_u),
            dot([next(found) for _ in by_rr], along_v),
            dot([next(found) for _ in by_rf], along_v),
        ]
        scale = 1.0 + abs(expected) + sum(float(np.abs(value).sum()) for value in values)
        np.testing.assert_allclose(results, expected, rtol=1e-6, atol=1e-7 * scale, err_msg=str(what))
        np.testing.assert_allclose(results, results[0], rtol=1e-10, atol=1e-11 * scale, err_msg=str(what))


@every_floating_op
def test_derivative_of_the_vjp_in_its_cotangent_is_the_vjp(name):
    """The vjp is linear in the cotangent, and stays so where the cotangent is 0."""
    for d, what in floating_cases(name):
        (cotangent, change) = inputs_for([np.empty(d.out.shape)] * 2)
        vjp = or_zeros(pullback([d.out], d.x, [cotangent]), d.x)
        linear = or_zeros(pullback([d.out], d.x, [change]), d.x)
        tangent = or_zeros(pushforward(vjp, [cotangent], [change]), vjp)
        values = d.value(
            [*linear, *tangent],
            d.points,
            (cotangent, change),
            [np.zeros(d.out.shape), *d.random_like([change])],
        )
        close(values[len(d.x) :], values[: len(d.x)], 1e-13, what)


# --- documented points


SINGULAR = [(name, index) for name in NAMES for index in range(len(PRIMITIVES[name].samples.singular))]


@pytest.mark.parametrize("name, index", SINGULAR, ids=[f"{n}-{k}" for n, k in SINGULAR])
@targets
def test_documented_gradient_at_a_singular_point(name, index, target):
    arguments, expected, *rest = PRIMITIVES[name].samples.singular[index]
    arrays = [np.asarray(argument, np.float64) for argument in arguments]
    with interning():
        inputs = inputs_for(arrays)
        out = apply(PRIMITIVES[name], *inputs, **(rest[0] if rest else {}))
        gradient = or_zeros(pullback([out], inputs, [full(1.0, out.aval)]), inputs)
        along = [or_zeros(pushforward([out], [x], [full(1.0, x.aval)]), [out])[0] for x in inputs]
        graph = verify(Graph(inputs, (*gradient, *along)))
        values = run(graph, arrays) if target == "numpy" else compile_graph(graph)(*arrays)
    for k, wanted in enumerate(expected):
        np.testing.assert_array_equal(values[k], np.asarray(wanted, np.float64), err_msg=f"{name}{arguments}")
        np.testing.assert_allclose(
            values[len(inputs) + k].sum(), np.sum(wanted), err_msg=f"{name}{arguments}, forward"
        )


AWKWARD = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.5, np.inf, -np.inf, np.nan, 1e200, -1e200, 5e-324])


def awkward_operands(name: str) -> tuple[list[np.ndarray], dict]:
    primitive = PRIMITIVES[name]
    params = cases(primitive)[0][1]
    count = arity(primitive)
    if name == "select":
        pairs = np.array(list(product(AWKWARD, AWKWARD))).T
        return [np.arange(pairs.shape[1]) % 2 == 0, *pairs], params
    return [np.array(column) for column in zip(*product(*[AWKWARD] * count), strict=True)], params


@pytest.mark.parametrize("name", [n for n in ELEMENTWISE if n in FLOATING])
def test_nothing_flows_from_the_side_not_taken(name):
    """where(False, f(x), 0), with f the operation squared, has derivative 0 at every x, up to third order."""
    arrays, params = awkward_operands(name)
    with interning():
        inputs = inputs_for(arrays)
        taken = fresh_input(aval_of(arrays[0].shape, "?"))
        out = apply(PRIMITIVES[name], *inputs, **params)
        if out.dtype.kind != "f":
            return
        out = call("cast", out, dtype=np.dtype("f8")) if out.dtype != np.float64 else out
        chosen = call("select", taken, out * out, full(0.0, out.aval))
        x = [node for node in inputs if node.dtype.kind == "f"]
        ones = [full(1.0, node.aval) for node in x]
        gradient = or_zeros(pullback([chosen], x, [full(1.0, chosen.aval)]), x)
        again = or_zeros(pullback(gradient, x, ones), x)
        ahead = or_zeros(pushforward(gradient, x, ones), x)
        first = or_zeros(pushforward([chosen], x, ones), [chosen])
        third = or_zeros(pullback(again, x, ones), x)
        outputs = [*gradient, *again, *ahead, *first, *third]
        values = evaluate(outputs, (*inputs, taken), [*arrays, np.zeros(arrays[0].shape, bool)])
    for k, value in enumerate(values):
        where = [tuple(a[j] for a in arrays) for j in np.flatnonzero(value != 0)]
        assert not where, (name, "derivative", k, "at", where[:5], value[value != 0][:5])


@pytest.mark.parametrize("name", [n for n, k in SINGULAR if k == 0])
def test_a_zero_cotangent_or_tangent_meets_no_infinite_slope(name):
    """A row of a Jacobian that starts from a zero is 0 there, in both modes, though the slope be infinite."""
    for arguments, _, *rest in PRIMITIVES[name].samples.singular:
        if name == "masked_product" and np.inf in arguments:
            continue  # a slope of inf for a cotangent that is a number of its own
        arrays = [np.asarray(argument, np.float64) for argument in arguments]
        with interning():
            inputs = inputs_for(arrays)
            out = apply(PRIMITIVES[name], *inputs, **(rest[0] if rest else {}))
            (cotangent,), tangents = inputs_for([np.empty(out.shape)]), inputs_for(arrays)
            nodes = or_zeros(pullback([out], inputs, [cotangent]), inputs)
            nodes += or_zeros(pushforward([out], inputs, tangents), [out])
            zeros = [np.zeros(out.shape), *[np.zeros(a.shape) for a in arrays]]
            values = evaluate(nodes, (*inputs, cotangent, *tangents), [*arrays, *zeros])
        for value in values:
            np.testing.assert_array_equal(value, 0.0, err_msg=f"{name}{arguments}")
