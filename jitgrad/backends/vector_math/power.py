"""power, rsqrt, cbrt and hypot.

power: x**y = exp(y log|x|) with log|x| as a pair of about 65 good bits, because y log|x| reaches 745 and
each of its bits before the point costs one behind it (P. W. Markstein, "IA-64 and Elementary Functions",
chapter on powf; J.-M. Muller, "Elementary Functions", 3rd edition, 11.5). Special cases are those of C's
pow (C99, F.9.4.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jitgrad.backends.vector_math import exponential, logarithm
from jitgrad.backends.vector_math.lanes import (
    FLOAT32,
    FLOAT64,
    Lane,
    at_least,
    at_most,
    copysign,
    fabs,
    floor,
    fma,
    power_of_two,
    round_to_integer,
    sqrt,
    where,
)
from jitgrad.backends.vector_math.polynomial import (
    Pair,
    divide_pairs,
    fast_two_sum,
    horner,
    polynomial,
    two_product,
)

# (2 atanh(s) - 2 s - 2/3 s**3) / s**5 in s**2, |s| <= 0.1716: error 2**-73 of 2 s.
_ATANH_TAIL = (
    0.39999999999999974, 0.2857142857144668, 0.2222222221721801, 0.18181818903899385, 0.15384554861591845,
    0.1333638627497979, 0.11673558209672513, 0.11998571964593452,
)  # fmt: skip
_TWO_THIRDS = (2.0 / 3.0, float.fromhex("0x1.5555555555555p-55"))
_LN2_SHORT = (float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42"))
# float32: log2(m) / s in s**2, error 2**-37; 2**r, |r| <= 1/2, error 2**-34; from where on 2**r is 0 or infinite.
_LOG2_NARROW = (
    2.8853900817900646, 0.9617966733503384, 0.5770835860516111, 0.41167252173108754, 0.34073580692076977,
)  # fmt: skip
_EXP2_NARROW = (
    1.0, 0.6931471807893514, 0.24022651072426401, 0.05550410157008005, 0.009618037447540247, 0.0013334080353891952,
    0.0001546694333093438, 1.5165778203508076e-05,
)  # fmt: skip
_NARROW_LIMIT = 200.0
# m**(-1/3) on sqrt(1/2) <= m <= sqrt(2), error 2**-14, and 2**(-j/3).
_INVERSE_CUBE_ROOT = (
    1.8736878633499146,
    -1.8585007190704346,
    1.5564035177230835,
    -0.6992424130439758,
    0.12762722373008728,
)
_ROOTS_OF_HALF = (1.0, 0.7937005259840998, 0.6299605249474366)


def _log_pair(x: Lane) -> Pair:
    """log(x), x positive and finite, as a pair: k ln 2 + 2 s + 2/3 s**3 in pairs, + s**5 P(s**2)."""
    k, m = logarithm.split_exponent(x)
    f = m - 1.0
    s, s_low = fast_two_sum(*divide_pairs((f, f.like(0.0)), fast_two_sum(2.0, f)))
    square, square_low = two_product(s, s)
    square_low = fma(s + s, s_low, square_low)
    cube, cube_low = two_product(square, s)
    cube_low = fma(square, s_low, fma(square_low, s, cube_low))
    third, third_low = two_product(cube, _TWO_THIRDS[0])
    third_low = fma(cube, _TWO_THIRDS[1], fma(cube_low, _TWO_THIRDS[0], third_low))
    tail = (cube * square) * polynomial(square, _ATANH_TAIL)
    total, error = fast_two_sum(k * _LN2_SHORT[0], s + s)
    total, second_error = fast_two_sum(total, third)
    small = (error + second_error) + fma(s_low, 2.0, third_low)
    return fast_two_sum(total, fma(k, _LN2_SHORT[1], tail) + small)


def _positive_power(x: Lane, y: Lane) -> Lane:
    """x**y for positive finite x and any y that is not nan, unless x = 1 and y infinite."""
    log_high, log_low = _log_pair(x)
    product, product_low = two_product(log_high, y)
    product_low = fma(log_low, y, product_low)
    outside = fabs(product) > 800.0
    high, low, k = exponential.exp_parts(
        exponential.clamp_exponent(product), where(outside, 0.0, product_low)
    )
    return exponential.scale_by_power(high + low, k)


def _positive_power_narrow(x: Lane, y: Lane) -> Lane:
    """The same for float32, 2**(y log2 x) in float64: there subnormals are normal, and 31 good bits are enough."""
    shifted_k, m = logarithm.split_normal(x.widened())
    f = m - 1.0
    s = f / (f + 2.0)
    exponent = fma(s, polynomial(s * s, _LOG2_NARROW), shifted_k - (2.0**FLOAT64.fraction_bits + FLOAT64.bias))
    product = at_least(at_most(exponent * y.widened(), _NARROW_LIMIT), -_NARROW_LIMIT)
    k, _ = round_to_integer(product)
    return exponential.scale_normal(polynomial(product - k, _EXP2_NARROW), k).narrowed()


def power(x: Lane, y: Lane) -> Lane:
    """x**y with the special cases of C's pow."""
    return _with_special_cases(x, y, _positive_power_narrow if x.format is FLOAT32 else _positive_power)


