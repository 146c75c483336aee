"""NumPy's running sums and products, differences, and sums over neighbours."""

from __future__ import annotations

import functools

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..ir.node import Node, call
from ._build import (
    FLOAT,
    INT,
    NOT_GIVEN,
    at,
    axes_of,
    axis_of,
    cast,
    common,
    equal,
    filled,
    flat,
    flat_unless,
    floating,
    implementation,
    insert_axis,
    is_traced,
    join,
    minus,
    newer,
    node_of,
    note_reads,
    part,
    plain_int,
    plus,
    refuse_out,
    reshape,
    select,
    spread,
    spread_all,
    times,
    total,
)
from .reductions import summable, without_nan
from .searching import search
from .shaping import flip

# --- running sums and products


def _running(name: str, a, axis, dtype, out, neutral=None) -> Node:
    refuse_out(out)
    x = node_of(a)
    if neutral is not None:
        x = without_nan(x, neutral)[0]
    x, axis = flat_unless(summable(x, dtype), axis, lenient=True)
    return call(name, x, axis=axis, reverse=0)


@implementation(np.cumsum)
def cumsum(a, axis=None, dtype=None, out=None):
    return _running("cumsum", a, axis, dtype, out)


@implementation(np.cumprod)
def cumprod(a, axis=None, dtype=None, out=None):
    return _running("cumprod", a, axis, dtype, out)


@implementation(np.nancumsum)
def nancumsum(a, axis=None, dtype=None, out=None):
    return _running("cumsum", a, axis, dtype, out, 0)


@implementation(np.nancumprod)
def nancumprod(a, axis=None, dtype=None, out=None):
    return _running("cumprod", a, axis, dtype, out, 1)


