"""NumPy's products: dot, matmul and their kin, outer and Kronecker products, diagonals and triangles."""

from __future__ import annotations

import numpy as np

from ..errors import UsageTypeError, UsageValueError
from ..ir.node import Node, call
from ._build import (
    BOOL,
    axis_of,
    broadcast_shapes,
    common,
    filled,
    flat,
    implementation,
    iota,
    join,
    move,
    newer,
    node_of,
    ordered_axes,
    part,
    plain_int,
    refuse_out,
    reshape,
    select,
    spread,
    times,
)
from .contraction import contract
from .reductions import sum_
from .shaping import moveaxis

# --- products over the last axes


@implementation(np.dot)
def dot(a, b, out=None):
    """sum over the last axis of a and the last but one (the only one) of b."""
    refuse_out(out)
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        return times(x, y)
    return _along(x, y, (x.ndim - 1,), (max(y.ndim - 2, 0),))


@implementation(np.inner)
def inner(a, b, /):
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        return times(x, y)
    return _along(x, y, (x.ndim - 1,), (y.ndim - 1,))


@implementation(np.vdot)
def vdot(a, b, /):
    x, y = (flat(node) for node in common(a, b))
    return _along(x, y, (0,), (0,))


@implementation(np.tensordot, np.linalg.tensordot)
def tensordot(a, b, axes=2):
    x, y = common(a, b)
    if not np.ndim(axes) and not isinstance(axes, (tuple, list)):
        count = plain_int(axes)
        if not 0 <= count <= min(x.ndim, y.ndim):
            raise UsageValueError(f"tensordot over {count} axes of arrays of shapes {x.shape} and {y.shape}")
        return _along(x, y, tuple(range(x.ndim - count, x.ndim)), tuple(range(count)))
    of_x, of_y = axes
    of_x, of_y = ordered_axes(_listed(of_x), x.ndim), ordered_axes(_listed(of_y), y.ndim)
    if len(of_x) != len(of_y):
        raise UsageValueError(f"tensordot: axes {axes} name {len(of_x)} axes of a and {len(of_y)} of b")
    return _along(x, y, of_x, of_y)


def _listed(axes):
    return axes if isinstance(axes, int) else tuple(axes)


def _along(x: Node, y: Node, of_x: tuple[int, ...], of_y: tuple[int, ...]) -> Node:
    """sum x y over pairs of axes; the result has the other axes of x, then those of y."""
    for k, m in zip(of_x, of_y, strict=True):
        if x.shape[k] != y.shape[m]:
            raise UsageValueError(
                f"shapes {x.shape} and {y.shape} not aligned: "
                f"{x.shape[k]} (dim {k}) != {y.shape[m]} (dim {m})"
            )
    x_labels = [("x", k) for k in range(x.ndim)]
    y_labels = [("y", k) for k in range(y.ndim)]
    for k, m in zip(of_x, of_y, strict=True):
        y_labels[m] = x_labels[k]
    wanted = [label for label in x_labels if label not in y_labels]
    wanted += [label for label in y_labels if label not in x_labels]
    return contract(x, tuple(x_labels), y, tuple(y_labels), tuple(wanted))


# The generalized ufuncs: their core axes by name, leading axes broadcast.


def _core_product(name: str, a, b, x_core: str, y_core: str, wanted: str) -> Node:
    x, y = common(a, b)
    if x.ndim < len(x_core) or y.ndim < len(y_core):
        raise UsageValueError(
            f"{name}: operands of shapes {x.shape} and {y.shape} do not have enough dimensions "
            f"(signature ({','.join(x_core)}),({','.join(y_core)})->({','.join(wanted)}))"
        )
    x_lead, y_lead = x.shape[: x.ndim - len(x_core)], y.shape[: y.ndim - len(y_core)]
    extents = dict(zip(x_core, x.shape[len(x_lead) :], strict=True))
    for label, extent in zip(y_core, y.shape[len(y_lead) :], strict=True):
        if extents.setdefault(label, extent) != extent:
            raise UsageValueError(
                f"{name}: shapes {x.shape} and {y.shape} do not fit: {extents[label]} != {extent} "
                f"(signature ({','.join(x_core)}),({','.join(y_core)})->({','.join(wanted)}))"
            )
    shape = broadcast_shapes(x_lead, y_lead)
    # A matrix beside a stack of rows is one large product, not a stack of small ones.
    lead = tuple(range(len(shape)))
    x_labels, x = _lead_labels(x, x_lead, shape)
    y_labels, y = _lead_labels(y, y_lead, shape)
    result = contract(
        x, (*x_labels, *x_core), y, (*y_labels, *y_core), (*_present(lead, x_labels, y_labels), *wanted)
    )
    return reshape(result, shape + result.shape[result.ndim - len(wanted) :])


