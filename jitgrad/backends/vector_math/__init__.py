"""Elementary functions as branch-free LLVM IR, on scalars (the loop vectoriser widens them) or vectors.

``FUNCTIONS[name](builder, x)`` emits straight-line code where the builder stands and returns the value; only
sin, cos and tan (arguments beyond 2**45) and fmod (quotients beyond 2**53) open basic blocks for rare cases.
``python bench/ulp.py`` prints the errors.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from jitgrad.backends.vector_math import (
    error_function,
    exponential,
    gamma,
    inverse_trigonometric,
    logarithm,
    power,
    remainder,
    trigonometric,
)
from jitgrad.backends.vector_math.lanes import binary, unary

FUNCTIONS: dict[str, Callable[..., ir.Value]] = {
    "exp": unary(exponential.exp),
    "exp2": unary(exponential.exp2),
    "expm1": unary(exponential.expm1),
    "sigmoid": unary(exponential.sigmoid),
    "sinh": unary(exponential.sinh),
    "cosh": unary(exponential.cosh),
    "tanh": unary(exponential.tanh),
    "log": unary(logarithm.log),
    "log2": unary(logarithm.log2),
    "log10": unary(logarithm.log10),
    "log1p": unary(logarithm.log1p),
    "softplus": unary(logarithm.softplus),
    "arcsinh": unary(logarithm.arcsinh),
    "arccosh": unary(logarithm.arccosh),
    "arctanh": unary(logarithm.arctanh),
    "sin": unary(trigonometric.sin),
    "cos": unary(trigonometric.cos),
    "tan": unary(trigonometric.tan),
    "arcsin": unary(inverse_trigonometric.arcsin),
    "arccos": unary(inverse_trigonometric.arccos),
    "arctan": unary(inverse_trigonometric.arctan),
    "arctan2": binary(inverse_trigonometric.arctan2),
    "rsqrt": unary(power.rsqrt),
    "cbrt": unary(power.cbrt),
    "hypot": binary(power.hypot),
    "fmod": binary(remainder.fmod),
    "power": binary(power.power),
    "erf": unary(error_function.erf),
    "erfc": unary(error_function.erfc),
    "erfinv": unary(error_function.erfinv),
    "lgamma": unary(gamma.lgamma),
    "digamma": unary(gamma.digamma),
}
