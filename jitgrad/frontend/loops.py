"""What a ufunc does with operands of given dtypes: NumPy's own resolution, and the primitive or composition behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import Limitation, UsageTypeError
from ..ir.aval import aval_of
from ..ir.node import Node, apply, call, constant_value, full
from .convert import WEAK, cast
from .handle import array_of
from .registry import UFUNCS, primitive_of


@dataclass(frozen=True, slots=True)
class Loop:
    """`build(*nodes)`, with nodes of the dtypes `operands`, gives a node of `results[0]`, or a tuple of nodes.

    `weak` is Python's type of an operator's result when all operands are weak; `ufunc` names it in messages.
    """

    ufunc: np.ufunc
    operands: tuple[np.dtype, ...]
    results: tuple[np.dtype, ...]
    build: Callable
    weak: type | None = None


COMPARISONS = frozenset({np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal})
LOGICAL = frozenset({np.logical_and, np.logical_or, np.logical_xor, np.logical_not})
_INT64, _UINT64 = np.dtype(np.int64), np.dtype(np.uint64)

_LOOPS: dict[tuple, Loop] = {}
OPERATOR_LOOPS: dict[tuple, Loop] = {}


def ufunc_loop(ufunc: np.ufunc, kinds: tuple, signature: tuple | None = None, casting: Any = "same_kind") -> Loop:
    """The loop of a call of `ufunc`; `kinds` are dtypes and weak Python types."""
    key = (ufunc, kinds, signature, casting)
    loop = _LOOPS.get(key)
    if loop is None:
        loop = _LOOPS[key] = _resolve(ufunc, kinds, signature, casting)
    return loop


def operator_loop(ufunc: np.ufunc, kinds: tuple) -> Loop:
    """The loop of an operator: as the ufunc's, but between weak values only it computes as Python does."""
    key = (ufunc, kinds)
    loop = OPERATOR_LOOPS.get(key)
    if loop is None:
        weak = all(kind in WEAK for kind in kinds)
        loop = OPERATOR_LOOPS[key] = _python_loop(ufunc, kinds) if weak else ufunc_loop(ufunc, kinds)
    return loop


def _resolve(ufunc: np.ufunc, kinds: tuple, signature: tuple | None, casting: Any) -> Loop:
    asked = tuple(np.dtype(np.bool_) if kind is bool else kind for kind in kinds) + (None,) * ufunc.nout
    try:
        fixed: dict[str, Any] = {} if signature is None else {"signature": signature}
        dtypes = ufunc.resolve_dtypes(asked, casting=casting, **fixed)
    except TypeError as error:
        # NumPy's own words, which name the ufunc; advice such as "use ~ for bool" is in them.
        raise UsageTypeError(f"np.{ufunc.__name__} of {_names(kinds)}: {_first_sentence(error)}") from None
    if any(dtype.kind not in "biuf" for dtype in dtypes):
        raise Limitation(f"np.{ufunc.__name__} of {_names(kinds)} computes in {dtypes[0]}, which cannot be traced")
    operands, results = dtypes[: ufunc.nin], dtypes[ufunc.nin :]
    return Loop(ufunc, operands, results, _builder(ufunc, operands, results))


def _names(kinds: tuple) -> str:
    return ", ".join(kind.__name__ if isinstance(kind, type) else str(kind) for kind in kinds)


def _first_sentence(error: Exception) -> str:
    return str(error).split(", and the inputs could not")[0]


# --- operators between weak values: Python's own types


def _python_loop(ufunc: np.ufunc, kinds: tuple) -> Loop:
    """Python's arithmetic of bool, int and float, in bool, int64 and float64."""
    common = float if float in kinds else int if int in kinds else bool
    keeps_bool = ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)
    if common is bool and not keeps_bool and ufunc not in COMPARISONS:
        common = int
    loop = ufunc_loop(ufunc, (WEAK[common],) * ufunc.nin)
    weak = {"b": bool, "i": int, "f": float}[loop.results[0].kind]
    return Loop(ufunc, loop.operands, loop.results, loop.build, weak)


# --- what computes a loop


def _builder(ufunc: np.ufunc, operands: tuple[np.dtype, ...], results: tuple[np.dtype, ...]) -> Callable:
    special = _special(ufunc, operands)
    if special is not None:
        return special
    primitive = primitive_of(ufunc)
    if primitive is not None:
        return partial(apply, primitive)
    implementation = UFUNCS.get(ufunc)
    if implementation is None:
        module = "np." if getattr(np, ufunc.__name__, None) is ufunc else "the ufunc "
        raise Limitation(
            f"{module}{ufunc.__name__} of traced values is not supported",
            "A rule for it would go into jitgrad/numpy/ufuncs.py (composed) or jitgrad/ops (a primitive).",
        )
    return lambda *nodes, **options: _nodes(implementation(*map(array_of, nodes), **options), results)


def _nodes(result, results: tuple[np.dtype, ...]):
    if isinstance(result, tuple):
        return tuple(cast(part.node, dtype) for part, dtype in zip(result, results, strict=True))
    return cast(result.node, results[0])


def _special(ufunc: np.ufunc, operands: tuple[np.dtype, ...]) -> Callable | None:
    """Loops that are another primitive, or nothing at all (rounding integers)."""
    first = operands[0]
    if ufunc in LOGICAL:
        return lambda *nodes: call(ufunc.__name__, *map(truth, nodes))
    if ufunc in COMPARISONS and first != operands[1]:
        return _mixed_comparison(ufunc)
    if first.kind == "f" or ufunc.signature is not None:
        return None
    if ufunc is np.power and first.kind == "i":
        return _checked_power
    if ufunc in (np.isnan, np.isinf, np.isfinite):
        return lambda x: full(ufunc is np.isfinite, aval_of(x.aval.shape, np.bool_))
    if ufunc in (np.floor, np.ceil, np.trunc) or (first.kind in "bu" and ufunc is np.absolute):
        return lambda x: x
    return None


def _and(x: Node, y: Node) -> Node:
    return call("logical_and", x, y)


def _or(x: Node, y: Node) -> Node:
    return call("logical_or", x, y)


def _not(x: Node) -> Node:
    return call("logical_not", x)


def truth(node: Node) -> Node:
    """Whether each element is not zero (nan is not)."""
    return node if node.aval.dtype.kind == "b" else call("not_equal", node, full(0, node.aval))


def _checked_power(x: Node, y: Node) -> Node:
    """x ** y of integers: as NumPy an error where y is negative. A gather is what can report it from native code."""
    power = call("power", x, y)
    known = constant_value(y)
    if (known is not None and known >= 0) or (y.primitive.name == "cast" and y.operands[0].aval.dtype.kind in "bu"):
        return power
    outside = cast(call("less", y, full(0, y.aval)), _INT64)
    return call("add", power, call("gather", full(0, aval_of((1,), power.aval.dtype)), outside))


def _mixed_comparison(ufunc: np.ufunc) -> Callable:
    """int64 against uint64, which NumPy compares exactly: a negative number is less than any unsigned one."""
    name = ufunc.__name__

    def build(x: Node, y: Node) -> Node:
        compared = call(name, cast(x, _UINT64), cast(y, _UINT64))
        signed, signed_is_left = (x, True) if x.aval.dtype == _INT64 else (y, False)
        negative = call("less", signed, full(0, signed.aval))
        if ufunc is np.equal:
            return _and(compared, _not(negative))
        if ufunc is np.not_equal:
            return _or(compared, negative)
        is_true = ("less" in name) == signed_is_left
        return _or(compared, negative) if is_true else _and(compared, _not(negative))

    return build
