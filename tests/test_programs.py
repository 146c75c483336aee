"""Short real programs, run in every way there is: plain NumPy, interpreted, compiled, differentiated once and twice."""

from __future__ import annotations

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
