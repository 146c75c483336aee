"""The traced array: operators, methods, protocols, in-place operations and aliases, and what it refuses."""

from __future__ import annotations

import copy
import math
import operator
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jitgrad.numpy
from jitgrad.errors import JitgradError, Limitation, UsageError, UsageTypeError, UsageValueError
from jitgrad.frontend.array import Array
from jitgrad.frontend.convert import as_array
from tests.traced_helpers import assert_close, assert_same, evaluate, gradients, session

X = np.array([[1.5, -2.0, 0.25], [3.0, 0.5, -1.0]])
V = np.array([0.5, 2.0, -4.0])


def same(function, *arguments):
    assert_same(evaluate(function, *arguments), function(*arguments))


# --- expressions


LEAVES = ["x", "v", "n", "s", "2", "1.5", "plain", "np.float32(0.5)"]
BINARY = ["({} + {})", "({} - {})", "({} * {})", "({} / {})", "np.maximum({}, {})", "np.hypot({}, {})", "({} // {})"]
UNARY = ["(-{})", "abs({})", "np.sin({})", "np.exp(np.minimum({}, 2))", "({} ** 2)", "np.where({0} > 0, {0}, 1)"]


@st.composite
def expressions(draw, depth=4):
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(LEAVES))
    if draw(st.booleans()):
        return draw(st.sampled_from(UNARY)).format(draw(expressions(depth - 1)))
    return draw(st.sampled_from(BINARY)).format(draw(expressions(depth - 1)), draw(expressions(depth - 1)))


@given(expressions())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_expression_is_numpys(text):
    """x: float64[2, 3], v: float32[3], n: int64[3], s: a float64 scalar; `plain` an ndarray from outside."""
    function = eval(f"lambda x, v, n, s: {text}", {"np": np, "plain": np.array([2, -1, 3], np.int16)})
    arguments = X, V.astype(np.float32), np.array([3, -2, 5]), np.float64(1.25)
    with np.errstate(all="ignore"):
        expected = np.asarray(function(*arguments))
    assert_same(evaluate(lambda *a: as_array(function(*a)), *arguments), expected)


def test_operators_reflected_and_with_lists():
    for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.lt, operator.eq):
        base = abs(V)
        for other in (2.0, V, [1.0, 2.0, 3.0], np.float32(3.0), (1, 2, 3)):
            same(lambda x, op=op, other=other: op(x, other), base)
            if not isinstance(other, tuple):  # (1, 2, 3) * x is Python's business, as in NumPy
                same(lambda x, op=op, other=other: op(other, x), base)
    same(lambda x: X @ x, V)
    same(lambda x: x @ V, X)
    same(lambda x: x @ x.T, X)
    same(lambda x: [1.0, 2.0] @ x, X)
    same(lambda n: (n << 2) ^ (n >> 1) | ~n & 5, np.array([5, -3, 7]))
    same(lambda n: 2 << n, np.array([1, 3]))
    same(lambda x: divmod(x, 0.75)[0] - divmod(7.5, x)[1], X)
    same(lambda x: +x, X)


def test_lists_of_traced_values_are_stacked():
    def function(x):
        return x + [x[0], 1, x[2] * 2]

    assert_same(evaluate(function, V), V + np.array([V[0], 1, V[2] * 2]))
    found = evaluate(lambda x: as_array([[x[0], 2], (3.5, x[1])]), V.astype(np.float32))
    assert_same(found, np.array([[0.5, 2], [3.5, 2.0]], np.float32))
    with pytest.raises(UsageValueError, match="different shapes"):
        evaluate(lambda x: as_array([x, x[0]]), V)


# --- attributes and methods


def test_attributes():
    with session() as opened:
        x = opened.input(X)
        assert (x.shape, x.ndim, x.size, x.dtype, x.itemsize, x.nbytes, len(x)) == ((2, 3), 2, 6, np.float64, 8, 48, 2)
        assert isinstance(x, Array) and not hasattr(x, "strides") and not hasattr(x, "__array_interface__")
        assert_same(opened.value(x.T), X.T)
        assert_same(opened.value(x.mT), X.mT)
        assert_same(opened.value(x.real), X)
        assert_same(opened.value(x.imag), X.imag)
        assert_same(opened.value(as_array(sum(v * k for k, v in enumerate(x.flat)))), sum(v * k for k, v in enumerate(X.flat)))
        assert repr(x) == str(x) == f"{x:10.3f}" == "Traced(float64[2, 3])"
        assert repr(opened.input(2.5)) == "Traced(weak float)"


