"""jitgrad.numpy as a module: lists of traced values, creation, every name; what is refused, and how."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import jitgrad.numpy as jnp
from jitgrad.errors import Limitation, UsageError, UsageIndexError, UsageTypeError, UsageValueError
from jitgrad.frontend.array import Array
from tests.traced_helpers import assert_close, assert_same, evaluate, session

LISTS = [
    lambda np, x, y: np.sum([x, y, 2.0]),
    lambda np, x, y: np.max([[x, 1.0], [y, x]], axis=0),
    lambda np, x, y: np.array([x, y, 3]),
    lambda np, x, y: np.array([[x, y], [1.0, 2]]),
    lambda np, x, y: np.mean((x, y)),
    lambda np, x, y: np.asarray([x, y], dtype=np.float32),
    lambda np, x, y: np.stack([x, y]),
    lambda np, x, y: np.array([np.array([x, y]), [y, 1.0]]),
    lambda np, x, y: np.linalg.norm([x, y]),
    lambda np, x, y: np.dot([x, y], [1.0, x]),
    lambda np, x, y: np.sin([x, y]),
    lambda np, x, y: np.array(x, ndmin=2),
    lambda np, x, y: np.add([x, y], [1.0, x]),
    lambda np, x, y: np.diag([x, y]),
    lambda np, x, y: np.vstack([[x, y], [1, 2]]),
    lambda np, x, y: np.einsum("i,i", [x, y], [y, 2]),
    lambda np, x, y: np.full((2, 2), x),
    lambda np, x, y: np.cross([x, y, 1], [1, x, 2]),
    lambda np, x, y: np.linspace(x, y, 4),
    lambda np, x, y: np.where([True, False], [x, y], 0.0),
]


@pytest.mark.parametrize("function", LISTS)
def test_lists_of_traced_values(function):
    expected = function(np, 0.5, 2.0)
    found = evaluate(lambda x, y: function(jnp, x, y), np.float64(0.5), np.float64(2.0))
    assert_close(found, expected)


CREATION = [
    lambda np: np.zeros(3),
    lambda np: np.zeros((2, 2), int),
    lambda np: np.ones(2, np.float32),
    lambda np: np.eye(3),
    lambda np: np.eye(2, 4, k=1, dtype=bool),
    lambda np: np.identity(2),
    lambda np: np.arange(5),
    lambda np: np.arange(1, 7, 2),
    lambda np: np.arange(0.5, 2, 0.3),
    lambda np: np.arange(3.0),
    lambda np: np.arange(0),
    lambda np: np.arange(5, dtype="f4"),
    lambda np: np.linspace(0, 1, 5),
    lambda np: np.full((2,), 7),
    lambda np: np.full(2, 7.5, int),
    lambda np: np.tri(3, 4, 1),
    lambda np: np.array([[1, 2], [3, 4]]),
    lambda np: np.logspace(0, 2, 3),
    lambda np: np.geomspace(1, 8, 4),
    lambda np: np.asarray(2.5),
    lambda np: np.ascontiguousarray(2.5),
    lambda np: np.arange(9, 2, -3),
]


@pytest.mark.parametrize("function", CREATION)
def test_creation_inside_and_outside_of_a_trace(function):
    expected = function(np)
    outside = function(jnp)
    assert type(outside) is np.ndarray
    assert_same(outside, expected)
    with session() as opened:
        inside = function(jnp)
        assert isinstance(inside, Array)
        assert_close(opened.value(inside), expected)


def test_plain_values_outside_of_a_trace_are_numpys():
    x = np.arange(6.0).reshape(2, 3)
    assert type(jnp.sum(x)) is np.float64
    assert jnp.unique([3, 1, 3]).tolist() == [1, 3]
    assert jnp.add.reduce(x).tolist() == np.add.reduce(x).tolist()
    assert jnp.linalg.det(np.eye(2)) == 1.0
    assert jnp.float32 is np.float32 and jnp.pi == np.pi and jnp.newaxis is None and jnp.ndarray is np.ndarray
    assert jnp.sum.__name__ == "sum" and jnp.random is np.random


def test_plain_arrays_inside_a_trace():
    with session():
        assert isinstance(jnp.sum(np.ones(3)), Array)
        assert isinstance(jnp.sin(np.ones(3)), Array)
        assert jnp.prod((2, 3)) == 6 and not isinstance(jnp.prod((2, 3)), Array)  # for shapes
        assert jnp.unique(np.array([1, 1])).tolist() == [1]


def test_every_name_of_numpy_is_there():
    for name in np.__all__:
        assert getattr(jnp, name) is not None or getattr(np, name) is None
    for name in dir(np.linalg):
        assert name.startswith("_") or getattr(jnp.linalg, name) is not None
    with pytest.raises(AttributeError, match="no such_thing"):
        jnp.such_thing  # noqa: B018


def test_asarray_of_a_traced_array_is_itself():
    with session() as opened:
        x = opened.input(np.ones(3))
        assert jnp.asarray(x) is x and jnp.array(x) is not x


# --- what is refused

MISSING = [
    (lambda x: np.unique(x), "np.unique"),
    (lambda x: np.fft.fft(x), "fft"),
    (lambda x: np.nonzero(x), "np.where"),
    (lambda x: np.linalg.qr(np.outer(x, x)), "np.linalg.qr"),
    (lambda x: np.histogram(x), "np.histogram"),
    (lambda x: np.where(x > 0), "np.where"),
    (lambda x: jnp.unique([x[0], x[1]]), "np.unique"),
    (lambda x: np.linalg.norm(np.outer(x, x), 2), "singular values"),
    (lambda x: np.repeat(x, (x > 0).astype(int)), "repeats"),
    (lambda x: np.compress(x > 0, x), "np.compress"),
    (lambda x: np.polymul(x, x), "np.convolve"),
    (lambda x: np.quantile(x, 0.5, method="hazen"), "hazen"),
    (lambda x: np.linalg.matrix_power(np.outer(x, x), -1), "negative"),
    (lambda x: jnp.arange(x[0]), "np.arange"),
    (lambda x: np.delete(x, x.astype(int)), "delete"),
]


@pytest.mark.parametrize("function, words", MISSING)
def test_limitations_name_what_is_missing(function, words):
    with session() as opened, pytest.raises(Limitation, match=words) as raised:
        function(opened.input(np.array([0.5, 2.0, -1.0])))
    assert len(str(raised.value).splitlines()) < 8


def test_the_nearest_function_is_named():
    with session() as opened, pytest.raises(Limitation, match=r"nearest .* np\.ediff1d"):
        np.setdiff1d(opened.input(np.ones(3)), [1.0])


ERRORS = [
    (lambda x: np.sum(x, axis=2), UsageValueError, "axis 2 is out of bounds"),
    (lambda x: np.sum(x, axis=-3), UsageIndexError, "dimension 2"),
    (lambda x: np.sum(x, axis=(0, 0)), UsageValueError, "twice"),
    (lambda x: np.sum(x, out=np.zeros(())), UsageTypeError, "out="),
    (lambda x: np.max(x, where=x > 0), UsageValueError, "initial"),
    (lambda x: np.max(x[:0]), UsageValueError, "no identity"),
    (lambda x: np.reshape(x, (5, 2)), UsageValueError, r"\(2, 3\).*\(5, 2\)"),
    (lambda x: np.reshape(x, (-1, -1)), UsageValueError, "one unknown"),
    (lambda x: np.concatenate([x, x.T]), UsageValueError, r"\(2, 3\) and \(3, 2\)"),
    (lambda x: np.stack([x, x.T]), UsageValueError, r"\(2, 3\), \(3, 2\)"),
    (
        lambda x: np.concatenate([]) if False else np.concatenate([x[0, 0], x[0, 0]]),
        UsageValueError,
        "zero-dimensional",
    ),
    (lambda x: np.matmul(x, x), UsageValueError, r"\(2, 3\) and \(2, 3\)"),
    (lambda x: x @ 2.0, UsageError, "dim|@|Use"),
    (lambda x: np.dot(x, x), UsageValueError, r"not aligned: 3 \(dim 1\) != 2 \(dim 0\)"),
    (lambda x: np.einsum("ij,jk", x, x), UsageValueError, "'j' has extents 3 and 2"),
    (lambda x: np.einsum("ij,jk->iz", x, x.T), UsageValueError, "'z'"),
    (lambda x: np.einsum("ijk", x), UsageValueError, "3 axes"),
    (lambda x: np.tensordot(x, x, 1), UsageValueError, "not aligned"),
    (lambda x: np.broadcast_to(x, (3, 3)), UsageValueError, r"\(2, 3\).*\(3, 3\)"),
    (lambda x: np.where(x > 0, x, x.T), UsageValueError, r"\(2, 3\).*\(3, 2\)"),
    (lambda x: np.squeeze(x, 0), UsageValueError, "squeeze"),
    (lambda x: np.split(x, 2, axis=1), UsageValueError, "equal division"),
    (lambda x: np.transpose(x, (0,)), UsageValueError, "axes"),
    (lambda x: np.take(x, np.array([0.5])), UsageTypeError, "integers"),
    (lambda x: np.moveaxis(x, (0, 1), 0), UsageValueError, "same number"),
    (lambda x: np.var(x, ddof=1, correction=1), UsageValueError, "simultaneously"),
    (lambda x: np.pad(x, -1), UsageValueError, "negative"),
    (lambda x: np.interp(x, [1.0, 2.0], [1.0]), UsageValueError, r"\(2,\).*\(1,\)"),
    (lambda x: np.quantile(x, 1.5), UsageValueError, "range"),
    (lambda x: np.average(x, weights=np.ones(3)), UsageTypeError, "axis"),
    (lambda x: np.cross(x, np.ones((2, 4))), UsageValueError, "2 or 3"),
    (lambda x: np.digitize(x, [1.0, 0.0, 2.0]), UsageValueError, "monotonic"),
    (lambda x: np.linalg.norm(x, "foo"), UsageValueError, "foo"),
]


@pytest.mark.parametrize("function, kind, words", ERRORS)
def test_errors_in_the_users_terms(function, kind, words):
    x = np.arange(6.0).reshape(2, 3)
    with session() as opened, pytest.raises(kind, match=words) as raised:
        function(opened.input(x))
    assert "test_numpy_names.py" in str(raised.value)
    if words != "out=":
        with warnings.catch_warnings(), pytest.raises((ValueError, TypeError, IndexError)):
            warnings.simplefilter("ignore")
            function(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.take(x, [3]),
        lambda x: np.take_along_axis(x, np.array([-4]), 0),
        lambda x: np.choose(x.astype(int) + 1, [x, x]),
        lambda x: np.unravel_index(x.astype(int), (1,)),
        lambda x: np.unravel_index(-x.astype(int), (5,)),
        lambda x: np.ravel_multi_index((x.astype(int), x.astype(int)), (2, 1)),
    ],
)
def test_an_index_out_of_range_is_an_index_error(function):
    with pytest.raises(UsageIndexError):
        evaluate(function, np.ones(3))


VIEWS = [
    lambda x: x.reshape(4).reshape(2, 2),
    lambda x: x.T.T,
    lambda x: np.squeeze(np.expand_dims(x, 0)),
    lambda x: np.transpose(a=x),
    lambda x: np.einsum("ij->ji", x),
    lambda x: np.linalg.matrix_power(x, 1),
    lambda x: np.diff(x, 0),
    lambda x: np.split(x, 2)[0],
    lambda x: np.flip(np.moveaxis(x, 0, 1)),
    lambda x: np.real_if_close(x),
]


@pytest.mark.parametrize("view", VIEWS)
def test_writing_to_a_view_is_refused_or_seen(view):
    def write(x):
        y = x.ravel()
        base = y.reshape(2, 2)
        del x
        z = view(base)
        z += 1.0
        return base

    x = np.arange(4.0).reshape(2, 2)
    try:
        found = evaluate(write, x)
    except Limitation:
        return
    assert_same(found, write(x.copy()))


def test_writing_to_a_copy_leaves_the_original():
    def write(x):
        y = np.concatenate([x])
        z = np.pad(x, 0)
        y += 1.0
        z *= 2.0
        return np.stack([x, y, z])

    x = np.arange(4.0).reshape(2, 2)
    assert_same(evaluate(write, x), write(x.copy()))
