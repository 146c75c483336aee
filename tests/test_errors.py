"""Bad input: short messages in the user's terms that name the user's line, and a library that works on after them."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest

import jitgrad
from jitgrad import JitgradError, Limitation, UsageError, UsageTypeError, UsageValueError, grad, jit, jvp, vjp
from jitgrad.frontend.trace import current
from jitgrad.runtime import program

X = np.array([1.0, 2.0, 3.0])
HERE = os.path.basename(__file__)


def refused(kind, call, *words):
    """The message of the error of `kind` that `call()` raises: short, with all of `words`, and with this file's name."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, JitgradError)
    assert len(message.splitlines()) < 8, message
    for word in (*words, HERE):
        assert word in message, message
    assert current() is None
    np.testing.assert_allclose(grad(lambda x: np.sum(x * x))(X), 2 * X)
    return message


def returns_vector(x):
    return x * 2


def line_of(function):
    return f"{HERE}:{inspect.getsourcelines(function)[1]}"


# --- results


def test_results_that_are_no_real_scalar():
    line = line_of(returns_vector)
    refused(UsageValueError, lambda: grad(returns_vector)(X), "returns_vector", "shape (3,)", line, "np.sum")
    refused(UsageTypeError, lambda: grad(lambda x: None)(X), "returned None", "return statement")
    refused(UsageTypeError, lambda: grad(lambda x: (x, x))(1.0), "a tuple of 2", "has_aux")
    refused(UsageTypeError, lambda: grad(lambda x: "text")(1.0), "a str")
    refused(UsageTypeError, lambda: grad(lambda x: np.argmax(x))(X), "int64")
    refused(UsageTypeError, lambda: grad(lambda x: 3)(1.0), "returned 3")
    refused(UsageTypeError, lambda: grad(lambda x: x > 1)(1.0), "bool")
    refused(UsageTypeError, lambda: grad(lambda x: x, has_aux=True)(1.0), "(value, aux)")
    refused(UsageTypeError, lambda: vjp(lambda x: "text", 1.0), "must return arrays", "a str")
    refused(UsageTypeError, lambda: vjp(lambda x: None, 1.0), "must return arrays", "None")
    refused(UsageTypeError, lambda: jvp(lambda x: {"a": object()}, (1.0,), (1.0,)), "must return arrays")


# --- what is differentiated


def test_integers_cannot_be_differentiated():
    refused(UsageTypeError, lambda: grad(lambda x: x * 2.0)(3), "x", "3", "float")
    refused(UsageTypeError, lambda: grad(lambda x: x * 2.0)(True), "True")
    refused(UsageTypeError, lambda: grad(lambda x: np.sum(x))(np.arange(3)), "int64", "astype(float)")
    refused(UsageTypeError, lambda: grad(lambda x: np.sum(x))(X > 1), "bool")
    refused(UsageTypeError, lambda: grad(lambda p: p["w"][1])({"w": [1.0, 2]}), "p['w'][1]", "2")
    refused(UsageTypeError, lambda: grad(lambda x, s: x, argnums=1)(1.0, "text"), "s", "str")
    refused(UsageTypeError, lambda: vjp(lambda x: x, np.arange(2)), "primals[0]", "int64")
    refused(UsageTypeError, lambda: jvp(lambda x: x, (1,), (1,)), "primals[0]")
    refused(UsageTypeError, lambda: grad(lambda x: grad(lambda n: n * 1.0)(2) * x)(1.0), "n", "2")