METHODS = """x.sum() x.sum(0) x.sum(axis=(0,1),keepdims=True) x.sum(1,np.float32) x.sum(initial=2.0) x.sum(where=x>0)
x.mean() x.mean(1) x.std() x.std(0,ddof=1) x.var(axis=1,keepdims=True) x.min() x.max(0) x.max(initial=9,where=x<0)
x.prod(1) x.argmin() x.argmax(1) x.argmax(1,keepdims=True) (x>0).any(0) (x>0).all() x.cumsum() x.cumsum(0) x.cumprod(1)
x.trace() x.diagonal() x.diagonal(1) x.clip(-1,1) x.clip(min=0) x.round() x.round(1) x.dot(x.T) x.conj() x.conjugate()
x.reshape(3,2) x.reshape((6,)) x.reshape(-1) x.reshape(2,-1,order="F") x.transpose() x.transpose(1,0) x.transpose((1,0))
x.ravel() x.flatten() x[None].squeeze() x[None].squeeze(0) x.swapaxes(0,1) x.take([0,2,-1]) x.take([1,0],axis=1)
x.repeat(2) x.repeat([1,2],axis=0) x.argsort() x.argsort(0) x.copy() x.astype(int) x.astype("f4") x.astype(bool)
x.compress([True,False,True],axis=1) x[0].searchsorted([0.5]) x.astype(np.float64)"""


@pytest.mark.parametrize("text", METHODS.split())
def test_methods(text):
    function = eval(f"lambda x: {text}", {"np": np})
    assert_close(evaluate(function, X), function(X))


def test_sort_and_fill_are_in_place():
    def function(x):
        alias = x
        alias.sort(axis=0)
        y = x * 1
        y.fill(2.5)
        return x + y

    assert_same(evaluate(function, X), np.sort(X, axis=0) + 2.5)
    assert_same(evaluate(lambda x: [y := x * 1, y.fill(x[0, 1])][0], X), np.full_like(X, -2.0))


def test_item_and_tolist_give_weak_numbers():
    single = V.astype(np.float32)
    for function in (
        lambda x, s: x[0].item() * s, lambda x, s: x.item(1) * s, lambda x, s: x.item(-1) * s,
        lambda x, s: sum(x.tolist()) * s, lambda x, s: math.floor(x.item(2)) * s, lambda x, s: round(x.item(0)) * s,
        lambda x, s: math.ceil(x.item(1)) + s.astype(np.int8), lambda x, s: math.trunc(x.item(2)) * s,
    ):  # fmt: skip
        assert_same(evaluate(function, V, single), function(V, single))
    assert_same(evaluate(lambda x: x.item(1, 2) + np.float32(1), X), X.item(1, 2) + np.float32(1))
    with pytest.raises(UsageTypeError, match="one element"):
        evaluate(lambda x: x.item(), V)


def test_copies_are_their_own():
    def function(x):
        one, two, three = x.copy(), copy.copy(x), copy.deepcopy([x])[0]
        one += 1
        two *= 2
        three -= 3
        four = x.astype(float)
        four /= 4
        return x + 10 * one + 100 * two + 1000 * three + 10000 * four

    assert_same(evaluate(function, V), function(V.copy()))


# --- in place


@pytest.mark.parametrize("op", ["iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul"])
def test_in_place_operators_change_every_name_of_the_array(op):
    operation = getattr(operator, op)
    other = np.eye(3) * 2 if op == "imatmul" else 2

    def function(x):
        y = alias = x * 1.0
        y = operation(y, other)
        assert y is alias
        return alias + 10 * y

    assert_same(evaluate(function, X), function(X))


@pytest.mark.parametrize("op", ["iand", "ior", "ixor", "ilshift", "irshift"])
def test_in_place_operators_of_integers(op):
    def function(n):
        alias = n
        n = getattr(operator, op)(n, 3)
        return alias + n

    n = np.array([5, 2, 7])
    assert_same(evaluate(function, n), function(n.copy()))


