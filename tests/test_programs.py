"""Short real programs, run in every way there is: plain NumPy, interpreted, compiled, differentiated once and twice."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from program_catalogue import PROGRAMS

import jitgrad
from jitgrad import tree

TIERS = ("interpret", "compile")
EPSILON = 1e-6


def arguments_of(name: str) -> tuple:
    return PROGRAMS[name].arguments(np.random.default_rng(len(name)))


def leaves(values) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in tree.flatten(values)[0]]


def direction(values, seed: int):
    """Random tangents of `values`, of the same shapes and dtypes."""
    rng = np.random.default_rng(seed)
    found, structure = tree.flatten(values)
    return tree.unflatten(
        structure, [rng.standard_normal(np.shape(leaf)).astype(np.asarray(leaf).dtype)[()] for leaf in found]
    )


def dot(a, b) -> float:
    return float(sum(np.sum(np.asarray(x, float) * y) for x, y in zip(leaves(a), leaves(b), strict=True)))


def moved(values, along, step: float):
    found, structure = tree.flatten(values)
    parts = [type(x)(x + step * v) if isinstance(x, float) else x + np.asarray(step * v, x.dtype)
             for x, v in zip(found, leaves(along), strict=True)]  # fmt: skip
    return tree.unflatten(structure, parts)


def tolerance(values) -> float:
    """How far two ways of computing may differ: a matter of the least precise leaf."""
    return 1e4 * max(float(np.finfo(leaf.dtype).eps) for leaf in leaves(values))


def in_double(values):
    return tree.map_leaves(lambda leaf: float(leaf) if np.ndim(leaf) == 0 else leaf.astype(float), values)


def gradient(name: str, args: tuple, tier: str):
    return jitgrad.grad(PROGRAMS[name].function, tuple(range(len(args))), tier=tier)


def assert_near(found, expected, tolerance: float) -> None:
    for a, b in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * (1 + np.max(np.abs(b), initial=0)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_value_is_numpys(name):
    args = arguments_of(name)
    function = PROGRAMS[name].function
    expected = function(*args)
    for tier in TIERS:
        found = jitgrad.jit(function, tier=tier)(*args)
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance(args))


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient(name):
    """Both tiers agree, with the slope along a line, and with the tangents of forward mode (the dot-product test)."""
    args = arguments_of(name)
    function = PROGRAMS[name].function
    interpreted, compiled = (gradient(name, args, tier)(*args) for tier in TIERS)
    assert tree.flatten(compiled)[1] == tree.flatten(args)[1]
    for part, argument in zip(leaves(compiled), leaves(args), strict=True):
        assert (part.shape, part.dtype) == (argument.shape, argument.dtype)
    assert_near(compiled, interpreted, tolerance(args))
    along = direction(args, 1)
    slope = dot(compiled, along)
    _, tangent = jitgrad.jvp(function, args, along, tier="interpret")
    np.testing.assert_allclose(tangent, slope, rtol=10 * tolerance(args), atol=10 * tolerance(args))
    exact, line = in_double(args), in_double(along)
    ahead, behind = (function(*moved(exact, line, step)) for step in (EPSILON, -EPSILON))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * EPSILON), rtol=max(1e-6, 100 * tolerance(args)), atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivative(name):
    """Forward over reverse is symmetric, is what compiled code computes, and the slope of the gradient."""
    args = in_double(arguments_of(name))
    first, second = direction(args, 2), direction(args, 3)
    grad = gradient(name, args, "interpret")
    _, product = jitgrad.jvp(grad, args, first, tier="compile")
    _, other = jitgrad.jvp(grad, args, second, tier="interpret")
    scale = 1 + abs(dot(product, second))
    assert abs(dot(product, second) - dot(other, first)) < 1e-9 * scale
    ahead, behind = (grad(*moved(args, first, step)) for step in (EPSILON, -EPSILON))
    slope = (dot(ahead, second) - dot(behind, second)) / (2 * EPSILON)
    assert abs(dot(product, second) - slope) < 1e-5 * scale


# --- ways of calling


@pytest.mark.parametrize("name", ["lennard_jones", "cross_entropy", "kernel_mean_discrepancy", "namedtuple_argument"])
def test_transformations_in_any_order(name):
    args = arguments_of(name)
    function, every = PROGRAMS[name].function, tuple(range(len(args)))
    expected = gradient(name, args, "interpret")(*args)
    value, found = jitgrad.value_and_grad(jitgrad.jit(function), every)(*args)
    assert_near(found, expected, 1e-11)
    np.testing.assert_allclose(value, function(*args), rtol=1e-11)
    assert_near(jitgrad.jit(jitgrad.grad(function, every))(*args), expected, 1e-11)
    output, pullback = jitgrad.vjp(jitgrad.jit(function), *args)
    assert_near(pullback(1.0), expected, 1e-11)
    assert_near(pullback(-2.0), tree.map_leaves(lambda leaf: -2 * leaf, expected), 1e-11)
    assert output == pytest.approx(function(*args), rel=1e-11)


def test_training_loop_traces_once():
    """Learning rates that change, batches by index, parameters in containers: one trace, and the loss falls."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    y = np.tanh(x @ np.array([1.0, -2.0, 0.5])) + 0.3

    def loss(parameters, batch, targets):
        return np.mean((np.tanh(batch @ parameters["w"]) + parameters["b"] - targets) ** 2)

    @jitgrad.jit
    def step(parameters, rate, batch, targets):
        value, gradients = jitgrad.value_and_grad(loss)(parameters, batch, targets)
        return {key: parameters[key] - rate * gradients[key] for key in parameters}, value

    parameters, losses = {"w": np.zeros(3), "b": 0.0}, []
    for epoch in range(60):
        rows = rng.permutation(60)[:20]
        parameters, value = step(parameters, 1.0 / (1 + 0.02 * epoch), x[rows], y[rows])
        losses.append(value)
    assert losses[-1] < 0.01 * losses[0]
    # The first parameters have the weak type of a Python float, later ones are float64 scalars.
    assert step.traces <= 2


