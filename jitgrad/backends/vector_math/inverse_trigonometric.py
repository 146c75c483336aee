"""arcsin, arccos, arctan and arctan2.

arctan: |x| is reduced to |t| <= tan(pi/8) by atan(a) = pi/4 + atan((a - 1) / (a + 1)) and atan(a) = pi/2 -
atan(1 / a), one division in all; arcsin beyond 1/2: asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2)) (W. J. Cody
and W. Waite, "Software Manual for the Elementary Functions", chapters 10 and 11). Quotients and roots carry
their rounding errors, so that one rounding remains.

Coefficients: least squares on Chebyshev nodes in 60 digits, relative errors 2**-64, 2**-60 (float64) and
2**-34, 2**-32 (float32).
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.lanes import (
    FLOAT32,
    FLOAT64,
    Lane,
    at_most,
    copysign,
    fabs,
    fma,
    sqrt,
    where,
)
from jitgrad.backends.vector_math.polynomial import Pair, divide_pairs, fast_two_sum, polynomial, two_sum

# pi/2 as a pair, and 3/4 pi (its multiples by powers of two are exact).
_HALF_PI = {
    FLOAT64: (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54")),
    FLOAT32: (float.fromhex("0x1.921fb6p+0"), float.fromhex("-0x1.777a5cp-25")),
}
_THREE_QUARTERS_PI = {
    FLOAT64: (float.fromhex("0x1.2d97c7f3321d2p+1"), float.fromhex("0x1.a79394c9e8a0ap-54")),
    FLOAT32: (float.fromhex("0x1.2d97c80000000p+1"), float.fromhex("-0x1.99bc5c0000000p-28")),
}
_TAN_PI_8, _TAN_3_PI_8 = math.sqrt(2.0) - 1.0, math.sqrt(2.0) + 1.0
# (atan(t) / t - 1) / t**2 in t**2.
_ATAN = {
    FLOAT64: (
        -0.33333333333333326, 0.19999999999997253, -0.14285714285347, 0.11111111086067878,
        -0.0909090807965566, 0.07692281480546082, -0.06666210039269367, 0.05876874937715763,
        -0.05217547718784868, 0.04500366790964416, -0.0334062955264087, 0.015131103091370937,
    ),
    FLOAT32: (
        -0.3333333134651184, 0.19999827444553375, -0.14280229806900024, 0.11025884747505188,
        -0.08383640646934509, 0.045714568346738815,
    ),
}  # fmt: skip
# (asin(s) / s - 1) / s**2 in s**2.
_ASIN = {
    FLOAT64: (
        0.1666666666666676, 0.07499999999971048, 0.044642857174297765, 0.030381942724964518,
        0.02237221446897879, 0.017351621680535938, 0.01398070256804337, 0.011399883105498927,
        0.010774824438216462, 0.0037267448301756185, 0.021658578249008832, -0.020930973186465963,
        0.032586801610281546,
    ),
    FLOAT32: (
        0.16666659712791443, 0.07500515133142471, 0.04451541230082512, 0.031817805022001266,
        0.01440736185759306, 0.037553638219833374,
    ),
}  # fmt: skip
# From where to scale, by what, so that sums, reciprocals and remainders of arctan2 stay normal.
_SCALING = {
    FLOAT64: ((2.0**1000, 2.0**-100), (2.0**-900, 2.0**200)),
    FLOAT32: ((2.0**100, 2.0**-30), (2.0**-60, 2.0**80)),
}


def _offset_arctan(offset: Lane, offset_low: Lane, quotient: Pair) -> Lane:
    """offset + atan(quotient), |quotient| <= tan(pi/8), offset zero or at least pi/4."""
    t, t_low = quotient
    square = t * t
    tail = fma(square * t, polynomial(square, _ATAN[t.format]), fma(-square, t_low, t_low))
    total, error = fast_two_sum(offset, t)
    return total + (error + (offset_low + tail))


def arctan(x: Lane) -> Lane:
    """Inverse tangent."""
    high, low = _HALF_PI[x.format]
    magnitude = at_most(fabs(x), 2.0**60)
    middle, far = magnitude > _TAN_PI_8, magnitude > _TAN_3_PI_8
    difference = magnitude - 1.0
    difference_low = magnitude - (difference + 1.0)
    total, total_low = fast_two_sum(1.0, magnitude)
    numerator = where(far, -1.0, where(middle, difference, magnitude))
    numerator_low = where(far, 0.0, where(middle, difference_low, 0.0))
    denominator = where(far, magnitude, where(middle, total, 1.0))
    denominator_low = where(far, 0.0, where(middle, total_low, 0.0))
    quotient = divide_pairs((numerator, numerator_low), (denominator, denominator_low))
    offset = where(far, high, where(middle, x.like(0.5 * high), 0.0))
    offset_low = where(far, low, where(middle, x.like(0.5 * low), 0.0))
    return copysign(_offset_arctan(offset, offset_low, quotient), x)


def _scaled_magnitudes(y: Lane, x: Lane) -> Pair:
    """|y|, |x| times a common power of two that avoids overflow and underflow; infinity becomes 1 to 0."""
    y, x = fabs(y), fabs(x)
    y_infinite, x_infinite = y.equals(math.inf), x.equals(math.inf)
    finite_y = where(y_infinite, 1.0, where(x_infinite, 0.0, y))
    finite_x = where(x_infinite, 1.0, where(y_infinite, 0.0, x))
    (large, down), (small, up) = _SCALING[x.format]
    largest = where(finite_y > finite_x, finite_y, finite_x)
    scale = where(largest > large, x.like(down), where(largest < small, x.like(up), 1.0))
    return finite_y * scale, finite_x * scale


def arctan2(y: Lane, x: Lane) -> Lane:
    """Angle of the point (x, y): the reduction of ``arctan`` with numerator and denominator kept apart."""
    form = x.format
    high, low = _HALF_PI[form]
    rise, run = _scaled_magnitudes(y, x)
    middle, far = rise > run * _TAN_PI_8, rise > run * _TAN_3_PI_8
    difference, difference_low = two_sum(rise, -run)
    total, total_low = two_sum(rise, run)
    numerator = where(far, -run, where(middle, difference, rise))
    numerator_low = where(far, 0.0, where(middle, difference_low, 0.0))
    denominator = where(far, rise, where(middle, total, run))
    denominator = where(denominator.equals(0.0), 1.0, denominator)
    denominator_low = where(far, 0.0, where(middle, total_low, 0.0))
    t, t_low = divide_pairs((numerator, numerator_low), (denominator, denominator_low))
    # Left half plane: pi - (offset + atan t).
    left = x.as_bits() < 0
    near_offset = [where(left, x.like(2.0 * part), 0.0) for part in (high, low)]
    middle_offset = [
        where(left, x.like(obtuse), 0.5 * acute)
        for obtuse, acute in zip(_THREE_QUARTERS_PI[form], (high, low), strict=True)
    ]
    offset = where(far, high, where(middle, middle_offset[0], near_offset[0]))
    offset_low = where(far, low, where(middle, middle_offset[1], near_offset[1]))
    angle = _offset_arctan(offset, offset_low, (where(left, -t, t), where(left, -t_low, t_low)))
    return where(x.is_nan() | y.is_nan(), math.nan, copysign(angle, y))


def _arcsin_terms(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(|x| > 1/2, s, asin(s) - s) with s = x, or s = sqrt((1 - |x|) / 2) where |x| > 1/2.

    The rounding error of the root is part of the last value.
    """
    magnitude = fabs(x)
    far = magnitude > 0.5
    square = where(far, fma(magnitude, -0.5, 0.5), x * x)
    root = sqrt(square)
    root_low = where(far & (square > 0.0), fma(-root, root, square) * (0.5 / root), 0.0)
    s = where(far, root, x)
    return far, s, fma(square * s, polynomial(square, _ASIN[x.format]), root_low)


def arcsin(x: Lane) -> Lane:
    """Inverse sine; nan outside [-1, 1]."""
    high, low = _HALF_PI[x.format]
    far, s, tail = _arcsin_terms(fabs(x))
    factor = where(far, x.like(-2.0), 1.0)
    total, error = fast_two_sum(where(far, x.like(high), 0.0), factor * s)
    return copysign(total + (error + fma(factor, tail, where(far, x.like(low), 0.0))), x)


def arccos(x: Lane) -> Lane:
    """Inverse cosine: pi/2 - asin(x), 2 asin(s) near 1, pi - 2 asin(s) near -1; nan outside [-1, 1]."""
    far, s, tail = _arcsin_terms(x)
    right = x > 0.0
    offsets = [where(far, where(right, x.like(0.0), 2.0 * part), part) for part in _HALF_PI[x.format]]
    factor = where(far, where(right, x.like(2.0), -2.0), -1.0)
    total, error = fast_two_sum(offsets[0], factor * s)
    return total + (error + fma(factor, tail, offsets[1]))