def test_in_place_casts_as_numpy_does():
    def function(x):
        y = x
        y += np.float64(0.1)
        y *= np.ones(3)
        return y

    assert evaluate(function, V.astype(np.float32)).dtype == np.float32
    assert_same(evaluate(function, V.astype(np.float32)), function(V.astype(np.float32)))
    for bad in (0.5, np.ones(3), np.array(1.0)):
        with pytest.raises(UsageTypeError, match="cannot cast the output of add from float64 to int64"):
            evaluate(lambda n, bad=bad: operator.iadd(n, bad), np.array([1, 2, 3]))
    with pytest.raises(UsageValueError, match="in place"):
        evaluate(lambda x: operator.iadd(x, np.ones((2, 3))), V)


def test_scalars_are_immutable_as_numpys_are():
    def function(x):
        total = first = x[0]
        total += x[1]
        total += x
        count = other = 1.5 * x[2]
        count *= 2
        return total + 10 * first + 100 * count + 1000 * other

    assert_same(evaluate(function, V), function(V))

    def of_number(a):
        b = a
        b += 1
        return a * 10 + b

    assert_same(evaluate(of_number, 3.0), np.float64(of_number(3.0)))


VIEWS = [
    lambda x: x[0], lambda x: x[:, 1:], lambda x: x[...], lambda x: x[0, ..., 0], lambda x: x.T, lambda x: x.reshape(-1),
    lambda x: x.ravel(), lambda x: x[None], lambda x: np.transpose(x), lambda x: np.reshape(x, (3, 2)), lambda x: next(iter(x)),
    lambda x: x.swapaxes(0, 1), lambda x: np.squeeze(x), lambda x: np.expand_dims(x, 0), lambda x: np.split(x, 2)[1],
    lambda x: x.T[1:].reshape(-1), lambda x: np.flip(x, 0), lambda x: np.atleast_3d(x), lambda x: np.moveaxis(x, 0, 1),
    lambda x: x.real, lambda x: np.diagonal(x),
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
def test_in_place_operations_on_views_do_as_numpy_or_are_refused(view):
    """NumPy changes the array behind the view as well (and the view with the array)."""

    def through_view(x):
        y = view(x)
        y += 1
        return x * 1

    def through_base(x):
        y = view(x)
        x += 1
        return y * 1

    def twice(x):
        y = view(x)
        y *= 2
        np.add(x, 1, out=x)
        y -= 3
        return x * 1

    for function in (through_view, through_base, twice):
        try:
            expected = function(X.copy())
        except ValueError:  # a view that NumPy makes read-only
            continue
        try:
            found = evaluate(function, X)
        except Limitation as error:
            assert "shares memory" in str(error)
        else:
            assert_same(found, expected)


STORED_THROUGH = [lambda x: x[0], lambda x: x[:, 1:], lambda x: x.T, lambda x: x.reshape(-1), lambda x: x[::-1, None]]


@pytest.mark.parametrize("view", STORED_THROUGH)
def test_stores_through_views_change_the_array(view):
    def through_view(x):
        y, z = view(x), x[1]
        y += 1
        z *= 2
        y -= z[0]
        return x * 1 + y.sum()

    assert_same(evaluate(through_view, X), through_view(X.copy()))


def test_copies_and_dead_views_do_not_stand_in_the_way():
    def function(x):
        y = x * 1
        total = y[0].sum() + y.T[1].sum() + y.reshape(-1).max()
        y += total
        chosen = y[[0, 1]]
        flat = y.flatten()
        chosen *= 2
        flat -= 1
        y *= 3
        moved = (y + 1).reshape(-1)
        moved += 1
        return y + chosen + flat.reshape(2, 3) + moved.reshape(2, 3)

    assert_same(evaluate(function, X), function(X))


def test_what_numpy_would_not_copy_is_the_array_itself():
    def function(x):
        y, z, u = x * 1, x * 2, x * 3
        np.nan_to_num(y, copy=False, nan=7.0)
        same_z = jitgrad.numpy.array(z, copy=None)
        same_z += 1
        same_u = np.astype(u, u.dtype, copy=False)
        same_u *= 2
        copied = jitgrad.numpy.array(z)
        copied += 100
        return y + z + u

    x = np.array([1.0, np.nan, 3.0])
    expected = np.nan_to_num(x, nan=7.0) + (x * 2 + 1) + x * 6
    assert_same(evaluate(function, x), expected)
    for views in (
        lambda x: jitgrad.numpy.array(x, copy=None, ndmin=2),
        lambda x: np.meshgrid(x, copy=False)[0],
        lambda x: np.meshgrid(x, copy=False, sparse=True)[0],
    ):
        function = lambda x: operator.iadd(views(x), 1) + x  # noqa: B023, E731
        try:
            found = evaluate(function, x)
        except Limitation as error:
            assert "shares memory" in str(error)
        else:
            np.testing.assert_array_equal(np.squeeze(found), (x + 1) * 2)


def test_fill_takes_the_value_that_the_array_has_at_the_call():
    value = np.array(2.0)

    @jitgrad.jit
    def function(x):
        y = x * 1
        y.fill(value)
        return y * x

    assert function(V).tolist() == (2 * V).tolist()
    value[...] = 5.0
    assert function(V).tolist() == (5 * V).tolist()
    with pytest.raises(UsageTypeError, match="one number"):
        evaluate(lambda x: (x * 1).fill(V), V)
    with pytest.raises(OverflowError, match="300"):
        evaluate(lambda x: (x * 1).fill(300), V.astype(np.uint8))


def test_the_callers_array_does_not_change():
    plain = V.copy()
    evaluate(lambda x: operator.iadd(x, 1), plain)
    assert_same(plain, V)


# --- ufuncs: out=, where=, methods


def test_out_into_a_traced_array():
    def function(x):
        y = np.zeros_like(x)
        z = np.multiply(x, 2, out=y)
        assert z is y
        np.add(y, x[0], y)
        whole, part = np.zeros_like(x), np.zeros_like(x)
        np.modf(y, out=(part, whole))
        return y + 10 * whole + part

    assert_same(evaluate(function, X), function(X))


def test_out_of_a_plain_array_is_refused():
    buffer = np.zeros(3)
    for function in (
        lambda x: np.add(x, 1, out=buffer), lambda x: operator.iadd(buffer, x), lambda x: np.sum(x, axis=0, out=buffer),
        lambda x: x.sum(0, out=buffer), lambda x: np.add.reduce(x, out=buffer),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="out="):
            evaluate(function, X[:1])
    assert not buffer.any()


def test_where():
    def function(x):
        return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)

    x = np.array([2.0, 0.0, -4.0])
    assert_same(evaluate(function, x), function(x))
    assert_same(gradients(function, x)[0], np.array([-0.25, 0.0, -0.0625]))
    root = lambda x: np.sqrt(x, out=x * 3, where=x > 0)  # noqa: E731
    assert_close(gradients(root, np.array([4.0, 0.0, -1.0]))[0], np.array([0.25, 3.0, 3.0]))
    plain = np.array([True, False, True])
    assert_same(evaluate(lambda x: np.log(x, out=x * 1, where=plain), np.array([1.0, -1.0, 2.0])), [0, -1, np.log(2.0)])
    assert_same(evaluate(lambda x: np.add(x, 1, out=x * 1.0, where=[[True], [False]]), X), [X[0] + 1, X[1]])
    with pytest.raises(UsageError, match="out="):
        evaluate(lambda x: np.sqrt(x, where=x > 0), x)
    with pytest.raises(UsageTypeError, match="bool"):
        evaluate(lambda x: np.sqrt(x, out=x * 1, where=[1, 0, 1]), x)