def _lead_labels(x: Node, lead: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, ...], Node]:
    """Labels of x's leading axes as places in the broadcast `shape`; axes of extent 1 are dropped."""
    first = len(shape) - len(lead)
    kept = tuple(k for k, extent in enumerate(lead) if extent != 1)
    core = x.shape[len(lead) :]
    return tuple(first + k for k in kept), reshape(x, tuple(lead[k] for k in kept) + core)


def _present(lead, *label_sets) -> tuple[int, ...]:
    return tuple(k for k in lead if any(k in labels for labels in label_sets))


@implementation(np.matmul, np.linalg.matmul)
def matmul(a, b, /):
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        raise UsageValueError(
            f"matmul: an operand has no dimensions (shapes {x.shape} and {y.shape})", "Use *."
        )
    x_core, y_core = "mk"[-x.ndim :] if x.ndim < 2 else "mk", "k" if y.ndim == 1 else "kn"
    wanted = ("m" if "m" in x_core else "") + ("n" if "n" in y_core else "")
    return _core_product("matmul", x, y, x_core, y_core, wanted)


@implementation(newer("vecdot"), newer("vecdot", np.linalg))
def vecdot(a, b, /, *, axis=-1):
    x, y = common(a, b)
    if axis != -1:
        x, y = (moveaxis(node, axis, -1) for node in (x, y))
    return _core_product("vecdot", x, y, "k", "k", "")


@implementation(newer("matvec"))
def matvec(a, b, /):
    return _core_product("matvec", a, b, "mk", "k", "m")


@implementation(newer("vecmat"))
def vecmat(a, b, /):
    return _core_product("vecmat", a, b, "k", "kn", "n")


# --- products of all pairs


@implementation(np.outer)
def outer(a, b, out=None):
    refuse_out(out)
    x, y = (flat(node) for node in common(a, b))
    return times(reshape(x, (x.shape[0], 1)), reshape(y, (1, y.shape[0])))


@implementation(np.linalg.outer)
def strict_outer(x1, x2, /):
    x, y = node_of(x1), node_of(x2)
    if x.ndim != 1 or y.ndim != 1:
        raise UsageValueError(
            f"Input arrays must be one-dimensional, but their shapes are {x.shape} and {y.shape}"
        )
    return outer(x, y)


@implementation(np.kron)
def kron(a, b):
    x, y = common(a, b)
    rank = max(x.ndim, y.ndim)
    x, y = (reshape(node, (1,) * (rank - node.ndim) + node.shape) for node in (x, y))
    rows = reshape(x, tuple(extent for e in x.shape for extent in (e, 1)))
    columns = reshape(y, tuple(extent for e in y.shape for extent in (1, e)))
    return reshape(times(rows, columns), tuple(e * f for e, f in zip(x.shape, y.shape, strict=True)))


@implementation(np.cross)
def cross(a, b, axisa=-1, axisb=-1, axisc=-1, axis=None):
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = common(a, b)
    if not x.ndim or not y.ndim:
        raise UsageValueError("At least one array has zero dimension")
    if x.dtype == BOOL:
        raise UsageTypeError("np.cross of booleans: subtraction is not defined for them")
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise UsageValueError(
            f"incompatible dimensions for cross product (shapes {x.shape} and {y.shape})",
            "The dimension must be 2 or 3.",
        )
    flat_result = x.shape[-1] == y.shape[-1] == 2
    shape = broadcast_shapes(x.shape[:-1], y.shape[:-1])
    xs, ys = ([_component(node, k, shape) for k in range(3)] for node in (x, y))
    places = [(0, 1)] if flat_result else [(1, 2), (2, 0), (0, 1)]
    zero = filled(shape, 0, x.dtype)
    components = [_determinant(xs[i], xs[j], ys[i], ys[j]) or zero for i, j in places]
    if flat_result:
        return components[0]
    return moveaxis(join([reshape(one, (*shape, 1)) for one in components], len(shape)), -1, axisc)