def test_argnums():
    refused(UsageValueError, lambda: grad(lambda x: x, argnums=1)(1.0), "argnums has 1", "1 positional")
    refused(UsageValueError, lambda: grad(lambda x: x, argnums=-2)(1.0), "argnums has -2")
    refused(UsageValueError, lambda: grad(lambda x, y: x, argnums=(0, -2))(1.0, 2.0), "twice")
    refused(UsageTypeError, lambda: grad(lambda x: x, argnums="x"), "argnums")
    refused(UsageTypeError, lambda: grad(lambda x: x, argnums=True), "argnums")
    refused(UsageTypeError, lambda: grad(lambda x: x, argnums=1.0), "argnums")
    refused(UsageValueError, lambda: grad(lambda x: x, argnums=()), "empty")
    refused(UsageTypeError, lambda: jit(lambda x: x, static_argnums="n"), "static_argnums")
    refused(UsageTypeError, lambda: jit(lambda x: x, static_argnames=3 and [3]), "static_argnames")
    refused(UsageValueError, lambda: jit(lambda x: x, static_argnums=4)(1.0), "static_argnums has 4")
    refused(UsageTypeError, lambda: jit(lambda x, n: x, static_argnums=1)(1.0, [2]), "no hash", "n", "tuple")
    refused(UsageValueError, lambda: grad(lambda x: x, tier="fast"), "auto, compile, interpret")


def test_missing_and_unknown_arguments():
    def f(x, y):
        return x * y

    refused(UsageTypeError, lambda: grad(f)(1.0), "f()", "'y'")
    refused(UsageTypeError, lambda: grad(f)(), "f()", "'x'")
    refused(UsageTypeError, lambda: grad(f)(1.0, 2.0, 3.0), "too many")
    refused(UsageTypeError, lambda: jit(f)(1.0, 2.0, z=3.0), "'z'")


def test_not_a_function():
    refused(UsageTypeError, lambda: grad(3.0), "needs a function", "3.0")
    refused(UsageTypeError, lambda: jit("f"), "needs a function")


# --- arrays


def test_arrays_of_other_kinds():
    refused(UsageTypeError, lambda: grad(lambda x: x[0])(np.array([1.0, None])), "x", "object")
    refused(UsageTypeError, lambda: jit(lambda x, y: x)(1.0, np.array(["a"])), "y", "<U1")
    refused(UsageTypeError, lambda: jit(lambda x: x)(np.array(["2020-01-01"], "M8[D]")), "datetime64")
    refused(UsageTypeError, lambda: jit(lambda x: x)(np.zeros(2, [("a", float)])), "x")
    refused(Limitation, lambda: grad(lambda x: x)(1j), "complex")
    refused(Limitation, lambda: grad(lambda x: x)(np.ones(2, complex)), "complex128", "x")
    refused(Limitation, lambda: grad(lambda x: x)(np.complex64(1)), "complex64")
    refused(UsageTypeError, lambda: jit(lambda x: x)(memoryview(b"abc")), "memoryview", "np.asarray")

    class Foreign:
        def __array__(self):
            return X

    refused(UsageTypeError, lambda: jit(lambda x: x)(Foreign()), "Foreign", "np.asarray")


def test_captured_arrays_of_other_kinds():
    objects, texts = np.array([1.0, None]), np.array(["a"])
    refused(UsageTypeError, lambda: grad(lambda x: np.sum(x * objects))(1.0))
    refused(UsageTypeError, lambda: jit(lambda x: (x, texts))(1.0), "<U1")


# --- cotangents and tangents


def test_cotangents():
    _, pull_back = vjp(lambda x: {"a": x * 2, "b": np.sum(x)}, X)
    good = {"a": np.ones(3), "b": 1.0}
    pull_back(good)
    for call in (pull_back, jit(pull_back)):
        refused(UsageTypeError, lambda call=call: call([np.ones(3), 1.0]), "cotangents", "output")
        refused(UsageValueError, lambda call=call: call({**good, "a": np.ones(4)}), "cotangents['a']", "(4,)", "(3,)")
        refused(UsageTypeError, lambda call=call: call({**good, "a": np.ones(3, np.float32)}), "float32", "float64")
        refused(UsageTypeError, lambda call=call: call({**good, "a": "text"}), "cotangents['a']", "str")