FOLDED = [np.add, np.multiply, np.maximum, np.minimum, np.logaddexp, np.hypot, np.subtract, np.fmax, np.logical_xor]


@pytest.mark.parametrize("ufunc", FOLDED, ids=lambda u: u.__name__)
def test_reduce_and_accumulate(ufunc):
    for x in (X, X[0], X[:, :1]):
        function = lambda x: ufunc.reduce(x)  # noqa: E731
        assert_close(evaluate(function, x), np.asarray(function(x)), 8)
        accumulated = lambda x: ufunc.accumulate(x, axis=-1)  # noqa: E731
        assert_close(evaluate(accumulated, x), accumulated(x), 8)
    for function in (
        lambda x: ufunc.reduce(x, axis=1, keepdims=True),
        lambda x: ufunc.reduce(x, axis=-1, initial=2.0),
        lambda x: ufunc.accumulate(x.T),
    ):
        assert_close(evaluate(function, X), np.asarray(function(X)), 8)
    if ufunc is not np.subtract:
        assert_close(evaluate(lambda x: ufunc.reduce(x, axis=(0, 1)), X), np.asarray(ufunc.reduce(X, axis=(0, 1))), 8)
        assert_close(evaluate(lambda x: ufunc.reduce(x, axis=None), X), np.asarray(ufunc.reduce(X, axis=None)), 8)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_folds_of_every_length(count):
    n = np.arange(3, 3 + count) * 7 % 11 + 1
    for ufunc in (np.bitwise_xor, np.gcd, np.maximum, np.bitwise_and, np.subtract):
        same(lambda n: ufunc.reduce(n), n)  # noqa: B023
        same(lambda n: ufunc.accumulate(n), n)  # noqa: B023


