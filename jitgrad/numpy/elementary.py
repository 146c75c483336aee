"""NumPy's functions that go element by element and are no ufuncs, comparisons, and questions about arrays."""

from __future__ import annotations

import numpy as np

from ..errors import UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..frontend.convert import as_array
from ..ir.node import Node, call
from ._build import (
    BOOL,
    FLOAT,
    axes_of,
    axis_of,
    both,
    cast,
    common,
    count_along,
    either,
    equal,
    filled,
    floating,
    implementation,
    insert_axis,
    join,
    node_of,
    part,
    plain_int,
    refuse_out,
    reshape,
    result_dtype,
    select,
    spread,
    spread_all,
    wrap,
)
from .reductions import all_

# --- rounding


@implementation(np.round, np.around)
def round_(a, decimals=0, out=None):
    """To the nearest, ties to even; the gradient is 0."""
    refuse_out(out)
    x, decimals = node_of(a), plain_int(decimals)
    if x.dtype == BOOL:
        if decimals:
            raise UsageTypeError(
                "np.round of booleans to decimals is not defined", "Convert them: x.astype(float)."
            )
        x = cast(x, np.float16)
    if x.dtype.kind in "iu" and decimals >= 0:
        return x
    if not decimals:
        return call("rint", x)
    scale = 10.0 ** abs(decimals)
    wide = floating(x)
    rounded = call("rint", wide * scale) / scale if decimals > 0 else call("rint", wide / scale) * scale
    return cast(rounded, x.dtype)


@implementation(np.fix)
def fix(x, out=None):
    refuse_out(out)
    x = node_of(x)
    return call("trunc", x) if x.dtype.kind == "f" else x


@implementation(np.isposinf)
def isposinf(x, out=None):
    refuse_out(out)
    return _infinite(x, lambda node: node > 0)


@implementation(np.isneginf)
def isneginf(x, out=None):
    refuse_out(out)
    return _infinite(x, lambda node: node < 0)


def _infinite(x, side) -> Node:
    node = node_of(x)
    return (
        both(call("isinf", node), side(node)) if node.dtype.kind == "f" else filled(node.shape, False, BOOL)
    )


_SINC_TERMS = 8


@implementation(np.sinc)
def sinc(x):
    """sin(y) / y, y = pi x; near 0 the sum of (-1)^k y^2k / (2k + 1)!: all derivatives are right there."""
    y = floating(node_of(x)) * np.pi
    near = call("absolute", y) < 0.5
    small = select(near, y, 0)
    square = small * small
    series = filled(y.shape, 1.0, y.dtype)
    for k in reversed(range(1, _SINC_TERMS)):
        series = 1 - series * square / (2 * k * (2 * k + 1))
    far = select(near, 1, y)
    return select(near, series, call("sin", far) / far)


# --- parts of numbers: all are real here


@implementation(np.real)
def real(val):
    return node_of(val)


@implementation(np.real_if_close)
def real_if_close(a, tol=100):
    return a if isinstance(a, Array) else node_of(a)


@implementation(np.imag)
def imag(val):
    x = node_of(val)
    return filled(x.shape, 0, x.dtype)


@implementation(np.angle)
def angle(z, deg=False):
    """0 or pi: no derivative flows."""
    x = node_of(z)
    dtype = np.arctan2.resolve_dtypes((int, x.dtype, None))[-1]
    x = cast(x, dtype)
    half_turn = dtype.type(np.pi) * (180 / np.pi if deg else 1)
    turned = select(call("signbit", x), half_turn, filled(x.shape, 0, x.dtype))
    return select(call("isnan", x), np.nan, turned)


@implementation(np.isreal)
def isreal(x):
    return filled(node_of(x).shape, True, BOOL)


@implementation(np.iscomplex)
def iscomplex(x):
    return filled(node_of(x).shape, False, BOOL)


@implementation(np.isrealobj)
def isrealobj(x):
    return True


@implementation(np.iscomplexobj)
def iscomplexobj(x):
    return False


# --- comparisons of arrays


@implementation(np.isclose)
def isclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    """|a - b| <= atol + rtol |b| for finite b, else a == b."""
    x, y = common(a, b)
    y = floating(y)
    x, y = spread_all(*common(x, y))
    rtol, atol = (spread(cast(node_of(one), y.dtype), y.shape) for one in (rtol, atol))
    near = call("absolute", x - y) <= atol + rtol * call("absolute", y)
    same = either(both(near, call("isfinite", y)), equal(x, y))
    return either(same, both(call("isnan", x), call("isnan", y))) if equal_nan else same