def test_tangents():
    def f(x):
        return x * 2

    refused(UsageTypeError, lambda: jvp(f, (X,), (X, X)), "tangents", "primals")
    refused(UsageValueError, lambda: jvp(f, (X,), (X[:2],)), "tangents[0]", "(2,)", "(3,)")
    refused(UsageTypeError, lambda: jvp(f, (X,), (X.astype(np.float32),)), "float32")
    refused(UsageError, lambda: jvp(f, X, X), "tuple")


# --- the user's own errors, and state after them


def test_errors_of_the_function_come_through_as_they_are():
    def divides(x):
        y = x * 2
        return y / (1 // 0)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            grad(divides)(1.0)
        frames = [entry.frame.code.name for entry in caught.traceback]
        assert frames[-1] == "divides"
        assert current() is None

    class Own(Exception):
        pass

    def raises(x):
        raise Own("mine")

    with pytest.raises(Own, match="mine"):
        jit(raises)(1.0)
    with pytest.raises(Own, match="mine"):
        grad(lambda x: x * grad(raises)(x))(1.0)
    assert current() is None
    assert grad(lambda x: x * x)(3.0) == 6.0


def test_a_function_that_fails_once_is_not_kept():
    attempts = []

    def f(x):
        attempts.append(None)
        if len(attempts) == 1:
            raise KeyError("first")
        return x * x

    derivative = grad(f)
    with pytest.raises(KeyError):
        derivative(3.0)
    assert derivative(3.0) == 6.0


def test_keyboard_interrupt_while_tracing():
    interrupt = True

    def f(x):
        y = x * 2
        if interrupt:
            raise KeyboardInterrupt
        return y * x

    derivative = grad(f)
    with pytest.raises(KeyboardInterrupt):
        derivative(3.0)
    assert current() is None
    interrupt = False
    assert derivative(3.0) == 12.0


def test_keyboard_interrupt_while_compiling(monkeypatch):
    derivative = grad(lambda x: np.sum(np.tan(x)), tier="compile")
    real = program.compile_graph

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "compile_graph", interrupted)
    with pytest.raises(KeyboardInterrupt):
        derivative(X)
    monkeypatch.setattr(program, "compile_graph", real)
    for _ in range(2):
        np.testing.assert_allclose(derivative(X), 1 + np.tan(X) ** 2)


def test_no_floating_point_warnings():
    x = np.array([0.0, -1.0, np.inf])
    with np.errstate(all="raise"):
        for tier in ("interpret", "compile"):
            derivative = grad(lambda x: np.sum(np.log(x) + 1 / x), tier=tier)
            derivative(x)
            derivative(x)


# --- leaks

KEPT: list = []


def test_leaks():
    def keeps(x):
        KEPT.append(x * 2)
        return np.sum(x)

    KEPT.clear()
    grad(keeps)(X)
    leaked = KEPT[0]
    refused(UsageError, lambda: leaked + 1, "trace")
    refused(UsageError, lambda: np.sin(leaked), "trace")
    refused(UsageError, lambda: grad(lambda x: np.sum(x * leaked))(X), "trace")
    refused(UsageError, lambda: grad(np.sum)(leaked), "trace")
    refused(UsageError, lambda: jit(lambda x: x)({"a": leaked}), "trace")
    refused(UsageError, lambda: jit(lambda x: leaked)(1.0), "trace")


def test_a_value_of_an_inner_derivative_that_leaks_into_the_outer_function():
    def outer(x):
        kept = []

        def inner(y):
            kept.append(y * 2)
            return y * y

        return grad(inner)(x) + kept[0]

    refused(UsageError, lambda: grad(outer)(1.0), "traced value")


def test_values_kept_by_an_earlier_call():
    cache = {}

    def f(x):
        if "y" not in cache:
            cache["y"] = x * 2
        return np.sum(cache["y"])

    grad(f)(X)
    refused(UsageError, lambda: grad(f)(X), "trace")


def test_is_a_catalogue_of_types():
    assert issubclass(UsageTypeError, (TypeError, UsageError)) and issubclass(UsageValueError, ValueError)
    assert issubclass(Limitation, NotImplementedError) and issubclass(jitgrad.InternalError, JitgradError)