def test_batches_of_changing_size():
    value_and_grad = jitgrad.value_and_grad(lambda w, x: np.mean(np.exp(-((x @ w) ** 2))), tier="compile")
    rng = np.random.default_rng(1)
    for rows in (1, 7, 32, 7, 33, 1):
        w, x = rng.standard_normal(4), rng.standard_normal((rows, 4))
        value, found = value_and_grad(w, x)
        z = x @ w
        np.testing.assert_allclose(value, np.mean(np.exp(-(z**2))), rtol=1e-13)
        np.testing.assert_allclose(found, (-2 * z * np.exp(-(z**2))) @ x / rows, rtol=1e-12, atol=1e-15)


LAYOUTS = {
    "transposed": lambda x: x.T.copy().T,
    "every other": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "column of three": lambda x: np.stack([x, x, x], axis=-1)[:, :, 1],
    "big endian": lambda x: x.astype(">f8"),
    "unaligned": lambda x: np.frombuffer(b"0" + x.tobytes(), np.uint8)[1:].view(float).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tier", TIERS)
def test_memory_layouts(layout, tier):
    x = np.random.default_rng(2).standard_normal((6, 5))

    def f(x):
        return np.sum(np.sin(x) * np.cumsum(x, axis=0))

    given = LAYOUTS[layout](x)
    found = jitgrad.grad(f, tier=tier)(given)
    np.testing.assert_array_equal(given, x)
    np.testing.assert_allclose(found, jitgrad.grad(f, tier="interpret")(x), rtol=1e-12, atol=1e-14)
    assert found.dtype.isnative and found.flags.c_contiguous and not np.shares_memory(found, given)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (1,), ()])
def test_degenerate_shapes(shape, tier):
    x = np.full(shape, 2.0)
    value, found = jitgrad.value_and_grad(lambda x: np.sum(x**3) + np.prod(x), tier=tier)(x)
    np.testing.assert_array_equal(value, np.sum(x**3) + np.prod(x))
    np.testing.assert_array_equal(found, np.full(shape, 12.0 + 1.0))


# --- many nodes


def deep(x, operations: int):
    for _ in range(operations // 2):
        x = np.sin(x) + x
    return np.sum(x)


@pytest.mark.parametrize("tier", TIERS)
def test_chain_of_two_thousand(tier):
    x = np.array([1e-3, 0.5])
    value, found = jitgrad.value_and_grad(lambda x: deep(x, 2000), tier=tier)(x)
    expected, slope = x, np.ones(2)
    for _ in range(1000):
        expected, slope = np.sin(expected) + expected, slope * (1 + np.cos(expected))
    assert value == pytest.approx(np.sum(expected), rel=1e-12)
    np.testing.assert_allclose(found, slope, rtol=1e-9, atol=1e-300)


def test_compiling_many_nodes_waits_for_more_calls():
    """A loop over data, unrolled, is interpreted a few times before it is worth a compile of seconds."""

    def f(x):
        return deep(x, 3000)

    with jitgrad.config(lift=False):
        for _ in range(2):
            jitgrad.grad(f)(np.ones(2))
        report = str(jitgrad.explain(jitgrad.grad(f), np.ones(2)))
    assert "interpreted at the first 4 calls, compiled from then on" in report


# --- errors that come from other libraries' code


def test_location_is_the_users_line_where_scipy_asks_for_numbers():
    special = pytest.importorskip("scipy.special")

    def f(x):
        return special.logsumexp(x)  # here

    with pytest.raises(jitgrad.UsageTypeError) as caught:
        jitgrad.grad(f)(np.ones(3))
    assert "# here" in str(caught.value) and "SciPy" in str(caught.value)


def test_ufuncs_of_scipy_are_not_called_numpys():
    special = pytest.importorskip("scipy.special")
    with pytest.raises(jitgrad.Limitation, match="the ufunc struve of traced values is not supported"):
        jitgrad.grad(lambda x: special.struve(0.0, x))(1.0)


INTERRUPTED = """
import os, signal, threading, time
import numpy as np
import jitgrad

def f(x):
    for k in range(8000):
        x = np.sin(x) + 0.1 * np.exp(-x * x)
    return np.sum(x)

threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    jitgrad.grad(f, tier="compile")(np.ones(3))
except KeyboardInterrupt:
    print("interrupted")
print(jitgrad.grad(lambda x: np.sum(x**2), tier="compile")(np.ones(2)))
"""


def test_usable_after_an_interrupt_while_tracing_or_compiling():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split("\n")[:2] == ["interrupted", "[2. 2.]"]