@implementation(np.allclose)
def allclose(a, b, rtol=1e-05, atol=1e-08, equal_nan=False):
    return all_(isclose(a, b, rtol, atol, equal_nan))


@implementation(np.array_equal)
def array_equal(a1, a2, equal_nan=False):
    x, y = common(a1, a2)
    if x.shape != y.shape:
        return False
    same = equal(x, y)
    if equal_nan and x.dtype.kind == "f":
        same = either(same, both(call("isnan", x), call("isnan", y)))
    return all_(same)


@implementation(np.array_equiv)
def array_equiv(a1, a2):
    x, y = common(a1, a2)
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return False
    return all_(equal(x, y))


# --- questions that shapes and dtypes answer


@implementation(np.shape)
def shape(a):
    return as_array(a).node.shape


@implementation(np.ndim)
def ndim(a):
    return as_array(a).node.ndim


@implementation(np.size)
def size(a, axis=None):
    found = as_array(a).node.shape
    return count_along(found, axes_of(axis, len(found)))


@implementation(np.tril_indices_from)
def tril_indices_from(arr, k=0):
    rows, columns = _matrix_shape(arr)
    return np.tril_indices(rows, k, columns)


@implementation(np.triu_indices_from)
def triu_indices_from(arr, k=0):
    rows, columns = _matrix_shape(arr)
    return np.triu_indices(rows, k, columns)


def _matrix_shape(a) -> tuple[int, ...]:
    found = as_array(a).node.shape
    if len(found) != 2:
        raise UsageValueError(f"input array must be 2-d, its shape is {found}")
    return found


@implementation(np.diag_indices_from)
def diag_indices_from(arr):
    found = as_array(arr).node.shape
    if len(found) < 2 or len(set(found)) != 1:
        raise UsageValueError(f"all dimensions of the array must be of equal length, its shape is {found}")
    return np.diag_indices(found[0], len(found))


@implementation(np.result_type)
def result_type(*arrays_and_dtypes):
    return np.result_type(*[_sample(one) if isinstance(one, Array) else one for one in arrays_and_dtypes])


def _sample(x: Array):
    """What promotes as x does: a Python number for a weak value, else the dtype."""
    return x.weak(0) if x.weak else x.node.dtype


@implementation(np.can_cast)
def can_cast(from_, to, casting="safe"):
    from_, to = (one.node.dtype if isinstance(one, Array) else one for one in (from_, to))
    return np.can_cast(from_, to, casting)


@implementation(np.common_type)
def common_type(*arrays):
    return result_dtype(
        *[filled((), 0, FLOAT if (x := node_of(a)).dtype.kind != "f" else x.dtype) for a in arrays]
    ).type


# --- functions of the user's, slice by slice


@implementation(np.apply_along_axis, calls_back=True)
def apply_along_axis(func1d, axis, arr, *args, **kwargs):
    """Every slice is traced on its own: the graph grows with the number of slices."""
    x = node_of(arr)
    axis = axis_of(axis, x.ndim)
    places = list(np.ndindex(*x.shape[:axis], *x.shape[axis + 1 :]))
    if not places:
        raise UsageValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [as_array(func1d(wrap(_line(x, axis, place)), *args, **kwargs)).node for place in places]
    inner = results[0].shape
    table = join([insert_axis(one, 0) for one in common(*results)], 0)
    table = reshape(table, x.shape[:axis] + x.shape[axis + 1 :] + inner)
    order = (
        list(range(axis)) + list(range(x.ndim - 1, x.ndim - 1 + len(inner))) + list(range(axis, x.ndim - 1))
    )
    return call("transpose", table, axes=tuple(order)) if order != sorted(order) else table


def _line(x: Node, axis: int, place: tuple[int, ...]) -> Node:
    full_place = (*place[:axis], None, *place[axis:])
    for k, index in enumerate(full_place):
        if index is not None:
            x = part(x, k, index, 1)
    return reshape(x, (x.shape[axis],))


@implementation(np.apply_over_axes, calls_back=True)
def apply_over_axes(func, a, axes):
    x = node_of(a)
    for axis in axes if isinstance(axes, (tuple, list)) else [axes]:
        axis = axis_of(axis, x.ndim)
        result = as_array(func(wrap(x), axis)).node
        x = result if result.ndim == x.ndim else insert_axis(result, axis)
    return x
