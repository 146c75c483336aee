"""NumPy's ufuncs that are composed out of primitives; the others are primitives themselves.

Each function gets nodes of the dtypes of NumPy's loop and of one shape. Derivatives follow from the composition, which
is chosen so that they are right, and no nan arises, at 0 and at infinities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..frontend.registry import implements
from ..ir.aval import aval_of
from ..ir.node import Node, call, full, like
from ._build import both, cast, equal, select, wrap

_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)
_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)


def composed(*ufuncs: np.ufunc) -> Callable[[Callable], Callable]:
    """Registers the decorated function, from nodes to a node or a tuple of nodes, as each of `ufuncs`."""

    def register(body: Callable) -> Callable:
        implements(*dict.fromkeys(ufuncs))(lambda *arrays: wrap(body(*[array.node for array in arrays])))
        return body

    return register


# --- one argument


@composed(np.square)
def square(x: Node) -> Node:
    """x * x"""
    return call("logical_and", x, x) if x.dtype.kind == "b" else call("multiply", x, x)


@composed(np.reciprocal)
def reciprocal(x: Node) -> Node:
    """1 / x; of integers rounded to zero, and NumPy's choice at 0: the least signed value, 0 for narrow ones."""
    if x.dtype.kind == "f":
        return 1.0 / x
    one, zero = full(1, x.aval), full(0, x.aval)
    is_unit = equal(call("multiply", x, x), 1) if x.dtype.kind == "i" else equal(x, 1)
    unit = both(is_unit, both(x <= one, x >= full(-1, x.aval))) if x.dtype.kind == "i" else is_unit
    return call("select", unit, x, call("select", call("equal", x, zero), _one_over_zero(x), zero))


def _one_over_zero(x: Node) -> Node:
    return full(np.iinfo(x.dtype).min if x.dtype in (np.int32, np.int64) else 0, x.aval)


@composed(np.positive)
def positive(x: Node) -> Node:
    """x"""
    return x


@composed(np.conjugate)
def conjugate(x: Node) -> Node:
    """x: real numbers are their own conjugates."""
    return x


@composed(np.fabs)
def fabs(x: Node) -> Node:
    """|x| as a float"""
    return call("absolute", x)


def _scaled(x: Node, numerator: float, denominator: float) -> Node:
    """x times a quotient that is rounded to x's dtype (for halves: to single), as NumPy's loops do."""
    wide = cast(x, _SINGLE) if x.dtype == _HALF else x
    kind = wide.dtype.type
    return cast(wide * full(kind(numerator) / kind(denominator), wide.aval), x.dtype)


@composed(np.deg2rad, np.radians)
def deg2rad(x: Node) -> Node:
    """x pi / 180"""
    return _scaled(x, np.pi, 180.0)


@composed(np.rad2deg, np.degrees)
def rad2deg(x: Node) -> Node:
    """x 180 / pi"""
    return _scaled(x, 180.0, np.pi)


@composed(np.spacing)
def spacing(x: Node) -> Node:
    """The distance from x to the next number away from 0, with x's sign (NumPy's halves: without); no derivative."""
    x = call("stop_gradient", x)
    if x.dtype == _HALF:
        x = call("absolute", x)
    away = call("copysign", full(np.inf, x.aval), x + 0.0)  # -0.0 + 0.0 is 0.0
    return call("nextafter", x, away) - x


@composed(np.modf)
def modf(x: Node) -> tuple[Node, Node]:
    """(fraction, whole), both with x's sign; the fraction's derivative is 1 everywhere.

    x - whole would lose the sign of -0.0 where x is negative and whole, so there it is -((-x) - (-whole)).
    """
    whole = call("trunc", x)
    fraction = call("select", call("signbit", x), -(-x - -whole), x - whole)
    nothing = call("copysign", full(0.0, x.aval), x)
    return call("select", call("isinf", x), nothing, fraction), whole


@composed(np.bitwise_count)
def bitwise_count(x: Node) -> Node:
    """The number of ones among the bits of |x| (sums of ever wider fields of bits: Warren, Hacker's Delight, 5-1)."""
    if x.dtype.kind == "i":
        x = call("absolute", cast(x, _INT64))
    x = cast(x, _UINT64)
    x = x - _field(x, 1, 0x5555555555555555)
    x = _field(x, 0, 0x3333333333333333) + _field(x, 2, 0x3333333333333333)
    x = call("bitwise_and", x + _shifted(x, 4), full(0x0F0F0F0F0F0F0F0F, x.aval))
    return _shifted(x * full(0x0101010101010101, x.aval), 56)


def _shifted(x: Node, places: int) -> Node:
    return call("right_shift", x, full(places, x.aval)) if places else x


def _field(x: Node, places: int, mask: int) -> Node:
    return call("bitwise_and", _shifted(x, places), full(mask, x.aval))


# --- two arguments


@composed(np.divmod)
def divmod(x: Node, y: Node) -> tuple[Node, Node]:
    """(x // y, x % y)"""
    return call("floor_divide", x, y), call("remainder", x, y)


@composed(np.float_power)
def float_power(x: Node, y: Node) -> Node:
    """x ** y in float64"""
    return call("power", x, y)


