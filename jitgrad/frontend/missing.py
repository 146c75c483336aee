"""What is said when a NumPy function that has no rule meets a traced value."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from ..errors import Limitation
from .registry import NUMPY_FUNCTIONS, UFUNCS

_ADVICE = {
    "nonzero": "np.where(condition, x, y) keeps the shape",
    "flatnonzero": "np.where(condition, x, y) keeps the shape",
    "argwhere": "np.where(condition, x, y) keeps the shape",
    "nanargmax": "np.argmax(np.where(np.isnan(x), -np.inf, x))",
    "nanargmin": "np.argmin(np.where(np.isnan(x), np.inf, x))",
    "polymul": "np.convolve(p, q), which keeps leading zeros",
    "fill_diagonal": "np.where(np.eye(n, dtype=bool), value, x)",
    "put": "np.where(mask, value, x), or x[i] = value",
    "copyto": "np.where(mask, value, x), or x[...] = value",
}


def unsupported(function: Callable) -> Limitation:
    """The error that names `function` and what is nearest to it among the functions that are there."""
    name = function.__name__
    advice = _ADVICE.get(name)
    if advice is None:
        known = sorted({found.__name__ for table in (NUMPY_FUNCTIONS, UFUNCS) for found in table})
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"np.{close[0]}" if close else "other NumPy functions"
    module = "np.linalg" if "linalg" in (function.__module__ or "") else "np"
    return Limitation(
        f"{module}.{name} of traced values is not supported: it has no rule in jitgrad/numpy",
        f"The nearest that is there: {advice}.",
    )