def _with_special_cases(x: Lane, y: Lane, positive_power: Callable[[Lane, Lane], Lane]) -> Lane:
    magnitude = fabs(x)
    result = positive_power(magnitude, y)
    grows, falls = y > 0.0, y < 0.0
    result = where(magnitude.equals(0.0), where(falls, x.like(math.inf), 0.0), result)
    result = where(magnitude.equals(math.inf), where(grows, x.like(math.inf), 0.0), result)
    result = where(magnitude.equals(1.0), 1.0, result)
    integral = floor(y).equals(y)
    half = 0.5 * y
    odd = integral & ~floor(half).equals(half)
    negative = x.as_bits() < 0
    result = where(odd & negative, -result, result)
    undefined = (x < 0.0) & (magnitude < math.inf) & ~integral
    result = where(undefined | x.is_nan() | y.is_nan(), math.nan, result)
    return where(x.equals(1.0) | y.equals(0.0), 1.0, result)


def rsqrt(x: Lane) -> Lane:
    """1 / sqrt(x): the quotient r of the rounded root s, corrected by r's and s's residuals, 1 - r s and x - s**2."""
    if x.format is FLOAT32:
        return (1.0 / sqrt(x.widened())).narrowed()
    tiny = x < 2.0**-900  # there the residual of the root would be lost below the normal range
    s = sqrt(where(tiny, x * 2.0**108, x))
    r = 1.0 / s
    residual = fma(-s, s, where(tiny, x * 2.0**108, x)) * r
    corrected = fma(r, fma(-r, s, 1.0) - (0.5 * r) * residual, r) * where(tiny, x.like(2.0**54), 1.0)
    return where((x > 0.0) & (x < math.inf), corrected, r)


def cbrt(x: Lane) -> Lane:
    """Cube root.  |x| = 2**(3 q) t; z approximates t**(-1/3) (Newton: z += z (1 - t z**3) / 3), t z**2 the
    root.

    One correction step with the exact residual t - y**3 leaves one rounding.
    """
    magnitude = fabs(x)
    k, m = logarithm.split_exponent(magnitude)
    q, q_bits = round_to_integer((k - 1.0) * (1.0 / 3.0))
    remainder = fma(q, -3.0, k)
    one, two = remainder.equals(1.0), remainder.equals(2.0)
    t = m * where(two, x.like(4.0), where(one, x.like(2.0), 1.0))
    root = where(two, x.like(_ROOTS_OF_HALF[2]), where(one, x.like(_ROOTS_OF_HALF[1]), _ROOTS_OF_HALF[0]))
    z = root * horner(m, _INVERSE_CUBE_ROOT)
    for _ in range(2 if x.format is FLOAT64 else 1):
        residual = fma(t * z, -(z * z), 1.0)
        z = fma(z * residual, 1.0 / 3.0, z)
    square = z * z
    y = t * square
    y_square, y_square_low = two_product(y, y)
    cube, cube_low = two_product(y_square, y)
    residual = (t - cube) - fma(y_square_low, y, cube_low)
    result = fma(residual, square * (1.0 / 3.0), y) * power_of_two(q_bits)
    return where((magnitude > 0.0) & (magnitude < math.inf), copysign(result, x), x)


def hypot(x: Lane, y: Lane) -> Lane:
    """sqrt(x**2 + y**2), no intermediate overflow; inf if either is infinite, even against nan."""
    x, y = fabs(x), fabs(y)
    if x.format is FLOAT32:
        wide_x, wide_y = x.widened(), y.widened()
        result = sqrt(fma(wide_x, wide_x, wide_y * wide_y)).narrowed()
    else:
        result = _hypot_wide(x, y)
    return where(x.equals(math.inf) | y.equals(math.inf), math.inf, result)


def _hypot_wide(x: Lane, y: Lane) -> Lane:
    """Squares and their sum as pairs, the root corrected by its residual: one rounding remains."""
    swap = y > x
    large, small = where(swap, y, x), where(swap, x, y)
    huge, tiny = large > 2.0**500, large < 2.0**-400
    scale = where(huge, x.like(2.0**-600), where(tiny, x.like(2.0**600), 1.0))
    unscale = where(huge, x.like(2.0**600), where(tiny, x.like(2.0**-600), 1.0))
    large, small = large * scale, small * scale
    square, square_low = two_product(large, large)
    other, other_low = two_product(small, small)
    total, error = fast_two_sum(square, other)
    root = sqrt(total)
    residual = fma(-root, root, total) + (error + (square_low + other_low))
    corrected = fma(residual, 0.5 / root, root) * unscale
    return where((x + y).equals(0.0), 0.0, corrected)
