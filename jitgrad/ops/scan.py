"""Running sums, products and linear recurrences along an axis, and the order of sorting."""

from __future__ import annotations

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply, full
from ..ir.primitive import Library, Primitive, Samples
from .families import linear, no_cotangents, no_tangent
from .masking import chain
from .shape import concatenate, slice_axis

_CASES = tuple(
    ((shape,), {"axis": axis, "reverse": reverse})
    for shape, axis in (((4,), 0), ((2, 3), 0), ((2, 3), 1), ((1,), 0), ((0, 2), 0), ((0, 2), 1))
    for reverse in (0, 1)
)


def _directed(x: np.ndarray, axis: int, reverse: int) -> np.ndarray:
    return np.flip(x, axis) if reverse else x


def _aval(*xs: Aval, axis, reverse) -> Aval:
    first = xs[0]
    if not 0 <= axis < first.ndim or reverse not in (0, 1) or any(x != first for x in xs):
        raise InternalError(f"scan of {', '.join(map(str, xs))} along axis {axis}")
    return first


# --- cumsum: linear; its transpose sums from the other end


def _cumsum_reference(x, *, axis, reverse):
    return _directed(np.cumsum(_directed(x, axis, reverse), axis, dtype=x.dtype), axis, reverse)


_CUMSUM = linear(
    "cumsum",
    numpy=_cumsum_reference,
    aval=_aval,
    transpose=lambda cotangent, operand, *, axis, reverse: cumsum(cotangent, axis, 1 - reverse),
    code=Library("cumsum"),
    samples=Samples(kinds="fib", cases=_CASES),
    doc="`numpy.cumsum` along an axis, from the end if `reverse`.",
)


def cumsum(x: Node, axis: int, reverse: int = 0) -> Node:
    """Running sums along `axis`, from its end if `reverse`."""
    return apply(_CUMSUM, x, axis=axis, reverse=int(reverse))


# --- linear recurrence: h_k = a_k h_{k-1} + b_k, h_{-1} = 0
#     dh_k = a_k dh_{k-1} + (da_k h_{k-1} + db_k): again a linear recurrence.
#     With the cotangent g: l_k = a_{k+1} l_{k+1} + g_k, from the other end; b's cotangent is l_k, a's is l_k
#     h_{k-1}.


def _recurrence_reference(a, b, *, axis, reverse):
    a, b = (np.moveaxis(_directed(x, axis, reverse), axis, 0) for x in (a, b))
    out = np.empty_like(b)
    last = np.zeros(b.shape[1:], b.dtype)
    for k in range(b.shape[0]):
        last = a[k] * last + b[k] if k else b[k]
        out[k] = last
    return _directed(np.moveaxis(out, 0, axis), axis, reverse)


def shifted(x: Node, axis: int, back: int, fill: float) -> Node:
    """x moved by one place: result[k] = x[k - 1] (back=0) or x[k + 1] (back=1), `fill` at the free end."""
    n = x.shape[axis]
    if n == 0:
        return x
    edge = full(fill, aval_of((*x.shape[:axis], 1, *x.shape[axis + 1 :]), x.dtype))
    if n == 1:
        return edge
    kept = slice_axis(x, axis, 1 if back else 0, n - 1)
    return concatenate([kept, edge] if back else [edge, kept], axis)


def _recurrence_jvp(tangents, primals, out, *, axis, reverse):
    (da, db), (a, _) = tangents, primals
    if da is None:
        return linear_recurrence(a, db, axis, reverse)
    drive = chain(da, shifted(out, axis, reverse, 0.0))
    return linear_recurrence(a, drive if db is None else drive + db, axis, reverse)


def _recurrence_vjp(cotangent, primals, out, *, axis, reverse):
    a, _ = primals
    adjoint = linear_recurrence(shifted(a, axis, 1 - reverse, 0.0), cotangent, axis, 1 - reverse)
    return [chain(adjoint, shifted(out, axis, reverse, 0.0)), adjoint]


