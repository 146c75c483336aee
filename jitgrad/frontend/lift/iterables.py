"""What a loop may go over by a counter: ranges with traced bounds, traced arrays, and enumerate, zip, reversed of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageTypeError
from ...ir.node import call, full
from ..array import Array
from ..convert import as_array, cast

INT64 = np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class Lane:
    """`length` items, `at(i)` being item i: both plain or traced."""

    length: Any
    at: Callable[[Any], Any]

    def __iter__(self) -> Iterator:
        if isinstance(self.length, Array):
            raise UsageTypeError(
                "a range with a traced bound can only be looped over by a `for` statement",
                "Write the loop as statements in a function whose source can be read.",
            )
        return map(self.at, range(self.length))

    def __len__(self) -> int:
        return self.length.__index__()


def lane_of(items) -> Lane | None:
    """`items` as a lane; None for what has to be gone through by Python."""
    if isinstance(items, Lane):
        return items
    if isinstance(items, range):
        start, step = items.start, items.step
        return Lane(len(items), lambda i: _number(start, step, i))
    if isinstance(items, Array) and items.ndim:
        return Lane(items.shape[0], lambda i: items[i])
    return None


def _number(start, step, i):
    if isinstance(step, int) and step == 1:
        return i if isinstance(start, int) and start == 0 else start + i
    return start + i * step


def traced_range(*bounds) -> Lane | range:
    """`range` with bounds of which some are traced integers."""
    if not any(isinstance(bound, Array) for bound in bounds):
        return range(*bounds)
    for bound in bounds:
        if isinstance(bound, Array) and (bound.shape or bound.dtype.kind not in "iub"):
            raise UsageTypeError(f"range() of a traced value of dtype {bound.dtype}, shape {bound.shape}", "Use integers.")
    start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if isinstance(step, int) and step == 0:
        raise ValueError("range() arg 3 must not be zero")
    # ceil((stop - start) / step), at least 0
    first, last, by = (cast(as_array(bound).node, INT64) for bound in (start, stop, step))
    if isinstance(step, int) and abs(step) == 1:
        length = last - first if step > 0 else first - last
    else:
        length = -call("floor_divide", first - last, by)
    length = call("maximum", length, full(0, length.aval))
    return Lane(Array(length, int), lambda i: _number(start, step, i))


def enumerated(items, start=0) -> Any:
    """`enumerate`, by counter where that is possible."""
    lane = lane_of(items)
    if lane is None or isinstance(items, range):
        return enumerate(items, start)
    return Lane(lane.length, lambda i: (_number(start, 1, i), lane.at(i)))


def zipped(*items, strict: bool = False) -> Any:
    """`zip`, by counter where all items can be."""
    lanes = [lane_of(one) for one in items]
    if not items or None in lanes or not any(isinstance(one, (Array, Lane)) for one in items):
        return zip(*items, strict=strict)
    found = [lane for lane in lanes if lane is not None]
    length = found[0].length
    for lane in found[1:]:
        if isinstance(length, Array) or isinstance(lane.length, Array):
            shorter = call("minimum", *(cast(as_array(n).node, INT64) for n in (length, lane.length)))
            length = Array(shorter, int)
        elif strict and lane.length != length:
            raise ValueError("zip() arguments have different lengths")
        else:
            length = min(length, lane.length)
    return Lane(length, lambda i: tuple(lane.at(i) for lane in found))


def backwards(items) -> Any:
    """`reversed`, by counter where that is possible."""
    lane = lane_of(items)
    if lane is None or isinstance(items, range):
        return reversed(items)
    return Lane(lane.length, lambda i: lane.at(lane.length - 1 - i))
