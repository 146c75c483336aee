"""jitgrad: derivatives of numeric Python functions, compiled to native code while they run."""

from __future__ import annotations

from . import cache as cache
from . import numpy as numpy
from . import ops as ops
from .api import grad, is_traced, jit, jvp, stop_gradient, to_numba, value_and_grad, vjp
from .api.control import associative_scan, cond, fori_loop, map, scan, switch, while_loop
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
    "associative_scan",
    "cache",
    "cond",
    "config",
    "explain",
    "fori_loop",
    "grad",
    "is_traced",
    "jit",
    "jvp",
    "map",
    "numpy",
    "scan",
    "show",
    "stop_gradient",
    "switch",
    "to_numba",
    "value_and_grad",
    "vjp",
    "while_loop",
]

__version__ = "0.1.0"
