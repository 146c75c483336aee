"""x ** n for a number n that is known: NumPy's shortcuts, and products in place of logarithms."""

from __future__ import annotations

import numpy as np

from ..errors import UsageValueError
from ..ir.node import Node, call, full, like

LARGEST = 64


def known_power(base: Node, exponent, as_scalar: bool) -> Node | None:
    """base ** exponent, or None where only the general power will do.

    As NumPy does, x ** 0.5 of an array is sqrt (-0.0 for -0.0, nan for -inf); `as_scalar` asks for C's pow, which is
    what the operator between scalars is (0.0 and inf). x ** 0 is 1 also at 0 and nan. Integral exponents are products, whose
    derivative n * x ** (n - 1) is right for x <= 0 too.
    """
    floating = base.aval.dtype.kind == "f"
    if exponent == 0:
        return full(1, base.aval)
    if exponent == 1:
        return base
    if floating and exponent == 0.5:
        root = call("sqrt", base)
        return _as_pow(base, root) if as_scalar else root
    if not floating and exponent < 0:
        raise UsageValueError(
            "integers to negative integer powers are not allowed", "Use a float base: x.astype(float) ** n."
        )
    if floating and exponent == -1:
        return call("divide", like(base, 1), base)
    if abs(exponent) <= LARGEST and exponent == int(exponent):
        return call("integer_power", base, exponent=int(exponent))
    return None


def _as_pow(x: Node, root: Node) -> Node:
    """sqrt(x) made into pow(x, 0.5)."""
    below = full(-np.inf, x.aval)
    return call("select", call("equal", x, below), full(np.inf, x.aval), root + 0.0)
