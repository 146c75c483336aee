"""x[key] for every key that NumPy knows, as slice, reshape, transpose and gather nodes.

A key falls apart into one part per axis: a `Cut` (an integer or a slice), a `Pick` (an array of indices; a mask of n
axes is n of them), or a `New` axis. Cuts are done first, by one slice and one reshape; picks by one gather along the
leading axes, with a transpose before it where they do not lead. The axes of the picks end up in front, unless all
picks and integers are neighbours in the key: then they stay where the first of them was (NumPy's rule).
"""

from __future__ import annotations

import operator
from typing import NamedTuple

import numpy as np

from ..errors import Limitation, UsageIndexError, UsageTypeError
from ..ir.node import Node, call
from .aliasing import share, view_of
from .convert import as_array, broadcast_shapes, cast, contains_traced, spread
from .decisions import decided
from .handle import Handle, array_of, check_scope
from .trace import capture, read_values

_INT64 = np.dtype(np.int64)


class Cut(NamedTuple):
    """start, start + step, ...: `length` elements; an integer (`keeps` False) takes one and drops the axis."""

    start: int
    length: int
    step: int
    keeps: bool


class Pick(NamedTuple):
    """The elements at `indices`, an int64 node of any shape."""

    indices: Node


class New(NamedTuple):
    """A new axis of extent 1 in the result; `gap` marks an Ellipsis, which only keeps its neighbours apart."""

    gap: bool = False


def index(x: Handle, key) -> Handle:
    """x[key], as NumPy: UsageIndexError for what is out of range or no index."""
    check_scope(x)
    node = x.node
    items = key if isinstance(key, tuple) else (key,)
    if set(map(type, items)) == _INTEGERS and len(items) <= len(node.aval.shape):
        return _at_integers(x, items)
    shape, parts = _Parser(node.aval.shape).parse(items)
    if shape != node.aval.shape:
        node = call("reshape", node, shape=shape)
    if any(type(part) is Pick for part in parts):
        found = array_of(_picked(_cut(node, parts), parts))
        if found.node.aval.shape and all(not p.indices.aval.shape for p in parts if type(p) is Pick):
            share(found, x)  # rows at traced integers: views, as those at plain ones are
        return found
    node = _reshaped(_cut(node, parts), _basic_shape(parts))
    is_scalar = not node.aval.shape and not any(type(part) is New for part in parts)
    return array_of(node) if is_scalar else view_of(x, node)


def parse_key(extents: tuple[int, ...], items: tuple) -> tuple[tuple[int, ...], list]:
    """The parts of a key, and the extents with axes of 1 added for 0-d masks."""
    return _Parser(extents).parse(items)


_INTEGERS = {int}


def _at_integers(x: Handle, places: tuple[int, ...]) -> Handle:
    """x[i, j, ...] for plain integers: the usual key in loops, so it takes the short way."""
    shape = x.node.aval.shape
    ndim, count = len(shape), len(places)
    starts = tuple([_inside(place, axis, shape[axis]) for axis, place in enumerate(places)])
    rest = shape[count:]
    node = call("slice", x.node, starts=starts + (0,) * (ndim - count), counts=(1,) * count + rest, steps=(1,) * ndim)
    node = call("reshape", node, shape=rest)
    return view_of(x, node) if rest else array_of(node)


def _inside(place: int, axis: int, extent: int) -> int:
    """A non-negative place, or the error."""
    if not -extent <= place < extent:
        raise UsageIndexError(f"index {place} is out of bounds for axis {axis} with size {extent}")
    return place % extent


# --- reading the key