@implementation(newer("cumulative_sum"))
def cumulative_sum(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    return _with_initial(cumsum, x, axis, dtype, out, include_initial, 0)


@implementation(newer("cumulative_prod"))
def cumulative_prod(x, /, *, axis=None, dtype=None, out=None, include_initial=False):
    return _with_initial(cumprod, x, axis, dtype, out, include_initial, 1)


def _with_initial(running, x, axis, dtype, out, include_initial, neutral) -> Node:
    x = node_of(x)
    if axis is None and x.ndim > 1:
        raise UsageValueError(
            f"For arrays which have more than one dimension, axis is needed (shape {x.shape})"
        )
    result = running(x, axis, dtype, out)
    if not include_initial:
        return result
    along = axis_of(0 if axis is None else axis, result.ndim)
    first = filled(result.shape[:along] + (1,) + result.shape[along + 1 :], neutral, result.dtype)
    return join([first, result], along)


# --- differences


@implementation(np.diff)
def diff(a, n=1, axis=-1, prepend=NOT_GIVEN, append=NOT_GIVEN):
    x, order = node_of(a), plain_int(n)
    if order < 0:
        raise UsageValueError(f"order must be non-negative but got {order}")
    if not order:
        return x
    if not x.ndim:
        raise UsageValueError("diff requires input that is at least one dimensional")
    axis = axis_of(axis, x.ndim)
    ends = [None if end is NOT_GIVEN else _end(end, x, axis) for end in (prepend, append)]
    pieces = [piece for piece in (ends[0], x, ends[1]) if piece is not None]
    x = join(common(*pieces), axis)
    for _ in range(order):
        x = _first_difference(x, axis)
    return x


def _end(end, x: Node, axis: int) -> Node:
    node = node_of(end)
    return node if node.ndim else spread(node, x.shape[:axis] + (1,) + x.shape[axis + 1 :])


def _first_difference(x: Node, axis: int) -> Node:
    """x[1:] - x[:-1] along `axis`; of bool, whether they differ."""
    high, low = _neighbours(x, axis)
    return call("logical_xor", high, low) if x.dtype == np.bool_ else high - low


def _neighbours(x: Node, axis: int) -> tuple[Node, Node]:
    count = max(x.shape[axis] - 1, 0)
    return part(x, axis, 1, count), part(x, axis, 0, count)


@implementation(np.ediff1d)
def ediff1d(ary, to_end=None, to_begin=None):
    x = flat(node_of(ary))
    middle = minus(*_neighbours(x, 0))
    ends = [None if end is None else flat(cast(node_of(end), x.dtype)) for end in (to_begin, to_end)]
    return join([piece for piece in (ends[0], middle, ends[1]) if piece is not None], 0)


@implementation(np.gradient)
def gradient(f, *varargs, axis=None, edge_order=1):
    x = node_of(f)
    if x.dtype == np.bool_:
        raise UsageTypeError("np.gradient of booleans: subtraction is not defined for them")
    x = floating(x)
    axes = (
        axes_of(axis, x.ndim) if not isinstance(axis, tuple) else tuple(axis_of(one, x.ndim) for one in axis)
    )
    if edge_order not in (1, 2):
        raise UsageValueError("'edge_order' greater than 2 not supported")
    if len(varargs) not in (0, 1, len(axes)):
        raise UsageTypeError("invalid number of arguments")
    spacings = [1.0] * len(axes) if not varargs else list(varargs) * (len(axes) if len(varargs) == 1 else 1)
    if any(x.shape[k] < edge_order + 1 for k in axes):
        raise UsageValueError(
            f"Shape {x.shape} is too small to calculate a numerical gradient: at least "
            f"{edge_order + 1} elements are required"
        )
    results = [_gradient_along(x, k, h, edge_order) for k, h in zip(axes, spacings, strict=True)]
    return results[0] if len(results) == 1 else tuple(results)


def _gradient_along(x: Node, axis: int, spacing, edge_order: int) -> Node:
    """Differences of second order inside, one-sided ones at the two ends.

    With steps h below and g above a point, f' = (h^2 f(+g) + (g^2 - h^2) f - g^2 f(-h)) / (h g (h + g)); with
    equal steps f' = (f(+h) - f(-h)) / 2h.
    """
    n = x.shape[axis]
    spacing = node_of(spacing)
    h = _steps(spacing, x, axis)
    f = [part(x, axis, k, n - 2) for k in range(3)]
    below, above = part(h, axis, 0, n - 2), part(h, axis, 1, n - 2)
    if not spacing.ndim:
        middle = (f[2] - f[0]) / (2 * below)
    else:
        middle = (
            f[0] * (-above / (below * (below + above)))
            + f[1] * ((above - below) / (below * above))
            + f[2] * (below / (above * (below + above)))
        )
    ends = [_one_sided(x, h, axis, side, edge_order) for side in (0, 1)]
    return join([ends[0], middle, ends[1]], axis)


def _steps(spacing: Node, x: Node, axis: int) -> Node:
    """The n - 1 distances between neighbours, in x's shape but for `axis`."""
    shape = x.shape[:axis] + (x.shape[axis] - 1,) + x.shape[axis + 1 :]
    spacing = cast(spacing, x.dtype)
    if spacing.ndim == 1:
        if spacing.shape != (x.shape[axis],):
            raise UsageValueError(
                f"coordinates of shape {spacing.shape} do not match axis {axis} of shape {x.shape}"
            )
        steps = _first_difference(spacing, 0)
        spacing = reshape(steps, (1,) * axis + steps.shape + (1,) * (x.ndim - axis - 1))
    elif spacing.ndim:
        raise UsageValueError("distances must be either scalars or 1d")
    return spread(spacing, shape)


def _one_sided(x: Node, h: Node, axis: int, side: int, edge_order: int) -> Node:
    """The derivative at an end, from the two or three nearest points."""
    n = x.shape[axis]
    f = [part(x, axis, n - 1 - k if side else k, 1) for k in range(edge_order + 1)]
    near = part(h, axis, n - 2 if side else 0, 1)
    sign = -1 if side else 1
    if edge_order == 1:
        return (f[1] - f[0]) * sign / near
    far = part(h, axis, n - 3 if side else 1, 1)
    a = -(2 * near + far) / (near * (near + far))
    b = (near + far) / (near * far)
    c = -near / (far * (near + far))
    return (f[0] * a + f[1] * b + f[2] * c) * sign


@implementation(np.trapezoid)
def trapezoid(y, x=None, dx=1.0, axis=-1):
    y = node_of(y)
    axis = axis_of(axis, y.ndim)
    step = dx if x is None else _widths(node_of(x), y, axis)
    area = times(*common(step, plus(*_neighbours(y, axis))))
    return total(floating(area) / 2, (axis,))


def _widths(x: Node, y: Node, axis: int) -> Node:
    """The distances of the points x, which lie along `axis` of y, or are as many as y."""
    if x.ndim != 1:
        return _first_difference(x, axis_of(axis - y.ndim, x.ndim))
    return reshape(_first_difference(x, 0), (x.shape[0] - 1,) + (1,) * (y.ndim - axis - 1))


# --- sums over neighbours

_UNROLLED = 12


@implementation(np.convolve)
def convolve(a, v, mode="full"):
    x, y = (_row(node, "convolve") for node in common(a, v))
    if y.shape[0] > x.shape[0]:
        x, y = y, x
    return _convolved(x, y, mode)


@implementation(np.correlate)
def correlate(a, v, mode="valid"):
    x, y = (_row(node, "correlate") for node in common(a, v))
    if y.shape[0] > x.shape[0]:  # c_k = sum_n x_(n+k) y_n turned round
        return flip(_convolved(y, flip(x), mode))
    return _convolved(x, flip(y), mode)


def _row(x: Node, name: str) -> Node:
    x = reshape(x, (1,)) if not x.ndim else x
    if x.ndim != 1 or not x.shape[0]:
        raise UsageValueError(f"np.{name} takes 1-d arrays that are not empty, not shape {x.shape}")
    return x


def _convolved(x: Node, y: Node, mode: str) -> Node:
    """The convolution of x with the not longer y, cut as `mode` says."""
    n, m = x.shape[0], y.shape[0]
    cut = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}
    if mode not in cut:
        raise UsageValueError(f"mode must be 'valid', 'same', or 'full', not {mode!r}")
    start, count = cut[mode]
    if m <= _UNROLLED:
        return _shifted_sum(x, y, start, count)
    # Row k of y x^T shifted right by k, summed over k. To shift: rows of n + m cells read as of n + m - 1.
    outer = times(insert_axis(y, 1), insert_axis(x, 0))
    wide = call("place", outer, shape=(m, n + m), starts=(0, 0), steps=(1, 1))
    sheared = reshape(part(flat(wide), 0, 0, m * (n + m - 1)), (m, n + m - 1))
    return total(part(sheared, 1, start, count), (0,))


