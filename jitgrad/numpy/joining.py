"""NumPy's joining and splitting of arrays, insertion and deletion."""

from __future__ import annotations

import numpy as np

from ..errors import Limitation, UsageTypeError, UsageValueError
from ..ir.node import Node
from ._build import (
    axis_of,
    cast,
    common,
    flat,
    flat_unless,
    implementation,
    insert_axis,
    is_traced,
    join,
    move,
    newer,
    node_of,
    number_as,
    part,
    plain_int,
    refuse_out,
    reshape,
    spread,
    static_array,
)
from .shaping import atleast_1d, atleast_2d, atleast_3d, pick, with_axes


def _sequence(arrays, name: str) -> list:
    """The arrays to join; a traced array stands for its rows."""
    arrays = list(arrays)
    if not arrays:
        raise UsageValueError(f"need at least one array to {name}")
    return arrays


def _in_one_dtype(arrays, dtype, casting) -> list[Node]:
    """Arrays, never weak, in their result type or in `dtype`."""
    nodes = [node_of(array) for array in arrays]
    if dtype is None:
        return common(*nodes)
    for node in nodes:
        if not np.can_cast(node.dtype, dtype, casting):
            raise UsageTypeError(
                f"Cannot cast array data from {node.dtype} to {np.dtype(dtype)} by rule {casting!r}"
            )
    return [cast(node, dtype) for node in nodes]


@implementation(np.concatenate)
def concatenate(arrays, /, axis=0, out=None, *, dtype=None, casting="same_kind"):
    refuse_out(out)
    nodes = _in_one_dtype(_sequence(arrays, "concatenate"), dtype, casting)
    if axis is None:
        return join([flat(node) for node in nodes], 0)
    first = nodes[0]
    if any(not node.ndim for node in nodes):
        raise UsageValueError("zero-dimensional arrays cannot be concatenated")
    axis = axis_of(axis, first.ndim)
    for node in nodes[1:]:
        if node.ndim != first.ndim or _without(node.shape, axis) != _without(first.shape, axis):
            raise UsageValueError(
                f"arrays of shapes {first.shape} and {node.shape} cannot be concatenated along axis {axis}",
                "All other extents must be equal.",
            )
    return join(nodes, axis)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


@implementation(np.stack)
def stack(arrays, axis=0, out=None, *, dtype=None, casting="same_kind"):
    refuse_out(out)
    nodes = _in_one_dtype(_sequence(arrays, "stack"), dtype, casting)
    if len({node.shape for node in nodes}) > 1:
        raise UsageValueError(
            "all input arrays must have the same shape, not "
            + ", ".join(str(shape) for shape in dict.fromkeys(node.shape for node in nodes))
        )
    axis = axis_of(axis, nodes[0].ndim + 1)
    return join([insert_axis(node, axis) for node in nodes], axis)


@implementation(np.vstack)
def vstack(tup, *, dtype=None, casting="same_kind"):
    rows = [atleast_2d(array) for array in _sequence(tup, "concatenate")]
    return concatenate(rows, 0, dtype=dtype, casting=casting)