class _Parser:
    """Reads a key for an array of `extents`. 0-d masks add an axis of their own, which `shape` then has."""

    def __init__(self, extents: tuple[int, ...]):
        self.extents = extents
        self.axis = 0
        self.shape: list[int] = []
        self.parts: list = []

    def parse(self, items: tuple) -> tuple[tuple[int, ...], list]:
        read = [self._readable(item) for item in items]
        taken = sum(map(_axes_taken, read))
        dots = sum(item is Ellipsis for item in read)
        if dots > 1:
            raise UsageIndexError("an index can only have a single ellipsis ('...')")
        missing = len(self.extents) - taken
        if missing < 0:
            raise UsageIndexError(
                f"too many indices for array: array is {len(self.extents)}-dimensional, but {taken} were indexed"
            )
        if not dots:
            read.append(Ellipsis)
        for item in read:
            if item is Ellipsis:
                self._skip(missing, marks=bool(dots))
            else:
                self._add(item)
        return tuple(self.shape), self.parts

    def _readable(self, item):
        """None, Ellipsis, a slice or an int as it is; a bool or integer array; a traced integer array."""
        if item is None or item is Ellipsis or isinstance(item, slice):
            return item
        if isinstance(item, (bool, np.bool_)):
            return np.asarray(item)
        if isinstance(item, Handle):
            return _traced_index(item)
        if isinstance(item, (list, tuple)) and contains_traced(item):
            return _traced_index(as_array(item))
        if isinstance(item, np.generic):
            read_values(item)
        if not isinstance(item, (np.ndarray, list, tuple)):
            try:
                return operator.index(item)
            except TypeError:
                if not hasattr(item, "__array__"):
                    raise _no_index(item) from None
        try:
            array = np.asarray(item)
        except (ValueError, TypeError):
            raise _no_index(item) from None
        if array.size == 0 and not isinstance(item, np.ndarray):
            array = array.astype(_INT64)
        if array.dtype.kind not in "biu":
            raise _no_index(item)
        if array.ndim == 0 and array.dtype.kind != "b":
            read_values(array)
            return int(array)
        return array

    def _skip(self, count: int, marks: bool) -> None:
        """Whole axes, for an Ellipsis or the end of the key."""
        if marks:
            self.parts.append(New(gap=True))
        for _ in range(count):
            extent = self._next_extent()
            self.parts.append(Cut(0, extent, 1, True))

    def _next_extent(self) -> int:
        extent = self.extents[self.axis]
        self.axis += 1
        self.shape.append(extent)
        return extent

    def _add(self, item) -> None:
        if item is None:
            self.parts.append(New())
        elif isinstance(item, slice):
            self.parts.append(_cut_of(item, self._next_extent()))
        elif isinstance(item, int):
            axis = self.axis
            self.parts.append(Cut(_inside(item, axis, self._next_extent()), 1, 1, False))
        elif isinstance(item, Handle):
            self._next_extent()
            self.parts.append(Pick(cast(item.node, _INT64)))
        elif item.dtype.kind == "b":
            self._add_mask(item)
        else:
            axis = self.axis
            _check_inside(item, axis, self._next_extent())
            self.parts.append(Pick(cast(capture(item), _INT64)))

    def _add_mask(self, mask: np.ndarray) -> None:
        read_values(mask)
        if mask.ndim == 0:
            self.shape.append(1)
            self.parts.append(Pick(capture(np.zeros(int(mask), _INT64))))
            return
        for k, extent in enumerate(mask.shape):
            axis, size = self.axis, self._next_extent()
            if extent != size:
                raise UsageIndexError(
                    f"boolean index did not match indexed array along axis {axis}; size of axis is {size} but size "
                    f"of corresponding boolean axis is {mask.shape[k]}"
                )
        self.parts.extend(Pick(capture(places)) for places in np.nonzero(mask))


def _axes_taken(item) -> int:
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _no_index(item) -> UsageIndexError:
    return UsageIndexError(
        "only integers, slices (`:`), ellipsis (`...`), None and integer or boolean arrays are valid indices, "
        f"not {type(item).__name__}" + (f" of {item.dtype}" if hasattr(item, "dtype") else ""),
    )


def _traced_index(item: Handle) -> Handle:
    """A traced array as index: integers; a traced mask would decide the shape of the result."""
    kind = item.checked().node.aval.dtype.kind
    if kind == "b":
        raise Limitation(
            "x[mask] with a traced mask: the shape of the result would depend on its values",
            "Use np.where(mask, x, 0) and reduce that, or np.sum(x, where=mask).",
        )
    if kind not in "iu":
        raise _no_index(item)
    return item


