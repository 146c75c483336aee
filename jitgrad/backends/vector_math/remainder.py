"""fmod: the exact remainder of a division rounded towards zero, with the dividend's sign.

With n = trunc(x / y) below 2**53, x - n y is a multiple of y's last place and not larger than y: a float64, which the
fma gives exactly. The rounded quotient may have reached the next integer; then x - n y is negative, and y is added. A
larger quotient is divided out by long division, 51 bits a step: first by y 2**e, e such that the quotient is small. That
is a loop, entered where some lane needs it. float32 computes in float64, where its subnormals are normal.
"""

from __future__ import annotations

import math

from jitgrad.backends.vector_math.lanes import FLOAT32, Lane, any_lane, copysign, fabs, floor, fma, where

_QUOTIENT_LIMIT = 2.0**53
_STEP = 51  # bits of the quotient that a step of the long division takes at least
_LIFT = 54  # makes every subnormal normal


def fmod(x: Lane, y: Lane) -> Lane:
    """x - trunc(x / y) y exactly; opens basic blocks for quotients beyond 2**53."""
    if x.format is FLOAT32:
        return fmod(x.widened(), y.widened()).narrowed()
    dividend, divisor = fabs(x), fabs(y)
    undefined = ~(dividend < math.inf) | y.is_nan() | y.equals(0.0)
    whole = undefined | divisor.equals(math.inf)  # x itself, or nan
    safe_dividend, safe_divisor = where(whole, 0.0, dividend), where(whole, 1.0, divisor)
    quotient = safe_dividend / safe_divisor
    rest = where(quotient < _QUOTIENT_LIMIT, _rest(safe_dividend, safe_divisor, quotient), safe_dividend)
    rest = _long_division(rest, safe_divisor)
    result = copysign(where(whole, dividend, rest), x)
    return where(undefined, math.nan, result)


def _rest(dividend: Lane, divisor: Lane, quotient: Lane) -> Lane:
    """dividend mod divisor, both positive, for their rounded quotient."""
    rest = fma(-floor(quotient), divisor, dividend)
    return where(rest < 0.0, rest + divisor, rest)


def _long_division(rest: Lane, divisor: Lane) -> Lane:
    """rest mod divisor, by a loop that is entered where rest >= divisor in some lane."""
    builder = rest.builder
    before = builder.block
    loop, after = builder.append_basic_block("divide"), builder.append_basic_block("divided")
    builder.cbranch(any_lane(rest >= divisor), loop, after)
    builder.position_at_end(loop)
    current = builder.phi(rest.type)
    current.add_incoming(rest.value, before)
    following = _step(Lane(builder, current), divisor)
    current.add_incoming(following.value, builder.block)
    builder.cbranch(any_lane(following >= divisor), loop, after)
    last = builder.block
    builder.position_at_end(after)
    result = builder.phi(rest.type)
    result.add_incoming(rest.value, before)
    result.add_incoming(following.value, last)
    return Lane(builder, result)


def _step(rest: Lane, divisor: Lane) -> Lane:
    """rest modulo the divisor times the power of two that makes the quotient less than 2**52."""
    gap = _exponent(rest) - _exponent(divisor) - _STEP
    power = where(gap > 0, gap, 0)
    first = power >> 1
    scaled = (divisor * _two_to(first)) * _two_to(power - first)
    # A lane that is done keeps its rest: it may be far below the divisor.
    return where(rest < divisor, rest, _rest(rest, scaled, rest / scaled))


def _exponent(x: Lane) -> Lane:
    """The biased exponent of a positive finite number as if it were normal."""
    form = x.format
    tiny = x < form.smallest_normal
    lifted = where(tiny, x * 2.0**_LIFT, x).as_bits() >> form.fraction_bits
    return lifted - where(tiny, lifted.like(_LIFT), 0)


def _two_to(exponent: Lane) -> Lane:
    form = exponent.format
    return ((exponent + form.bias) << form.fraction_bits).as_float()


