"""Arrays with some elements replaced: at run-time indices along the leading axes, or at a static strided region.

As functions: x stays as it is, the result is x but for what was stored. In machine code that is done in place wherever
nobody reads x any more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply, call, full
from ..ir.primitive import Library, Place, Primitive, Samples
from .comparison import select
from .indexing import _gathered_shape, _indices, gather
from .shape import _inside, _slices, broadcast, iota, reshape, strided_slice, zeros

# --- scatter_set: y = x, then y[index..] = v; of several writes to one element the last counts.
#     The cotangents: g with zeros stored, and g gathered, but for the writes that were overwritten.


def _set_reference(x, v, *indices):
    out = x.copy()
    out[indices] = v
    return out


def _set_aval(x: Aval, v: Aval, *indices: Aval) -> Aval:
    if v != aval_of(_gathered_shape(x, indices), x.dtype):
        raise InternalError(f"scatter_set of {v} into {x} at {', '.join(map(str, indices))}")
    return x


def _lasting(v: Node, x: Aval, indices: Sequence[Node]) -> Node:
    """v, with zeros in place of what a later write overwrites."""
    shape = indices[0].shape
    count = indices[0].aval.size
    if count <= 1:
        return v
    lead = aval_of(x.shape[: len(indices)], np.int64)
    order = reshape(iota((count,), 0, np.int64), shape)
    last = gather(scatter_set(full(-1, lead), order, *indices), *indices)
    lasts = broadcast(call("equal", last, order), v.shape, range(len(shape)))
    return select(lasts, v, zeros(v.aval))


def _set_jvp(tangents, primals, out):
    (x, v, *indices), (dx, dv) = primals, tangents[:2]
    if dx is None and dv is None:
        return None
    return scatter_set(zeros(x.aval) if dx is None else dx, zeros(v.aval) if dv is None else dv, *indices)


def _set_vjp(cotangent, primals, out):
    x, v, *indices = primals
    rest = scatter_set(cotangent, zeros(v.aval), *indices)
    return [rest, _lasting(gather(cotangent, *indices), x.aval, indices), *[None] * len(indices)]


SCATTER_SET = Primitive(
    "scatter_set",
    reference=_set_reference,
    aval=_set_aval,
    code=Library("scatter_set"),
    jvp=_set_jvp,
    vjp=_set_vjp,
    samples=Samples(
        kinds="fib",
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
    doc="x with v stored at the indices; of repeated indices the last counts.",
    overwrites=lambda: (0,),
)


def scatter_set(x: Node, v: Node, *indices: Node) -> Node:
    """x with v, of the shape of `gather(x, *indices)`, stored at the indices."""
    return apply(SCATTER_SET, x, v, *indices)


# --- put: y = x, then y[starts + k steps] = v. Linear in x and v.


def _put_reference(x, v, *, starts, steps):
    out = x.copy()
    out[_slices(starts, v.shape, steps)] = v
    return out


def _put_aval(x: Aval, v: Aval, *, starts, steps) -> Aval:
    if v.dtype != x.dtype or not _inside(x.shape, starts, v.shape, steps):
        raise InternalError(f"put of {v} into {x} at {starts} by {steps}")
    return x


def _put_jvp(tangents, primals, out, *, starts, steps):
    (dx, dv), (x, v) = tangents, primals
    if dx is None and dv is None:
        return None
    return put(zeros(x.aval) if dx is None else dx, zeros(v.aval) if dv is None else dv, starts, steps)


def _put_vjp(cotangent, primals, out, *, starts, steps):
    x, v = primals
    return [put(cotangent, zeros(v.aval), starts, steps), strided_slice(cotangent, starts, v.shape, steps)]


PUT = Primitive(
    "put",
    reference=_put_reference,
    aval=_put_aval,
    code=Library("put"),
    jvp=_put_jvp,
    vjp=_put_vjp,
    samples=Samples(
        kinds="fib",
        cases=(
            (((5,), (3,)), {"starts": (1,), "steps": (1,)}),
            (((5,), (3,)), {"starts": (4,), "steps": (-2,)}),
            (((5, 4), (2, 2)), {"starts": (4, 0), "steps": (-2, 3)}),
            (((3,), (0,)), {"starts": (0,), "steps": (1,)}),
            (((3, 2), (3, 2)), {"starts": (0, 0), "steps": (1, 1)}),
        ),
    ),
    doc="x with v stored at starts + k * steps.",
    overwrites=lambda *, starts, steps: (0,),
)


def _into_reference(v, *, shape, starts, steps):
    raise InternalError("into has no value of its own: it is what lowering makes of a put in place")


INTO = Primitive(
    "into",
    reference=_into_reference,
    aval=lambda v, *, shape, starts, steps: aval_of(shape, v.dtype),
    code=Place(lambda avals, *, shape, starts, steps: [(starts, steps)]),
    doc="v stored at starts + k * steps of memory that holds the rest already. Made by lowering.",
)


def put(x: Node, v: Node, starts: Sequence[int], steps: Sequence[int]) -> Node:
    """x with v stored at starts + k * steps; v itself where it fills x in order."""
    starts, steps = tuple(starts), tuple(steps)
    if v.shape == x.shape and not any(starts) and all(step == 1 for step in steps):
        return v
    return apply(PUT, x, v, starts=starts, steps=steps)
