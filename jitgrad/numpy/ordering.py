"""NumPy's sorting, and the statistics that it gives: medians and quantiles."""

from __future__ import annotations

import numpy as np

from ..errors import Limitation, UsageIndexError, UsageTypeError, UsageValueError
from ..ir.node import Node, call, constant, like
from ._build import (
    BOOL,
    FLOAT,
    INT,
    at,
    axes_of,
    axis_of,
    both,
    cast,
    count_along,
    equal,
    flat_unless,
    floating,
    implementation,
    is_traced,
    keep,
    minus,
    move,
    node_of,
    opposite,
    part,
    refuse_out,
    reshape,
    select,
    spread,
    static_array,
    total,
)
from .statistics import mean, nanmean


def sort_along(x: Node, axis: int) -> Node:
    """x in ascending order along `axis`, nan last."""
    return pick_along(x, call("argsort", x, axis=axis), axis)


def pick_along(x: Node, indices: Node, axis: int) -> Node:
    """out[i, j, k] = x[i, indices[i, j, k], k] for axis 1 and alike; the other extents are equal."""
    grids = [
        indices if k == axis else call("iota", shape=indices.shape, axis=k, dtype=INT) for k in range(x.ndim)
    ]
    return call("gather", x, *grids)


# --- sorting


@implementation(np.sort)
def sort(a, axis=-1, kind=None, order=None, *, stable=None):
    x, axis = flat_unless(_sortable(a, order), axis)
    return cast(sort_along(x, axis), BOOL) if node_of(a).dtype == BOOL else sort_along(x, axis)


@implementation(np.argsort)
def argsort(a, axis=-1, kind=None, order=None, *, stable=None):
    """Always stable: equal elements keep their order, which NumPy promises for kind="stable" only."""
    x, axis = flat_unless(_sortable(a, order), axis, lenient=True)
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


# --- medians and quantiles


def _sorted_last(x: Node, axis) -> tuple[Node, tuple[int, ...]]:
    """x sorted along one last axis that joins the axes asked for (nan last), and those axes."""
    axes = axes_of(axis, x.ndim)
    rest = tuple(range(x.ndim - len(axes)))
    x = move(x, axes, tuple(range(len(rest), x.ndim)))
    x = reshape(x, x.shape[: len(rest)] + (count_along(x.shape, tuple(range(len(rest), x.ndim))),))
    return sort_along(x, x.ndim - 1), axes


def _nan_spoils(ordered: Node, value: Node) -> Node:
    """nan where the row of sorted values, nan last, that `value` belongs to contains one."""
    if ordered.dtype.kind != "f":
        return value
    spoiled = call("isnan", at(ordered, ordered.ndim - 1, -1))
    return select(spread(spoiled, value.shape), np.nan, value)


