"""Gather and scatter-add: elements at run-time indices along the leading axes, and their transpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply
from ..ir.primitive import Gather, Primitive, Samples, ScatterAdd
from .shape import zeros

_INT64 = np.dtype(np.int64)


def _gathered_shape(x: Aval, indices: Sequence[Aval]) -> tuple[int, ...]:
    """The shape of gather's result, all operands checked."""
    if not 1 <= len(indices) <= x.ndim or any(
        i.dtype != _INT64 or i.shape != indices[0].shape for i in indices
    ):
        raise InternalError(f"indices {', '.join(map(str, indices))} into {x}")
    return (*indices[0].shape, *x.shape[len(indices) :])


# --- gather: y[i.., j..] = x[index0[i..], index1[i..], .., j..]. Linear in x; its transpose adds where it
#     read.


def _gather_aval(x: Aval, *indices: Aval) -> Aval:
    return aval_of(_gathered_shape(x, indices), x.dtype)


def _gather_jvp(tangents, primals, out):
    return None if tangents[0] is None else gather(tangents[0], *primals[1:])


def _gather_vjp(cotangent, primals, out):
    x, *indices = primals
    return [scatter_add(zeros(x.aval), cotangent, *indices), *[None] * len(indices)]


def _gather_pull(cotangent, totals, wanted, out):
    """Adds to the cotangent of the whole that there is, rather than a whole of zeros to it."""
    x, *indices = out.operands
    whole = zeros(x.aval) if totals[0] is None else totals[0]
    return [scatter_add(whole, cotangent, *indices), *[None] * len(indices)]


def _indices(*values) -> np.ndarray:
    return np.array(values, np.int64)


GATHER = Primitive(
    "gather",
    reference=lambda x, *indices: x[indices],
    aval=_gather_aval,
    code=Gather(),
    jvp=_gather_jvp,
    vjp=_gather_vjp,
    pull=_gather_pull,
    samples=Samples(
        kinds="fib",
        cases=(
            (((5,), _indices(0, 3, 3, -1, -5)), {}),
            (((5,), np.array(2)), {}),
            (((4, 3), _indices(1, -4, 1)), {}),
            (((4, 3), _indices([1, 0], [-1, 3]), _indices([2, -3], [0, 0])), {}),
            (((4, 3, 2), _indices(3, 3), _indices(0, 0)), {}),
            (((4,), np.zeros(0, np.int64)), {}),
            (((1,), _indices(0, -1, 0)), {}),
            (((0, 2), np.zeros(0, np.int64)), {}),
        ),
    ),
    doc="x[index0, index1, ...] along the leading axes; negative indices wrap, others outside raise.",
)


def gather(x: Node, *indices: Node) -> Node:
    """x at int64 `indices`, all of one shape, along its leading axes.

    The result's shape is that of an index, then `x.shape[len(indices):]`.
    """
    return apply(GATHER, x, *indices)


# --- scatter_add: y = x, then y[index..] += v. Linear in x and v: the cotangents are g, and g gathered.


def _scatter_reference(x, v, *indices):
    out = x.copy()
    np.add.at(out, indices, v)
    return out


def _scatter_aval(x: Aval, v: Aval, *indices: Aval) -> Aval:
    if v != aval_of(_gathered_shape(x, indices), x.dtype):
        raise InternalError(f"scatter_add of {v} into {x} at {', '.join(map(str, indices))}")
    return x


def _scatter_jvp(tangents, primals, out):
    dx, dv = tangents[:2]
    indices = primals[2:]
    if dv is None:
        return dx
    return scatter_add(zeros(out.aval) if dx is None else dx, dv, *indices)


def _scatter_vjp(cotangent, primals, out):
    indices = primals[2:]
    return [cotangent, gather(cotangent, *indices), *[None] * len(indices)]


SCATTER_ADD = Primitive(
    "scatter_add",
    reference=_scatter_reference,
    aval=_scatter_aval,
    code=ScatterAdd(),
    jvp=_scatter_jvp,
    vjp=_scatter_vjp,
    overwrites=lambda: (0,),
    samples=Samples(
        kinds="fi",
        cases=(
            (((5,), (5,), _indices(0, 3, 3, -1, -2)), {}),
            (((5,), (), np.array(2)), {}),
            (((4, 3), (3, 3), _indices(1, -4, 1)), {}),
            (((4, 3), (2, 2), _indices([1, 0], [-1, 3]), _indices([2, -3], [0, 0])), {}),
            (((4, 3, 2), (2, 2), _indices(3, 3), _indices(0, 0)), {}),
            (((4,), (0,), np.zeros(0, np.int64)), {}),
            (((1,), (3,), _indices(0, -1, 0)), {}),
        ),
    ),
    doc="x with v added at the indices; repeated indices accumulate.",
)


def scatter_add(x: Node, v: Node, *indices: Node) -> Node:
    """x with v, of the shape of `gather(x, *indices)`, added at the indices."""
    return apply(SCATTER_ADD, x, v, *indices)
