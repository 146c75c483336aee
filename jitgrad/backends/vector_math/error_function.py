"""erf, erfc and erfinv.

erf(x) = x P(x**2) for |x| < 3/4. Beyond, erfc(x) = exp(-x**2) F(x) / (1 + 2 x) with the slowly varying F
expanded in (x - K) / (x + K) (M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of (1 + 2x)
exp(x^2) erfc x in 0 <= x < infinity", Math. Comp. 36 (1981)), x**2 and the exponential as pairs. erfinv(x)
= x G(w) with w = -log(1 - x**2) (M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2011).

Coefficients: least squares on Chebyshev nodes in 50 to 60 digits; in each table with a leading low part the
constant term is a pair.
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.exponential import exp_parts, scale_by_power
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
from jitgrad.backends.vector_math.logarithm import log
from jitgrad.backends.vector_math.polynomial import (
    Pair,
    divide_pairs,
    fast_two_sum,
    horner,
    polynomial,
    two_product,
    two_sum,
)

_TWO_OVER_ROOT_PI = {
    FLOAT64: (float.fromhex("0x1.20dd750429b6dp+0"), float.fromhex("0x1.1ae3a914fed80p-56")),
    FLOAT32: (float.fromhex("0x1.20dd76p+0"), float.fromhex("-0x1.f7ac92p-25")),
}
# (erf(x) / x - 2 / sqrt(pi)) / x**2 in x**2.
_ERF = {
    FLOAT64: (
        -0.3761263890318375, 0.1128379167095487, -0.026866170645074277, 0.005223977624791964,
        -0.0008548326979348804, 0.00012055331059157176, -1.4925594054810975e-05, 1.646098184970394e-06,
        -1.6350123406114734e-07, 1.4658554262739266e-08, -1.1368316994714035e-09, 5.949804397516033e-11,
    ),
    FLOAT32: (
        -0.3761262893676758, 0.112836092710495, -0.026854651048779488, 0.00518976291641593,
        -0.0008021991234272718, 7.891091809142381e-05,
    ),
}  # fmt: skip
# K; F in t = (x - K) / (x + K), constant term low part first; from where on erfc is 0.
_CENTRE = {FLOAT64: 3.75, FLOAT32: 2.0}
_ERFC = {
    FLOAT64: (
        1.0033763529527426e-16, 1.2375126308378275, -0.140240598585547, 0.0035854154854657837,
        0.08227673849014754, -0.10880393014185187, 0.0923043211603434, -0.058693398586657626,
        0.02836227741875509, -0.009746579601445272, 0.0017556258613591847, 0.0002937140303048483,
        -0.00029015416290597147, 5.1647203404783734e-05, 2.2384652470694482e-05, -1.1437843150602558e-05,
        -9.747833701153456e-07, 1.7381630635269497e-06, -5.5014361000703406e-08, -2.406379258570757e-07,
        2.0909840913279687e-08, 2.4687052760223497e-08, -2.3947166616923745e-09,
    ),
    FLOAT32: (
        7.684023195508871e-09, 1.2769783735275269, -0.09276381880044937, -0.16603034734725952,
        0.16405078768730164, -0.054221153259277344, -0.008026361465454102, 0.008731578476727009,
        0.0012235395843163133, -0.0014838313218206167, -0.00032069909502752125, 0.00023222855816129595,
    ),
}  # fmt: skip
_ERFC_ZERO = {FLOAT64: 27.3, FLOAT32: 10.1}
# erfinv(x) / x: in w - centre for small w, then in sqrt(w) - centre; constant term low part first.
_CENTRAL = {
    FLOAT64: (
        8.810980931307719e-17, 1.6235420064648298, 0.24163040416615833, -0.0057381352210056115,
        -0.0008361817769096954, 0.0001950613244118449, -1.2716422637666195e-05, -1.748002092806203e-06,
        4.499854240852674e-07, -2.368873042934594e-08, -5.4671779870163555e-09, 1.1108000480289197e-09,
        -3.1425995349248343e-11, -1.7329587194320317e-11, 2.6990924320127724e-12, 6.466399448869567e-15,
        -5.2953629066833376e-14, 6.2906780763371794e-15, 2.769915492555734e-16, -1.569517805977506e-16,
        1.2648466737057198e-17, 1.6302754838487635e-18, -3.8168564749474142e-19, 7.120628982726854e-21,
        4.146696474734835e-21, -3.1978214291936053e-22,
    ),
    FLOAT32: (
        5.9457711643062794e-08, 1.5014092922210693, 0.24664029479026794, -0.00417732447385788,
        -0.0012527569197118282, 0.00021826327429153025, -4.955572421749821e-06, -3.4258505365869496e-06,
        4.6462170644190337e-07, 1.6421264348309705e-08, -8.685991481627298e-09, 4.3974382468725537e-10,
    ),
}  # fmt: skip
_CENTRAL_LIMIT = {FLOAT64: 6.25, FLOAT32: 5.0}
_CENTRAL_CENTRE = {FLOAT64: 3.0, FLOAT32: 2.5}
_NEAR_TAIL = (
    -1.464714888978285e-16, 3.0838856104922208, 1.0052589676941657, 0.005370914553575633,
    -0.003751208508258205, 0.0024914420967766474, -0.0016882755343798918, 0.0009532893678009363,
    -0.00035503782902405985, 2.403121713216298e-05, 6.828723414094762e-05, -4.731876538206712e-05,
    1.246450496166513e-05, 2.9250285328369584e-06, -3.9842918330222325e-06, 1.5000146228933563e-06,
    -2.988497917157848e-08, -2.7264328581449586e-07, 1.3357368124587462e-07, 1.2343866984222116e-09,
    -1.6037999960685847e-08,
)  # fmt: skip
_FAR_TAIL = (
    -8.011493495429804e-17, 4.849906401408584, 1.0103004648645448, -0.00013871931838020283,
    -0.00021503011979813388, 7.59952780987819e-05, -1.9681771209171197e-05, 4.526052499842897e-06,
    -9.93025416331885e-07, 2.290529853401412e-07, -6.75729866983498e-08, 2.9018063059942552e-08,
    -1.5213224053498767e-08, 7.822605808233577e-09, -3.5345614022523262e-09, 1.3146713311594162e-09,
    -3.8059593131694776e-10, 7.035119332933209e-11, 1.4725881654513126e-11, -2.0580108366586617e-11,
    5.866743039778644e-12,
)  # fmt: skip
_TAIL_NARROW = (
    -1.6754627907289432e-08, 2.832976818084717, 1.0016752481460571, 0.00944532174617052,
    -0.007642922457307577, 0.005687463562935591, -0.0035665309987962246, 0.001475998549722135,
    -0.00012067962234141305, -0.0002788169076666236, 0.0001606984733371064, -2.878430314012803e-05,
)  # fmt: skip


def _erf_near_zero(x: Lane) -> Pair:
    """erf(x) for |x| <= 1 as (2 x / sqrt(pi), the rest)."""
    square = x * x
    high, low = _TWO_OVER_ROOT_PI[x.format]
    product, error = two_product(x, high)
    return product, fma(x, fma(square, polynomial(square, _ERF[x.format]), low), error)


def _scaled_erfc(x: Lane) -> Pair:
    """exp(x**2) erfc(x) for x >= 1/2, as a pair."""
    centre = _CENTRE[x.format]
    t = (x - centre) / (x + centre)
    low, high, *rest = _ERFC[x.format]
    numerator = fast_two_sum(high, fma(t, polynomial(t, rest), low))
    return divide_pairs(numerator, two_sum(x + x, x.like(1.0)))


def _erfc_beyond(x: Lane) -> tuple[Lane, Lane, Lane]:
    """(high, low, k), erfc(x) = 2**k (high + low), for x >= 1/2."""
    square, square_low = two_product(x, x)
    exp_high, exp_low, k = exp_parts(-square, -square_low)
    factor, factor_low = _scaled_erfc(x)
    product, product_low = two_product(factor, exp_high)
    return product, fma(factor, exp_low, fma(factor_low, exp_high, product_low)), k


def erf(x: Lane) -> Lane:
    """Error function 2 / sqrt(pi) * integral of exp(-t**2) from 0 to x."""
    magnitude = fabs(x)
    near, near_rest = _erf_near_zero(magnitude)
    # From 6 (4) on 1 - erfc(x) rounds to 1.
    high, low, k = _erfc_beyond(at_most(magnitude, 6.0))
    beyond = 1.0 - scale_by_power(high + low, k)
    # The error term of the product is lost for subnormal arguments.
    factor, factor_low = _TWO_OVER_ROOT_PI[x.format]
    tiny = magnitude < 16.0 * x.format.smallest_normal * 2.0**x.format.fraction_bits
    small = where(tiny, fma(magnitude, factor, magnitude * factor_low), near + near_rest)
    return copysign(where(magnitude < 0.75, small, beyond), x)


def erfc(x: Lane) -> Lane:
    """1 - erf(x), small values to full relative precision."""
    magnitude = fabs(x)
    near, near_rest = _erf_near_zero(x)
    high, low, k = _erfc_beyond(at_most(magnitude, _ERFC_ZERO[x.format]))
    beyond = scale_by_power(high + low, k)
    total, error = fast_two_sum(1.0, -near)
    result = where(magnitude < 0.5, total + (error - near_rest), where(x < 0.0, 2.0 - beyond, beyond))
    return where(x.is_nan(), x, result)


def _with_low_constant(t: Lane, coefficients: tuple[float, ...]) -> Pair:
    low, high, *rest = coefficients
    return fast_two_sum(high, fma(t, horner(t, rest), low))


def erfinv(x: Lane) -> Lane:
    """Inverse of erf; infinite at -1 and 1, nan beyond."""
    form = x.format
    w = -log(fma(-x, x, 1.0))
    factor = _with_low_constant(w - _CENTRAL_CENTRE[form], _CENTRAL[form])
    root = sqrt(w)
    if form is FLOAT64:
        near, far = _with_low_constant(root - 3.25, _NEAR_TAIL), _with_low_constant(root - 5.0, _FAR_TAIL)
        tail = _select(root < 4.0, near, far)
    else:
        tail = _with_low_constant(root - 3.0, _TAIL_NARROW)
    high, low = _select(w < _CENTRAL_LIMIT[form], factor, tail)
    return where(fabs(x).equals(1.0), copysign(x.like(math.inf), x), fma(x, high, x * low))


def _select(condition: Lane, chosen: Pair, otherwise: Pair) -> Pair:
    return where(condition, chosen[0], otherwise[0]), where(condition, chosen[1], otherwise[1])
