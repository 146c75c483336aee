"""NumPy's changes of shape and order: nothing is computed, elements only get other places."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import UsageTypeError, UsageValueError
from ..ir.node import Node, call
from ._build import (
    axes_of,
    axis_of,
    broadcast_shapes,
    filled,
    flat,
    implementation,
    join,
    lenient_axes,
    move,
    node_of,
    ordered_axes,
    part,
    plain_int,
    reshape,
    shape_of,
    spread,
    static_array,
    transpose,
)

# --- reshape


@implementation(np.reshape)
def reshape_(a, /, shape, order="C", *, copy=None):
    x = node_of(a)
    shape = _with_inferred(shape_of(shape), x)
    if order == "F":
        backwards = transpose(x, tuple(range(x.ndim))[::-1])
        return transpose(reshape(backwards, shape[::-1]), tuple(range(len(shape)))[::-1])
    if order not in ("C", "A"):
        raise UsageValueError(f"order must be one of 'C', 'F', 'A', not {order!r}")
    return reshape(x, shape)


def _with_inferred(shape: tuple[int, ...], x: Node) -> tuple[int, ...]:
    """`shape` with the one extent -1, if there is one, worked out."""
    size, known = x.aval.size, prod(extent for extent in shape if extent >= 0)
    unknown = [k for k, extent in enumerate(shape) if extent < 0]
    if len(unknown) > 1:
        raise UsageValueError("can only specify one unknown dimension")
    if unknown and known and size % known == 0:
        return tuple(size // known if extent < 0 else extent for extent in shape)
    if unknown or known != size:
        raise UsageValueError(f"cannot reshape array of size {size} (shape {x.shape}) into shape {shape}")
    return shape


@implementation(np.ravel)
def ravel(a, order="C"):
    return reshape_(a, -1, "F" if order == "F" else "C")


@implementation(np.resize)
def resize(a, new_shape):
    x, shape = flat(node_of(a)), shape_of(new_shape)
    if not x.aval.size:
        return filled(shape, 0, x.dtype)
    return reshape(part(_repeated(x, 0, -(-prod(shape) // x.aval.size)), 0, 0, prod(shape)), shape)


@implementation(np.expand_dims)
def expand_dims(a, axis):
    x = node_of(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    axes = ordered_axes(axis, x.ndim + count)
    extents = iter(x.shape)
    return reshape(x, tuple(1 if k in axes else next(extents) for k in range(x.ndim + count)))


@implementation(np.squeeze)
def squeeze(a, axis=None):
    x = node_of(a)
    axes = [k for k, extent in enumerate(x.shape) if extent == 1] if axis is None else lenient_axes(axis, x)
    if any(x.shape[k] != 1 for k in axes):
        raise UsageValueError(f"cannot squeeze axis {axis} of shape {x.shape}: its extent is not one")
    return reshape(x, tuple(extent for k, extent in enumerate(x.shape) if k not in axes))


def _at_least(arrays, wanted) -> Node | tuple[Node, ...]:
    results = tuple(wanted(node_of(array)) for array in arrays)
    return results[0] if len(results) == 1 else results


@implementation(np.atleast_1d)
def atleast_1d(*arys):
    return _at_least(arys, lambda x: x if x.ndim else reshape(x, (1,)))


@implementation(np.atleast_2d)
def atleast_2d(*arys):
    return _at_least(arys, lambda x: x if x.ndim >= 2 else reshape(x, (1, x.aval.size)))


@implementation(np.atleast_3d)
def atleast_3d(*arys):
    shapes = {0: lambda s: (1, 1, 1), 1: lambda s: (1, *s, 1), 2: lambda s: (*s, 1)}
    return _at_least(arys, lambda x: reshape(x, shapes[x.ndim](x.shape)) if x.ndim < 3 else x)


# --- order of axes


@implementation(np.transpose, np.permute_dims)
def transpose_(a, axes=None):
    x = node_of(a)
    if axes is None:
        return transpose(x, tuple(range(x.ndim))[::-1])
    order = ordered_axes(axes, x.ndim)
    if len(order) != x.ndim:
        raise UsageValueError(f"axes {tuple(axes)} don't match array of shape {x.shape}")
    return transpose(x, order)


@implementation(np.matrix_transpose, np.linalg.matrix_transpose)
def matrix_transpose(x, /):
    x = node_of(x)
    if x.ndim < 2:
        raise UsageValueError(f"Input array must be at least 2-dimensional, but it is {x.ndim}")
    return swap(x, -1, -2)


@implementation(np.swapaxes)
def swap(a, axis1, axis2):
    x = node_of(a)
    order = list(range(x.ndim))
    one, two = axis_of(axis1, x.ndim), axis_of(axis2, x.ndim)
    order[one], order[two] = order[two], order[one]
    return transpose(x, tuple(order))


@implementation(np.moveaxis)
def moveaxis(a, source, destination):
    x = node_of(a)
    source, destination = ordered_axes(source, x.ndim), ordered_axes(destination, x.ndim)
    if len(source) != len(destination):
        raise UsageValueError("`source` and `destination` arguments must have the same number of elements")
    return move(x, source, destination)


@implementation(np.rollaxis)
def rollaxis(a, axis, start=0):
    x = node_of(a)
    axis, start = axis_of(axis, x.ndim), plain_int(start)
    if not -x.ndim <= start <= x.ndim:
        raise UsageValueError(f"start={start} is out of bounds for an array of dimension {x.ndim}")
    start += x.ndim if start < 0 else 0
    return move(x, (axis,), (start - 1 if axis < start else start,))


@implementation(np.flip)
def flip(m, axis=None):
    x = node_of(m)
    axes = axes_of(axis, x.ndim)
    if not axes or not x.aval.size:
        return x
    starts = tuple(extent - 1 if k in axes else 0 for k, extent in enumerate(x.shape))
    steps = tuple(-1 if k in axes else 1 for k in range(x.ndim))
    return call("slice", x, starts=starts, counts=x.shape, steps=steps)


@implementation(np.fliplr)
def fliplr(m):
    return flip(with_axes(m, 2, "fliplr"), 1)


@implementation(np.flipud)
def flipud(m):
    return flip(with_axes(m, 1, "flipud"), 0)


def with_axes(m, count: int, name: str) -> Node:
    """The node of m, which must have `count` axes or more; `name` is the function that needs them."""
    x = node_of(m)
    if x.ndim < count:
        raise UsageValueError(
            f"np.{name}: the array must have at least {count} dimension(s), its shape is {x.shape}"
        )
    return x


@implementation(np.rot90)
def rot90(m, k=1, axes=(0, 1)):
    x = node_of(m)
    if len(tuple(axes)) != 2:
        raise UsageValueError("len(axes) must be 2.")
    one, two = ordered_axes(tuple(axes), x.ndim)
    turns = plain_int(k) % 4
    if turns == 0:
        return x
    if turns == 2:
        return flip(x, (one, two))
    return swap(flip(x, two), one, two) if turns == 1 else flip(swap(x, one, two), two)


# --- broadcasting and repeating


@implementation(np.broadcast_to)
def broadcast_to(array, shape, subok=False):
    return spread(node_of(array), shape_of(shape))


@implementation(np.broadcast_arrays)
def broadcast_arrays(*args, subok=False):
    nodes = [node_of(arg) for arg in args]
    shape = broadcast_shapes(*[node.shape for node in nodes])
    return tuple(spread(node, shape) for node in nodes)


def _repeated(x: Node, axis: int, times: int) -> Node:
    """x `times` times over, one after the other along `axis`."""
    if times == 1:
        return x
    shape = (*x.shape[:axis], times, *x.shape[axis:])
    axes = tuple(k for k in range(len(shape)) if k != axis)
    joined = (*x.shape[:axis], times * x.shape[axis], *x.shape[axis + 1 :])
    return reshape(call("broadcast", x, shape=shape, axes=axes), joined)


@implementation(np.tile)
def tile(A, reps):
    x, reps = node_of(A), shape_of(reps)
    rank = max(x.ndim, len(reps))
    reps = (1,) * (rank - len(reps)) + reps
    x = reshape(x, (1,) * (rank - x.ndim) + x.shape)
    # (a, b) tiled (r, s) times is the broadcast (r, a, s, b) read as (r a, s b).
    shape = tuple(extent for pair in zip(reps, x.shape, strict=True) for extent in pair)
    wide = call("broadcast", x, shape=shape, axes=tuple(range(1, 2 * rank, 2))) if rank else x
    return reshape(wide, tuple(r * extent for r, extent in zip(reps, x.shape, strict=True)))


@implementation(np.repeat)
def repeat(a, repeats, axis=None):
    x = node_of(a)
    if axis is None or x.ndim == 0:
        x, axis = flat(x), 0
    axis = axis_of(axis, x.ndim)
    counts = static_array(repeats, "repeats")
    if counts.size != 1:
        if counts.shape != (x.shape[axis],):
            raise UsageValueError(
                f"{counts.size} repeats do not match axis {axis} of an array of shape {x.shape}"
            )
        return pick(x, axis, np.repeat(np.arange(x.shape[axis]), counts))
    times = plain_int(counts.reshape(())[()])
    if times < 0:
        raise UsageValueError("repeats may not contain negative values.")
    shape = (*x.shape[: axis + 1], times, *x.shape[axis + 1 :])
    axes = tuple(k for k in range(len(shape)) if k != axis + 1)
    joined = (*x.shape[:axis], times * x.shape[axis], *x.shape[axis + 1 :])
    return reshape(call("broadcast", x, shape=shape, axes=axes), joined)


# --- picking by places that are known while tracing

_MOST_RUNS = 16


def pick(x: Node, axis: int, places: np.ndarray) -> Node:
    """x[places] along `axis` for plain non-negative places: a join of strided pieces where they are few, as a
    gather costs an index per element and its gradient a scatter."""
    runs = _runs(places)
    if len(runs) > _MOST_RUNS:
        taken = call("gather", move(x, (axis,), (0,)), node_of(np.ascontiguousarray(places, np.int64)))
        return move(taken, (0,), (axis,))
    pieces = [_run(x, axis, *run) for run in runs]
    return join(pieces, axis) if pieces else part(x, axis, 0, 0)


def _runs(places: np.ndarray) -> list[tuple[int, int, int]]:
    """`places` as (start, count, step) runs of equal steps."""
    runs: list[tuple[int, int, int]] = []
    numbers = [int(place) for place in places]
    k = 0
    while k < len(numbers):
        end = k + 1
        step = numbers[end] - numbers[k] if end < len(numbers) else 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
            end += 1
        if end - k == 2 and step not in (-1, 0, 1):  # two far places: the second may start a longer run
            end = k + 1
        runs.append((numbers[k], end - k, step if end - k > 1 else 1))
        k = end
    return runs


def _run(x: Node, axis: int, start: int, count: int, step: int) -> Node:
    if step:
        return part(x, axis, start, count, step)
    shape = x.shape[:axis] + (count,) + x.shape[axis + 1 :]
    return spread(part(x, axis, start, 1), shape)


@implementation(np.roll)
def roll(a, shift, axis=None):
    x = node_of(a)
    if axis is None:
        return reshape(roll(flat(x), static_integers(shift, "shift").sum(), 0), x.shape)
    shifts, axes = np.broadcast_arrays(static_integers(shift, "shift"), np.asarray(axis))
    for distance, one in zip(shifts.ravel(), axes.ravel(), strict=True):
        along = axis_of(one, x.ndim)
        extent = x.shape[along]
        cut = int(-distance % extent) if extent else 0
        if cut:
            x = join([part(x, along, cut, extent - cut), part(x, along, 0, cut)], along)
    return x


def static_integers(value, what: str) -> np.ndarray:
    array = static_array(value, what)
    if array.dtype.kind not in "iub" and array.size:
        raise UsageTypeError(f"{what} must be of integers, not {array.dtype}")
    return array.astype(np.int64)
