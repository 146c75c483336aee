"""The exponential family: exp, exp2, expm1, sigmoid, sinh, cosh, tanh.

Reduction (W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", chapter 6): x = k ln 2 +
r with |r| <= ln(2) / 2, ln 2 in two pieces, k ln2_high subtracted exactly by the fma. Then exp(x) = 2**k (1
+ r + r**2 q(r)). Functions that cancel (expm1, sinh) or divide (sigmoid) keep r apart from the rest,
as the pair (r, r**2 q(r) + r_low), and add it to powers of two exactly.

Coefficients: least squares on Chebyshev nodes in 60 digits, each coefficient rounded before the next ones
are fitted, relative error weighted as the function needs it: 2**-61 (float64), 2**-31 (float32) of
expm1(r).
"""

from __future__ import annotations

from dataclasses import dataclass

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
    has_scaling,
    power_of_two,
    round_to_integer,
    scaled,
    where,
)
from jitgrad.backends.vector_math.polynomial import (
    divide_pairs,
    fast_two_sum,
    horner,
    polynomial,
    two_product,
)

LOG2_E = {FLOAT64: 1.4426950408889634, FLOAT32: 1.4426950408889634}
# ln 2 rounded to the format, and the rest of it.
LN2 = {
    FLOAT64: (float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56")),
    FLOAT32: (float.fromhex("0x1.62e430p-1"), float.fromhex("-0x1.05c610p-29")),
}
# (expm1(r) - r) / r**2 on |r| <= 0.3467.
_EXPONENTIAL = {
    FLOAT64: (
        0.5, 0.16666666666666677, 0.04166666666666668, 0.008333333333321449, 0.0013888888888877451,
        0.00019841269886538442, 2.4801587340590157e-05, 2.755724382937312e-06, 2.75572592409881e-07,
        2.5109160102257538e-08, 2.0919486523099966e-09,
    ),
    FLOAT32: (
        0.5, 0.1666666716337204, 0.04166647791862488, 0.008333192206919193, 0.001393369515426457,
        0.00019958475604653358,
    ),
}  # fmt: skip
# The same on ln(3/4) <= r <= ln(3/2).
_EXPONENTIAL_OFF_CENTRE = {
    FLOAT64: (
        0.5, 0.16666666666667787, 0.041666666666676115, 0.008333333332401554, 0.0013888888887871353,
        0.00019841272495549662, 2.4801573122003423e-05, 2.7554134851028595e-06, 2.7591591645640063e-07,
        2.6446408172679854e-08,
    ),
    FLOAT32: (
        0.5, 0.16666671633720398, 0.041666578501462936, 0.00833173654973507, 0.001391901052556932,
        0.00021066854242235422,
    ),
}  # fmt: skip
_OFF_CENTRE = 0.41503749927884376  # log2(4/3)
# (tanh(x) / x - 1) / x**2 as a quotient of polynomials in x**2, 0 <= x <= 1: errors 2**-59 and 2**-28 of tanh(x).
_TANH = {
    FLOAT64: (
        (-0.33333333333333326, -0.021405898658520467, -0.00024310287856615722, -1.7191695223274693e-08),
        (1.0, 0.46421769597555695, 0.024511625121197575, 0.000254111692962475),
    ),
    FLOAT32: ((-0.3333333134651184, -0.014686011709272861), (1.0, 0.44405779242515564, 0.01571902073919773)),
}
# (sinh(r) / r - 1) / r**2 and (cosh(r) - 1) / r**2 as polynomials in r**2, same interval.
_SINH = {
    FLOAT64: (
        0.16666666666666677, 0.008333333333321449, 0.00019841269886538442, 2.755724382937312e-06,
        2.5109160102257538e-08,
    ),
    FLOAT32: (0.1666666716337204, 0.008333192206919193, 0.00019958475604653358),
}  # fmt: skip
_COSH = {
    FLOAT64: (
        0.5, 0.041666666666666685, 0.0013888888888873314, 2.480158734908494e-05, 2.75572519631855e-07,
        2.092171358962988e-09,
    ),
    FLOAT32: (0.5, 0.0416666679084301, 0.001388859935104847, 2.499111542419996e-05),
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Where each function saturates; beyond these bounds the argument is replaced by the bound."""

    exp_low: float
    exp_high: float
    sinh_high: float
    exp2_low: float
    exp2_high: float
    minus_one: float
    tanh_one: float
    identity: float


_LIMITS = {
    # identity: below it sinh(x) and expm1(x) round to x (for expm1 the bound is squared).
    FLOAT64: Limits(-750.0, 710.0, 710.5, -1085.0, 1025.0, -40.0, 22.0, 2.0**-28),
    FLOAT32: Limits(-106.0, 89.0, 89.5, -155.0, 129.0, -20.0, 10.0, 2.0**-13),
}


def reduce_argument(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(bits of k, r_high, r_low) with x = k ln 2 + r."""
    k, k_bits = round_to_integer(x * LOG2_E[x.format])
    return k_bits, *_subtract_powers(x, k)


def _subtract_powers(x: Lane, k: Lane) -> tuple[Lane, Lane]:
    """x - k ln 2 as (r_high, r_low)."""
    high, low = LN2[x.format]
    exact = fma(k, -high, x)
    r = fma(k, -low, exact)
    return r, fma(k, -low, exact - r)


def expm1_pair(r: Lane, r_low: Lane) -> tuple[Lane, Lane]:
    """expm1(r + r_low) as (r, the rest) for |r| <= ln(2) / 2."""
    return r, fma(r * r, polynomial(r, _EXPONENTIAL[r.format]), fma(r, r_low, r_low))


def split_scale(k_bits: Lane) -> tuple[Lane, Lane]:
    """2**k as a product of two normal floats, for -2 bias < k <= bias + 2."""
    form = k_bits.format
    biased = k_bits + 2 * form.bias
    first = biased >> 1
    second = biased - first
    return (first << form.fraction_bits).as_float(), (second << form.fraction_bits).as_float()


def scale_by_power(significand: Lane, k: Lane) -> Lane:
    """significand * 2**k for an integer k, -2 bias < k <= bias + 2, rounded once where it becomes subnormal."""
    if has_scaling(significand):
        return scaled(significand, k)
    first, second = split_scale((k + k.format.rounding_shift).as_bits())
    return (significand * first) * second


def scale_normal(significand: Lane, k: Lane) -> Lane:
    """significand * 2**k for an integer k, 1 - bias <= k <= bias."""
    if has_scaling(significand):
        return scaled(significand, k)
    return significand * power_of_two((k + k.format.rounding_shift).as_bits())


def exp_parts(x: Lane, x_low: Lane) -> tuple[Lane, Lane, Lane]:
    """(high, low, k), exp(x + x_low) = 2**k (high + low), for x within the clamp, |x_low| small."""
    k, _ = round_to_integer(x * LOG2_E[x.format])
    r, r_low = _subtract_powers(x, k)
    r, rest = expm1_pair(*fast_two_sum(r, r_low + x_low))
    high, low = fast_two_sum(1.0, r)
    return *fast_two_sum(high, low + rest), k


def clamp_exponent(x: Lane) -> Lane:
    """x limited to the interval outside which exp(x) is 0 or inf; nan stays nan."""
    limits = _LIMITS[x.format]
    return at_least(at_most(x, limits.exp_high), limits.exp_low)


def exp(x: Lane) -> Lane:
    """e**x.

    Here r is rounded to working precision, and lies in [ln 3/4, ln 3/2]: on that interval 1/4 bounds |expm1(r)| where
    the result has the smaller unit (below 1), 1/2 where it has the larger one, and so r's rounding and that of expm1(r)
    weigh an eighth to a sixth of a unit each. On the symmetric interval they weigh up to a quarter each below 1.
    """
    return scale_by_power(*_exp_reduced(clamp_exponent(x)))


def _exp_reduced(x: Lane) -> tuple[Lane, Lane]:
    """(s, k), exp(x) = 2**k s with 3/4 <= s <= 3/2, for x within the clamp."""
    high, low = LN2[x.format]
    k = floor(fma(x, LOG2_E[x.format], _OFF_CENTRE))
    r = fma(k, -low, fma(k, -high, x))
    return 1.0 + fma(r * r, polynomial(r, _EXPONENTIAL_OFF_CENTRE[x.format]), r), k


def exp2(x: Lane) -> Lane:
    """2**x: x = k + f, and 2**f = exp(f ln 2) with f ln 2 as a pair."""
    limits = _LIMITS[x.format]
    x = at_least(at_most(x, limits.exp2_high), limits.exp2_low)
    k, _ = round_to_integer(x)
    ln2_high, ln2_low = LN2[x.format]
    fraction = x - k
    r, r_low = two_product(fraction, ln2_high)
    high, low = expm1_pair(r, fma(fraction, ln2_low, r_low))
    return scale_by_power(1.0 + (high + low), k)


def expm1(x: Lane) -> Lane:
    """e**x - 1 = 2**k expm1(r) + (2**k - 1), at half scale so that k = bias + 1 does not overflow."""
    limits = _LIMITS[x.format]
    k_bits, r, r_low = reduce_argument(at_least(at_most(x, limits.exp_high), limits.minus_one))
    high, rest = expm1_pair(r, r_low)
    scale = power_of_two(k_bits - 1)
    total, error = fast_two_sum(scale - 0.5, scale * high)
    result = 2.0 * (total + fma(scale, rest, error))
    # Tiny arguments are their own value; this also keeps -0.0 and subnormals exact.
    return where(fabs(x) < limits.identity * limits.identity, x, result)


def tanh(x: Lane) -> Lane:
    """Up to 0.9 x + x z P(z) / Q(z) with z = x**2, beyond 1 - 2 / (exp(2 |x|) + 1), sign of x.

    In both the quotient, whose rounding errors are a unit or two of its own, is at most 0.28 beside 0.72: one division
    serves both, and no error term is needed.
    """
    form = x.format
    magnitude = at_most(fabs(x), _LIMITS[form].tanh_one)
    square = magnitude * magnitude
    above, below = _TANH[form]
    power = scale_normal(*_exp_reduced(magnitude + magnitude))
    near = magnitude < 0.9
    numerator = where(near, (magnitude * square) * horner(square, above), -2.0)
    denominator = where(near, horner(square, below), power + 1.0)
    return copysign(where(near, magnitude, 1.0) + numerator / denominator, x)


def sigmoid(x: Lane) -> Lane:
    """1 / (1 + exp(-x)): with e = exp(-|x|), 1 / (1 + e) for x >= 0 and e / (1 + e) below."""
    negative_magnitude = at_least(-fabs(x), _LIMITS[x.format].exp_low)
    k_bits, r, r_low = reduce_argument(negative_magnitude)
    r, rest = expm1_pair(r, r_low)
    high, low = fast_two_sum(1.0, r)
    high, low = fast_two_sum(high, low + rest)
    first, second = split_scale(k_bits)
    scale = first * second
    total, error = fast_two_sum(1.0, high * scale)
    error = fma(low, scale, error)
    below = x < 0.0
    numerator = (where(below, high, 1.0), where(below, low, 0.0))
    quotient, correction = divide_pairs(numerator, (total, error))
    # The numerator of the lower branch was left unscaled, so that a subnormal result is rounded once.
    return ((quotient + correction) * where(below, first, 1.0)) * where(below, second, 1.0)


def _hyperbolic(x: Lane) -> tuple[Lane, Lane, Lane, Lane, Lane]:
    """(up, down, r, sinh(r) - r, cosh(r) - 1) with |x| = k ln 2 + r, up = 2**(k-2), down = 2**(-k-2).

    With sum, difference = up +- down, from exp(+-x) = 2**+-k (cosh r +- sinh r), with no division,
    sinh(x) / 2 = difference cosh(r) + sum sinh(r) and cosh(x) / 2 = sum cosh(r) + difference sinh(r).
    """
    form = x.format
    k_bits, r, r_low = reduce_argument(at_most(fabs(x), _LIMITS[form].sinh_high))
    up = power_of_two(k_bits - 2)
    # The exponent fields of 2**(k-2) and 2**(-k-2) add up to 2 bias - 4; for large k the second is nothing.
    down = at_least(((2 * form.bias - 4) << form.fraction_bits) - up.as_bits(), 0).as_float()
    square = r * r
    sinh_rest = fma(square * r, polynomial(square, _SINH[form]), r_low)
    cosh_rest = fma(r, r_low, square * polynomial(square, _COSH[form]))
    return up, down, r, sinh_rest, cosh_rest


def _sum_of_products(up: Lane, down: Lane, a_rest: Lane, r: Lane, r_rest: Lane) -> Lane:
    """(up + down) (1 + a_rest) + (up - down) (r + r_rest), rounded about once; |r| < 0.35, |down| <= up."""
    a, b = up + down, up - down
    a_low = down - (a - up)
    product, product_error = two_product(b, r)
    total, error = fast_two_sum(a, product)
    return total + ((error + a_low) + fma(b, r_rest, fma(a, a_rest, product_error)))


def sinh(x: Lane) -> Lane:
    """(e**x - e**-x) / 2."""
    up, down, r, sinh_rest, cosh_rest = _hyperbolic(x)
    result = copysign(2.0 * _sum_of_products(up, -down, cosh_rest, r, sinh_rest), x)
    return where(fabs(x) < _LIMITS[x.format].identity, x, result)


def cosh(x: Lane) -> Lane:
    """(e**x + e**-x) / 2."""
    up, down, r, sinh_rest, cosh_rest = _hyperbolic(x)
    return 2.0 * _sum_of_products(up, down, cosh_rest, r, sinh_rest)