@composed(np.heaviside)
def heaviside(x: Node, at_zero: Node) -> Node:
    """0 below zero, 1 above, `at_zero` at zero (the derivative there goes to `at_zero`), nan for nan."""
    step = select(call("isnan", x), x, select(x < 0.0, like(x, 0.0), like(x, 1.0)))
    return select(equal(x, 0.0), at_zero, call("stop_gradient", step))


@composed(np.logaddexp)
def logaddexp(x: Node, y: Node) -> Node:
    """log(exp(x) + exp(y)) = max + log1p(exp(min - max)); see `_log_sum`."""
    return _log_sum(x, y, "exp", lambda ratio: call("log1p", ratio))


@composed(np.logaddexp2)
def logaddexp2(x: Node, y: Node) -> Node:
    """log2(2**x + 2**y) = max + log1p(2**(min - max)) / log(2); see `_log_sum`."""
    return _log_sum(x, y, "exp2", lambda ratio: call("log1p", ratio) * (1.0 / float(np.log(2.0))))


def _log_sum(x: Node, y: Node, exponential: str, log_one_plus) -> Node:
    """max + log_one_plus(b**(min - max)).

    Derivatives are the weights b**x / (b**x + b**y) and b**y / (b**x + b**y). The larger is chosen by `select`, whose
    derivative at a tie goes all to x; the second term takes half of it over to y. At a tie of two infinities of one
    sign, where min - max is nan, the sum is (x + y) / 2, with the weights 1/2 that it has at every other tie.
    """
    infinite_tie = both(call("equal", x, y), call("isinf", x))
    zero = full(0.0, x.aval)
    a, b = (call("select", infinite_tie, zero, one) for one in (x, y))
    ahead = a >= b
    larger, gap = call("select", ahead, a, b), call("select", ahead, b - a, a - b)
    found = larger + log_one_plus(call(exponential, gap))
    return call("select", infinite_tie, x * 0.5 + y * 0.5, found)


# --- mantissa and exponent


def _two_to(n: Node, dtype: np.dtype) -> Node:
    """2**n for int64 n between the least and the largest exponent of normal numbers: exact, by the digits of |n|."""
    size = call("absolute", n)
    result = full(1.0, aval_of(n.shape, dtype))
    for place in range(int(np.finfo(dtype).maxexp - 1).bit_length()):
        digit = call("bitwise_and", size, like(n, 1 << place))
        result = result * select(call("equal", digit, like(n, 0)), like(result, 1.0), 2.0 ** (1 << place))
    return call("select", n < 0, 1.0 / result, result)


@composed(np.ldexp)
def ldexp(x: Node, n: Node) -> Node:
    """x * 2**n, rounded once.

    2**n alone may be out of range, and a product that is rounded among the subnormals must be the last one. So what
    exceeds the range of exponents goes in by steps: upwards by 2**1023, downwards by 2**-969, which leaves 53 bits.
    """
    if x.dtype == _HALF:
        return cast(ldexp(cast(x, _SINGLE), n), _HALF)
    info = np.finfo(x.dtype)
    up, low, down = info.maxexp - 1, int(info.minexp), int(info.minexp) + info.nmant + 1
    n = _clipped(cast(n, _INT64), -4 * info.maxexp, 4 * info.maxexp)
    for _ in range(3):
        over, under = n > up, n < low
        x = x * select(over, 2.0**up, select(under, 2.0**down, like(x, 1.0)))
        n = n - select(over, up, select(under, down, like(n, 0)))
    return x * _two_to(_clipped(n, low, up), x.dtype)


def _clipped(n: Node, low: int, high: int) -> Node:
    return call("minimum", call("maximum", n, like(n, low)), like(n, high))


@composed(np.frexp)
def frexp(x: Node) -> tuple[Node, Node]:
    """(m, e) with x = m 2**e and 0.5 <= |m| < 1; (x, 0) for 0, infinities and nan. m's derivative is 2**-e.

    e is estimated by log2, which may be off by one next to powers of two, and corrected by looking at m. Subnormals are
    scaled up first.
    """
    if x.dtype == _HALF:
        mantissa, exponent = frexp(cast(x, _SINGLE))
        return cast(mantissa, _HALF), exponent
    info = np.finfo(x.dtype)
    lift = info.nmant + 2
    plain = both(call("isfinite", x), call("not_equal", x, like(x, 0.0)))
    lifted = call("absolute", x) < float(info.smallest_normal)
    scaled = select(plain, select(lifted, x * 2.0**lift, x), like(x, 1.0))
    size = call("absolute", call("stop_gradient", scaled))
    exponent = cast(call("floor", call("log2", size)), _INT64) + 1
    half = _shifted(exponent, 1)  # 2**-exponent may be subnormal
    mantissa = scaled * _two_to(-half, x.dtype) * _two_to(half - exponent, x.dtype)
    size = call("absolute", call("stop_gradient", mantissa))
    above, below = size >= 1.0, size < 0.5
    mantissa = select(above, mantissa * 0.5, select(below, mantissa * 2.0, mantissa))
    nothing = like(exponent, 0)
    exponent = exponent + select(above, 1, select(below, -1, nothing)) - select(lifted, lift, nothing)
    return select(plain, mantissa, x), cast(select(plain, exponent, nothing), np.dtype(np.int32))
