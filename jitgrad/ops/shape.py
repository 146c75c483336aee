"""Views and joins: broadcast, reshape, transpose, slice and its transpose place, concatenate, iota.

The builder functions simplify what is trivial: a reshape to the same shape is the operand itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply, call, constant_value, full
from ..ir.primitive import Index, Place, Primitive, Samples, View
from .families import linear, no_cotangents, no_tangent

_KINDS = "fib"


def zeros(aval: Aval) -> Node:
    """Zeros of this shape and dtype."""
    return full(0, aval)


# --- broadcast: b[.., i_axes[k], ..] = x[.., i_k or 0, ..]. Its transpose sums over what was repeated.


def _broadcast_reference(x, *, shape, axes):
    if not axes:  # most are numbers, and this view of one takes a tenth of what `broadcast_to` does
        return np.ndarray(shape, x.dtype, x, strides=(0,) * len(shape))
    aligned = [1] * len(shape)
    for axis, extent in zip(axes, x.shape, strict=True):
        aligned[axis] = extent
    return np.broadcast_to(x.reshape(aligned), shape)


def _broadcast_aval(x: Aval, *, shape, axes) -> Aval:
    if not axes and not x.shape:
        return aval_of(shape, x.dtype)
    fits = len(axes) == x.ndim and list(axes) == sorted(set(axes)) and all(0 <= a < len(shape) for a in axes)
    if not fits or any(e not in (1, shape[a]) for e, a in zip(x.shape, axes, strict=True)):
        raise InternalError(f"broadcast of {x} to {shape} at axes {axes}")
    return aval_of(shape, x.dtype)


def _broadcast_strided(offset, extents, strides, *, shape, axes):
    spread = [0] * len(shape)
    for axis, extent, stride in zip(axes, extents, strides, strict=True):
        spread[axis] = stride if extent == shape[axis] else 0
    return offset, shape, tuple(spread)


def _broadcast_transpose(cotangent: Node, operand: Aval, *, shape, axes) -> Node:
    kept = {axis for axis, extent in zip(axes, operand.shape, strict=True) if extent == shape[axis]}
    summed = tuple(axis for axis in range(len(shape)) if axis not in kept)
    if summed:
        cotangent = call("reduce_sum", cotangent, axes=summed)
    return reshape(cotangent, operand.shape)


_BROADCAST = linear(
    "broadcast",
    numpy=_broadcast_reference,
    aval=_broadcast_aval,
    transpose=_broadcast_transpose,
    code=View(_broadcast_strided),
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((),), {"shape": (2, 3), "axes": ()}),
            (((3,),), {"shape": (2, 3), "axes": (1,)}),
            (((3, 1),), {"shape": (3, 2, 4), "axes": (0, 2)}),
            (((1, 1),), {"shape": (1, 1, 1), "axes": (0, 1)}),
            (((1, 3),), {"shape": (0, 3), "axes": (0, 1)}),
        ),
    ),
    doc="Operand axis k becomes result axis axes[k]; the others, and extents of 1, are repeated.",
)


def broadcast(x: Node, shape: Sequence[int], axes: Sequence[int]) -> Node:
    """x spread over `shape`, its axis k at `axes[k]`."""
    shape, axes = tuple(shape), tuple(axes)
    if shape == x.aval.shape:
        return x
    if x.primitive is _BROADCAST:  # one broadcast of what is under x
        inner = x.operands[0]
        return apply(_BROADCAST, inner, shape=shape, axes=tuple(axes[axis] for axis in x.params["axes"]))
    return apply(_BROADCAST, x, shape=shape, axes=axes)


def broadcast_to(x: Node, shape: Sequence[int]) -> Node:
    """x spread over `shape` as NumPy does, aligned at the last axes."""
    shape = tuple(shape)
    return broadcast(x, shape, range(len(shape) - x.ndim, len(shape)))


# --- reshape


def _reshape_aval(x: Aval, *, shape) -> Aval:
    if prod(shape) != x.size:
        raise InternalError(f"reshape of {x} to {shape}")
    return aval_of(shape, x.dtype)


def _reshape_strided(offset, extents, strides, *, shape):
    """Both shapes fall into groups of axes of equal size; each group must be one even run of memory."""
    if 0 in shape:
        return offset, shape, (0,) * len(shape)
    axes = [(extent, stride) for extent, stride in zip(extents, strides, strict=True) if extent != 1]
    found: list[int] = []
    at = 0
    waiting: list[int] = []  # extents of the result's axes of the group that is being matched
    run, step = 1, 1  # of the operand's axes in the group: elements, and the stride of the innermost
    for extent in shape:
        waiting.append(extent)
        size = prod(waiting)
        while run < size:
            length, stride = axes[at]
            if run > 1 and step != stride * length:
                return None
            run, step, at = run * length, stride, at + 1
        if run == size:
            found.extend(_strides_of(waiting, step))
            waiting, run = [], 1
    return offset, shape, tuple(found + [0] * len(waiting))


def _strides_of(extents: list[int], step: int) -> list[int]:
    strides = []
    for extent in reversed(extents):
        strides.append(step)
        step *= extent
    return strides[::-1]


_RESHAPE = linear(
    "reshape",
    numpy=lambda x, *, shape: x.reshape(shape),
    aval=_reshape_aval,
    transpose=lambda cotangent, operand, *, shape: reshape(cotangent, operand.shape),
    code=View(_reshape_strided),
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((2, 6),), {"shape": (3, 4)}),
            (((1,),), {"shape": ()}),
            (((2, 3),), {"shape": (1, 2, 1, 3, 1)}),
            (((0, 3),), {"shape": (5, 0)}),
        ),
    ),
    doc="The same elements in C order under another shape.",
)


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """x's elements, in C order, as `shape`."""
    shape = tuple(shape)
    if x.primitive is _RESHAPE:
        x = x.operands[0]
    if shape == x.aval.shape:
        return x
    known = constant_value(x)
    if known is not None:
        return full(known, _reshape_aval(x.aval, shape=shape))
    return apply(_RESHAPE, x, shape=shape)


