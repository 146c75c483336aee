"""NumPy's reductions: sums, products, extrema and their places, counts, and variants that pass over nan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import UsageValueError
from ..ir.node import Node, call
from ._build import (
    BOOL,
    INT,
    NOT_GIVEN,
    axis_of,
    cast,
    count_along,
    either,
    equal,
    filled,
    flat,
    highest,
    implementation,
    insert_axis,
    iota,
    keep,
    lenient_axes,
    lowest,
    minus,
    node_of,
    nonzero,
    number_as,
    plus,
    reduce,
    refuse_out,
    select,
    spread,
    spread_all,
    times,
)


@dataclass(frozen=True, eq=False)
class Fold:
    """A reduction: its primitives for numbers and for bool, its neutral value, and how `initial` joins."""

    name: str
    primitive: str
    on_bool: str
    neutral: Callable
    join: Callable


def _larger(x: Node, y: Node) -> Node:
    return either(x, y) if x.dtype == BOOL else call("maximum", *spread_all(x, y))


def _smaller(x: Node, y: Node) -> Node:
    return call("logical_and", x, y) if x.dtype == BOOL else call("minimum", *spread_all(x, y))


SUM = Fold("add", "reduce_sum", "reduce_max", lambda dtype: 0, plus)
PROD = Fold("multiply", "reduce_prod", "reduce_min", lambda dtype: 1, times)
MAX = Fold("maximum", "reduce_max", "reduce_max", lowest, _larger)
MIN = Fold("minimum", "reduce_min", "reduce_min", highest, _smaller)


def fold(kind: Fold, x: Node, axis=None, keepdims=False, initial=NOT_GIVEN, where=True) -> Node:
    """x reduced along `axis`; elements where the mask is false do not count."""
    axes = lenient_axes(axis, x)
    given = initial is not NOT_GIVEN and initial is not None
    if kind in (MAX, MIN) and not given:
        _needs_elements(kind, x, axes, where)
    x = masked(x, where, kind.neutral(x.dtype))
    if not count_along(x.shape, axes):
        result = filled(
            tuple(e for k, e in enumerate(x.shape) if k not in axes), kind.neutral(x.dtype), x.dtype
        )
    else:
        result = reduce(kind.on_bool if x.dtype == BOOL else kind.primitive, x, axes)
    if given:
        result = kind.join(result, spread(number_as(initial, x.dtype), result.shape))
    return keep(result, x.shape, axes, keepdims)


def _needs_elements(kind: Fold, x: Node, axes: tuple[int, ...], where) -> None:
    if where is not True:
        raise UsageValueError(
            f"reduction operation '{kind.name}' does not have an identity: with where= give initial= as well"
        )
    if axes and not count_along(x.shape, axes):
        raise UsageValueError(
            f"zero-size array (shape {x.shape}) to reduction operation {kind.name}, which has no identity"
        )


def masked(x: Node, where, neutral) -> Node:
    """x with `neutral` where the mask `where` is false."""
    if where is True:
        return x
    return select(spread(nonzero(node_of(where)), x.shape), x, neutral)


def summable(x: Node, dtype=None) -> Node:
    """x in the dtype that NumPy adds and multiplies it in: small integers and bool become 64 bit wide."""
    if dtype is not None:
        return cast(x, dtype)
    if x.dtype.kind == "u" and x.dtype.itemsize < 8:
        return cast(x, np.uint64)
    return cast(x, INT) if x.dtype.kind in "bi" else x


@implementation(np.sum)
def sum_(a, axis=None, dtype=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    refuse_out(out)
    return fold(SUM, summable(node_of(a), dtype), axis, keepdims, initial, where)


@implementation(np.prod)
def prod_(a, axis=None, dtype=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    refuse_out(out)
    return fold(PROD, summable(node_of(a), dtype), axis, keepdims, initial, where)


@implementation(np.max, np.amax)
def max_(a, axis=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    """Elements that tie for the maximum share its gradient equally."""
    refuse_out(out)
    return fold(MAX, node_of(a), axis, keepdims, initial, where)


@implementation(np.min, np.amin)
def min_(a, axis=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    refuse_out(out)
    return fold(MIN, node_of(a), axis, keepdims, initial, where)


@implementation(np.any)
def any_(a, axis=None, out=None, keepdims=False, *, where=True):
    refuse_out(out)
    return fold(MAX, nonzero(node_of(a)), axis, keepdims, False, where)


@implementation(np.all)
def all_(a, axis=None, out=None, keepdims=False, *, where=True):
    refuse_out(out)
    return fold(MIN, nonzero(node_of(a)), axis, keepdims, True, where)


@implementation(np.ptp)
def ptp(a, axis=None, out=None, keepdims=False):
    refuse_out(out)
    x = node_of(a)
    return minus(fold(MAX, x, axis, keepdims), fold(MIN, x, axis, keepdims))


@implementation(np.count_nonzero)
def count_nonzero(a, axis=None, *, keepdims=False):
    return fold(SUM, cast(nonzero(node_of(a)), INT), axis, keepdims)


# --- places of extrema


@implementation(np.argmax)
def argmax(a, axis=None, out=None, *, keepdims=False):
    return _first_place(MAX, a, axis, out, keepdims)


@implementation(np.argmin)
def argmin(a, axis=None, out=None, *, keepdims=False):
    return _first_place(MIN, a, axis, out, keepdims)


def _first_place(kind: Fold, a, axis, out, keepdims) -> Node:
    """The smallest index at which x is its extremum, or nan if there is one."""
    refuse_out(out)
    x = node_of(a)
    shape = x.shape
    if axis is None:
        x, along = flat(x), 0
    elif x.ndim == 0:
        axis_of(axis, 1)
        x, along, axis = flat(x), 0, None
    else:
        along = axis_of(axis, x.ndim)
    if not x.shape[along]:
        raise UsageValueError(f"attempt to get arg{kind.name[:3]} of an empty sequence")
    x = cast(x, np.int8) if x.dtype == BOOL else x
    found = equal(x, insert_axis(reduce(kind.primitive, x, (along,)), along))
    if x.dtype.kind == "f":
        found = either(found, call("isnan", x))
    place = reduce("reduce_min", select(found, iota(x.shape, along), x.shape[along]), (along,))
    return keep(place, shape, tuple(range(len(shape))) if axis is None else (along,), keepdims)


# --- passing over nan: what is nan is replaced before it can meet anything, so no gradient is nan either


def without_nan(x: Node, neutral) -> tuple[Node, Node | None]:
    """x with `neutral` for nan, and where nan was (None: x has no nan)."""
    if x.dtype.kind not in "f":
        return x, None
    missing = call("isnan", x)
    return select(missing, neutral, x), missing


@implementation(np.nansum)
def nansum(a, axis=None, dtype=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    return sum_(without_nan(node_of(a), 0)[0], axis, dtype, out, keepdims, initial, where)


@implementation(np.nanprod)
def nanprod(a, axis=None, dtype=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    return prod_(without_nan(node_of(a), 1)[0], axis, dtype, out, keepdims, initial, where)


@implementation(np.nanmax)
def nanmax(a, axis=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    refuse_out(out)
    return _nan_extremum(MAX, node_of(a), axis, keepdims, initial, where)


@implementation(np.nanmin)
def nanmin(a, axis=None, out=None, keepdims=False, initial=NOT_GIVEN, where=True):
    refuse_out(out)
    return _nan_extremum(MIN, node_of(a), axis, keepdims, initial, where)


def _nan_extremum(kind: Fold, x: Node, axis, keepdims, initial, where) -> Node:
    """The extremum of what is not nan; nan where nothing else is there."""
    clean, missing = without_nan(x, kind.neutral(x.dtype))
    result = fold(kind, clean, axis, keepdims, initial, where)
    if missing is None or initial is not NOT_GIVEN:
        return result
    return select(fold(MIN, missing, axis, keepdims), np.nan, result)
