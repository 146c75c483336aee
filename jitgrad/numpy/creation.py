"""NumPy's makers of arrays: from nests of values, filled with a value, evenly spaced, as grids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import UsageTypeError, UsageValueError
from ..frontend.aliasing import mark_views, view_of
from ..frontend.array import Array
from ..frontend.convert import as_array
from ..frontend.registry import MAKERS
from ..ir.node import Node, call
from ._build import (
    BOOL,
    FLOAT,
    at,
    axis_of,
    cast,
    common,
    contains_traced,
    equal,
    filled,
    floating,
    implementation,
    iota,
    join,
    minus,
    move,
    newer,
    node_of,
    number_as,
    part,
    plain_int,
    reshape,
    result_dtype,
    select,
    shape_of,
    spread,
    spread_all,
    static_array,
    times,
)
from .products import triangle
from .shaping import broadcast_arrays, flip

CREATION: frozenset[Callable] = frozenset({
    np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.zeros, np.ones, np.empty, np.full,
    np.eye, np.identity, np.tri, np.arange, np.linspace, np.logspace, np.geomspace,
})  # fmt: skip
"""Inside a trace they give traced arrays whatever the arguments: `x = zeros(n); x[i] = v` is recorded."""


MAKERS.update({np.zeros, np.ones, np.empty, np.full, np.zeros_like, np.ones_like, np.empty_like, np.full_like})
MAKERS.update({np.eye, np.identity, np.array, np.asarray, np.copy, np.arange, np.linspace})

# --- from values


@implementation(np.array)
def array(
    object,
    dtype=None,
    *,
    copy=True,
    order="K",
    subok=False,
    ndmin=0,
    ndmax=0,
    like=None,
):
    x = _converted(object, dtype)
    wanted = (1,) * (ndmin - x.ndim) + x.shape
    if copy or not isinstance(object, Array) or object.dtype != x.dtype:
        return reshape(x, wanted)
    return object if x.shape == wanted else view_of(object, reshape(x, wanted))


def _converted(value, dtype) -> Node:
    if not contains_traced(value):
        return node_of(np.array(value, dtype))
    node = node_of(value)
    return node if dtype is None else cast(node, dtype)


@implementation(np.asarray, np.asanyarray)
def asarray(a, dtype=None, order=None, *, device=None, copy=None, like=None):
    """A traced array that has the dtype already is given back itself."""
    if isinstance(a, Array) and not copy and (dtype is None or a.dtype == dtype):
        return a
    return _converted(a, dtype)


@implementation(np.ascontiguousarray, np.asfortranarray)
def ascontiguousarray(a, dtype=None, *, like=None):
    x = asarray(a, dtype)
    if x.ndim:
        return x
    return view_of(x, reshape(x.node, (1,))) if isinstance(x, Array) else reshape(x, (1,))


@implementation(np.copy)
def copy(a, order="K", subok=False):
    return node_of(a)


@implementation(newer("astype"))
def astype(x, dtype, /, *, copy=True, device=None):
    if not isinstance(x, (Array, Node, np.ndarray)):
        raise UsageTypeError(f"Input should be a NumPy array. It is a {type(x).__name__} instead.")
    if not copy and isinstance(x, Array) and x.dtype == dtype:
        return x
    return cast(node_of(x), dtype)


# --- filled with a value


@implementation(np.zeros, np.empty)
def zeros(shape, dtype=None, order="C", *, device=None, like=None):
    return filled(shape_of(shape), 0, FLOAT if dtype is None else dtype)


@implementation(np.ones)
def ones(shape, dtype=None, order="C", *, device=None, like=None):
    return filled(shape_of(shape), 1, FLOAT if dtype is None else dtype)


@implementation(np.full)
def full(shape, fill_value, dtype=None, order="C", *, device=None, like=None):
    x = node_of(fill_value) if dtype is None else number_as(fill_value, dtype)
    return spread(x, shape_of(shape))


def _like(a, dtype, shape) -> tuple[tuple[int, ...], np.dtype]:
    x = as_array(a)
    return x.node.shape if shape is None else shape_of(shape), x.node.dtype if dtype is None else np.dtype(
        dtype
    )


@implementation(np.zeros_like, np.empty_like)
def zeros_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    shape, dtype = _like(a, dtype, shape)
    return filled(shape, 0, dtype)


@implementation(np.ones_like)
def ones_like(a, dtype=None, order="K", subok=True, shape=None, *, device=None):
    shape, dtype = _like(a, dtype, shape)
    return filled(shape, 1, dtype)


@implementation(np.full_like)
def full_like(a, fill_value, dtype=None, order="K", subok=True, shape=None, *, device=None):
    shape, dtype = _like(a, dtype, shape)
    return spread(number_as(fill_value, dtype), shape)


@implementation(np.eye)
def eye(N, M=None, k=0, dtype=float, order="C", *, device=None, like=None):
    rows = plain_int(N)
    shape = (rows, rows if M is None else plain_int(M))
    return cast(equal(iota(shape, 1) - iota(shape, 0), plain_int(k)), dtype)


@implementation(np.identity)
def identity(n, dtype=None, *, like=None):
    return eye(n, dtype=FLOAT if dtype is None else dtype)


@implementation(np.tri)
def tri(N, M=None, k=0, dtype=float, *, like=None):
    rows = plain_int(N)
    return cast(triangle(rows, rows if M is None else plain_int(M), plain_int(k)), dtype)


# --- evenly spaced


@implementation(np.arange)
def arange(*args, dtype=None, device=None, like=None, **kwargs):
    static_array([*args, *kwargs.values()], "the bounds of np.arange")
    values = np.arange(*args, dtype=dtype, **kwargs)
    if values.size < 2 or values.dtype == BOOL:
        return node_of(values)
    first, step = values[0], values[1] - values[0]
    index = iota(values.shape, 0, values.dtype)
    return index if step == 1 and first == 0 else index * step.item() + first.item()


@implementation(np.linspace)
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0, *, device=None):
    num = plain_int(num)
    if num < 0:
        raise UsageValueError(f"Number of samples, {num}, must be non-negative.")
    computing = inexact_dtype(start, stop)
    first, last = spread_all(cast(node_of(start), computing), cast(node_of(stop), computing))
    intervals = num - 1 if endpoint else num
    shape = (num, *first.shape)
    if intervals > 0:
        step = (last - first) / intervals
        values = iota(shape, 0, computing) * spread(step, shape) + spread(first, shape)
    else:  # NumPy's step of no interval is nan
        step, values = filled(first.shape, np.nan, computing), spread(first, shape)
    if endpoint and num > 1:  # exactly, whatever the rounding of the steps
        values = select(equal(iota(shape, 0), num - 1), spread(last, shape), values)
    final = computing if dtype is None else np.dtype(dtype)
    if final.kind in "iu":
        values = call("floor", values)
    values = move(cast(values, final), (0,), (axis_of(axis, values.ndim),))
    return (values, step) if retstep else values


def inexact_dtype(*ends) -> np.dtype:
    """The result type of the ends, float64 for integers."""
    dtype = result_dtype(*ends)
    return dtype if dtype.kind == "f" else FLOAT


@implementation(np.logspace)
def logspace(start, stop, num=50, endpoint=True, base=10.0, dtype=None, axis=0):
    exponents = linspace(start, stop, num, endpoint, axis=axis)
    base, exponents = spread_all(*common(base, exponents))
    powers = call("power", base, exponents)
    return powers if dtype is None else cast(powers, dtype)


@implementation(np.geomspace)
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    computing = np.result_type(
        node_of(start).dtype, node_of(stop).dtype, FLOAT if dtype is None else dtype, 1.0
    )
    first, last = spread_all(cast(node_of(start), computing), cast(node_of(stop), computing))
    sign = call("sign", first)
    logs = (call("log10", call("absolute", end)) for end in (first, last))
    values = move(logspace(*logs, num, endpoint, axis=axis), (axis_of(axis, first.ndim + 1),), (0,))
    values = times(values, sign)
    place = iota(values.shape, 0)
    values = select(equal(place, 0), spread(first, values.shape), values)
    if endpoint and num > 1:
        values = select(equal(place, num - 1), spread(last, values.shape), values)
    values = move(values, (0,), (axis_of(axis, values.ndim),))
    return values if dtype is None else cast(values, dtype)


# --- grids


@implementation(np.meshgrid)
def meshgrid(*xi, copy=True, sparse=False, indexing="xy"):
    if indexing not in ("xy", "ij"):
        raise UsageValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    rank = len(xi)
    places = list(range(rank))
    if indexing == "xy" and rank > 1:
        places[:2] = 1, 0
    nodes = [node_of(x) for x in xi]
    grids = tuple(
        reshape(x, tuple(x.aval.size if k == place else 1 for k in range(rank)))
        for x, place in zip(nodes, places, strict=True)
    )
    grids = grids if sparse else broadcast_arrays(*grids) if grids else ()
    if copy:
        return grids
    views = tuple(map(Array, grids))
    mark_views(views, xi)
    return views


@implementation(np.ix_)
def ix_(*args):
    results = []
    for k, x in enumerate(node_of(arg) for arg in args):
        if x.ndim != 1:
            raise UsageValueError("Cross index must be 1 dimensional")
        if x.dtype == BOOL:
            raise UsageTypeError("np.ix_ of a traced mask: its shape depends on values")
        results.append(reshape(x, (1,) * k + x.shape + (1,) * (len(args) - k - 1)))
    return tuple(results)


# --- polynomials


@implementation(np.vander)
def vander(x, N=None, increasing=False):
    x = node_of(x)
    if x.ndim != 1:
        raise UsageValueError(f"x must be a one-dimensional array or sequence, not of shape {x.shape}")
    x = cast(x, np.promote_types(x.dtype, np.int64))
    count = x.shape[0] if N is None else plain_int(N)
    column = filled((x.shape[0], 1), 1, x.dtype)
    if not count:
        return part(column, 1, 0, 0)
    columns = [column]
    for _ in range(count - 1):
        columns.append(columns[-1] * reshape(x, (x.shape[0], 1)))
    return join(columns if increasing else columns[::-1], 1)


@implementation(np.polyval)
def polyval(p, x):
    """Horner's rule."""
    coefficients, x = common(node_of(p), node_of(x))
    if coefficients.ndim != 1:
        raise UsageValueError(
            f"np.polyval: the coefficients must be 1-d, their shape is {coefficients.shape}"
        )
    value = x * 0
    for k in range(coefficients.shape[0]):
        value = value * x + spread(at(coefficients, 0, k), x.shape)
    return value


