"""NumPy's statistics: means, variances, order statistics, covariances."""

from __future__ import annotations

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..ir.node import Node, call, like
from ._build import (
    FLOAT,
    NOT_GIVEN,
    axes_of,
    axis_of,
    both,
    cast,
    count_along,
    equal,
    filled,
    flat,
    floating,
    implementation,
    insert_axis,
    is_traced,
    join,
    keep,
    lenient_axes,
    minus,
    node_of,
    nonzero,
    note_reads,
    opposite,
    over,
    part,
    plain_int,
    refuse_out,
    reshape,
    result_dtype,
    safe_sqrt,
    select,
    spread,
    times,
    total,
    transpose,
)
from .reductions import sum_

# --- means and variances


def _counts(x: Node, mask: Node | None, axes: tuple[int, ...], dtype, ddof=0) -> Node | float:
    """How many elements each mean is over, less `ddof`, at least 0: a number, or a node where a mask is."""
    if mask is None:
        return max(count_along(x.shape, axes) - ddof, 0)
    counts = keep(total(cast(mask, dtype), axes), x.shape, axes, True)
    return call("maximum", counts - ddof, like(counts, 0)) if ddof else counts


def _divided(x: Node, count) -> Node:
    return over(x, count) if isinstance(count, Node) else x / count


def _mask_of(x: Node, where) -> Node | None:
    return None if where is True else spread(nonzero(node_of(where)), x.shape)


def _working(x: Node, dtype) -> tuple[Node, np.dtype]:
    """x in the dtype that its mean is computed in (half precision in single), and the result's dtype."""
    final = np.dtype(dtype) if dtype is not None else floating(x).dtype
    working = np.dtype(np.float32) if final == np.float16 else final if final.kind in "f" else FLOAT
    return cast(cast(x, final) if dtype is not None else x, working), final


def _mean(x: Node, mask: Node | None, axes: tuple[int, ...]) -> Node:
    """sum / n with the reduced axes kept."""
    clean = x if mask is None else select(mask, x, 0)
    return _divided(keep(total(clean, axes), x.shape, axes, True), _counts(x, mask, axes, x.dtype))


def _variance(x: Node, mask: Node | None, axes: tuple[int, ...], ddof, mean=None) -> Node:
    """sum (x - mean)^2 / (n - ddof) in two passes, with the reduced axes kept."""
    center = _mean(x, mask, axes) if mean is None else cast(node_of(mean), x.dtype)
    deviation = minus(x, center)
    square = deviation * deviation
    clean = square if mask is None else select(mask, square, 0)
    count = _counts(x, mask, axes, x.dtype, ddof)
    return _divided(keep(total(clean, axes), x.shape, axes, True), count)


def _finish(y: Node, axes: tuple[int, ...], keepdims, dtype) -> Node:
    """Drops the reduced axes unless they are kept, and goes to the result's dtype."""
    shape = y.shape if keepdims else tuple(extent for axis, extent in enumerate(y.shape) if axis not in axes)
    return cast(reshape(y, shape), dtype)


@implementation(np.mean)
def mean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    refuse_out(out)
    x, final = _working(node_of(a), dtype)
    axes = axes_of(axis, x.ndim)
    return _finish(_mean(x, _mask_of(x, where), axes), axes, keepdims, final)


def _spread_arguments(a, axis, dtype, out, ddof, correction, name):
    refuse_out(out)
    if correction is not NOT_GIVEN:
        if ddof != 0:
            raise UsageValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    note_reads(ddof)
    if is_traced(ddof):
        raise Limitation(f"np.{name} with a traced ddof is not supported", "Pass a plain number.")
    x, final = _working(node_of(a), dtype)
    axes = lenient_axes(axis, x) if name.startswith("nan") else axes_of(axis, x.ndim)
    return x, final, axes, ddof


