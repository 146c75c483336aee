"""The logarithms: log, log2, log10, log1p, softplus and the inverse hyperbolic functions built on them.

Reduction: x = 2**k m with sqrt(1/2) <= m < sqrt(2), f = m - 1. With s = f / (2 + f), log(1 + f) = 2
atanh(s), and (P. T. P. Tang, "Table-driven implementation of the logarithm function", and the design notes
of fdlibm's e_log) log(1 + f) = f - f**2 / 2 + s (f**2 / 2 + R), R = s**2 (2/3 + 2/5 s**2 + ...), so that
the leading f is exact.

Coefficients of R / s**2: least squares on Chebyshev nodes in 60 digits, errors 2**-59 (float64) and 2**-35
(float32) of log(1 + f).
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.exponential import (
    clamp_exponent,
    expm1_pair,
    reduce_argument,
    split_scale,
)
from jitgrad.backends.vector_math.lanes import (
    FLOAT32,
    FLOAT64,
    Lane,
    at_least,
    copysign,
    fabs,
    fma,
    sqrt,
    where,
)
from jitgrad.backends.vector_math.polynomial import (
    Pair,
    divide_pairs,
    fast_two_sum,
    polynomial,
    two_product,
    two_sum,
)

_ROOT_HALF = {FLOAT64: math.sqrt(0.5), FLOAT32: float.fromhex("0x1.6a09e6p-1")}
# Above it x**2 is near overflow and 1 + x is x.
_SQUARE_LIMIT = {FLOAT64: 2.0**500, FLOAT32: 2.0**60}
# R / z as a polynomial in z = s**2.
_ATANH = {
    FLOAT64: (
        0.6666666666666736, 0.39999999999405383, 0.2857142874409988, 0.2222219842096405, 0.181835713839169,
        0.15313886090294743, 0.14797471593402337,
    ),
    FLOAT32: (0.6666666269302368, 0.40000849962234497, 0.28510141372680664, 0.24029208719730377),
}  # fmt: skip
# ln 2 and log10 2 with room in the high part for an exact product with the exponent.
_LN2_SHORT = {
    FLOAT64: (float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42")),
    FLOAT32: (float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
}
_LOG10_2_SHORT = {
    FLOAT64: (float.fromhex("0x1.34413509f7p-2"), float.fromhex("0x1.3fde623e2566bp-43")),
    FLOAT32: (float.fromhex("0x1.344p-2"), float.fromhex("0x1.3509f8p-18")),
}
_LOG2_E = {
    FLOAT64: (float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56")),
    FLOAT32: (float.fromhex("0x1.715476p+0"), float.fromhex("0x1.4ae0c0p-26")),
}
_LOG10_E = {
    FLOAT64: (float.fromhex("0x1.bcb7b1526e50ep-2"), float.fromhex("0x1.95355baaafad3p-57")),
    FLOAT32: (float.fromhex("0x1.bcb7b2p-2"), float.fromhex("-0x1.5b235ep-27")),
}


def split_normal(x: Lane) -> tuple[Lane, Lane]:
    """(k + bias + 2**p as a float, m) with x = 2**k m, sqrt(1/2) <= m < sqrt(2), for a positive normal x."""
    form = x.format
    root = form.bits_of(_ROOT_HALF[form])
    shifted = x.as_bits() + (form.bits_of(1.0) - root)
    mantissa = ((shifted & form.fraction_mask) + root).as_float()
    # An integer below 2**p in the fraction of 2**p is a float; one subtraction uncovers it.
    return ((shifted >> form.fraction_bits) | form.bits_of(2.0**form.fraction_bits)).as_float(), mantissa


def split_exponent(x: Lane) -> tuple[Lane, Lane]:
    """(k as a float, m), x = 2**k m, sqrt(1/2) <= m < sqrt(2), for a positive finite x, subnormal or not."""
    form = x.format
    tiny = x < form.smallest_normal
    lift = form.fraction_bits + 2
    shifted_k, mantissa = split_normal(where(tiny, x * 2.0**lift, x))
    offset = 2.0**form.fraction_bits + form.bias
    return shifted_k - where(tiny, x.like(offset + lift), offset), mantissa


def log_correction(f: Lane) -> tuple[Lane, Lane]:
    """(log(1 + f) - f, s) with s = f / (2 + f), for sqrt(1/2) - 1 <= f <= sqrt(2) - 1."""
    s = f / (f + 2.0)
    z = s * s
    series = z * polynomial(z, _ATANH[f.format])
    half_square = (0.5 * f) * f
    return fma(-0.5 * f, f, s * (half_square + series)), s


def _log_edges(x: Lane, result: Lane, zero: Lane | float = 0.0) -> Lane:
    """-inf at the pole ``zero``, nan below it, x itself for inf and nan."""
    result = where(x.equals(zero), -math.inf, result)
    result = where(x < zero, math.nan, result)
    return where(x < math.inf, result, x)


def _combine(k: Lane, f: Lane, correction: Lane) -> Pair:
    """k ln 2 + f + correction as a large and a small part."""
    high, low = _LN2_SHORT[f.format]
    total, error = fast_two_sum(k * high, f)
    return total, error + fma(k, low, correction)


def log_pair(x: Lane) -> Pair:
    """log(x) as a large and a small part, for a positive finite x."""
    k, m = split_exponent(x)
    f = m - 1.0
    correction, _ = log_correction(f)
    return _combine(k, f, correction)


def log(x: Lane) -> Lane:
    """Natural logarithm."""
    total, rest = log_pair(x)
    return _log_edges(x, total + rest)


def _log_in_base(x: Lane, factor: tuple[float, float], exponent: tuple[float, float]) -> Lane:
    """k log_b(2) + log(m) log_b(e), both constants and log(m) as pairs."""
    k, m = split_exponent(x)
    f = m - 1.0
    correction, _ = log_correction(f)
    high, low = fast_two_sum(f, correction)
    product, error = two_product(high, factor[0])
    error = fma(low, factor[0], fma(high, factor[1], error))
    total, total_error = fast_two_sum(k * exponent[0], product)
    return _log_edges(x, total + (total_error + fma(k, exponent[1], error)))


def log2(x: Lane) -> Lane:
    """Base-2 logarithm; exact at powers of two."""
    return _log_in_base(x, _LOG2_E[x.format], (1.0, 0.0))


def log10(x: Lane) -> Lane:
    """Base-10 logarithm; exact at powers of ten."""
    return _log_in_base(x, _LOG10_E[x.format], _LOG10_2_SHORT[x.format])


def log_one_plus(t: Lane, t_low: Lane | float = 0.0, extra_k: Lane | float = 0.0) -> Pair:
    """log(1 + t + t_low) + extra_k ln 2 as a large and a small part, for finite t > -1 and |t_low| <= about
    ulp(t).

    1 + t = u + u_low exactly, u = 2**k m.  For k = 0 the reduced argument is t itself (u may have rounded it
    away), else m - 1.  What is left over enters to first order, divided by m = (1 + s) / (1 - s), which is
    expanded in s.
    """
    form = t.format
    u, u_low = two_sum(t.like(1.0), t)
    shifted_k, m = split_normal(u)
    k = shifted_k - (2.0**form.fraction_bits + form.bias)
    near = k.equals(0.0)
    # m and u differ in the exponent field only: their difference is that of 2**-k (0 where it would be
    # subnormal).
    scale = at_least(m.as_bits() - u.as_bits() + form.bits_of(1.0), 0).as_float()
    f = where(near, t, m - 1.0)
    rest = where(near, t_low, (u_low + t_low) * scale)
    correction, s = log_correction(f)
    inverse = (1.0 - s) * fma(s, s - 1.0, 1.0)
    return _combine(k + extra_k, f, fma(rest, inverse, correction))


def log1p(x: Lane) -> Lane:
    """log(1 + x)."""
    total, rest = log_one_plus(x)
    tiny = fabs(x) < 2.0 ** (-x.format.fraction_bits - 2)
    return _log_edges(x, where(tiny, x, total + rest), -1.0)


def softplus(x: Lane) -> Lane:
    """log(1 + e**x) = max(x, 0) + log(1 + e**-|x|)."""
    form = x.format
    k_bits, r, r_low = reduce_argument(clamp_exponent(-fabs(x)))
    r, rest = expm1_pair(r, r_low)
    high, low = fast_two_sum(1.0, r)
    high, low = fast_two_sum(high, low + rest)
    first, second = split_scale(k_bits)
    power = (high * first) * second
    total, rest = log_one_plus(power, (low * first) * second)
    total, error = two_sum(where(x > 0.0, x, 0.0), total)
    # Far below zero log(1 + e**x) is e**x, which may be subnormal; inf and nan are their own values.
    result = where(x < -1.0 * (form.fraction_bits + 2), power, total + (error + rest))
    return where(x < math.inf, result, x)


def arcsinh(x: Lane) -> Lane:
    """sign(x) log(1 + t), t = |x| + x**2 / (1 + sqrt(1 + x**2)); log(2 |x|) where x**2 would overflow."""
    magnitude = fabs(x)
    large = magnitude > _SQUARE_LIMIT[x.format]
    square = magnitude * magnitude
    t, t_low = fast_two_sum(magnitude, square / (1.0 + sqrt(fma(magnitude, magnitude, 1.0))))
    t, t_low = where(large, magnitude, t), where(large, 0.0, t_low)
    total, rest = log_one_plus(t, t_low, where(large, x.like(1.0), 0.0))
    return copysign(where(magnitude < math.inf, total + rest, magnitude), x)


def arccosh(x: Lane) -> Lane:
    """log(1 + t), t = y + sqrt(y**2 + 2 y), y = x - 1, the root a pair; log(2 x) where y**2 overflows."""
    large = x > _SQUARE_LIMIT[x.format]
    y = x - 1.0
    double = y + y
    radicand = fma(y, y, double)
    radicand_low = fma(y, y, double - radicand)
    root = sqrt(radicand)
    root_low = (fma(-root, root, radicand) + radicand_low) * (0.5 / root)
    t, t_low = fast_two_sum(root, y)
    t, t_low = where(large, x, t), where(large, 0.0, t_low + root_low)
    total, rest = log_one_plus(t, t_low, where(large, x.like(1.0), 0.0))
    result = where(x.equals(1.0), 0.0, total + rest)
    result = where(x < 1.0, math.nan, result)
    return where(x < math.inf, result, x)


def arctanh(x: Lane) -> Lane:
    """sign(x) log(1 + t) / 2, t = 2 |x| / (1 - |x|) as a pair."""
    magnitude = fabs(x)
    denominator, denominator_low = fast_two_sum(1.0, -magnitude)
    t, t_low = divide_pairs((magnitude + magnitude, x.like(0.0)), (denominator, denominator_low))
    total, rest = log_one_plus(t, t_low)
    result = where(magnitude.equals(1.0), math.inf, 0.5 * (total + rest))
    return copysign(where(magnitude > 1.0, math.nan, result), x)
