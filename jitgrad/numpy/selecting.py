"""NumPy's choices between values, and picking at indices."""

from __future__ import annotations

import functools
from math import prod

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..frontend.aliasing import check_unshared, rebind
from ..frontend.array import Array
from ..ir.node import Node, call
from ._build import (
    BOOL,
    INT,
    axis_of,
    both,
    cast,
    common,
    either,
    equal,
    filled,
    flat,
    flat_unless,
    implementation,
    iota,
    is_traced,
    move,
    node_of,
    nonzero,
    number_as,
    opposite,
    refuse_out,
    reshape,
    select,
    shape_of,
    spread,
    spread_all,
    static_array,
    wrap,
)
from .ordering import pick_along
from .shaping import pick

# --- choices


@implementation(np.where)
def where(condition, x=None, y=None, /):
    if x is None and y is None:
        raise Limitation(
            "np.where(condition) of a traced value is not supported: the result's shape depends on values",
            "Use np.where(condition, x, y), or multiply by a mask, to keep the shape.",
        )
    if x is None or y is None:
        raise UsageValueError("either both or neither of x and y should be given")
    return select(nonzero(node_of(condition)), *spread_all(*common(x, y)))


@implementation(np.select)
def select_(condlist, choicelist, default=0):
    if len(condlist) != len(choicelist):
        raise UsageValueError(f"np.select: {len(condlist)} conditions and {len(choicelist)} choices")
    if not len(condlist):
        raise UsageValueError("select with an empty condition list is not possible")
    conditions = [node_of(condition) for condition in condlist]
    if any(condition.dtype != BOOL for condition in conditions):
        raise UsageTypeError("np.select: conditions must be boolean")
    *choices, result = spread_all(*common(*choicelist, default))
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = select(condition, choice, result)
    return result


@implementation(np.choose)
def choose(a, choices, out=None, mode="raise"):
    refuse_out(out)
    index = cast(node_of(a), INT)
    parts = spread_all(*common(*choices))
    if not parts:
        raise UsageValueError("np.choose needs at least one choice")
    index = _wrapped(index, len(parts), mode)
    index, first = spread_all(index, parts[0])
    if mode == "raise":  # one gather, which checks the index
        table = call(
            "concatenate", *[reshape(spread(p, first.shape), (1, first.aval.size)) for p in parts], axis=0
        )
        taken = call("gather", table, flat(index), iota((first.aval.size,), 0))
        return reshape(taken, first.shape)
    result = spread(parts[-1], first.shape)
    for k in reversed(range(len(parts) - 1)):
        result = select(equal(index, k), spread(parts[k], first.shape), result)
    return result


def _wrapped(index: Node, extent: int, mode: str) -> Node:
    """`index` as `mode` says: as it is (the gather checks it), clipped, or taken modulo the extent."""
    if mode == "raise":
        return index
    if mode == "clip":
        return _between(index, 0, extent - 1)
    if mode == "wrap":
        return call("remainder", index, filled(index.shape, extent, INT))
    raise UsageValueError(f"mode must be 'raise', 'wrap' or 'clip', not {mode!r}")


def _between(x: Node, low, high) -> Node:
    low, high = (
        bound if isinstance(bound, Node) else filled(x.shape, bound, x.dtype) for bound in (low, high)
    )
    return call("minimum", call("maximum", x, low), high)


@implementation(np.piecewise, calls_back=True)
def piecewise(x, condlist, funclist, *args, **kw):
    x = node_of(x)
    several = isinstance(condlist, (list, tuple)) and not all(
        isinstance(one, (bool, np.bool_)) for one in condlist
    )
    conditions = condlist if several or x.ndim == 0 else [condlist]
    conditions = [spread(nonzero(node_of(condition)), x.shape) for condition in conditions]
    if len(funclist) == len(conditions) + 1:
        nothing = opposite(functools.reduce(either, conditions))
        conditions.append(nothing)
    if len(funclist) != len(conditions):
        raise UsageValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or "
            f"{len(conditions) + 1} functions are expected"
        )
    result = filled(x.shape, 0, x.dtype)
    for condition, function in zip(conditions, funclist, strict=True):
        value = wrap(x)
        value = function(value, *args, **kw) if callable(function) else function
        result = select(condition, spread(number_as(value, x.dtype), x.shape), result)
    return result


@implementation(np.clip)
def clip(a, a_min=None, a_max=None, out=None, *, min=None, max=None, **kwargs):
    """At a bound x and the bound share the gradient equally, as a maximum's ties do."""
    refuse_out(out)
    if kwargs:
        raise Limitation(f"np.clip with {', '.join(kwargs)}= is not supported for traced values")
    low, high = (None if bound is np._NoValue else bound for bound in (a_min, a_max))
    low, high = min if low is None else low, max if high is None else high
    bounds = [bound for bound in (low, high) if bound is not None]
    x, *rest = spread_all(*common(a, *bounds))
    for name, bound in zip(
        [n for n, b in (("maximum", low), ("minimum", high)) if b is not None], rest, strict=True
    ):
        x = call(name, x, bound)
    return x


