"""Exponentials, logarithms, trigonometric and hyperbolic functions: the backend's mathematics library."""

from __future__ import annotations

import math

import numpy as np

from ..ir.node import Node, call, full
from ..ir.primitive import Samples
from .families import elementwise


def _library(
    name: str, partials, *, arguments: int = 1, singular: bool = False, samples=None, cost: int = 15
) -> None:
    """A function that the mathematics library has under NumPy's name."""
    elementwise(
        name,
        numpy=getattr(np, name),
        emit=(lambda e, x: e.math(name, x)) if arguments == 1 else (lambda e, x, y: e.math(name, x, y)),
        partials=partials,
        singular=singular,
        samples=samples,
        cost=cost,
    )


def _positive(*singular) -> Samples:
    return Samples(domain=(0.3, 3.0), singular=singular)


def _inside(*singular) -> Samples:
    return Samples(domain=(-0.8, 0.8), singular=singular)


# --- exponentials and logarithms

# exp' = exp
_library("exp", lambda x, out: [out])

# (2**x)' = 2**x ln 2
_library("exp2", lambda x, out: [out * math.log(2.0)])

# (e**x - 1)' = e**x = out + 1
_library("expm1", lambda x, out: [out + 1.0])

# ln' x = 1 / x
_library("log", lambda x, out: [1.0 / x], singular=True, samples=_positive(((0.0,), (np.inf,))))

# log2' x = 1 / (x ln 2)
_library(
    "log2", lambda x, out: [(1.0 / math.log(2.0)) / x], singular=True, samples=_positive(((0.0,), (np.inf,)))
)

# log10' x = 1 / (x ln 10)
_library(
    "log10",
    lambda x, out: [(1.0 / math.log(10.0)) / x],
    singular=True,
    samples=_positive(((0.0,), (np.inf,))),
)

# ln(1 + x)' = 1 / (1 + x)
_library(
    "log1p",
    lambda x, out: [1.0 / (x + 1.0)],
    singular=True,
    samples=Samples(domain=(-0.6, 2.0), singular=(((-1.0,), (np.inf,)),)),
)

# (x**(1/3))' = 1 / (3 out**2)
_library(
    "cbrt", lambda x, out: [(1.0 / 3.0) / (out * out)], singular=True, samples=_positive(((0.0,), (np.inf,)))
)

# --- trigonometric

# sin' = cos, cos' = -sin
_library("sin", lambda x, out: [call("cos", x)])
_library("cos", lambda x, out: [-call("sin", x)])

# tan' = 1 + tan**2
_library("tan", lambda x, out: [out * out + 1.0], samples=Samples(domain=(-1.2, 1.2)))


def _one_minus_square(x: Node) -> Node:
    """1 - x**2 as (1 - x) (1 + x): no cancellation near +-1."""
    return (1.0 - x) * (x + 1.0)


# arcsin' x = 1 / sqrt(1 - x**2),  arccos' x = -1 / sqrt(1 - x**2)
_library(
    "arcsin",
    lambda x, out: [1.0 / call("sqrt", _one_minus_square(x))],
    singular=True,
    samples=_inside(((1.0,), (np.inf,)), ((-1.0,), (np.inf,))),
)
_library(
    "arccos",
    lambda x, out: [-1.0 / call("sqrt", _one_minus_square(x))],
    singular=True,
    samples=_inside(((1.0,), (-np.inf,)), ((-1.0,), (-np.inf,))),
)

# arctan' x = 1 / (1 + x**2)
_library("arctan", lambda x, out: [1.0 / (x * x + 1.0)])


# h = hypot(x, y):    dh = (x / h) dx + (y / h) dy, and 0 at the origin
def _hypot_partials(x, y, out):
    return [_or_zero(out, x / out), _or_zero(out, y / out)]


def _or_zero(radius: Node, slope: Node) -> Node:
    """`slope`, but 0 where `radius` is 0."""
    zero = full(0.0, slope.aval)
    return call("select", call("equal", radius, zero), zero, slope)


_library(
    "hypot",
    _hypot_partials,
    arguments=2,
    singular=True,
    samples=Samples(
        singular=(((0.0, 0.0), (0.0, 0.0)), ((3.0, 0.0), (1.0, 0.0)), ((0.0, -2.0), (0.0, -1.0)))
    ),
)


# a = arctan2(y, x), h = hypot(x, y):    da = (x / h**2) dy - (y / h**2) dx, and 0 at the origin
def _arctan2_partials(y, x, out):
    h = call("hypot", x, y)  # h**2 could overflow or vanish where its square root does not
    return [_or_zero(h, x / h / h), _or_zero(h, -(y / h / h))]


_library(
    "arctan2",
    _arctan2_partials,
    arguments=2,
    singular=True,
    samples=Samples(singular=(((0.0, 0.0), (0.0, 0.0)), ((0.0, 2.0), (0.5, 0.0)), ((2.0, 0.0), (0.0, -0.5)))),
)

# --- hyperbolic

# sinh' = cosh, cosh' = sinh
_library("sinh", lambda x, out: [call("cosh", x)])
_library("cosh", lambda x, out: [call("sinh", x)])

# tanh' = 1 - tanh**2
_library("tanh", lambda x, out: [_one_minus_square(out)])

# arcsinh' x = 1 / sqrt(1 + x**2), without overflow
_library("arcsinh", lambda x, out: [1.0 / call("hypot", x, full(1.0, x.aval))])

# arccosh' x = 1 / sqrt(x**2 - 1), without overflow
_library(
    "arccosh",
    lambda x, out: [1.0 / (call("sqrt", x - 1.0) * call("sqrt", x + 1.0))],
    singular=True,
    samples=Samples(domain=(1.3, 4.0), singular=(((1.0,), (np.inf,)),)),
)

# arctanh' x = 1 / (1 - x**2)
_library(
    "arctanh",
    lambda x, out: [1.0 / _one_minus_square(x)],
    singular=True,
    samples=_inside(((1.0,), (np.inf,)), ((-1.0,), (np.inf,))),
)
