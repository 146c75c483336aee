"""Python's own functions of numbers, where numbers are traced: builtins, and those of the math module."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import Limitation, UsageTypeError
from ...ir.node import call
from ..array import Array
from ..convert import as_array, cast
from ..handle import Handle
from ..loops import truth
from .iterables import backwards, enumerated, traced_range, zipped

_FLOAT, _INT = np.dtype(np.float64), np.dtype(np.int64)


def _single(value: Handle, what: str):
    node = value.checked().node
    if node.aval.size != 1:
        raise UsageTypeError(f"{what}() of an array of shape {node.aval.shape}", "Only a single number can become one.")
    return node if not node.aval.shape else call("reshape", node, shape=())


def as_float(*args):
    """`float(x)`: a traced float is one already."""
    if len(args) == 1 and isinstance(args[0], Array):
        return Array(cast(_single(args[0], "float"), _FLOAT), float)
    return float(*args)


def as_int(*args, **kwargs):
    """`int(x)`: towards zero."""
    if len(args) == 1 and isinstance(args[0], Array):
        return Array(cast(_single(args[0], "int"), _INT), int)
    return int(*args, **kwargs)


def as_bool(*args):
    if len(args) == 1 and isinstance(args[0], Array):
        return Array(truth(_single(args[0], "bool")), bool)
    return bool(*args)


def rounded(value, ndigits=None):
    if not isinstance(value, Array) and not isinstance(ndigits, Array):
        return round(value) if ndigits is None else round(value, ndigits)
    if ndigits is None:
        return Array(cast(call("rint", cast(_single(value, "round"), _FLOAT)), _INT), int)
    return np.round(value, ndigits)


def _better(first, second, is_less: bool):
    """The one of two that `min` (or `max`) gives: the first unless the second is less (greater)."""
    if not isinstance(first, Array) and not isinstance(second, Array):
        return min(first, second) if is_less else max(first, second)
    for value in (first, second):
        if isinstance(value, Array) and value.size != 1:
            bool(value)  # refuses: the truth of an array is ambiguous
    return np.where(second < first if is_less else second > first, second, first)


def _chosen(is_less: bool) -> Callable:
    python = min if is_less else max

    def choose(*args, **kwargs):
        items = list(args[0]) if len(args) == 1 and _has_traced(args[0]) else args
        if kwargs or not any(isinstance(item, Array) for item in items):
            return python(*args, **kwargs)
        if not items:
            return python(items)
        best = items[0]
        for item in items[1:]:
            best = _better(best, item, is_less)
        return best

    return choose


def _has_traced(items) -> bool:
    return isinstance(items, Array) or (isinstance(items, (list, tuple)) and any(isinstance(item, Array) for item in items))


def _folded(python: Callable, is_all: bool) -> Callable:
    def fold(items):
        found = list(items) if not isinstance(items, Array) else items
        if isinstance(items, Array):
            return (np.all if is_all else np.any)(items)
        if not any(isinstance(item, Array) for item in found):
            return python(found)
        total = None
        for item in found:
            node = truth(_single(as_array(item), python.__name__))
            total = node if total is None else call("logical_and" if is_all else "logical_or", total, node)
        assert total is not None
        return Array(total, bool)

    return fold


BUILTINS: dict[Any, Callable] = {
    builtins.float: as_float,
    builtins.int: as_int,
    builtins.bool: as_bool,
    builtins.round: rounded,
    builtins.min: _chosen(True),
    builtins.max: _chosen(False),
    builtins.any: _folded(any, False),
    builtins.all: _folded(all, True),
    builtins.range: traced_range,
    builtins.enumerate: enumerated,
    builtins.zip: zipped,
    builtins.reversed: backwards,
}
"""What stands for a builtin in rewritten code: the same on values that are not traced."""


def _log(x, base=None):
    return np.log(x) if base is None else np.log(x) / np.log(base)


def _whole(ufunc) -> Callable:
    return lambda x: Array(cast(ufunc(x).node, _INT), int)


_MATH: dict[str, Callable] = {
    **{name: getattr(np, name) for name in (
        "sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "exp2", "expm1", "log1p", "log2", "log10", "sqrt", "cbrt", "hypot",
        "isnan", "isinf", "isfinite", "copysign", "fmod", "degrees", "radians", "gcd", "lcm", "nextafter", "isclose",
    )},
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "atan2": np.arctan2, "pow": np.float_power, "fabs": np.fabs, "log": _log,
    "floor": _whole(np.floor), "ceil": _whole(np.ceil), "trunc": _whole(np.trunc),
}  # fmt: skip


def math_function(name: str) -> Callable:
    """The function of traced values that is `math.<name>`."""
    found = _MATH.get(name)
    if found is None:
        raise Limitation(f"math.{name}() of a traced value is not supported", "Use NumPy's functions, or write it by them.")

    def compute(*args):
        arrays = [Array(as_array(a).node, None) if isinstance(a, Array) else a for a in args]
        result = found(*arrays)
        if isinstance(result, Array) and result.weak is None and not result.shape:
            kinds = {"f": float, "i": int, "b": bool}
            return Array(result.node, kinds.get(result.dtype.kind)) if result.dtype in (_FLOAT, _INT, np.bool_) else result
        return result

    return compute

