"""sin, cos and tan."""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.lanes import FLOAT32, FLOAT64, Lane, fabs, fma, round_to_integer, where
from jitgrad.backends.vector_math.polynomial import divide_pairs, fast_two_sum, polynomial, two_product, two_sum

TWO_OVER_PI = 2.0 / math.pi
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


def reduce_moderate(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(bits of n, r, r_low), x = n pi/2 + r + r_low, for |x| < 2**45."""
    n, n_bits = round_to_integer(x * TWO_OVER_PI)
    exact = fma(n, -HALF_PI[0], x)
    product, product_error = two_product(n, -HALF_PI[1])
    r, r_low = two_sum(exact, product)
    return n_bits, r, fma(n, -HALF_PI[2], r_low + product_error)


def sin_polynomial(r: Lane, r_low: Lane) -> Lane:
    z = r * r
    tail = fma(-0.5 * z, r_low, r_low)
    return r + fma(z * r, polynomial(z, _SIN[r.format]), tail)


def cos_polynomial(r: Lane, r_low: Lane) -> Lane:
    z = r * r
    half = 0.5 * z
    high = 1.0 - half
    error = (1.0 - high) - half
    return high + fma(z * z, polynomial(z, _COS[r.format]), fma(-r, r_low, error))


def sincos_quadrant(n_bits: Lane, r: Lane, r_low: Lane) -> Lane:
    odd = (n_bits & 1).equals(1)
    value = where(odd, cos_polynomial(r, r_low), sin_polynomial(r, r_low))
    sign = (n_bits & 2) << (r.format.bits - 2)
    return (value.as_bits() ^ sign).as_float()


def sin_main(x):
    return sincos_quadrant(*reduce_moderate(x))