# --- transpose: its transpose is the inverse permutation


def _transpose_aval(x: Aval, *, axes) -> Aval:
    if sorted(axes) != list(range(x.ndim)):
        raise InternalError(f"transpose of {x} by axes {axes}")
    return aval_of([x.shape[axis] for axis in axes], x.dtype)


def inverse(axes: Sequence[int]) -> tuple[int, ...]:
    """The inverse of a permutation."""
    result = [0] * len(axes)
    for position, axis in enumerate(axes):
        result[axis] = position
    return tuple(result)


_TRANSPOSE = linear(
    "transpose",
    numpy=lambda x, *, axes: x.transpose(axes),
    aval=_transpose_aval,
    transpose=lambda cotangent, operand, *, axes: transpose(cotangent, inverse(axes)),
    code=View(
        lambda offset, shape, strides, *, axes: (
            offset,
            tuple(shape[axis] for axis in axes),
            tuple(strides[axis] for axis in axes),
        )
    ),
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((2, 3),), {"axes": (1, 0)}),
            (((2, 3, 4),), {"axes": (1, 2, 0)}),
            (((0, 2),), {"axes": (1, 0)}),
        ),
    ),
    doc="Result axis k is operand axis axes[k].",
)


def transpose(x: Node, axes: Sequence[int]) -> Node:
    """x with its axes permuted: result axis k is x's axis `axes[k]`."""
    axes = tuple(axes)
    if x.primitive is _TRANSPOSE:
        first = x.params["axes"]
        x, axes = x.operands[0], tuple(first[axis] for axis in axes)
    if axes == tuple(range(x.ndim)):
        return x
    known = constant_value(x)
    return (
        apply(_TRANSPOSE, x, axes=axes) if known is None else full(known, _transpose_aval(x.aval, axes=axes))
    )


# --- slice: y[k] = x[starts + k steps], and place, its transpose: x[starts + k steps] = y[k], else 0


def _slices(starts, counts, steps) -> tuple[slice, ...]:
    """NumPy's slices for starts, counts and steps."""
    found = []
    for start, count, step in zip(starts, counts, steps, strict=True):
        stop = start + count * step if count else start
        found.append(slice(start, None if stop < 0 else stop, step))
    return tuple(found)


def _inside(shape, starts, counts, steps) -> bool:
    if not len(shape) == len(starts) == len(counts) == len(steps) or 0 in steps:
        return False
    rows = zip(shape, starts, counts, steps, strict=True)
    return all(c == 0 or (0 <= s < n and 0 <= s + (c - 1) * d < n) for n, s, c, d in rows)


def _slice_aval(x: Aval, *, starts, counts, steps) -> Aval:
    if not _inside(x.shape, starts, counts, steps) or any(count < 0 for count in counts):
        raise InternalError(f"slice of {x} from {starts}, {counts} elements, by {steps}")
    return aval_of(counts, x.dtype)


def _slice_strided(offset, shape, strides, *, starts, counts, steps):
    if 0 not in counts:
        offset += sum(start * stride for start, stride in zip(starts, strides, strict=True))
    return offset, counts, tuple(step * stride for step, stride in zip(steps, strides, strict=True))


