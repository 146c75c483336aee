"""jitgrad: derivatives of numeric Python functions, compiled to native code while they run."""

from __future__ import annotations

from . import cache as cache
from . import numpy as numpy
from . import ops as ops
from .api import grad, is_traced, jit, jvp, stop_gradient, to_numba, value_and_grad, vjp
from .config import config
from .errors import InternalError, JitgradError, Limitation, UsageError, UsageTypeError, UsageValueError
from .inspection import explain, show

__all__ = [
    "InternalError",
    "JitgradError",
    "Limitation",
    "UsageError",
    "UsageTypeError",
    "UsageValueError",
    "cache",
    "config",
    "explain",
    "grad",
    "is_traced",
    "jit",
    "jvp",
    "numpy",
    "show",
    "stop_gradient",
    "to_numba",
    "value_and_grad",
    "vjp",
]

__version__ = "0.1.0"
