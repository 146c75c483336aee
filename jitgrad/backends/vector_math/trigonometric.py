"""sin, cos and tan.

Reduction x = n pi/2 + r, |r| <= pi/4 (W. J. Cody and W. Waite, "Software Manual for the Elementary
Functions", chapter 8) with pi/2 in three pieces. The fma makes x - n p1 exact, the product n p2 is taken as
a pair, so r + r_low carries about 100 bits: enough for every |x| < 2**45. float32 reduces in float64.
Larger arguments go through ``huge_angle``.

Kernels: sin(r) = r + r**3 S(r**2), cos(r) = 1 - r**2 / 2 + r**4 C(r**2). Coefficients: least squares on
Chebyshev nodes in 60 digits, relative errors 2**-63, 2**-64 (float64) and 2**-32, 2**-33 (float32).
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.huge_angle import replace_when_huge
from jitgrad.backends.vector_math.lanes import (
    FLOAT32,
    FLOAT64,
    Lane,
    fma,
    round_to_integer,
    where,
    with_element,
)
from jitgrad.backends.vector_math.polynomial import (
    Pair,
    divide_pairs,
    fast_two_sum,
    polynomial,
    two_product,
    two_sum,
)

_MODERATE = 2.0**45
_TWO_OVER_PI = 2.0 / math.pi
# pi/2 as a sum of float64 numbers.
HALF_PI = (
    float.fromhex("0x1.921fb54442d18p+0"),
    float.fromhex("0x1.1a62633145c07p-54"),
    float.fromhex("-0x1.f1976b7ed8fbcp-110"),
)
_SIN = {
    FLOAT64: (
        -0.16666666666666666, 0.008333333333333099, -0.0001984126984105443, 2.7557319127763526e-06,
        -2.505208557243611e-08, 1.605619910353523e-10, -7.482494156362772e-13,
    ),
    FLOAT32: (-0.1666666716337204, 0.008333372883498669, -0.00019850295211654156, 2.8043568818247877e-06),
}  # fmt: skip
_COS = {
    FLOAT64: (
        0.04166666666666659, -0.0013888888888872318, 2.4801587288437122e-05, -2.755731406911518e-07,
        2.0875686841899258e-09, -1.1357850815217086e-11,
    ),
    FLOAT32: (0.04166664555668831, -0.0013887309469282627, 2.4432338250335306e-05),
}  # fmt: skip


def _reduce(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(integer whose low bits are n, r, r_low), x = n pi/2 + r + r_low, for |x| < 2**45."""
    if x.format is FLOAT32:
        return _reduce_narrow(x)
    n, n_bits = round_to_integer(x * _TWO_OVER_PI)
    exact = fma(n, -HALF_PI[0], x)
    product, product_error = two_product(n, -HALF_PI[1])
    r, r_low = two_sum(exact, product)
    return n_bits, r, fma(n, -HALF_PI[2], r_low + product_error)


def _reduce_narrow(x: Lane) -> tuple[Lane, Lane, Lane]:
    """The same for float32, in float64: the second piece of pi/2 needs no error term."""
    wide = x.widened()
    n, n_bits = round_to_integer(wide * _TWO_OVER_PI)
    reduced = fma(n, -HALF_PI[1], fma(n, -HALF_PI[0], wide))
    r = reduced.narrowed()
    low_bits = Lane(x.builder, x.builder.trunc(n_bits.value, with_element(n_bits.type, FLOAT32.int_type)))
    return low_bits, r, (reduced - r.widened()).narrowed()


def sin_pair(r: Lane, r_low: Lane) -> Pair:
    """sin(r + r_low) for |r| <= pi/4 as (r, the rest)."""
    square = r * r
    return r, fma(square * r, polynomial(square, _SIN[r.format]), fma(-0.5 * square, r_low, r_low))


def cos_pair(r: Lane, r_low: Lane) -> Pair:
    """cos(r + r_low) for |r| <= pi/4 as (1 - r**2 / 2, the rest)."""
    square = r * r
    high, error = fast_two_sum(1.0, -0.5 * square)
    return high, fma(square * square, polynomial(square, _COS[r.format]), fma(-r, r_low, error))


def turned_sin(n: Lane, r: Lane, r_low: Lane) -> Lane:
    """sin(n pi/2 + r + r_low): sin or cos of r by the parity of n, negated by its second bit."""
    odd = (n & 1).equals(1)
    sine, cosine = sin_pair(r, r_low), cos_pair(r, r_low)
    value = where(odd, cosine[0] + cosine[1], sine[0] + sine[1])
    sign = (n & 2) << (r.format.bits - 2)
    return (value.as_bits() ^ sign).as_float()


def turned_tan(n: Lane, r: Lane, r_low: Lane) -> Lane:
    """tan(n pi/2 + r + r_low): sin/cos, or -cos/sin for odd n."""
    odd = (n & 1).equals(1)
    sine, cosine = fast_two_sum(*sin_pair(r, r_low)), fast_two_sum(*cos_pair(r, r_low))
    numerator = where(odd, -cosine[0], sine[0]), where(odd, -cosine[1], sine[1])
    denominator = where(odd, sine[0], cosine[0]), where(odd, sine[1], cosine[1])
    quotient, correction = divide_pairs(numerator, denominator)
    return quotient + correction


def sin(x: Lane) -> Lane:
    """Sine; opens a basic block for arguments beyond 2**45."""
    result = turned_sin(*_reduce(x))
    result = where(x.equals(0.0), x, result)
    return replace_when_huge(x, result, _MODERATE, turned_sin)


def cos(x: Lane) -> Lane:
    """Cosine; opens a basic block for arguments beyond 2**45."""
    n, r, r_low = _reduce(x)
    return replace_when_huge(x, turned_sin(n + 1, r, r_low), _MODERATE, turned_sin, turns=1)


def tan(x: Lane) -> Lane:
    """Tangent; opens a basic block for arguments beyond 2**45."""
    result = where(x.equals(0.0), x, turned_tan(*_reduce(x)))
    return replace_when_huge(x, result, _MODERATE, turned_tan)