def _component(x: Node, k: int, shape: tuple[int, ...]) -> Node | None:
    """The k-th component; None is the zero that a vector of two stands for."""
    if k >= x.shape[-1]:
        return None
    return spread(reshape(part(x, x.ndim - 1, k, 1), x.shape[:-1]), shape)


def _determinant(a: Node | None, b: Node | None, c: Node | None, d: Node | None) -> Node | None:
    """a d - b c, where None is zero."""
    first = None if a is None or d is None else a * d
    second = None if b is None or c is None else b * c
    if first is None or second is None:
        return first if second is None else -second
    return first - second


# --- diagonals and triangles


def diagonal_of(x: Node, offset: int, one: int, two: int) -> Node:
    """The diagonal of the axes `one` and `two` as the last axis: every (columns + 1)th element, flattened."""
    x = move(x, (one, two), (x.ndim - 2, x.ndim - 1))
    rows, columns = x.shape[-2:]
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    start = offset if offset >= 0 else -offset * columns
    flattened = reshape(x, x.shape[:-2] + (rows * columns,))
    return part(flattened, x.ndim - 2, start, count, columns + 1)


@implementation(np.diagonal)
def diagonal(a, offset=0, axis1=0, axis2=1):
    x = node_of(a)
    if x.ndim < 2:
        raise UsageValueError(f"diag requires an array of at least two dimensions, not shape {x.shape}")
    one, two = axis_of(axis1, x.ndim), axis_of(axis2, x.ndim)
    if one == two:
        raise UsageValueError("axis1 and axis2 cannot be the same")
    return diagonal_of(x, plain_int(offset), one, two)


@implementation(np.linalg.diagonal)
def last_diagonal(x, /, *, offset=0):
    return diagonal(x, offset, -2, -1)


@implementation(np.trace)
def trace(a, offset=0, axis1=0, axis2=1, dtype=None, out=None):
    refuse_out(out)
    return sum_(diagonal(a, offset, axis1, axis2), -1, dtype)


@implementation(np.linalg.trace)
def last_trace(x, /, *, offset=0, dtype=None):
    return trace(x, offset, -2, -1, dtype)


@implementation(np.diag)
def diag(v, k=0):
    x, k = node_of(v), plain_int(k)
    if x.ndim == 2:
        return diagonal_of(x, k, 0, 1)
    if x.ndim != 1:
        raise UsageValueError(f"Input must be 1- or 2-d, its shape is {x.shape}")
    n = x.shape[0] + abs(k)
    start = k if k >= 0 else -k * n
    if not x.shape[0]:
        return filled((n, n), 0, x.dtype)
    return reshape(call("place", x, shape=(n * n,), starts=(start,), steps=(n + 1,)), (n, n))


@implementation(np.diagflat)
def diagflat(v, k=0):
    return diag(flat(node_of(v)), k)


def triangle(rows: int, columns: int, k: int) -> Node:
    """True where column - row <= k."""
    shape = (rows, columns)
    return iota(shape, 1) - iota(shape, 0) <= k


@implementation(np.tril)
def tril(m, k=0):
    return _half(m, k, lower=True)


@implementation(np.triu)
def triu(m, k=0):
    return _half(m, k, lower=False)


def _half(m, k, lower: bool) -> Node:
    x, k = node_of(m), plain_int(k)
    x = spread(x, (x.shape[0],) * 2) if x.ndim == 1 else x
    if x.ndim < 2:
        raise UsageValueError("np.tril and np.triu need at least one dimension")
    rows, columns = x.shape[-2:]
    if lower:
        return select(triangle(rows, columns, k), x, 0)
    return select(triangle(rows, columns, k - 1), filled(x.shape, 0, x.dtype), x)
