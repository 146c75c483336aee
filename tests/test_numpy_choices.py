"""Gradients of NumPy's functions where they are a matter of choice: ties, zeros, nan, kinks."""

from __future__ import annotations

import numpy as np
import pytest

import jitgrad.numpy as jnp
from jitgrad.transforms.reverse import pullback
from tests.traced_helpers import gradients, session


def gradient(function, *arguments):
    found = gradients(function, *[np.asarray(a, float) for a in arguments])
    return [np.zeros(np.shape(a)) if f is None else f for f, a in zip(found, arguments, strict=True)]


NAN = np.nan
CHOICES = [
    ("var of a constant", lambda x: np.var(x), [2.0, 2.0, 2.0], [0, 0, 0]),
    ("std of a constant", lambda x: np.std(x), [2.0, 2.0, 2.0], [0, 0, 0]),
    (
        "std with ddof of one row that varies",
        lambda x: np.std(x, axis=1, ddof=1),
        [[1.0, 1.0], [0.0, 2.0]],
        [[0, 0], [-(0.5**0.5), 0.5**0.5]],
    ),
    ("norm at 0", lambda x: np.linalg.norm(x), [0.0, 0.0], [0, 0]),
    (
        "norm of rows, one 0",
        lambda x: np.linalg.norm(x, axis=1),
        [[0.0, 0.0], [3.0, 4.0]],
        [[0, 0], [0.6, 0.8]],
    ),
    ("3-norm at 0", lambda x: np.linalg.norm(x, 3), [0.0, 0.0], [0, 0]),
    ("half-norm with a zero", lambda x: np.linalg.norm(x, 0.5), [0.0, 4.0], [0, 1]),
    ("-1-norm with a zero", lambda x: np.linalg.norm(x, -1), [0.0, 4.0], [0, 0]),
    ("1-norm with a zero", lambda x: np.linalg.norm(x, 1), [0.0, -4.0], [0, -1]),
    ("max of ties", lambda x: np.max(x), [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
    ("min of ties by rows", lambda x: np.min(x, axis=1), [[1.0, 1.0], [2.0, 3.0]], [[0.5, 0.5], [1, 0]]),
    ("inf-norm of ties", lambda x: np.linalg.norm(x, np.inf), [-3.0, 3.0], [-0.5, 0.5]),
    ("prod with a zero", lambda x: np.prod(x), [0.0, 2.0, 3.0], [6, 0, 0]),
    ("prod with two zeros", lambda x: np.prod(x), [0.0, 0.0, 3.0], [0, 0, 0]),
    ("nanprod with a zero", lambda x: np.nanprod(x), [0.0, NAN, 3.0], [3, 0, 0]),
    ("cumprod with a zero", lambda x: np.cumprod(x), [2.0, 0.0, 3.0], [1, 8, 0]),
    ("nansum", lambda x: np.nansum(x * x), [1.0, NAN, 3.0], [2, 0, 6]),
    ("nanmean", lambda x: np.nanmean(x), [1.0, NAN, 3.0], [0.5, 0, 0.5]),
    ("nanmean of nan alone", lambda x: np.nanmean(x, axis=1), [[1.0, 2.0], [NAN, NAN]], [[0.5, 0.5], [0, 0]]),
    ("nanvar", lambda x: np.nanvar(x), [1.0, NAN, 3.0], [-1, 0, 1]),
    ("nanstd", lambda x: np.nanstd(x), [1.0, NAN, 3.0], [-0.5, 0, 0.5]),
    ("nanstd of one number", lambda x: np.nanstd(x), [1.0, NAN, NAN], [0, 0, 0]),
    ("nanvar of nan alone", lambda x: np.nanvar(x, axis=1), [[1.0, 3.0], [NAN, NAN]], [[-1, 1], [0, 0]]),
    ("nanmax", lambda x: np.nanmax(x), [1.0, NAN, 3.0], [0, 0, 1]),
    ("nanmin of nan alone", lambda x: np.nanmin(x, axis=1), [[1.0, 3.0], [NAN, NAN]], [[1, 0], [0, 0]]),
    ("nanmedian", lambda x: np.nanmedian(x), [1.0, NAN, 3.0, 5.0], [0, 0, 1, 0]),
    ("nancumsum", lambda x: np.nancumsum(x), [1.0, NAN, 3.0], [3, 0, 1]),
    ("masked var", lambda x: np.var(x, where=np.array([True, False, True])), [1.0, NAN, 3.0], [-1, 0, 1]),
    ("masked sum of logs", lambda x: np.sum(np.log(x), where=x > 0), [1.0, 0.0, -1.0, 2.0], [1, 0, 0, 0.5]),
    ("where of logs", lambda x: np.where(x > 0, np.log(x), 0.0), [1.0, 0.0, -1.0, 2.0], [1, 0, 0, 0.5]),
    ("select of roots", lambda x: np.select([x > 0], [np.sqrt(x)], 0.0), [4.0, 0.0, -1.0], [0.25, 0, 0]),
    ("nan_to_num", lambda x: np.nan_to_num(x), [NAN, np.inf, -np.inf, 2.0], [0, 0, 0, 1]),
    ("sinc at 0", lambda x: np.sinc(x), [0.0], [0]),
    ("clip outside", lambda x: np.clip(x, 0, 1), [-1.0, 0.5, 2.0], [0, 1, 0]),
    ("clip at a bound", lambda x: np.clip(x, 0, 1), [0.0, 1.0], [0.5, 0.5]),
    ("median of ties", lambda x: np.median(x), [1.0, 1.0, 2.0, 1.0], [0, 0.5, 0, 0.5]),
    ("sort of ties", lambda x: np.sort(x)[0] * 3, [1.0, 1.0], [3, 0]),
    ("average with a zero weight", lambda x: np.average(x, weights=[0.0, 1.0]), [1.0, 3.0], [0, 1]),
]


@pytest.mark.parametrize("function, x, expected", [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES])
def test_documented_choices(function, x, expected):
    np.testing.assert_allclose(gradient(function, x)[0], expected, rtol=1e-12, atol=1e-15)


def second_derivative(function, x: float) -> float:
    with session() as opened:
        inner = opened.input(np.asarray(x))
        first = pullback([function(inner).node], [inner.node], [jnp_one()])[0]
        second = pullback([first], [inner.node], [jnp_one()])[0]
        return float(opened.compute([second])[0])


def jnp_one():
    return jnp.ones(()).node


def test_sinc_is_smooth_at_zero():
    # sinc(x) = 1 - (pi x)^2 / 6 + ...
    assert second_derivative(np.sinc, 0.0) == pytest.approx(-(np.pi**2) / 3, rel=1e-14)
    y = 0.3 * np.pi
    exact = -np.sin(y) / y - 2 * np.cos(y) / y**2 + 2 * np.sin(y) / y**3
    assert second_derivative(np.sinc, 0.3) == pytest.approx(np.pi**2 * exact, rel=1e-12)


def test_second_derivative_of_a_norm():
    # d2/dx2 sqrt(x^2 + 1) = (x^2 + 1)^(-3/2)
    found = second_derivative(lambda x: np.linalg.norm(np.stack([x, x * 0 + 1])), 0.75)
    assert found == pytest.approx((0.75**2 + 1) ** -1.5, rel=1e-13)
