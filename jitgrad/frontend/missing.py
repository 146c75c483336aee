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
    """The error that names `function`, with what serves instead where something is near."""
    module, _, name = _full_name(function).rpartition(".")
    advice = _ADVICE.get(name)
    if advice is None:
        names = (_full_name(found).rpartition(".") for table in (NUMPY_FUNCTIONS, UFUNCS) for found in table)
        same_module = sorted({found for its_module, _, found in names if its_module == module})
        close = difflib.get_close_matches(name, same_module, n=1, cutoff=0.7)
        advice = f"{module}.{close[0]}" if close else None
    return Limitation(
        f"{module}.{name} of traced values is not supported: it has no rule in jitgrad/numpy",
        f"The nearest that is there: {advice}." if advice else None,
    )


def _full_name(function: Callable) -> str:
    """`np.sum`, `np.linalg.inv`: where users find the function."""
    module = (getattr(function, "__module__", None) or "numpy").split(".")
    public = [part for part in module[1:] if not part.startswith("_")]
    return ".".join(["np", *public[:1], function.__name__])
