"""NumPy's choices between values, picking at indices, sorting and searching."""

from __future__ import annotations

import functools
import operator

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..ir.node import Node, call
from ._build import (
    BOOL,
    INT,
    at,
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
    insert_axis,
    iota,
    is_traced,
    move,
    node_of,
    nonzero,
    number_as,
    opposite,
    reduce,
    refuse_out,
    reshape,
    select,
    spread,
    spread_all,
    static_array,
    wrap,
)
from .shaping import flip, pick
from .statistics import pick_along, sort_along

_SHAPE_FROM_VALUES = "the size of its result depends on values that are known only when the function runs"


# --- choices


@implementation(np.where)
def where(condition, x=None, y=None, /):
    if x is None and y is None:
        raise Limitation(f"np.where(condition) of a traced value is not supported: {_SHAPE_FROM_VALUES}",
                         "Use np.where(condition, x, y), or keep the shape by multiplying with a mask.")  # fmt: skip
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


@implementation(np.piecewise)
def piecewise(x, condlist, funclist, *args, **kw):
    x = node_of(x)
    conditions = condlist if isinstance(condlist, (list, tuple)) else [condlist]
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
    x = node_of(x)
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
    x, axis = flat_unless(node_of(a), axis)
    index = index_node(indices)
    if not x.shape[axis] and index.aval.size:
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


# --- sorting


@implementation(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    x, axis = flat_unless(_sortable(a, order), axis)
    return cast(sort_along(x, axis), BOOL) if node_of(a).dtype == BOOL else sort_along(x, axis)


@implementation(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    """Always stable: equal elements keep their order, which NumPy promises for kind="stable" only."""
    x, axis = flat_unless(_sortable(a, order), axis)
    return call("argsort", x, axis=axis)


def _sortable(a, order) -> Node:
    if order is not None:
        raise UsageValueError("Cannot specify order when the array has no fields.")
    x = node_of(a)
    return cast(x, np.int8) if x.dtype == BOOL else x


@implementation(np.partition)
def partition(a, kth, axis=-1, kind="introselect", order=None):
    """Sorted: every sorted array is partitioned."""
    return sort(a, axis, order=order)


@implementation(np.argpartition)
def argpartition(a, kth, axis=-1, kind="introselect", order=None):
    return argsort(a, axis, order=order)


@implementation(np.lexsort)
def lexsort(keys, axis=-1):
    keys = [_sortable(key, None) for key in keys]
    if not keys:
        raise UsageTypeError("need sequence of keys with len > 0 in lexsort")
    axis = axis_of(axis, keys[0].ndim)
    order = call("argsort", keys[0], axis=axis)
    for key in keys[1:]:
        order = pick_along(order, call("argsort", pick_along(key, order, axis), axis=axis), axis)
    return order


# --- searching


def _precedes(x: Node, y: Node) -> Node:
    """x comes before y in NumPy's order, where nan is last."""
    if x.dtype.kind != "f":
        return x < y
    return either(x < y, both(call("isnan", y), opposite(call("isnan", x))))


def search(ordered: Node, values: Node, side: str) -> Node:
    """How many elements of the sorted 1-d `ordered` come before each value (side "left") or not after it ("right").

    Bisection, one gather for each halving: with len = high - low, `low` moves up where the element in the middle
    counts. The number of steps depends on the shape alone, so it is one graph.
    """
    n = ordered.shape[0]
    low = filled(values.shape, 0, INT)
    high = filled(values.shape, n, INT)
    for _ in range(n.bit_length()):
        middle = call("right_shift", low + high, filled(values.shape, 1, INT))
        found = call("gather", ordered, call("minimum", middle, filled(values.shape, n - 1, INT)))
        counts = opposite(_precedes(values, found)) if side == "right" else _precedes(found, values)
        open_ = low < high
        low, high = (
            select(both(open_, counts), middle + 1, low),
            select(both(open_, opposite(counts)), middle, high),
        )
    return low


@implementation(np.searchsorted)
def searchsorted(a, v, side="left", sorter=None):
    if side not in ("left", "right"):
        raise UsageValueError(f"side must be 'left' or 'right', not {side!r}")
    ordered, values = common(a, v)
    if ordered.ndim != 1:
        raise UsageValueError(
            f"np.searchsorted: the first argument must be 1-d, its shape is {ordered.shape}"
        )
    if ordered.dtype == BOOL:
        ordered, values = cast(ordered, np.int8), cast(values, np.int8)
    if sorter is not None:
        ordered = call("gather", ordered, index_node(sorter))
    return search(ordered, values, side)


@implementation(np.digitize)
def digitize(x, bins, right=False):
    """Traced bins must be monotonic; that is not checked."""
    values, edges = node_of(x), node_of(bins)
    values, edges = common(values, edges)
    if edges.ndim != 1:
        raise UsageValueError(f"np.digitize: bins must be 1-d, their shape is {edges.shape}")
    if not is_traced(bins):
        steps = np.diff(np.asarray(bins))
        if not ((steps >= 0).all() or (steps <= 0).all()):
            raise UsageValueError("bins must be monotonically increasing or decreasing")
    n = edges.shape[0]
    side = "left" if right else "right"
    up = search(edges, values, side)
    if n < 2:
        return up
    down = n - search(flip(edges), values, side)
    rising = call("less_equal", at(edges, 0, 0), at(edges, 0, -1))
    return select(rising, up, down)


@implementation(np.isin)
def isin(element, test_elements, assume_unique=False, invert=False, *, kind=None):
    x, tests = common(element, test_elements)
    tests = flat(tests)
    found = equal(insert_axis(x, x.ndim), reshape(tests, (1,) * x.ndim + tests.shape))
    found = reduce("reduce_max", found, (x.ndim,)) if tests.shape[0] else filled(x.shape, False, BOOL)
    return opposite(found) if invert else found


@implementation(np.bincount)
def bincount(x, /, weights=None, minlength=0):
    places = static_array(x, "the bins of np.bincount")
    if weights is None:
        return node_of(np.bincount(places, minlength=minlength))
    w = cast(node_of(weights), np.float64)
    if places.ndim != 1 or w.shape != places.shape:
        raise UsageValueError(
            f"np.bincount: weights of shape {w.shape} do not match x of shape {places.shape}"
        )
    if places.size and (places.dtype.kind not in "iu" or places.min() < 0):
        raise UsageValueError("np.bincount: x must be of non-negative integers")
    bins = max(operator.index(minlength), int(places.max()) + 1 if places.size else 0)
    if not places.size:
        return filled((bins,), 0, np.float64)
    return call("scatter_add", filled((bins,), 0, np.float64), w, node_of(places.astype(np.int64)))
