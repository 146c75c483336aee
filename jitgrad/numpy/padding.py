"""np.pad in all its modes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import Limitation, UsageValueError
from ..ir.node import Node, call
from ._build import (
    BOOL,
    axis_of,
    cast,
    floating,
    implementation,
    iota,
    join,
    minus,
    node_of,
    number_as,
    part,
    reshape,
    spread,
)
from .ordering import median
from .reductions import max_, min_
from .shaping import flip, pick, static_integers
from .statistics import mean

_PICKED = ("edge", "reflect", "symmetric", "wrap")
_STATISTICS = {"maximum": max_, "minimum": min_, "mean": mean, "median": median}
_OPTIONS: dict[str, set[str]] = {
    "constant": {"constant_values"}, "linear_ramp": {"end_values"}, "edge": set(), "wrap": set(),
    "empty": set(), "reflect": {"reflect_type"}, "symmetric": {"reflect_type"},
    **{name: {"stat_length"} for name in _STATISTICS},
}  # fmt: skip


@implementation(np.pad)
def pad(array, pad_width, mode="constant", **kwargs):
    x = node_of(array)
    widths = _widths(pad_width, x.ndim)
    if callable(mode):
        raise Limitation(
            "np.pad with a function as mode is not supported", f"There are: {', '.join(_OPTIONS)}."
        )
    if mode not in _OPTIONS:
        raise UsageValueError(f"np.pad: mode {mode!r} is not supported", f"There are: {', '.join(_OPTIONS)}.")
    if unknown := set(kwargs) - _OPTIONS[mode]:
        raise UsageValueError(f"np.pad: unsupported keyword arguments for mode {mode!r}: {sorted(unknown)}")
    if mode == "constant" and _is_zero(kwargs.get("constant_values", 0), x):
        return _framed_by_zeros(x, widths)
    ends = _per_side(kwargs.get("constant_values", kwargs.get("end_values", 0)), x, mode)
    for axis, pair in enumerate(widths):
        if pair != (0, 0):
            if not x.shape[axis] and mode not in ("constant", "empty"):
                raise UsageValueError(
                    f"np.pad: axis {axis} of shape {x.shape} is empty: mode {mode!r} cannot extend it"
                )
            x = _padded(x, axis, pair, mode, kwargs, ends)
    return x


def _padded(x: Node, axis: int, pair: tuple[int, int], mode: str, options: dict, ends: Node) -> Node:
    """x padded along one axis."""
    if mode in _PICKED:
        if options.get("reflect_type", "even") == "odd":
            return _reflected_oddly(x, axis, pair, mode)
        return pick(x, axis, _places(x.shape[axis], pair, mode))
    if mode in _STATISTICS:
        before, after = (_statistic(x, axis, side, mode, options) for side in (0, 1))
    elif mode == "linear_ramp":
        before, after = (_ramp(x, axis, side, pair[side], ends) for side in (0, 1))
    else:
        before, after = (_end_value(ends, axis, side, x.ndim) for side in (0, 1))
    around = [_stretched(side, x, axis, width) for side, width in zip((before, after), pair, strict=True)]
    return join([piece for piece in (around[0], x, around[1]) if piece.shape[axis]] or [x], axis)


def _stretched(side: Node, x: Node, axis: int, width: int) -> Node:
    return spread(side, x.shape[:axis] + (width,) + x.shape[axis + 1 :])


def _widths(pad_width, ndim: int) -> list[tuple[int, int]]:
    """(before, after) of each axis from the forms that np.pad takes."""
    if isinstance(pad_width, dict):
        widths = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            widths[axis_of(axis, ndim)] = width if isinstance(width, tuple) else (width, width)
        pad_width = widths
    widths = [
        (int(before), int(after)) for before, after in _pairs(static_integers(pad_width, "pad_width"), ndim)
    ]
    if any(width < 0 for pair in widths for width in pair):
        raise UsageValueError("index can't contain negative values")
    return widths


def _pairs(array: np.ndarray, ndim: int) -> np.ndarray:
    try:
        return np.broadcast_to(array, (ndim, 2))
    except ValueError:
        raise UsageValueError(
            f"np.pad: shape {array.shape} does not fit an array of {ndim} dimensions"
        ) from None


def _is_zero(values, x: Node) -> bool:
    return type(values) in (int, float) and values == 0 and x.dtype != BOOL


def _framed_by_zeros(x: Node, widths) -> Node:
    shape = tuple(extent + sum(pair) for extent, pair in zip(x.shape, widths, strict=True))
    starts = tuple(before for before, _ in widths)
    return x if shape == x.shape else call("place", x, shape=shape, starts=starts, steps=(1,) * x.ndim)


def _per_side(values, x: Node, mode: str) -> Node:
    """Values as shape (ndim, 2), in x's dtype, for a ramp in the dtype that it is computed in."""
    return spread(number_as(values, floating(x).dtype if mode == "linear_ramp" else x.dtype), (x.ndim, 2))


def _end_value(ends: Node, axis: int, side: int, ndim: int) -> Node:
    return reshape(part(part(ends, 0, axis, 1), 1, side, 1), (1,) * ndim)


def _edge(x: Node, axis: int, side: int) -> Node:
    return part(x, axis, (x.shape[axis] - 1) * side, 1)


def _places(extent: int, pair: tuple[int, int], mode: Any) -> np.ndarray:
    try:
        return np.pad(np.arange(extent), pair, mode=mode)
    except ValueError as error:
        raise UsageValueError(f"np.pad: {error}") from None


def _reflected_oddly(x: Node, axis: int, pair: tuple[int, int], mode: str) -> Node:
    """2 edge - the even reflection: the continuation is point symmetric about the edge."""
    extent = x.shape[axis]
    if max(pair) > extent - (mode == "reflect"):
        raise Limitation(
            f"np.pad with reflect_type='odd' is not supported for pads {pair} longer than the array"
        )
    even = pick(x, axis, _places(extent, pair, mode))
    low, high = part(even, axis, 0, pair[0]), part(even, axis, pair[0] + extent, pair[1])
    sides = [minus(spread(_edge(x, axis, k), piece.shape) * 2, piece) for k, piece in enumerate((low, high))]
    return join([sides[0], x, sides[1]], axis)


def _ramp(x: Node, axis: int, side: int, width: int, ends: Node) -> Node:
    """From the end value, at the far end, evenly towards the edge."""
    edge = _edge(x, axis, side)
    shape = x.shape[:axis] + (width,) + x.shape[axis + 1 :]
    dtype = ends.dtype
    start = spread(_end_value(ends, axis, side, x.ndim), shape)
    step = (spread(cast(edge, dtype), shape) - start) / max(width, 1)
    ramp = start + iota(shape, axis, dtype) * step
    ramp = flip(ramp, axis) if side else ramp
    return cast(call("floor", ramp) if x.dtype.kind in "iu" else ramp, x.dtype)


def _statistic(x: Node, axis: int, side: int, mode: str, options: dict) -> Node:
    """The statistic of the elements nearest to an edge, as many as `stat_length` says."""
    extent, given = x.shape[axis], options.get("stat_length")
    length = (
        extent if given is None else int(_pairs(static_integers(given, "stat_length"), x.ndim)[axis, side])
    )
    if length < 1:
        raise UsageValueError("np.pad: stat_length must be positive")
    length = min(length, extent)
    near = part(x, axis, (extent - length) * side, length)
    value = _STATISTICS[mode](near, axis, keepdims=True)
    return cast(call("rint", value) if x.dtype.kind in "iu" and value.dtype.kind == "f" else value, x.dtype)