@implementation(np.var)
def var(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=NOT_GIVEN,
        correction=NOT_GIVEN):  # fmt: skip
    x, final, axes, ddof = _spread_arguments(a, axis, dtype, out, ddof, correction, "var")
    center = None if mean is NOT_GIVEN else mean
    return _finish(_variance(x, _mask_of(x, where), axes, ddof, center), axes, keepdims, final)


@implementation(np.std)
def std(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=NOT_GIVEN,
        correction=NOT_GIVEN):  # fmt: skip
    """The gradient at a standard deviation of 0 is 0: there it is least, and 0 is a subgradient."""
    x, final, axes, ddof = _spread_arguments(a, axis, dtype, out, ddof, correction, "std")
    center = None if mean is NOT_GIVEN else mean
    return _finish(safe_sqrt(_variance(x, _mask_of(x, where), axes, ddof, center)), axes, keepdims, final)


# --- passing over nan


def _present(x: Node, where) -> tuple[Node, Node]:
    """x with 0 for what is nan or masked, and the mask of what counts."""
    present = opposite(call("isnan", x))
    if where is not True:
        present = both(present, spread(nonzero(node_of(where)), x.shape))
    return select(present, x, 0), present


@implementation(np.nanmean)
def nanmean(a, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
    x = node_of(a)
    if x.dtype.kind not in "f":
        return mean(x, axis, dtype, out, keepdims, where=where)
    refuse_out(out)
    x, final = _working(x, dtype)
    axes = lenient_axes(axis, x)
    return _finish(_mean(*_present(x, where), axes), axes, keepdims, final)


def _nan_variance(a, axis, dtype, out, ddof, where, mean, correction, name):
    x, final, axes, ddof = _spread_arguments(a, axis, dtype, out, ddof, correction, name)
    clean, present = _present(x, where)
    variance = _variance(clean, present, axes, ddof, None if mean is NOT_GIVEN else mean)
    count = _counts(x, present, axes, x.dtype, ddof)
    assert isinstance(count, Node)  # as there is a mask
    return select(equal(count, 0), np.nan, variance), axes, final


@implementation(np.nanvar)
def nanvar(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=NOT_GIVEN,
           correction=NOT_GIVEN):  # fmt: skip
    if node_of(a).dtype.kind != "f":
        return var(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    variance, axes, final = _nan_variance(a, axis, dtype, out, ddof, where, mean, correction, "nanvar")
    return _finish(variance, axes, keepdims, final)


@implementation(np.nanstd)
def nanstd(a, axis=None, dtype=None, out=None, ddof=0, keepdims=False, *, where=True, mean=NOT_GIVEN,
           correction=NOT_GIVEN):  # fmt: skip
    if node_of(a).dtype.kind != "f":
        return std(a, axis, dtype, out, ddof, keepdims, where=where, mean=mean, correction=correction)
    variance, axes, final = _nan_variance(a, axis, dtype, out, ddof, where, mean, correction, "nanstd")
    return _finish(safe_sqrt(variance), axes, keepdims, final)


@implementation(np.average)
def average(a, axis=None, weights=None, returned=False, *, keepdims=False):
    x = node_of(a)
    if weights is None:
        average = mean(x, axis, keepdims=keepdims)
        scale = filled(average.shape, x.aval.size / max(average.aval.size, 1), average.dtype)
    else:
        dtype = (
            np.result_type(result_dtype(a, weights), FLOAT)
            if x.dtype.kind in "biu"
            else result_dtype(a, weights)
        )
        w = _weights_like(x, cast(node_of(weights), dtype), axis)
        x = cast(x, dtype)
        scale = sum_(spread(w, x.shape), axis, keepdims=keepdims)
        average = over(sum_(times(x, w), axis, keepdims=keepdims), scale)
    return (average, scale) if returned else average


def _weights_like(x: Node, w: Node, axis) -> Node:
    """Weights with x's number of axes: those of `axis` in the order given."""
    if w.shape == x.shape:
        return w
    if axis is None:
        raise UsageTypeError(
            f"axis must be given when shapes of a and weights differ: {x.shape} and {w.shape}"
        )
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    axes = tuple(axis_of(one, x.ndim) for one in given)
    if w.shape != tuple(x.shape[one] for one in axes):
        raise UsageValueError(
            f"weights of shape {w.shape} do not match axis {axis} of an array of shape {x.shape}"
        )
    ordered = transpose(w, tuple(int(k) for k in np.argsort(axes)))
    return reshape(ordered, tuple(extent if k in axes else 1 for k, extent in enumerate(x.shape)))


# --- covariance

# Since NumPy 2.2, rowvar=False transposes a first argument of one row as well, but still not a second one.
_TRANSPOSES_ONE_ROW = np.lib.NumpyVersion(np.__version__) >= "2.2.0"


@implementation(np.cov)
def cov(m, y=None, rowvar=True, bias=False, ddof=None, fweights=None, aweights=None, *, dtype=None):
    if ddof is not None and ddof != int(ddof):
        raise UsageValueError("ddof must be integer")
    x = _observations(m, y, rowvar, dtype)
    ddof = (0 if bias else 1) if ddof is None else plain_int(ddof)
    weights = _observation_weights(fweights, aweights, x)
    if weights is None:
        deviation = minus(x, mean(x, 1, keepdims=True))
        weighted, scale = deviation, max(x.shape[1] - ddof, 0)
    else:
        whole = total(weights, (0,))
        center = over(keep(total(times(x, weights), (1,)), x.shape, (1,), True), reshape(whole, (1, 1)))
        deviation = minus(x, center)
        weighted, scale = times(deviation, weights), _weighted_scale(whole, weights, aweights, ddof)
    product = call("matmul", deviation, transpose(weighted, (1, 0)))
    result = over(product, scale) if isinstance(scale, Node) else product / scale
    return reshape(result, tuple(extent for extent in result.shape if extent != 1))


def _observations(m, y, rowvar, dtype) -> Node:
    """Variables in rows, observations in columns."""
    x = _table(m, rowvar)
    rows = [x] if y is None else [x, _table(y, rowvar, is_second=True)]
    dtype = np.result_type(*[row.dtype for row in rows], FLOAT) if dtype is None else dtype
    return join([cast(row, dtype) for row in rows], 0)


def _table(m, rowvar, is_second: bool = False) -> Node:
    x = node_of(m)
    if x.ndim > 2:
        raise UsageValueError(f"np.cov takes at most 2 dimensions, not shape {x.shape}")
    if x.ndim < 2:
        return reshape(x, (1, x.aval.size))
    keeps_row = x.shape[0] == 1 and (is_second or not _TRANSPOSES_ONE_ROW)
    return x if rowvar or keeps_row else transpose(x, (1, 0))


def _observation_weights(fweights, aweights, x: Node) -> Node | None:
    given = [cast(node_of(w), x.dtype) for w in (fweights, aweights) if w is not None]
    for w in given:
        if w.shape != (x.shape[1],):
            raise UsageValueError(f"weights of shape {w.shape} do not match {x.shape[1]} observations")
    return None if not given else given[0] if len(given) == 1 else given[0] * given[1]


def _weighted_scale(whole: Node, weights: Node, aweights, ddof: int) -> Node:
    if ddof == 0:
        return whole
    if aweights is None:
        return whole - ddof
    again = cast(node_of(aweights), weights.dtype)
    return whole - total(weights * again, (0,)) * ddof / whole


@implementation(np.corrcoef)
def corrcoef(x, y=None, rowvar=True, *, dtype=None):
    c = cov(x, y, rowvar, dtype=dtype)
    if not c.ndim:
        return c / c
    n = c.shape[0]
    scale = call("sqrt", part(flat(c), 0, 0, n, n + 1))
    normal = over(over(c, insert_axis(scale, 1)), insert_axis(scale, 0))
    one = filled(normal.shape, 1, c.dtype)
    return call("maximum", call("minimum", normal, one), -one)