@pytest.mark.parametrize("ufunc", [np.divide, np.logaddexp, np.hypot, np.subtract, np.gcd, np.fmax, np.logical_xor, np.maximum])
@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i8", "f4", "f8"])
def test_folds_have_numpys_dtype(ufunc, dtype):
    """Also those over one element, where nothing is folded, and those that an `initial` of another type joins."""
    for count in (0, 1, 3):
        x = np.array([[1, 2], [3, 1], [2, 2]])[:count].astype(dtype)
        for function in (
            lambda x: ufunc.reduce(x),
            lambda x: ufunc.reduce(x, initial=2.5),
            lambda x: ufunc.reduce(x, dtype=np.float32),
            lambda x: ufunc.accumulate(x),
            lambda x: ufunc.accumulate(x, dtype=np.float64),
        ):
            with np.errstate(all="ignore"):
                try:
                    expected = function(x)
                except (TypeError, ValueError):
                    with pytest.raises(JitgradError):
                        evaluate(function, x)
                    continue
                assert_close(evaluate(function, x), expected, 8)


def test_folds_over_several_axes():
    for axes in ((0, 0), (0, -2)):
        with pytest.raises(UsageValueError, match="twice"):
            evaluate(lambda x: np.hypot.reduce(x, axis=axes), X)  # noqa: B023
    with pytest.raises(UsageValueError, match="depends on the order"):
        evaluate(lambda x: np.subtract.reduce(x, axis=(0, 1)), X)


def test_folds_of_nothing():
    empty = np.zeros((0, 2))
    same(lambda x: np.add.reduce(x), empty)
    same(lambda x: np.logaddexp.reduce(x), empty)
    with pytest.raises(UsageValueError, match="no identity"):
        evaluate(lambda x: np.fmax.reduce(x), empty)


def test_outer():
    same(lambda x: np.add.outer(x, V), X)
    same(lambda x: np.subtract.outer(V, x), X)
    same(lambda x: np.multiply.outer(x, 2.0), X)


def test_methods_that_are_refused():
    for function in (lambda x: np.add.at(x, [0], 1.0), lambda x: np.add.reduceat(x, [0, 1])):
        with pytest.raises(Limitation, match="not supported"):
            evaluate(function, V)
    with pytest.raises(Limitation, match="one by one"):
        evaluate(lambda x: np.subtract.reduce(x), np.ones(2000))


# --- derivatives of composed ufuncs

INF = np.inf


@pytest.mark.parametrize(
    ("x", "y", "slopes"),
    [(0.0, 0.0, (0.5, 0.5)), (1.0, 0.0, (1 / (1 + math.exp(-1)), 1 / (1 + math.e))), (-INF, -INF, (0.5, 0.5)),
     (INF, INF, (0.5, 0.5)), (-INF, 2.0, (0.0, 1.0)), (2.0, -INF, (1.0, 0.0)), (INF, 2.0, (1.0, 0.0)),
     (2.0, INF, (0.0, 1.0)), (-INF, INF, (0.0, 1.0)), (INF, -INF, (1.0, 0.0)), (1e300, -1e300, (1.0, 0.0)),
     (-800.0, -800.0, (0.5, 0.5))],
)  # fmt: skip
def test_logaddexp_and_its_derivative_at_the_edges(x, y, slopes):
    for ufunc in (np.logaddexp, np.logaddexp2):
        same(ufunc, np.float64(x), np.float64(y))
        if not (math.isfinite(x) and math.isfinite(y)) or ufunc is np.logaddexp or x == y:
            assert_close(np.array(gradients(ufunc, np.float64(x), np.float64(y))), np.array(slopes))
    nan = gradients(np.logaddexp, np.float64(np.nan), np.float64(1.0))
    assert np.isnan(evaluate(np.logaddexp, np.float64(np.nan), np.float64(1.0))) and len(nan) == 2