_LINEAR_RECURRENCE = Primitive(
    "linear_recurrence",
    reference=_recurrence_reference,
    aval=_aval,
    code=Library("linear_recurrence"),
    jvp=_recurrence_jvp,
    vjp=_recurrence_vjp,
    samples=Samples(kinds="f", cases=tuple(((*shapes, *shapes), params) for shapes, params in _CASES)),
    doc="h[k] = a[k] * h[k-1] + b[k] along an axis, h before the start being 0; from the end if `reverse`.",
)


def linear_recurrence(a: Node, b: Node, axis: int, reverse: int = 0) -> Node:
    """h[k] = a[k] * h[k - 1] + b[k] along `axis`, h[0] = b[0]; from the end if `reverse`.

    >>> _recurrence_reference(np.array([9.0, 2.0, 0.5]), np.array([1.0, 1.0, 1.0]), axis=0, reverse=0)
    array([1. , 3. , 2.5])
    """
    return apply(_LINEAR_RECURRENCE, a, b, axis=axis, reverse=int(reverse))


# --- cumprod: c_k = x_k c_{k-1}. With p_k = c_{k-1} (p_0 = 1): dc_k = x_k dc_{k-1} + p_k dx_k, a linear
#     recurrence. With the cotangent g: l_k = x_{k+1} l_{k+1} + g_k, and x's cotangent is p_k l_k. No
#     division: zeros are right.


def _cumprod_reference(x, *, axis, reverse):
    return _directed(np.cumprod(_directed(x, axis, reverse), axis, dtype=x.dtype), axis, reverse)


def _cumprod_jvp(tangents, primals, out, *, axis, reverse):
    (x,) = primals
    return linear_recurrence(x, chain(tangents[0], shifted(out, axis, reverse, 1.0)), axis, reverse)


def _cumprod_vjp(cotangent, primals, out, *, axis, reverse):
    (x,) = primals
    adjoint = linear_recurrence(shifted(x, axis, 1 - reverse, 0.0), cotangent, axis, 1 - reverse)
    return [chain(adjoint, shifted(out, axis, reverse, 1.0))]


_CUMPROD = Primitive(
    "cumprod",
    reference=_cumprod_reference,
    aval=_aval,
    code=Library("cumprod"),
    jvp=_cumprod_jvp,
    vjp=_cumprod_vjp,
    samples=Samples(
        kinds="fib",
        cases=_CASES,
        singular=(
            ((np.array([2.0, 0.0, 3.0]),), (np.array([1.0, 8.0, 0.0]),), {"axis": 0, "reverse": 0}),
            ((np.array([0.0, 0.0, 3.0]),), (np.array([1.0, 0.0, 0.0]),), {"axis": 0, "reverse": 0}),
        ),
    ),
    doc="`numpy.cumprod` along an axis, from the end if `reverse`.",
)


def cumprod(x: Node, axis: int, reverse: int = 0) -> Node:
    """Running products along `axis`, from its end if `reverse`."""
    return apply(_CUMPROD, x, axis=axis, reverse=int(reverse))


# --- argsort

_ARGSORT = Primitive(
    "argsort",
    reference=lambda x, *, axis: np.argsort(x, axis, kind="stable").astype(np.int64, copy=False),
    aval=lambda x, *, axis: aval_of(x.shape, np.int64),
    code=Library("argsort"),
    jvp=no_tangent,
    vjp=no_cotangents,
    samples=Samples(
        kinds="fib",
        cases=(
            (((5,),), {"axis": 0}),
            (((2, 3),), {"axis": 0}),
            (((2, 3),), {"axis": 1}),
            (((0,),), {"axis": 0}),
        ),
    ),
    doc="The indices that sort along an axis: stable, nan last.",
)


def argsort(x: Node, axis: int) -> Node:
    """int64 indices that sort x along `axis`, stable, nan last."""
    return apply(_ARGSORT, x, axis=axis)
