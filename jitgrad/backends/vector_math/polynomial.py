"""Polynomials and error-free transformations over lanes.

A *pair* ``(high, low)`` is the unevaluated sum of two floats with |low| <= ulp(high) / 2: twice the working
precision. Theorems and proofs: J.-M. Muller et al., "Handbook of Floating-Point Arithmetic", 2nd edition,
chapters 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from jitgrad.backends.vector_math.lanes import Lane, Number, fma

Pair = tuple[Lane, Lane]


def horner(x: Lane, coefficients: Sequence[float]) -> Lane:
    """c0 + c1 x + c2 x**2 + ..., one fma a term."""
    result = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = fma(result, x, coefficient)
    return result


def polynomial(x: Lane, coefficients: Sequence[float]) -> Lane:
    """c0 + c1 x + c2 x**2 + ..., even and odd terms apart: half of Horner's latency, one more operation."""
    if len(coefficients) < 5:
        return horner(x, coefficients)
    square = x * x
    return fma(horner(square, coefficients[1::2]), x, horner(square, coefficients[0::2]))


def fast_two_sum(a: Number, b: Lane) -> Pair:
    """a + b exactly, for |a| >= |b| or a = 0 (Dekker)."""
    a = b.like(a)
    total = a + b
    return total, b - (total - a)


def two_sum(a: Lane, b: Lane) -> Pair:
    """a + b exactly, in any order (Knuth, Moller)."""
    total = a + b
    b_rounded = total - a
    return total, (a - (total - b_rounded)) + (b - b_rounded)


def two_product(a: Lane, b: Number) -> Pair:
    """a * b exactly."""
    product = a * b
    return product, fma(a, b, -product)


def divide_pairs(numerator: Pair, denominator: Pair) -> Pair:
    """numerator / denominator as a pair with one division; the low part has a few correct digits.

    With i = 1/d the quotient is q = n i; the remainder n - q d, exact but for the low parts, times i
    corrects it.
    """
    inverse = 1.0 / denominator[0]
    quotient = numerator[0] * inverse
    remainder = fma(-quotient, denominator[0], numerator[0]) + fma(-quotient, denominator[1], numerator[1])
    return quotient, remainder * inverse