DERIVATIVES = {
    np.square: lambda x: 2 * x, np.reciprocal: lambda x: -1 / x**2, np.positive: np.ones_like, np.fabs: np.sign,
    np.deg2rad: lambda x: np.full_like(x, np.pi / 180), np.degrees: lambda x: np.full_like(x, 180 / np.pi),
    np.conjugate: np.ones_like, np.float_power: None,
}  # fmt: skip


@pytest.mark.parametrize("ufunc", [u for u in DERIVATIVES if DERIVATIVES[u]], ids=lambda u: u.__name__)
def test_derivatives_of_composed_ufuncs(ufunc):
    x = np.array([0.5, -1.5, 3.0])
    assert_close(gradients(ufunc, x)[0], DERIVATIVES[ufunc](x))


def test_derivatives_of_parts_of_numbers():
    x = np.array([2.75, -1.5, 4.0, -3.0, 0.0])
    assert_same(gradients(lambda x: np.modf(x)[0], x)[0], np.ones(5))
    assert gradients(lambda x: np.modf(x)[1], x)[0] is None
    assert_same(gradients(lambda x: np.frexp(x)[0], x[:4])[0], 0.5 ** np.frexp(x[:4])[1])
    assert_same(gradients(lambda x: np.ldexp(x, [3, -2, 0, 1, 5]), x)[0], 2.0 ** np.array([3, -2, 0, 1, 5]))
    assert_same(gradients(lambda x: np.divmod(x, 2.0)[1], x)[0], np.ones(5))
    assert gradients(np.spacing, x)[0] is None
    step, at_zero = gradients(lambda x, h: np.heaviside(x, h), np.array([-1.0, 0.0, 2.0]), np.full(3, 0.5))
    assert step is None
    assert_same(at_zero, np.array([0.0, 1.0, 0.0]))


def test_parts_of_extreme_numbers():
    tiny = np.finfo(float).smallest_subnormal
    x = np.array([1.0, -0.75, tiny, 3 * tiny, -1e308, np.inf, -np.inf, np.nan, 0.0, -0.0, 2.0**52, 0.5, 1 - 2**-53])
    same(np.frexp, x[:0])
    for found, expected in zip(evaluate(np.frexp, x), np.frexp(x), strict=True):
        assert_same(found, expected)
    for found, expected in zip(evaluate(np.modf, x * 1.5), np.modf(x * 1.5), strict=True):
        assert_same(found, expected)
    mantissas = np.array([1.0, -1.75, 1 + 2**-52, np.inf, 0.0, -0.0, tiny, 1.5 * 2.0**-1000])
    with np.errstate(all="ignore"):
        for n in (0, 1, -1, 1023, 1024, -1022, -1030, -1074, -1075, -1080, 2000, 2098, -2000, -2098, -3000, 2**31 - 1):
            assert_same(evaluate(lambda x, n=n: np.ldexp(x, n), mantissas), np.ldexp(mantissas, n))
        single = mantissas.astype(np.float32)
        for n in (0, 127, 128, -126, -140, -149, -150, 200, -250, 276):
            assert_same(evaluate(lambda x, n=n: np.ldexp(x, n), single), np.ldexp(single, n))
    same(np.spacing, np.array([1.0, -2.0, 0.0, -0.0, tiny, np.inf, np.nan, 1e308]))
    same(np.bitwise_count, np.array([-(2**63), 2**63 - 1, -1, 0, 255]))
    same(np.bitwise_count, np.array([2**64 - 1, 7], np.uint64))
    same(np.bitwise_count, np.array([-128, 127, -1], np.int8))


# --- refusals


def into_buffer(x):
    buffer = np.zeros(3)
    buffer[:] = x
    return buffer