@implementation(np.nan_to_num)
def nan_to_num(x, copy=True, nan=0.0, posinf=None, neginf=None):
    """With copy=False the array itself takes the new values, as in NumPy."""
    result = _finite(node_of(x), nan, posinf, neginf)
    if copy or not isinstance(x, Array) or not x.ndim:
        return result
    check_unshared(x)
    rebind(x, result)
    return x


def _finite(x: Node, nan, posinf, neginf) -> Node:
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    high, low = (limits.max if posinf is None else posinf), (limits.min if neginf is None else neginf)
    result = x
    infinite = call("isinf", x)
    for condition, value in (
        (both(infinite, x > 0), high),
        (both(infinite, x < 0), low),
        (call("isnan", x), nan),
    ):
        result = select(condition, spread(number_as(value, x.dtype), x.shape), result)
    return result


# --- picking at indices


def index_node(indices) -> Node:
    """Indices as int64."""
    node = node_of(indices)
    if node.dtype.kind not in "iu":
        if not node.aval.size and not is_traced(indices):  # an empty list is float64 by default
            return cast(node, INT)
        raise UsageTypeError(f"indices must be integers, not {node.dtype}")
    return cast(node, INT)


@implementation(np.take)
def take(a, indices, axis=None, out=None, mode="raise"):
    refuse_out(out)
    x, axis = flat_unless(node_of(a), axis, lenient=True)
    index = index_node(indices)
    shape = x.shape[:axis] + index.shape + x.shape[axis + 1 :]
    if not prod(shape):
        return filled(shape, 0, x.dtype)
    if not x.shape[axis]:
        raise UsageValueError("cannot do a non-empty take from an empty axes.")
    index = _wrapped(index, x.shape[axis], mode)
    taken = call("gather", move(x, (axis,), (0,)), index)
    return move(taken, tuple(range(index.ndim)), tuple(range(axis, axis + index.ndim)))


@implementation(np.take_along_axis)
def take_along_axis(arr, indices, axis=-1):
    x, index = node_of(arr), index_node(indices)
    if axis is None:
        if index.ndim != 1:
            raise UsageValueError("when axis=None, `indices` must have a single dimension.")
        x, axis = flat(x), 0
    axis = axis_of(axis, x.ndim)
    if index.ndim != x.ndim:
        raise UsageValueError(
            f"`indices` of shape {index.shape} and `arr` of shape {x.shape} must have as many axes"
        )
    rest = tuple(1 if k == axis else extent for k, extent in enumerate(x.shape))
    shape = np.broadcast_shapes(rest, tuple(1 if k == axis else e for k, e in enumerate(index.shape)))
    index = spread(index, shape[:axis] + (index.shape[axis],) + shape[axis + 1 :])
    return pick_along(spread(x, shape[:axis] + (x.shape[axis],) + shape[axis + 1 :]), index, axis)


def _checked(index: Node, extent: int) -> Node:
    """`index` itself; the program raises an IndexError where it is not in range(extent)."""
    above = select(index < 0, filled(index.shape, extent, INT), index)
    return call("gather", iota((extent,), 0), above)


@implementation(np.unravel_index)
def unravel_index(indices, shape, order="C"):
    rest, shape = index_node(indices), shape_of(shape)
    rest = _checked(rest, prod(shape))
    results = []
    for extent in shape[::-1] if order == "C" else shape:
        along = filled(rest.shape, extent, INT)
        results.append(call("remainder", rest, along))
        rest = call("floor_divide", rest, along)
    return tuple(results[::-1] if order == "C" else results)


@implementation(np.ravel_multi_index)
def ravel_multi_index(multi_index, dims, mode="raise", order="C"):
    indices, shape = spread_all(*[index_node(index) for index in multi_index]), shape_of(dims)
    modes = mode if isinstance(mode, tuple) else (mode,) * len(shape)
    if not len(indices) == len(shape) == len(modes):
        raise UsageValueError(f"parameter multi_index must be a sequence of length {len(shape)}")
    result = None
    terms = list(zip(indices, shape, modes, strict=True))
    for index, extent, how in terms if order == "C" else terms[::-1]:
        index = _checked(index, extent) if how == "raise" else _wrapped(index, extent, how)
        result = index if result is None else result * extent + index
    return result


@implementation(np.compress)
def compress(condition, a, axis=None, out=None):
    refuse_out(out)
    mask = static_array(condition, "the condition of np.compress", bool)
    if mask.ndim != 1:
        raise UsageValueError("condition must be a 1-d array")
    x, axis = flat_unless(node_of(a), axis)
    return pick(x, axis, _true_places(mask, x.shape[axis]))


@implementation(np.extract)
def extract(condition, arr):
    x = flat(node_of(arr))
    return pick(
        x, 0, _true_places(static_array(condition, "the condition of np.extract", bool).ravel(), x.shape[0])
    )


def _true_places(mask: np.ndarray, extent: int) -> np.ndarray:
    places = np.flatnonzero(mask)
    if places.size and places[-1] >= extent:
        raise UsageValueError(f"the condition is true at {places[-1]}, outside of an axis of size {extent}")
    return places