@implementation(np.median)
def median(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    refuse_out(out)
    x = node_of(a)
    ordered, axes = _sorted_last(cast(x, np.int8) if x.dtype == BOOL else x, axis)
    n = ordered.shape[-1]
    if not n:
        return keep(mean(x, axis), x.shape, axes, keepdims)
    middle = mean(part(ordered, ordered.ndim - 1, (n - 1) // 2, 2 - n % 2), -1)
    return keep(_nan_spoils(ordered, middle), x.shape, axes, keepdims)


@implementation(np.nanmedian)
def nanmedian(a, axis=None, out=None, overwrite_input=False, keepdims=False):
    x = node_of(a)
    if x.dtype.kind != "f":
        return median(x, axis, out, keepdims=keepdims)
    refuse_out(out)
    if not x.aval.size:
        return nanmean(x, axis, keepdims=keepdims)
    return _nan_quantile(x, constant(0.5, FLOAT), True, axis, keepdims, "mean")


METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(a, q, whole, axis, out, method, keepdims, weights, name):
    refuse_out(out)
    if weights is not None:
        raise Limitation(f"np.{name} with weights is not supported")
    if method not in METHODS:
        raise Limitation(
            f"np.{name} with method={method!r} is not supported", f"There are: {', '.join(METHODS)}."
        )
    x = node_of(a)
    fraction, weak = _fraction(q, whole, name)
    if name.startswith("nan") and not x.aval.size:  # NumPy's answer, whatever q is
        return nanmean(x, axis, keepdims=keepdims)
    if isinstance(axis, tuple) and not axis:
        raise UsageValueError(f"np.{name} over no axis: axis=() names none")
    if x.dtype == BOOL and method in ("linear", "midpoint"):
        raise UsageTypeError(f"np.{name} of a boolean array: boolean subtract is not supported by NumPy")
    if name.startswith("nan") and x.dtype.kind == "f":
        return _nan_quantile(x, fraction, weak, axis, keepdims, method)
    ordered, axes = _sorted_last(x, axis)
    if not ordered.shape[-1]:
        raise UsageIndexError(f"np.{name} of no elements: the shape is {x.shape}, the axes are {axes}")
    value = _between(ordered, fraction, weak, constant(ordered.shape[-1], INT), method)
    return _keep_behind(_nan_spoils(ordered, value), fraction.ndim, x.shape, axes, keepdims)


def _declare_quantile(function, whole: int) -> None:
    """Implements `function`, whose q counts up to `whole`."""

    @implementation(function)
    def quantile(a, q, axis=None, out=None, overwrite_input=False, method="linear", keepdims=False, *, weights=None):
        return _quantile(a, q, whole, axis, out, method, keepdims, weights, function.__name__)


_declare_quantile(np.quantile, 1)
_declare_quantile(np.percentile, 100)
_declare_quantile(np.nanquantile, 1)
_declare_quantile(np.nanpercentile, 100)


def _fraction(q, whole, name: str) -> tuple[Node, bool]:
    """q as a fraction (nan for a traced one out of range), and whether it promotes as a Python number."""
    node = floating(node_of(q))
    if is_traced(q):
        node = select(both(node >= 0, node <= whole), node, np.nan)
    elif not np.all((static_array(q, "q") >= 0) & (np.asarray(q) <= whole)):
        raise UsageValueError(f"np.{name}: q must be in the range [0, {whole}]")
    weak = type(q) in (int, float) or bool(getattr(q, "weak", None))
    return (node if whole == 1 else node / whole), weak


def _between(ordered: Node, fraction: Node, weak: bool, count: Node, method: str) -> Node:
    """The quantiles of the first `count` elements of each sorted row: shape fraction.shape + rows.

    "linear" takes the place q (n - 1): definition 7 of Hyndman and Fan, American Statistician 50 (1996) 361.
    """
    rows = ordered.shape[:-1]
    shape = fraction.shape + rows
    q = spread(reshape(fraction, fraction.shape + (1,) * len(rows)), shape)
    last = spread(count, shape) - 1
    place = q * cast(last, q.dtype)
    places = _neighbours(select(place >= 0, place, 0), method)
    ends = [_take_rows(ordered, _within(cast(one, INT), last)) for one in places]
    if method == "mean":
        value = ends[0] / 2 + ends[1] / 2
    elif method in ("linear", "midpoint"):
        weight = minus(place, places[0]) if method == "linear" else like(place, 0.5)
        value = _interpolated(ends[0], ends[1], weight, np.result_type(ends[0].dtype, 1.0 if weak else q.dtype))
    else:
        value = ends[0]
    return select(call("isnan", q), np.nan, value) if value.dtype.kind == "f" else value


def _within(place: Node, last: Node) -> Node:
    """`place`, at most `last`, at least 0."""
    return call("maximum", call("minimum", place, last), like(last, 0))


def _neighbours(place: Node, method: str) -> tuple[Node, Node]:
    down, up = call("floor", place), call("ceil", place)
    if method == "linear":
        return down, down + 1
    if method in ("midpoint", "mean"):
        return down, up
    chosen = {"lower": down, "higher": up, "nearest": call("rint", place)}[method]
    return chosen, chosen


def _take_rows(ordered: Node, index: Node) -> Node:
    """out[q..., r...] = ordered[r..., index[q..., r...]]."""
    extra = index.ndim - (ordered.ndim - 1)
    grids = [call("iota", shape=index.shape, axis=extra + k, dtype=INT) for k in range(ordered.ndim - 1)]
    return call("gather", ordered, *grids, index)


def _interpolated(low: Node, high: Node, weight: Node, dtype: np.dtype) -> Node:
    """low + weight (high - low), from the nearer end, which keeps it monotonic."""
    low, high, weight, step = (cast(node, dtype) for node in (low, high, weight, high - low))
    return select(weight >= 0.5, high - step * (1 - weight), low + step * weight)


def _keep_behind(value: Node, leading: int, shape, axes, keepdims) -> Node:
    """Puts the reduced axes back behind the axes that come from q."""
    if not keepdims:
        return value
    kept = tuple(1 if k in axes else extent for k, extent in enumerate(shape))
    return reshape(value, value.shape[:leading] + kept)


def _nan_quantile(x: Node, fraction: Node, weak: bool, axis, keepdims, method: str) -> Node:
    """Quantiles of what is not nan: nan is sorted last, so a row's first `count` elements are the others."""
    ordered, axes = _sorted_last(x, axis)
    present = opposite(call("isnan", ordered))
    count = total(cast(present, INT), (ordered.ndim - 1,))
    clean = select(present, ordered, 0)
    value = _between(clean, fraction, weak, count, method)
    value = select(spread(equal(count, 0), value.shape), np.nan, value)
    return _keep_behind(value, fraction.ndim, x.shape, axes, keepdims)