REFUSED = {
    "float": (lambda x: float(x[0]), "np.sin, not math.sin"),
    "int": (lambda x: int(x[0]), "number is not known"),
    "complex": (lambda x: complex(x[0]), "number is not known"),
    "math": (lambda x: math.sin(x[0]), "np.sin, not math.sin"),
    "range": (lambda x: range(x.astype(int)[0]), "range bound"),
    "shape": (lambda x: x.reshape(x.astype(int)[0]), "range bound"),
    "if": (lambda x: 1 if x[0] > 0 else 2, "np.where"),
    "and": (lambda x: x[0] and x[1], "np.where"),
    "chain": (lambda x: 0 < x[0] < 1, "np.where"),
    "if array": (lambda x: 1 if x > 0 else 2, "np.any / np.all"),
    "in": (lambda x: 1.0 in x, "np.any"),
    "asarray": (lambda x: np.asarray(x), "np.stack or jitgrad.numpy.array"),
    "array": (lambda x: np.array([x, x]), "np.stack or jitgrad.numpy.array"),
    "buffer": (into_buffer, "Collect the parts in a list"),
    "pickle": (lambda x: pickle.dumps(x), "pickle"),
    "object": (lambda x: x + np.array([None, 1, 2]), "Python objects"),
    "none": (lambda x: x + None, "None cannot be an operand"),
    "equals none": (lambda x: x == None, "None cannot be an operand"),  # noqa: E711
    "text": (lambda x: x + "a", "type str"),
    "date": (lambda x: x + np.array(["2020-01-01"] * 3, "M8[D]"), "datetime64"),
    "masked": (lambda x: x + np.ma.array([1.0, 2.0, 3.0]), "MaskedArray"),
    "complex operand": (lambda x: x * 1j, "complex128"),
    "unknown function": (lambda x: np.unique(x), "np.unique"),
    "shapes": (lambda x: x + np.ones(2), r"\(3,\) \(2,\)"),
    "shapes of a ufunc": (lambda x: np.arctan2(x, np.ones((2, 2))), r"\(3,\) \(2, 2\)"),
    "dtype": (lambda x: x & 3, "bitwise_and"),
    "bool minus": (lambda x: (x > 0) - (x > 1), "bitwise_xor"),
    "fill": (lambda x: x.fill(x), "one number"),
    "astype": (lambda x: x.astype(complex), "complex128"),
    "astype safe": (lambda x: x.astype(int, casting="safe"), "safe"),
    "modulus": (lambda x: pow(x, 2, 3), "modulus"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_where_and_what_to_do(name):
    function, words = REFUSED[name]
    with pytest.raises(JitgradError, match=words) as caught:
        evaluate(function, V)
    text = str(caught.value)
    assert "test_array.py:" in text and len(text.splitlines()) < 8


def test_a_number_stored_in_a_buffer_is_refused():
    """NumPy replaces the error by its own, which carries ours as its cause."""
    buffer = np.zeros(3)

    def function(x):
        buffer[0] = x[0]

    with pytest.raises(ValueError) as caught:
        evaluate(function, V)
    assert "Collect the parts in a list" in str(caught.value.__cause__)


def test_arrays_are_unhashable_as_ndarrays_are():
    with session() as opened, pytest.raises(TypeError, match="unhashable"):
        hash(opened.input(V))


def test_other_classes_can_take_over():
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "mine"

    with session() as opened:
        assert opened.input(V) + Other() == "mine"


def test_leaked_values_are_refused():
    kept = []
    evaluate(lambda x: kept.append(x) or x, V)
    (old,) = kept
    uses = (
        lambda x: x + old, lambda x: old + x, lambda x: np.sin(old), lambda x: old[0], lambda x: -old, lambda x: old.sum(),
        lambda x: np.stack([old]), lambda x: operator.iadd(as_array(x), old), lambda x: old**2, lambda x: as_array(x)[old],
        lambda x: old.copy(), lambda x: old.astype(int),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(UsageError, match="ended"):
            evaluate(use, V)
        with pytest.raises(UsageError, match="ended"):
            use(V.copy())
    assert repr(old) == "Traced(float64[3])" and old.shape == (3,)


def test_a_traced_value_in_another_thread_is_refused():
    errors = []

    def work(x):
        try:
            x + 1
        except UsageError as error:
            errors.append(error)

    with session() as opened:
        thread = threading.Thread(target=work, args=(opened.input(V),))
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_equal_expressions_are_one_node():
    with session() as opened:
        x = opened.input(V)
        assert (x * 2.0 + np.sin(x)).node is (x * 2.0 + np.sin(x)).node
        assert (x + 0.0).node is not (x + -0.0).node
        assert (x + np.nan).node is (x + np.nan).node
        assert x[1:].node is x[1:3].node
