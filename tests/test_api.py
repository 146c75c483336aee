"""The public transformations: how they are called, nested, used as decorators, and what comes out."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import pickle
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import jitgrad
from jitgrad import config, grad, is_traced, jit, jvp, stop_gradient, value_and_grad, vjp

TIERS = ("auto", "compile", "interpret")
X = np.array([0.3, -1.2, 2.5])


def cube_sum(x, y=1.0):
    """The sum of cubes."""
    return np.sum(x**3) * y


def differences(f, x, step=1e-6):
    """Central differences of a scalar function."""
    x = np.array(x, float)
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = step
        result[index] = (f(x + moved) - f(x - moved)) / (2 * step)
    return result


# --- grad


@pytest.mark.parametrize("tier", TIERS)
def test_gradient_in_every_tier_and_on_every_call(tier):
    derivative = grad(cube_sum, tier=tier)
    for _ in range(3):
        np.testing.assert_allclose(derivative(X), 3 * X**2, rtol=1e-14)


def test_gradient_against_differences():
    def f(x):
        return np.sum(np.sin(x) * np.exp(x) / (1 + x * x)) + np.mean(x) ** 2

    for _ in range(2):
        np.testing.assert_allclose(grad(f)(X), differences(f, X), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("value", [3.0, np.float64(3.0), np.array(3.0)])
def test_scalars_in_numpy_scalars_out(value):
    for _ in range(2):
        result = grad(lambda x: x * x)(value)
        assert type(result) is np.float64
        assert result == 6.0


def test_gradient_has_the_dtype_of_its_argument():
    x = X.astype(np.float32)
    f = grad(lambda x, y: np.sum(x.astype(np.float64) * y), argnums=(0, 1))
    for _ in range(2):
        dx, dy = f(x, X)
        assert (dx.dtype, dy.dtype) == (np.float32, np.float64)
    assert grad(lambda x: x * x)(np.float32(2)).dtype == np.float32


def test_argnums():
    def f(x, y, z):
        return x * y**2 * z**3

    assert grad(f, argnums=1)(2.0, 3.0, 5.0) == 2 * 2 * 3 * 125
    assert grad(f, argnums=-1)(2.0, 3.0, 5.0) == 2 * 9 * 3 * 25
    both = grad(f, argnums=(2, 0))(2.0, 3.0, 5.0)
    assert both == (2 * 9 * 3 * 25, 9 * 125)
    assert isinstance(grad(f, argnums=(0,))(2.0, 3.0, 5.0), tuple)
    assert grad(f, argnums=[1])(2.0, 3.0, 5.0) == (2 * 2 * 3 * 125,)


def test_keywords_reach_argnums_by_position():
    assert grad(cube_sum, argnums=1)(X, y=2.0) == pytest.approx(np.sum(X**3))
    np.testing.assert_allclose(grad(cube_sum)(x=X, y=2.0), 6 * X**2)


def test_unused_arguments_have_zero_gradients():
    for _ in range(2):
        dx, dy = grad(lambda x, y: np.sum(y["b"]), argnums=(0, 1))(X.astype(np.float32), {"a": X, "b": X})
        assert dx.dtype == np.float32 and dx.shape == (3,) and not dx.any()
        assert not dy["a"].any() and (dy["b"] == 1).all()
    assert grad(lambda x: 3.0)(2.0) == 0.0


def test_value_and_grad_and_aux():
    def f(x):
        return np.sum(x * x), {"doubled": 2 * x, "name": "f", "count": 3, "nothing": None, "plain": np.arange(2)}

    for _ in range(2):
        (value, aux), gradient = value_and_grad(f, has_aux=True)(X)
        assert value == pytest.approx(np.sum(X * X)) and type(value) is np.float64
        np.testing.assert_allclose(gradient, 2 * X)
        np.testing.assert_allclose(aux["doubled"], 2 * X)
        assert (aux["name"], aux["count"], aux["nothing"]) == ("f", 3, None)
        assert type(aux["doubled"]) is np.ndarray and list(aux) == ["doubled", "name", "count", "nothing", "plain"]
        gradient, aux = grad(f, has_aux=True)(X)
        np.testing.assert_allclose(aux["plain"], [0, 1])
    assert value_and_grad(lambda x: x * x)(3.0) == (9.0, 6.0)


# --- decorators


def test_decorator_with_and_without_arguments():
    @grad
    def f(x):
        return x * x

    @grad(argnums=1)
    def g(x, y):
        return x * y

    @value_and_grad(has_aux=True)
    def h(x):
        return x, "aux"

    @jit(static_argnames="n")
    def p(x, n):
        return x * n

    assert (f(3.0), g(2.0, 5.0), h(1.0), p(2.0, n=3)) == (6.0, 2.0, ((1.0, "aux"), 1.0), 6.0)


def test_metadata_survives():
    for transformed in (grad(cube_sum), jit(cube_sum), value_and_grad(cube_sum)):
        assert transformed.__name__ == "cube_sum"
        assert transformed.__doc__ == "The sum of cubes."
        assert transformed.__wrapped__ is cube_sum
        assert transformed.__module__ == __name__
        assert inspect.signature(transformed) == inspect.signature(cube_sum)
        assert "cube_sum" in repr(transformed)


class Model:
    """Methods under every decorator."""

    def __init__(self, scale):
        self.scale = scale

    @grad
    def slope(self, x):
        return self.scale * x * x

    @grad(argnums=(1, 0))
    def slopes(self, x, y):
        return self.scale * x * y

    @jit
    def value(self, x):
        return self.scale * x

    @grad
    @staticmethod
    def plain(x):
        return x * x

    @grad
    @classmethod
    def of_class(cls, x):
        return x * x if cls is Model else x


def test_methods_bind():
    for scale in (2.0, 3.0):
        model = Model(scale)
        assert model.slope(5.0) == 10 * scale
        assert model.slopes(5.0, 7.0) == (5 * scale, 7 * scale)
        assert model.value(5.0) == 5 * scale
        assert grad(model.value)(5.0) == scale
    assert (Model.plain(3.0), Model(1.0).plain(3.0), Model.of_class(3.0)) == (6.0, 6.0, 6.0)
    assert inspect.signature(Model(1.0).slope) == inspect.signature(lambda x: x)


def test_callable_objects_partials_and_builtins():
    class Squared:
        def __call__(self, x):
            return x * x

    assert grad(Squared())(3.0) == 6.0
    assert grad(functools.partial(lambda a, x: a * x * x, 2.0))(3.0) == 12.0
    assert grad(np.sin)(0.0) == 1.0
    assert grad(Model(2.0).slope)(1.0) == 4.0


def test_pickle_copy_and_defaults():
    derivative = grad(cube_sum, argnums=(0,))
    derivative(X)
    again = pickle.loads(pickle.dumps(derivative))
    np.testing.assert_allclose(again(X)[0], 3 * X**2)
    assert copy.deepcopy(derivative) is derivative
    np.testing.assert_allclose(grad(cube_sum)(X, 2.0), 6 * X**2)


def test_one_trace_for_repeated_grad_of_one_function():
    runs = []

    def scale(x):
        runs.append(is_traced(x))
        return 2 * x

    for _ in range(3):
        assert grad(scale)(1.0) == 2.0
    assert runs == [True] * 3  # it changes what it reads, so each call is a trace of its own

    def square(x):
        return x * x

    for _ in range(3):
        assert grad(square)(1.0) == 2.0
    assert grad(square).traces == 1
    assert grad(square, argnums=(0,)).traces == 0


# --- nesting


def test_no_perturbation_confusion():
    # d/dx [x * d/dy (x + y)] = d/dx [x * 1] = 1
    assert grad(lambda x: x * grad(lambda y: x + y)(x))(2.0) == 1.0
    assert jvp(lambda x: x * jvp(lambda y: x + y, (x,), (1.0,))[1], (2.0,), (1.0,))[1] == 1.0
    assert grad(lambda x: x * jvp(lambda y: x + y, (x,), (1.0,))[1])(2.0) == 1.0
    assert jvp(lambda x: x * grad(lambda y: x + y)(x), (2.0,), (1.0,))[1] == 1.0
    assert grad(lambda x: x * vjp(lambda y: x + y, x)[1](1.0)[0])(2.0) == 1.0
    # d/dx [x * d/dy (x * y) at y = x] = d/dx x^2 = 2 x
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6.0


def derivatives_of_x4():
    def f(x):
        return x**4

    def forward(f):
        return lambda x: jvp(f, (x,), (1.0,))[1]

    def backward(f):
        return lambda x: vjp(f, x)[1](1.0)[0]

    def compiled(f):
        return grad(jit(f))

    def valued(f):
        return lambda x: value_and_grad(f)(x)[1]

    return f, {"forward": forward, "backward": backward, "grad": grad, "compiled": compiled, "valued": valued}


@pytest.mark.parametrize("outer", ["forward", "backward", "grad", "compiled", "valued"])
@pytest.mark.parametrize("inner", ["forward", "backward", "grad", "compiled", "valued"])
def test_second_and_third_order_in_every_pairing(outer, inner):
    f, modes = derivatives_of_x4()
    assert modes[outer](modes[inner](f))(2.0) == pytest.approx(12 * 4)
    assert jit(modes[outer](modes[inner](f)))(2.0) == pytest.approx(12 * 4)
    assert modes[outer](modes[inner](modes[outer](f)))(2.0) == pytest.approx(24 * 2)


def test_sixth_derivative():
    derivative = lambda x: np.exp(2 * x)  # noqa: E731
    for _ in range(6):
        derivative = grad(derivative)
    assert derivative(0.5) == pytest.approx(64 * np.exp(1.0), rel=1e-12)


def test_gradient_inside_a_larger_function():
    def step(w, rate):
        return w - rate * grad(lambda v: np.sum((v - 1) ** 4))(w)

    def after_two(w, rate):
        return np.sum(step(step(w, rate), rate))

    expected = differences(lambda w: float(after_two(w, 0.01)), X)
    for _ in range(2):
        np.testing.assert_allclose(grad(after_two)(X, 0.01), expected, rtol=1e-6)


def test_inner_gradient_of_containers_and_aux():
    def outer(x):
        value, gradient = value_and_grad(lambda p: (np.sum(p["a"] * x), p["a"]), has_aux=True)({"a": x * x})
        assert is_traced(value[0]) and is_traced(gradient["a"])
        return np.sum(gradient["a"] * value[1])

    np.testing.assert_allclose(grad(outer)(X), 3 * X**2)


def test_inner_function_cannot_change_the_callers_array():
    def inner(v):
        v *= 2
        return np.sum(v)

    def outer(x):
        y = x * 1.0
        g = grad(inner)(y)
        return np.sum(y * g)

    np.testing.assert_allclose(grad(outer)(X), [2.0, 2.0, 2.0])


# --- jit


def test_jit_results_of_any_kind():
    Pair = namedtuple("Pair", "first second")

    @jit
    def f(x, mode):
        return {"pair": Pair(x * 2, [x, 3]), "mode": mode, "none": None, "number": 2.5, "sum": np.sum(x), "text": "t"}

    for _ in range(2):
        result = f(X, "fast")
        assert isinstance(result["pair"], Pair)
        np.testing.assert_array_equal(result["pair"].first, 2 * X)
        assert result["pair"].second[1] == 3 and result["mode"] == "fast" and result["none"] is None
        assert result["number"] == 2.5 and result["text"] == "t" and type(result["sum"]) is np.float64
    assert jit(lambda: None)() is None
    assert jit(lambda: 3)() == 3


def test_results_share_no_memory():
    data = np.arange(3.0)
    functions = (lambda x: x, lambda x: (x, x), lambda x: x[1:], lambda x: x.T, lambda x: data, lambda x: (x, data))
    for tier in TIERS:
        for f in functions:
            for _ in range(2):
                x = X.copy()
                leaves = jitgrad.tree.flatten(jit(f, tier=tier)(x))[0]
                assert not any(np.shares_memory(leaf, other) for leaf in leaves for other in (x, data))
                assert len({leaf.ctypes.data for leaf in leaves}) == len(leaves)
                assert all(leaf.flags.writeable and leaf.flags.owndata for leaf in leaves)


def test_gradients_are_arrays_of_their_own():
    for f in (grad(lambda x, y: np.sum(x + y), argnums=(0, 1)), lambda x, y: vjp(np.add, x, y)[1](np.ones(3))):
        for _ in range(2):
            dx, dy = f(X, X)
            dx *= 5
            assert (dy == 1).all()


def test_jit_traces_once_per_signature():
    @jit
    def f(x, n=2):
        return x * n

    for _ in range(3):
        f(X), f(X, 2), f(X.astype(np.float32)), f(np.ones(5)), f(1.0)
    assert f.traces == 5


def test_static_arguments():
    @functools.partial(jit, static_argnums=1, static_argnames=("flag",))
    def f(x, power, flag=False):
        assert isinstance(power, float)
        return x**2 if power == 2.0 and not flag else x

    assert (f(3.0, 2.0), f(3.0, 1.0), f(3.0, 2.0, flag=True), f(3.0, power=2.0)) == (9.0, 3.0, 3.0, 9.0)
    assert jit(lambda x, s: x * s[1], static_argnums=-1)(2.0, (1, 2.5)) == 5.0
    signs = jit(lambda x, z: x * np.copysign(1.0, z), static_argnums=1)
    assert (signs(1.0, 0.0), signs(1.0, -0.0)) == (1.0, -1.0)


# --- vjp and jvp


def test_pullback_many_times_and_independent_of_later_changes():
    x = X.copy()
    scale = np.array([1.0, 2.0, 3.0])
    output, pull_back = vjp(lambda x, y: (x * x * scale * y, np.sum(x)), x, 2.0)
    np.testing.assert_allclose(output[0], 2 * X * X * scale)
    expected = 4 * X * scale + 1.0
    x[:] = 0
    kept, scale[:] = scale.copy(), 0
    for _ in range(4):
        dx, dy = pull_back((np.ones(3), 1.0))
        np.testing.assert_allclose(dx, expected)
        assert type(dy) is np.float64 and dy == pytest.approx(np.sum(X * X * kept))
    np.testing.assert_allclose(pull_back((np.zeros(3), np.float64(5.0)))[0], [5.0, 5.0, 5.0])


def test_pullback_does_not_keep_broadcasts():
    _, pull_back = vjp(lambda x, y: np.sum(np.sin(x) * y), np.zeros((50, 50)), 2.0)
    assert sum(residual.nbytes for residual in pull_back._residuals) <= 2 * 50 * 50 * 8 + 16


def test_pullback_inside_a_trace():
    _, pull_back = vjp(lambda x: x**3, X)
    np.testing.assert_allclose(jit(lambda c: pull_back(c)[0])(X), 3 * X**3)
    np.testing.assert_allclose(grad(lambda c: np.sum(pull_back(c * c)[0]))(X), 6 * X**3)


def test_vjp_with_aux_integers_and_containers():
    output, pull_back, aux = vjp(lambda p: ({"s": np.sum(p[0]), "n": np.arange(2)}, "aux"), (X, 1.0), has_aux=True)
    assert aux == "aux" and output["n"].dtype == np.int64
    ((dx, dy),) = pull_back({"s": 2.0, "n": np.zeros(2, int)})
    np.testing.assert_allclose(dx, [2.0, 2.0, 2.0])
    assert dy == 0.0


def test_jvp():
    tangent = np.array([1.0, 0.0, -1.0])
    for _ in range(2):
        output, moved = jvp(lambda x, s: {"a": x * x * s, "n": 3}, (X, 2.0), (tangent, 0.5))
        np.testing.assert_allclose(output["a"], 2 * X * X)
        np.testing.assert_allclose(moved["a"], 4 * X * tangent + 0.5 * X * X)
    hessian_vector = jvp(grad(cube_sum), (X,), (tangent,))[1]
    np.testing.assert_allclose(hessian_vector, 6 * X * tangent)


def test_jvp_and_vjp_agree():
    def f(x):
        return np.stack([np.sin(x[0]) * x[1], x[2] ** 2, np.exp(x[0] - x[2])])

    _, pull_back = vjp(f, X)
    u, v = np.array([0.2, -0.5, 1.0]), np.array([1.0, 2.0, -1.0])
    assert u @ jvp(f, (X,), (v,))[1] == pytest.approx(pull_back(u)[0] @ v, rel=1e-13)


# --- small ones


def test_stop_gradient():
    assert grad(lambda x: x * stop_gradient(x))(3.0) == 3.0
    assert grad(lambda x: stop_gradient({"a": x * x, "b": "text"})["a"] + x)(3.0) == 1.0
    assert stop_gradient([1.0, "a"]) == [1.0, "a"]


def test_is_traced():
    seen = []

    def f(x, n):
        seen.append((is_traced(x), is_traced([1, {"a": x}]), is_traced(n), is_traced(X)))
        return x

    grad(f)(1.0, 3)
    assert seen == [(True, True, False, False)] and not is_traced(1.0)


def test_containers_keep_their_kind():
    @dataclasses.dataclass(frozen=True)
    class Layer:
        weights: Any
        bias: Any
        note: Any = None

    Point = namedtuple("Point", "x y")
    arguments = {"layer": Layer(X, 2.0), "list": [X, (X, None)], "point": Point(1.0, X)}

    def f(p):
        assert isinstance(p["layer"], Layer) and isinstance(p["point"], Point)
        return np.sum(p["layer"].weights * p["layer"].bias) + np.sum(p["list"][1][0]) * p["point"].x

    for _ in range(2):
        g = grad(f)(arguments)
        assert list(g) == list(arguments) and type(g["layer"]) is Layer and type(g["point"]) is Point
        np.testing.assert_allclose(g["layer"].weights, [2.0, 2.0, 2.0])
        assert g["layer"].bias == pytest.approx(np.sum(X)) and g["layer"].note is None
        assert type(g["list"][1]) is tuple and g["list"][1][1] is None
        assert not g["list"][0].any()


def test_numpy_target_interprets():
    derivative = grad(cube_sum)
    with config(target="numpy"):
        for _ in range(3):
            np.testing.assert_allclose(derivative(X), 3 * X**2)
        runner = derivative._dispatcher.last.runner
        assert runner.executable == runner.interpret
    np.testing.assert_allclose(derivative(X), 3 * X**2)


def test_tiers():
    small, large = grad(lambda x: np.sum(x)), grad(lambda x: np.sum(x * x))
    small(X)
    assert small._dispatcher.last.runner.executable is None
    small(X)
    assert small._dispatcher.last.runner.executable is not None
    big = np.ones(2_000_000)
    large(big)
    assert large._dispatcher.last.runner.executable != large._dispatcher.last.runner.interpret
    compiled = jit(cube_sum)
    compiled(X)
    runner = compiled._dispatcher.last.runner
    assert runner.executable is not None and runner.executable != runner.interpret


def test_compiled_tier_is_bitwise_the_same_from_the_first_call():
    x = np.linspace(-3, 3, 1001)
    f = value_and_grad(lambda x: np.sum(np.tanh(x) * np.exp(-x * x)), tier="compile")
    first, later = f(x), f(x)
    assert first[0] == later[0] and (first[1] == later[1]).all()


def test_longdouble_stays_on_the_interpreter():
    x = X.astype(np.longdouble)
    for _ in range(2):
        result = grad(lambda x: np.sum(x * x))(x)
        assert result.dtype == np.longdouble
        np.testing.assert_array_equal(result, 2 * x)


def test_options():
    assert config.target == "cpu"
    with config(target="numpy", fuel=3):
        assert (config.target, config.fuel) == ("numpy", 3)
    assert config.fuel is None
    with pytest.raises(jitgrad.UsageValueError, match="cpu, numpy"):
        config.target = "gpu"
    with pytest.raises(AttributeError, match="options are"):
        config.speed  # noqa: B018
    assert "JITGRAD_TARGET" in repr(config)


def test_deep_chain():
    def f(x):
        for _ in range(5000):
            x = x * 1.0001 + 1e-9
        return x

    assert grad(f)(1.0) == pytest.approx(1.0001**5000, rel=1e-10)