@implementation(np.hstack)
def hstack(tup, *, dtype=None, casting="same_kind"):
    columns = [atleast_1d(array) for array in _sequence(tup, "concatenate")]
    return concatenate(columns, 0 if columns[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implementation(np.dstack)
def dstack(tup):
    return concatenate([atleast_3d(array) for array in _sequence(tup, "concatenate")], 2)


@implementation(np.column_stack)
def column_stack(tup):
    columns = [node_of(array) for array in _sequence(tup, "concatenate")]
    return concatenate([x if x.ndim >= 2 else reshape(x, (x.aval.size, 1)) for x in columns], 1)


@implementation(np.append)
def append(arr, values, axis=None):
    if axis is None:
        return concatenate([flat(node_of(arr)), flat(node_of(values))])
    return concatenate([arr, values], axis)


@implementation(np.block)
def block(arrays):
    depth = _depth(arrays)
    rank = max([depth, *(node.ndim for node in _leaves(arrays))])

    def assembled(nest, level: int) -> Node:
        if not isinstance(nest, list):
            x = node_of(nest)
            return reshape(x, (1,) * (rank - x.ndim) + x.shape)
        return concatenate([assembled(inner, level + 1) for inner in nest], rank - depth + level)

    return assembled(arrays, 0)


def _depth(nest) -> int:
    if isinstance(nest, tuple):
        raise UsageTypeError("np.block takes lists, not tuples")
    if not isinstance(nest, list):
        return 0
    depths = {_depth(inner) for inner in nest}
    if len(depths) != 1:
        raise UsageValueError("np.block: the lists must all be nested equally deep and not be empty")
    return depths.pop() + 1


def _leaves(nest) -> list[Node]:
    if not isinstance(nest, list):
        return [node_of(nest)]
    return [leaf for inner in nest for leaf in _leaves(inner)]


# --- splitting


@implementation(np.array_split)
def array_split(ary, indices_or_sections, axis=0):
    x = node_of(ary)
    along = axis_of(axis, x.ndim)
    cuts = _cuts(x.shape[along], indices_or_sections)
    # A cut behind the next one gives an empty piece, as slicing does.
    bounds = [
        slice(low, high).indices(x.shape[along])[:2] for low, high in zip(cuts[:-1], cuts[1:], strict=True)
    ]
    return [part(x, along, low, max(high - low, 0)) for low, high in bounds]


def _cuts(extent: int, indices_or_sections) -> list:
    if np.ndim(indices_or_sections):
        cuts = static_array(indices_or_sections, "the places to split at")
        return [0, *(plain_int(cut) for cut in cuts), None]
    sections = plain_int(indices_or_sections)
    if sections <= 0:
        raise UsageValueError("number sections must be larger than 0.")
    each, extras = divmod(extent, sections)
    return [k * each + min(k, extras) for k in range(sections + 1)]


@implementation(np.split)
def split(ary, indices_or_sections, axis=0):
    x = node_of(ary)
    if not is_traced(indices_or_sections) and not np.ndim(indices_or_sections):
        extent, sections = x.shape[axis_of(axis, x.ndim)], plain_int(indices_or_sections)
        if sections > 0 and extent % sections:
            raise UsageValueError(
                f"array split does not result in an equal division: {extent} elements, {sections} sections"
            )
    return array_split(x, indices_or_sections, axis)


@implementation(np.vsplit)
def vsplit(ary, indices_or_sections):
    return split(with_axes(ary, 2, "vsplit"), indices_or_sections, 0)


@implementation(np.hsplit)
def hsplit(ary, indices_or_sections):
    x = with_axes(ary, 1, "hsplit")
    return split(x, indices_or_sections, 1 if x.ndim > 1 else 0)


@implementation(np.dsplit)
def dsplit(ary, indices_or_sections):
    return split(with_axes(ary, 3, "dsplit"), indices_or_sections, 2)


@implementation(newer("unstack"))
def unstack(x, /, *, axis=0):
    x = with_axes(x, 1, "unstack")
    along = axis_of(axis, x.ndim)
    rest = _without(x.shape, along)
    return tuple(reshape(part(x, along, k, 1), rest) for k in range(x.shape[along]))


# --- insertion and deletion, at places that are known while tracing


@implementation(np.delete)
def delete(arr, obj, axis=None):
    x, axis = flat_unless(node_of(arr), axis)
    if not isinstance(obj, slice):
        static_array(obj, "the places to delete")
    try:
        kept = np.delete(np.arange(x.shape[axis]), obj)
    except (IndexError, ValueError) as error:
        raise UsageValueError(f"np.delete: {error}") from None
    return pick(x, axis, kept)


@implementation(np.insert)
def insert(arr, obj, values, axis=None):
    x, axis = flat_unless(node_of(arr), axis)
    extent = x.shape[axis]
    places = (
        np.arange(extent)[obj] if isinstance(obj, slice) else static_array(obj, "the places to insert at")
    )
    new = number_as(values, x.dtype)
    single = places.size == 1
    if places.dtype == np.bool_:
        raise Limitation("np.insert at a mask is not supported", "Pass the places: np.flatnonzero(mask).")
    if single and places.ndim == 0:  # one place: values are laid along the axis as they come
        new = reshape(new, (1,) * (x.ndim - new.ndim) + new.shape)
        new = move(new, (0,), (axis,))
    count = new.shape[axis] if single and new.ndim == x.ndim else places.size
    new = spread(new, x.shape[:axis] + (count,) + x.shape[axis + 1 :])
    order = _insertion_order(extent, places.reshape(-1), count)
    return pick(join([x, new], axis), axis, order)


def _insertion_order(extent: int, places: np.ndarray, count: int) -> np.ndarray:
    """For each place of the result the place in old elements followed by new ones."""
    if ((places < -extent) | (places > extent)).any():
        raise UsageValueError(
            f"np.insert: a place in {places.tolist()} is out of bounds for axis of size {extent}"
        )
    places = np.where(places < 0, places + extent, places)
    places = np.repeat(places, count) if places.size == 1 else places
    return np.insert(np.arange(extent), places, np.arange(extent, extent + count))
