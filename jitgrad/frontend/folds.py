"""`ufunc.reduce` and `ufunc.accumulate` on traced arrays: NumPy's named reductions, else a fold of the ufunc itself."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..ir.node import Node, call
from .convert import as_array, cast, spread
from .handle import Handle, array_of
from .loops import COMPARISONS, LOGICAL, truth
from .operators import call_elementwise
from .registry import NUMPY_FUNCTIONS

_REDUCTIONS: dict[np.ufunc, Callable] = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min,
    np.logical_and: np.all, np.logical_or: np.any,
}  # fmt: skip
_ACCUMULATIONS: dict[np.ufunc, Callable] = {np.add: np.cumsum, np.multiply: np.cumprod}
# Folded by halves in log2(n) steps; the others one element after the other.
_ASSOCIATIVE = {
    np.maximum, np.minimum, np.fmax, np.fmin, np.logaddexp, np.logaddexp2, np.hypot, np.gcd, np.lcm,
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.logical_and, np.logical_or, np.logical_xor,
}  # fmt: skip
_LONGEST = 1000


def reduce(ufunc: np.ufunc, x, axis=0, dtype=None, keepdims=False, initial=np._NoValue, where=True) -> Handle:
    """`ufunc.reduce(x, ...)`: x folded over `axis` (an int, a tuple, or None for all)."""
    x = as_array(x)
    named = NUMPY_FUNCTIONS.get(_REDUCTIONS.get(ufunc, ufunc))
    if named is not None:
        takes_dtype = ufunc in _ACCUMULATIONS
        options = {"dtype": dtype} if dtype is not None and takes_dtype else {}
        if not takes_dtype:
            x = array_of(_in_dtype_of_fold(ufunc, x.node, dtype))
        options.update({"initial": initial} if initial is not np._NoValue else {})
        options.update({"where": where} if where is not True else {})
        return named(x, axis=axis, keepdims=keepdims, **options)
    if where is not True:
        raise Limitation(f"np.{ufunc.__name__}.reduce with where= is not supported on traced values",
                         "Put the neutral element in with np.where first.")
    axes = _axes(axis, x.ndim)
    if len(axes) > 1 and ufunc not in _ASSOCIATIVE:
        raise UsageValueError(f"np.{ufunc.__name__}.reduce depends on the order: it takes one axis, not {len(axes)}")
    rows = _in_dtype_of_fold(ufunc, _rows_first(x.node, axes), dtype)
    result = _folded(ufunc, rows, initial)
    if keepdims:
        shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(x.shape))
        return array_of(call("reshape", result.node, shape=shape))
    return result


def _in_dtype_of_fold(ufunc: np.ufunc, rows: Node, dtype) -> Node:
    """The rows in the dtype in which partial results are kept."""
    if ufunc in COMPARISONS:
        raise Limitation(f"np.{ufunc.__name__} folded over a traced array is not supported", "Compare x[1:] and x[:-1].")
    if ufunc in LOGICAL and dtype in (None, bool, np.bool_):
        return truth(rows)
    fixed: dict[str, Any] = {} if dtype is None else {"signature": (np.dtype(dtype), None, None), "casting": "unsafe"}
    try:
        return cast(rows, ufunc.resolve_dtypes((None, rows.aval.dtype, None), reduction=True, **fixed)[0])
    except TypeError as error:
        raise UsageTypeError(f"np.{ufunc.__name__} folded over {rows.aval.dtype}: {error}") from None


def _axes(axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not all(-ndim <= one < ndim for one in axes):
        raise UsageValueError(f"axis {axis} is out of bounds for an array of dimension {ndim}")
    found = tuple(sorted(one % ndim for one in axes))
    if len(set(found)) != len(found):
        raise UsageValueError(f"axis {axis} names an axis twice")
    return found


def _rows_first(node: Node, axes: tuple[int, ...]) -> Node:
    """`node` with `axes` merged into one axis in front."""
    shape = node.aval.shape
    others = tuple(axis for axis in range(len(shape)) if axis not in axes)
    order = axes + others
    if order != tuple(range(len(shape))):
        node = call("transpose", node, axes=order)
    return call("reshape", node, shape=(prod(shape[a] for a in axes), *[shape[a] for a in others]))


def _folded(ufunc: np.ufunc, rows: Node, initial) -> Handle:
    count, dtype = rows.aval.shape[0], rows.aval.dtype
    parts: list[Handle] = []
    if initial is not np._NoValue and initial is not None:
        parts.append(array_of(spread(cast(as_array(initial).node, dtype), rows.aval.shape[1:])))
    if count and ufunc in _ASSOCIATIVE:
        parts.append(_by_halves(ufunc, rows, count))
    else:
        _check_length(ufunc, count)
        parts += [_row(rows, k) for k in range(count)]
    if not parts:
        if ufunc.identity is None:
            raise UsageValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
        return array_of(spread(cast(as_array(ufunc.identity).node, dtype), rows.aval.shape[1:]))
    result = parts[0]
    for part in parts[1:]:
        (result,) = call_elementwise(ufunc, (result, part))
    return result


def _by_halves(ufunc: np.ufunc, rows: Node, count: int) -> Handle:
    """The first half with the second, until one is left; an odd last row joins at the end."""
    odd: list[Handle] = []
    while count > 1:
        if count % 2:
            odd.append(_row(rows, count - 1))
        count //= 2
        first, second = _rows(rows, 0, count), _rows(rows, count, count)
        rows = call_elementwise(ufunc, (array_of(first), array_of(second)))[0].node
    result = _row(rows, 0)
    for row in reversed(odd):
        (result,) = call_elementwise(ufunc, (result, row))
    return result


def accumulate(ufunc: np.ufunc, x, axis=0, dtype=None) -> Handle:
    """`ufunc.accumulate(x, axis)`: all partial folds along `axis`."""
    x = as_array(x)
    named = NUMPY_FUNCTIONS.get(_ACCUMULATIONS.get(ufunc, ufunc))
    if named is not None:
        return named(x, axis=axis, **({"dtype": dtype} if dtype is not None else {}))
    (axis,) = _axes(axis, x.ndim)
    order = (axis, *[a for a in range(x.ndim) if a != axis])
    rows = _in_dtype_of_fold(ufunc, call("transpose", x.node, axes=order), dtype)
    count = rows.aval.shape[0]
    if ufunc in _ASSOCIATIVE:
        result = _doubling(ufunc, rows, count)
    else:
        _check_length(ufunc, count)
        result = _one_by_one(ufunc, rows, count)
    back = tuple(order.index(a) for a in range(x.ndim))
    return array_of(call("transpose", result, axes=back))


def _doubling(ufunc: np.ufunc, rows: Node, count: int) -> Node:
    """After the step of distance d, row i holds the fold of rows i - 2d + 1 to i (Hillis and Steele 1986)."""
    distance = 1
    while distance < count:
        before, here = _rows(rows, 0, count - distance), _rows(rows, distance, count - distance)
        joined = call_elementwise(ufunc, (array_of(before), array_of(here)))[0].node
        rows = call("concatenate", _rows(rows, 0, distance), joined, axis=0)
        distance *= 2
    return rows


def _one_by_one(ufunc: np.ufunc, rows: Node, count: int) -> Node:
    if count == 0:
        return rows
    parts = [_row(rows, 0)]
    for k in range(1, count):
        parts.append(call_elementwise(ufunc, (parts[-1], _row(rows, k)))[0])
    dtype = parts[-1].node.aval.dtype
    nodes = [call("reshape", cast(part.node, dtype), shape=(1, *rows.aval.shape[1:])) for part in parts]
    return call("concatenate", *nodes, axis=0)


def _rows(node: Node, start: int, count: int) -> Node:
    shape = node.aval.shape
    rest = len(shape) - 1
    return call("slice", node, starts=(start,) + (0,) * rest, counts=(count, *shape[1:]), steps=(1,) * len(shape))


def _row(node: Node, k: int) -> Handle:
    return array_of(call("reshape", _rows(node, k, 1), shape=node.aval.shape[1:]))


def _check_length(ufunc: np.ufunc, count: int) -> None:
    if count > _LONGEST:
        raise Limitation(
            f"np.{ufunc.__name__} folded over {count} elements would be traced one by one (at most {_LONGEST})",
            "Write the fold with array operations, or with jitgrad.scan.",
        )