_SLICE = linear(
    "slice",
    numpy=lambda x, *, starts, counts, steps: x[_slices(starts, counts, steps)],
    aval=_slice_aval,
    transpose=lambda cotangent, operand, *, starts, counts, steps: place(
        cotangent, operand.shape, starts, steps
    ),
    code=View(_slice_strided),
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((5,),), {"starts": (1,), "counts": (3,), "steps": (1,)}),
            (((5,),), {"starts": (4,), "counts": (5,), "steps": (-1,)}),
            (((5, 4),), {"starts": (4, 0), "counts": (2, 2), "steps": (-2, 3)}),
            (((5,),), {"starts": (2,), "counts": (0,), "steps": (1,)}),
            (((1,),), {"starts": (0,), "counts": (1,), "steps": (-7,)}),
            (((0, 2),), {"starts": (0, 0), "counts": (0, 1), "steps": (1, 1)}),
        ),
    ),
    doc="result[k] = x[starts + k * steps], k < counts, per axis; steps may be negative.",
)


def strided_slice(x: Node, starts: Sequence[int], counts: Sequence[int], steps: Sequence[int]) -> Node:
    """x[starts + k * steps] for k < counts, per axis."""
    starts, counts, steps = tuple(starts), tuple(counts), tuple(steps)
    if counts == x.aval.shape and not any(starts) and all(step == 1 for step in steps):
        return x
    known = constant_value(x)
    if known is not None:
        return full(known, _slice_aval(x.aval, starts=starts, counts=counts, steps=steps))
    return apply(_SLICE, x, starts=starts, counts=counts, steps=steps)


def slice_axis(x: Node, axis: int, start: int, count: int, step: int = 1) -> Node:
    """x[start + k * step] for k < count along one axis, everything along the others."""
    starts, counts, steps = [0] * x.ndim, list(x.shape), [1] * x.ndim
    starts[axis], counts[axis], steps[axis] = start, count, step
    return strided_slice(x, starts, counts, steps)


def _place_reference(x, *, shape, starts, steps):
    out = np.zeros(shape, x.dtype)
    out[_slices(starts, x.shape, steps)] = x
    return out


def _place_aval(x: Aval, *, shape, starts, steps) -> Aval:
    if not _inside(shape, starts, x.shape, steps):
        raise InternalError(f"place of {x} in {shape} at {starts} by {steps}")
    return aval_of(shape, x.dtype)


_PLACE = linear(
    "place",
    numpy=_place_reference,
    aval=_place_aval,
    transpose=lambda cotangent, operand, *, shape, starts, steps: strided_slice(
        cotangent, starts, operand.shape, steps
    ),
    code=Place(lambda avals, *, shape, starts, steps: [(starts, steps)]),
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((3,),), {"shape": (5,), "starts": (1,), "steps": (1,)}),
            (((3,),), {"shape": (5,), "starts": (4,), "steps": (-2,)}),
            (((2, 2),), {"shape": (5, 4), "starts": (4, 0), "steps": (-2, 3)}),
            (((0,),), {"shape": (3,), "starts": (0,), "steps": (1,)}),
        ),
    ),
    doc="Zeros of `shape` with x at starts + k * steps: the transpose of slice.",
)


def place(x: Node, shape: Sequence[int], starts: Sequence[int], steps: Sequence[int]) -> Node:
    """Zeros of `shape` with x's elements at starts + k * steps; x itself where it fills them all in order."""
    shape, starts, steps = tuple(shape), tuple(starts), tuple(steps)
    if shape == x.aval.shape and not any(starts) and all(step == 1 for step in steps):
        return x
    return apply(_PLACE, x, shape=shape, starts=starts, steps=steps)


# --- assemble: the sum of places that do not overlap, in one array


def _assemble_reference(*xs, shape, corners):
    out = np.zeros(shape, xs[0].dtype)
    for x, (starts, steps) in zip(xs, corners, strict=True):
        out[_slices(starts, x.shape, steps)] = x
    return out


def _assemble_aval(*xs: Aval, shape, corners) -> Aval:
    for x, (starts, steps) in zip(xs, corners, strict=True):
        _place_aval(x, shape=shape, starts=starts, steps=steps)
        if x.dtype != xs[0].dtype:
            raise InternalError(f"assemble of {xs[0].dtype} and {x.dtype}")
    return aval_of(shape, xs[0].dtype)


def _assemble_jvp(tangents, primals, out, *, shape, corners):
    filled = [zeros(x.aval) if t is None else t for t, x in zip(tangents, primals, strict=True)]
    return apply(_ASSEMBLE, *filled, shape=shape, corners=corners)


def _assemble_vjp(cotangent, primals, out, *, shape, corners):
    return [strided_slice(cotangent, starts, x.shape, steps) for x, (starts, steps) in zip(primals, corners, strict=True)]


