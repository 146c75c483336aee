"""lgamma and digamma.

Up to 8.5 (9) the recurrence Gamma(x + 1) = x Gamma(x) moves the argument to an interval of length one,
where a polynomial holds; beyond, Stirling's series (Abramowitz and Stegun, "Handbook of Mathematical
Functions", 6.1.41 and 6.3.18). Negative arguments by reflection (6.1.17, 6.3.7): near the zeros of the
functions on the negative axis the error is small absolutely, not relatively. float32 computes in float64.

Coefficients: least squares on Chebyshev nodes in 50 digits, relative errors below 2**-57.
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.lanes import FLOAT32, Lane, fabs, floor, fma, where
from jitgrad.backends.vector_math.logarithm import log, log_pair
from jitgrad.backends.vector_math.polynomial import Pair, fast_two_sum, horner, polynomial, two_product
from jitgrad.backends.vector_math.trigonometric import cos_pair, sin_pair

_PI = (float.fromhex("0x1.921fb54442d18p+1"), float.fromhex("0x1.1a62633145c07p-53"))
_STIRLING_START, _DIGAMMA_START = 8.5, 9.0
_HALF_LOG_2_PI_LESS_HALF = 0.4189385332046727
# lgamma(2 + u) / u, |u| <= 1/2.
_LGAMMA = (
    0.42278433509846713, 0.32246703342411326, -0.0673523010531954, 0.020580808427777427,
    -0.0073855510289502204, 0.0028905103311649112, -0.001192753900605423, 0.0005096695126109423,
    -0.0002231549829859013, 9.945770679987672e-05, -4.4923683842885486e-05, 2.0505360743404608e-05,
    -9.456484539468931e-06, 4.385627766015183e-06, -1.9738463663503564e-06, 9.180597870952365e-07,
    -5.815790920673929e-07, 2.8052955246567823e-07,
)  # fmt: skip
# x times the remainder of Stirling's formula in 1 / x**2.
_STIRLING = (
    0.08333333333333333, -0.0027777777777670833, 0.0007936507863736952, -0.0005952358781455731,
    0.0008413985698590131, -0.0018869229456385146, 0.005001852370251219,
)  # fmt: skip
# The positive zero of digamma less 1; digamma(3/2 + u) / (3/2 + u - zero), constant term low part first.
_ZERO = (float.fromhex("0x1.762d86356be3fp+0") - 1.0, float.fromhex("0x1.b86a722197829p-54"))
_DIGAMMA = (
    4.3435689832841246e-17, 0.9510558760318328, -0.4236274212814606, 0.24054248424078684,
    -0.14840492305388464, 0.09498872445291454, -0.06192213327523228, 0.04076083393932326,
    -0.026975796668462306, 0.01790724836633996, -0.01190821993771791, 0.007927020877919624,
    -0.005279939266710431, 0.0035181172889423265, -0.002345479416035964, 0.0015632893115036467,
    -0.0010365330775731825, 0.0006913117295398524, -0.00048572583293202983, 0.00032280725998683603,
    -0.00014518722101128408, 9.847845583708615e-05, -0.00017794074747307865, 0.00011739936531756731,
)  # fmt: skip
# x**2 (log(x) - 1 / (2 x) - digamma(x)) in 1 / x**2.
_DIGAMMA_STIRLING = (
    0.08333333333333333, -0.008333333333319098, 0.003968253955509701, -0.004166661590866453,
    0.007574703816855626, -0.020972138153170502, 0.07580209945039602, -0.20869474599613602,
)  # fmt: skip


def _sin_cos_of_half_turns(x: Lane) -> tuple[Lane, Lane]:
    """(|sin(pi x)|, cos(pi x) with the sign of cot(pi x)) for x >= 0."""
    fraction = x - floor(x)
    above = fraction > 0.5
    distance = where(above, 1.0 - fraction, fraction)
    swap = distance > 0.25
    half_turns = where(swap, 0.5 - distance, distance)
    angle, angle_low = two_product(half_turns, _PI[0])
    angle_low = fma(half_turns, _PI[1], angle_low)
    (sine, sine_low), (cosine, cosine_low) = sin_pair(angle, angle_low), cos_pair(angle, angle_low)
    sine, cosine = sine + sine_low, cosine + cosine_low
    cotangent_sign = where(above, x.like(-1.0), 1.0)
    return where(swap, cosine, sine), where(swap, sine, cosine) * cotangent_sign


def lgamma(x: Lane) -> Lane:
    """log |Gamma(x)|."""
    if x.format is FLOAT32:
        return lgamma(x.widened()).narrowed()
    magnitude = fabs(x)
    result = _lgamma_positive(magnitude)
    sine, _ = _sin_cos_of_half_turns(magnitude)
    reflected = -log((magnitude * sine) * (1.0 / math.pi)) - result
    # Below 2**-60 both signs give -log|x|.
    result = where((x < 0.0) & (magnitude > 2.0**-60), where(sine.equals(0.0), math.inf, reflected), result)
    return where(magnitude < math.inf, result, magnitude)


def _lgamma_positive(x: Lane) -> Lane:
    large = x >= _STIRLING_START
    product = x.like(1.0)
    nearest = floor(x + 0.5)
    for step in range(1, 7):
        product = product * where(nearest >= step + 2.0, x - float(step), 1.0)
    below = nearest < 2.0
    product = where(nearest < 1.0, fma(x, x, x), where(below, x, product))
    logarithm, logarithm_low = log_pair(where(large, x, product))
    sign = where(below, x.like(-1.0), 1.0)
    u = x - nearest
    # Between 1/2 and 3/2 the two terms cancel in part: both are pairs.
    slope, slope_low = fast_two_sum(_LGAMMA[0], u * polynomial(u, _LGAMMA[1:]))
    shifted, shifted_low = two_product(u, slope)
    total, error = fast_two_sum(sign * logarithm, shifted)
    small = total + (error + fma(sign, logarithm_low, fma(u, slope_low, shifted_low)))
    return where(large, _stirling(x, (logarithm, logarithm_low)), where(x.equals(0.0), math.inf, small))


def _stirling(x: Lane, logarithm: Pair) -> Lane:
    """(x - 1/2) (log x - 1) + log(2 pi) / 2 - 1/2 + 1 / (12 x) - ..."""
    inverse = 1.0 / x
    series = inverse * horner(inverse * inverse, _STIRLING)
    factor, factor_low = fast_two_sum(logarithm[0], x.like(-1.0))
    shifted = x - 0.5
    product, product_low = two_product(factor, shifted)
    rest = fma(shifted, factor_low + logarithm[1], product_low) + (series + _HALF_LOG_2_PI_LESS_HALF)
    return where(product < math.inf, product + rest, math.inf)


def digamma(x: Lane) -> Lane:
    """Logarithmic derivative of Gamma; nan at the negative integers, -+inf at +-0."""
    if x.format is FLOAT32:
        return digamma(x.widened()).narrowed()
    magnitude = fabs(x)
    result = _digamma_positive(magnitude)
    sine, cosine = _sin_cos_of_half_turns(magnitude)
    reflected = result + (1.0 / magnitude + math.pi * (cosine / sine))
    reflected = where(sine.equals(0.0), math.nan, reflected)
    result = where(x < 0.0, reflected, result)
    result = where(magnitude < 2.0**-100, -1.0 / x, result)
    return where(magnitude < math.inf, result, where(x > 0.0, x, math.nan))


def _digamma_positive(x: Lane) -> Lane:
    """psi(x) = psi(x - 1) + 1 / (x - 1) down to [1, 2), the sum as one fraction, or the asymptotic series."""
    whole = floor(x)
    numerator, denominator = x.like(0.0), x.like(1.0)
    for step in range(1, 8):
        active = x >= step + 1.0
        factor = x - float(step)
        numerator = where(active, fma(numerator, factor, denominator), numerator)
        denominator = where(active, denominator * factor, denominator)
    below = x < 1.0
    fraction = x - whole
    low, high, *rest = _DIGAMMA
    u = fraction - 0.5
    slope = high + fma(u, polynomial(u, rest), low)
    shift = where(below, x.like(-1.0), numerator) / where(below, x, denominator)
    small = fma((fraction - _ZERO[0]) - _ZERO[1], slope, shift)
    inverse = 1.0 / x
    square = inverse * inverse
    logarithm, logarithm_low = log_pair(x)
    large = logarithm + (logarithm_low + fma(inverse, -0.5, -(square * horner(square, _DIGAMMA_STIRLING))))
    return where(x >= _DIGAMMA_START, large, small)
