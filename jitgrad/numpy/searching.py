"""NumPy's searches: places in sorted arrays, membership, counts by place."""

from __future__ import annotations

import numpy as np

from ..errors import UsageValueError
from ..ir.node import Node, call
from ._build import (
    BOOL,
    INT,
    at,
    both,
    cast,
    common,
    either,
    equal,
    filled,
    flat,
    implementation,
    insert_axis,
    is_traced,
    node_of,
    opposite,
    plain_int,
    reduce,
    reshape,
    select,
    static_array,
)
from .selecting import index_node
from .shaping import flip


def _precedes(x: Node, y: Node) -> Node:
    """x comes before y in NumPy's order, where nan is last."""
    if x.dtype.kind != "f":
        return x < y
    return either(x < y, both(call("isnan", y), opposite(call("isnan", x))))


def search(ordered: Node, values: Node, side: str) -> Node:
    """How many elements of the sorted `ordered` come before each value ("left"), or not after it ("right").

    Bisection, one gather for each halving: `low` moves up where the element in the middle counts, else `high`
    moves down. The number of steps depends on the shape alone, so it is one graph.
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
        steps = np.diff(static_array(bins, "bins"))
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
    bins = max(plain_int(minlength), int(places.max()) + 1 if places.size else 0)
    if not places.size:
        return filled((bins,), 0, np.float64)
    return call("scatter_add", filled((bins,), 0, np.float64), w, node_of(places.astype(np.int64)))