def _cut_of(item: slice, extent: int) -> Cut:
    for bound in (item.start, item.stop, item.step):
        if isinstance(bound, Handle) and decided(bound.checked().node) is None:
            raise UsageTypeError(
                "a slice bound is a traced value: the shape of the result would depend on it",
                "For n elements from a traced place i on write x[i + np.arange(n)].",
            )
        if isinstance(bound, (np.generic, np.ndarray)):
            read_values(bound)
    try:
        start, stop, step = item.indices(extent)
    except ValueError:
        raise UsageIndexError("slice step cannot be zero") from None
    except TypeError:
        raise UsageTypeError("slice bounds must be integers or None") from None
    count = len(range(start, stop, step))
    return Cut(start if count else 0, count, step, True)


def _check_inside(array: np.ndarray, axis: int, extent: int) -> None:
    if array.size:
        for place in (array.min(), array.max()):
            _inside(int(place), axis, extent)


# --- cuts


def _cut(node: Node, parts: list) -> Node:
    """`node` after all cuts; the axes of picks whole, those of integers left as 1."""
    extents = iter(node.aval.shape)
    starts, counts, steps = [], [], []
    for part in parts:
        if type(part) is New:
            continue
        extent = next(extents)
        start, count, step, _ = part if type(part) is Cut else (0, extent, 1, True)
        starts.append(start)
        counts.append(count)
        steps.append(step)
    if tuple(counts) == node.aval.shape and not any(starts) and all(step == 1 for step in steps):
        return node
    return call("slice", node, starts=tuple(starts), counts=tuple(counts), steps=tuple(steps))


def _reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    return node if node.aval.shape == shape else call("reshape", node, shape=shape)


def _basic_shape(parts: list) -> tuple[int, ...]:
    """The result's shape of parts without picks."""
    return tuple(
        part.length if type(part) is Cut else 1
        for part in parts
        if (part.keeps if type(part) is Cut else not part.gap)
    )


# --- picks


def _picked(node: Node, parts: list) -> Node:
    """`node` after the cuts, at all picks."""
    node = _reshaped(node, _without_integers(node.aval.shape, parts))
    picks = [part.indices for part in parts if type(part) is Pick]
    kinds = [type(part) for part in parts if type(part) is Pick or (type(part) is Cut and part.keeps)]
    picked = tuple(axis for axis, kind in enumerate(kinds) if kind is Pick)
    kept = tuple(axis for axis, kind in enumerate(kinds) if kind is Cut)
    shape = _common_shape(picks)
    node = _transposed(node, picked + kept)
    found = call("gather", node, *[spread(indices, shape) for indices in picks])
    before, after = _around_picks(parts)
    kept_before = sum(type(part) is Cut for part in before)
    rank = len(shape)
    found = _transposed(
        found,
        (*range(rank, rank + kept_before), *range(rank), *range(rank + kept_before, rank + len(kept))),
    )
    return _reshaped(found, _basic_shape(before) + shape + _basic_shape(after))


def _without_integers(extents: tuple[int, ...], parts: list) -> tuple[int, ...]:
    axes = [part for part in parts if type(part) is not New]
    return tuple(e for e, part in zip(extents, axes, strict=True) if type(part) is Pick or part.keeps)


def _transposed(node: Node, axes: tuple[int, ...]) -> Node:
    return node if axes == tuple(range(len(axes))) else call("transpose", node, axes=axes)


def _common_shape(picks: list[Node]) -> tuple[int, ...]:
    shapes = [indices.aval.shape for indices in picks]
    try:
        return broadcast_shapes(*shapes)
    except ValueError:
        raise UsageIndexError(
            "shape mismatch: indexing arrays could not be broadcast together with shapes "
            + " ".join(map(str, shapes))
        ) from None


def _around_picks(parts: list) -> tuple[list, list]:
    """The kept parts before and after the place where the picks' axes go."""
    advanced = [at for at, part in enumerate(parts) if type(part) is Pick or (type(part) is Cut and not part.keeps)]
    first, last = advanced[0], advanced[-1]
    together = last - first + 1 == len(advanced)
    start = first if together else 0
    return _kept(parts[:start]), _kept(parts[start:])


def _kept(parts: list) -> list:
    return [part for part in parts if type(part) is New or (type(part) is Cut and part.keeps)]