_ASSEMBLE = Primitive(
    "assemble",
    reference=_assemble_reference,
    aval=_assemble_aval,
    code=Place(lambda avals, *, shape, corners: list(corners)),
    jvp=_assemble_jvp,
    vjp=_assemble_vjp,
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((3,), (2,)), {"shape": (7,), "corners": (((1,), (1,)), ((6,), (-2,)))}),
            (((2, 2), (1, 3)), {"shape": (3, 3), "corners": (((0, 2), (1, -2)), ((2, 0), (1, 1)))}),
            (((2,), (2,)), {"shape": (4,), "corners": (((0,), (2,)), ((1,), (2,)))}),
        ),
    ),
    doc="Zeros of `shape` with each operand at its corner (starts, steps); they do not overlap. Made by `join_places`.",
)


def assemble(xs: Sequence[Node], shape: Sequence[int], corners: Sequence[tuple]) -> Node:
    """Zeros of `shape` with xs[k] at starts + i * steps, (starts, steps) = corners[k]; the places must not overlap."""
    if len(xs) == 1:
        return place(xs[0], shape, *corners[0])
    return apply(_ASSEMBLE, *xs, shape=tuple(shape), corners=tuple(corners))


# --- concatenate: linear in all operands; each one's cotangent is its slice


def _concatenate_aval(*xs: Aval, axis) -> Aval:
    first = xs[0]
    rest = first.shape[:axis] + first.shape[axis + 1 :]
    if not 0 <= axis < first.ndim or any(
        x.dtype != first.dtype or x.ndim != first.ndim or x.shape[:axis] + x.shape[axis + 1 :] != rest
        for x in xs
    ):
        raise InternalError(f"concatenate of {', '.join(map(str, xs))} along axis {axis}")
    return aval_of(
        (*first.shape[:axis], sum(x.shape[axis] for x in xs), *first.shape[axis + 1 :]), first.dtype
    )


def _corners(xs: Sequence, *, axis) -> list[int]:
    """Where each operand begins along `axis`."""
    corners, at = [], 0
    for x in xs:
        corners.append(at)
        at += x.shape[axis]
    return corners


def _concatenate_pieces(avals, *, axis):
    ndim = avals[0].ndim
    return [
        (tuple(c if k == axis else 0 for k in range(ndim)), (1,) * ndim) for c in _corners(avals, axis=axis)
    ]


def _concatenate_jvp(tangents, primals, out, *, axis):
    return concatenate(
        [zeros(x.aval) if t is None else t for t, x in zip(tangents, primals, strict=True)], axis
    )


def _concatenate_vjp(cotangent, primals, out, *, axis):
    corners = _corners(primals, axis=axis)
    return [slice_axis(cotangent, axis, c, x.shape[axis]) for c, x in zip(corners, primals, strict=True)]


_CONCATENATE = Primitive(
    "concatenate",
    reference=lambda *xs, axis: np.concatenate(xs, axis),
    aval=_concatenate_aval,
    code=Place(_concatenate_pieces),
    jvp=_concatenate_jvp,
    vjp=_concatenate_vjp,
    samples=Samples(
        kinds=_KINDS,
        cases=(
            (((3,), (2,)), {"axis": 0}),
            (((2, 3), (2, 0), (2, 1)), {"axis": 1}),
            (((2,),), {"axis": 0}),
            (((0, 3), (0, 3)), {"axis": 0}),
        ),
    ),
    doc="`numpy.concatenate` along one axis.",
)


def concatenate(xs: Sequence[Node], axis: int) -> Node:
    """The operands one after another along `axis` (>= 0)."""
    return xs[0] if len(xs) == 1 else apply(_CONCATENATE, *xs, axis=axis)


# --- iota


def _iota_reference(*, shape, axis, dtype):
    column = [1] * len(shape)
    column[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis]).astype(dtype).reshape(column), shape)


def _iota_aval(*, shape, axis, dtype) -> Aval:
    if not 0 <= axis < len(shape):
        raise InternalError(f"iota over {shape} along axis {axis}")
    return aval_of(shape, dtype)


_IOTA = Primitive(
    "iota",
    reference=_iota_reference,
    aval=_iota_aval,
    code=Index(),
    jvp=no_tangent,
    vjp=no_cotangents,
    samples=Samples(
        kinds="f",
        cases=(
            ((), {"shape": (3,), "axis": 0, "dtype": np.dtype("i8")}),
            ((), {"shape": (2, 3), "axis": 1, "dtype": np.dtype("f4")}),
            ((), {"shape": (2, 3), "axis": 0, "dtype": np.dtype("i4")}),
            ((), {"shape": (0,), "axis": 0, "dtype": np.dtype("f8")}),
        ),
    ),
    doc="The index along `axis`, everywhere in `shape`.",
)


def iota(shape: Sequence[int], axis: int = 0, dtype=np.int64) -> Node:
    """The index along `axis` at every place of `shape`."""
    return apply(_IOTA, shape=tuple(shape), axis=axis, dtype=np.dtype(dtype))