def _aligned(a1, a2) -> tuple[Node, Node]:
    """Coefficients, highest first, with zeros in front of the shorter."""
    one, two = (reshape(x, (x.aval.size,)) if not x.ndim else x for x in common(a1, a2))
    n = max(one.shape[0], two.shape[0])
    one, two = (call("place", x, shape=(n,), starts=(n - x.shape[0],), steps=(1,)) if x.shape[0] < n else x
                for x in (one, two))  # fmt: skip
    return one, two


@implementation(np.polyadd)
def polyadd(a1, a2):
    one, two = _aligned(a1, a2)
    return one + two


@implementation(np.polysub)
def polysub(a1, a2):
    one, two = _aligned(a1, a2)
    return minus(one, two)


@implementation(np.polyder)
def polyder(p, m=1):
    x = node_of(p)
    for _ in range(plain_int(m)):
        n = max(x.shape[0] - 1, 0)
        kept = part(x, 0, 0, n)
        dtype = np.promote_types(x.dtype, np.int64)
        x = cast(kept, dtype) * flip(iota((n,), 0, dtype) + 1)
    return x


@implementation(np.polyint)
def polyint(p, m=1, k=None):
    x, m = node_of(p), plain_int(m)
    if m < 0:
        raise UsageValueError("Order of integral must be positive (see polyder)")
    constants = node_of(0.0 if k is None else k)
    constants = (
        spread(reshape(constants, (constants.aval.size,)), (m,)) if constants.aval.size <= 1 else constants
    )
    if constants.aval.size < m:
        raise UsageValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    for step in range(m):
        x = floating(cast(x, np.promote_types(x.dtype, np.int64)))
        n = x.shape[0]
        divided = x / flip(iota((n,), 0, x.dtype) + 1)
        x = join(common(divided, part(constants, 0, step, 1)), 0)
    return x