def _shifted_sum(x: Node, y: Node, start: int, count: int) -> Node:
    """sum_k y[k] x[i - k] for i = start, ..., start + count - 1, x being 0 outside."""
    n, m = x.shape[0], y.shape[0]
    low, high = max(0, m - 1 - start), max(0, start + count - n)
    if low or high:
        x = call("place", x, shape=(n + low + high,), starts=(low,), steps=(1,))
    terms = (times(part(x, 0, low + start - k, count), spread(at(y, 0, k), (count,))) for k in range(m))
    return functools.reduce(plus, terms)


# --- interpolation


@implementation(np.interp)
def interp(x, xp, fp, left=None, right=None, period=None):
    """Linear between the points; at a point the gradient is that of the piece to its right."""
    at_, points, values = (cast(node_of(one), FLOAT) for one in (x, xp, fp))
    if points.ndim != 1 or points.shape != values.shape or not points.shape[0]:
        raise UsageValueError(
            f"np.interp: xp and fp must be 1-d and equally long, their shapes are {points.shape} "
            f"and {values.shape}"
        )
    if period is not None:
        at_, points, values = _periodic(at_, points, values, period)
        left = right = None
    n = points.shape[0]
    ends = [at(values, 0, 0) if left is None else left, at(values, 0, -1) if right is None else right]
    ends = [spread(cast(node_of(end), FLOAT), at_.shape) for end in ends]
    first, last = spread(at(points, 0, 0), at_.shape), spread(at(points, 0, -1), at_.shape)
    inside = _on_lines(at_, points, values, n) if n > 1 else spread(at(values, 0, 0), at_.shape)
    result = select(at_ < first, ends[0], select(at_ > last, ends[1], inside))
    return select(call("isnan", at_), at_, result) if n > 1 else result


def _on_lines(x: Node, points: Node, values: Node, n: int) -> Node:
    """The line through the two points around x."""
    k = search(points, x, "right") - 1
    k = call("maximum", call("minimum", k, filled(x.shape, n - 2, INT)), filled(x.shape, 0, INT))
    x0, x1 = (call("gather", points, place) for place in (k, k + 1))
    y0, y1 = (call("gather", values, place) for place in (k, k + 1))
    outside = x < x0
    inner = select(outside, x0, x)
    return select(equal(inner, x1), y1, (y1 - y0) / (x1 - x0) * (inner - x0) + y0)


def _periodic(x: Node, points: Node, values: Node, period) -> tuple[Node, Node, Node]:
    """Points within one period, sorted, with one more at each end."""
    if not is_traced(period) and period == 0:
        raise UsageValueError("period must be a non-zero value")
    length = call("absolute", cast(node_of(period), FLOAT))
    x, points = (call("remainder", *spread_all(one, length)) for one in (x, points))
    order = call("argsort", points, axis=0)
    points, values = call("gather", points, order), call("gather", values, order)
    n = points.shape[0]
    before, after = part(points, 0, n - 1, 1), part(points, 0, 0, 1)
    points = join([minus(before, length), points, before * 0 + spread(length, (1,)) + after], 0)
    return x, points, join([part(values, 0, n - 1, 1), values, part(values, 0, 0, 1)], 0)


@implementation(np.unwrap)
def unwrap(p, discont=None, axis=-1, *, period=2 * np.pi):
    """Whole periods are added; they are constant, so the gradient is that of p."""
    if is_traced(period) or is_traced(discont):
        raise Limitation("np.unwrap with a traced period or discont is not supported", "Pass plain numbers.")
    note_reads([discont, period])
    x = node_of(p)
    axis = axis_of(axis, x.ndim)
    dtype = np.result_type(x.dtype, period)
    if dtype.kind != "f":
        raise Limitation(
            f"np.unwrap of {x.dtype} with an integer period is not supported", "Pass a float period."
        )
    step = cast(_first_difference(x, axis), dtype)
    x = cast(x, dtype)
    half, whole = filled(step.shape, period / 2, dtype), filled(step.shape, period, dtype)
    reduced = call("remainder", step + half, whole) - half
    at_low_end = call("logical_and", equal(reduced, -half), step > 0)
    reduced = select(at_low_end, half, reduced)
    small = call("absolute", step) < (period / 2 if discont is None else discont)
    correction = select(small, 0, reduced - step)
    rest = part(x, axis, 1, x.shape[axis] - 1) + call("cumsum", correction, axis=axis, reverse=0)
    return join([part(x, axis, 0, 1), rest], axis)
