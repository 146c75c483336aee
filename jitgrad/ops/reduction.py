"""Reductions over axes: sum, product, maximum, minimum. The dtype is kept; the axes vanish."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ..errors import InternalError, UsageValueError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply, call, full
from ..ir.primitive import Primitive, Reduce, Samples
from .arithmetic import emit_maximum, emit_minimum
from .cast import cast
from .families import linear
from .masking import chain
from .scan import cumprod
from .shape import broadcast, concatenate, inverse, reshape, slice_axis, transpose

_CASES = tuple(
    ((shape,), {"axes": axes})
    for shape, axes in (
        ((5,), (0,)),
        ((2, 3), (0,)),
        ((2, 3), (1,)),
        ((2, 3, 2), (0, 2)),
        ((2, 3), (0, 1)),
        ((1, 3), (0,)),
        ((0, 3), (1,)),
    )
)
_EMPTY = (((0, 3),), {"axes": (0,)})


def _kept_axes(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(axis for axis in range(ndim) if axis not in axes)


def _aval(x: Aval, *, axes) -> Aval:
    if list(axes) != sorted(set(axes)) or any(not 0 <= axis < x.ndim for axis in axes):
        raise InternalError(f"reduction of {x} over axes {axes}")
    return aval_of([x.shape[axis] for axis in _kept_axes(x.ndim, axes)], x.dtype)


def spread(reduced: Node, shape: tuple[int, ...], axes: Sequence[int]) -> Node:
    """What was reduced from `shape` over `axes`, repeated along them again."""
    return broadcast(reduced, shape, _kept_axes(len(shape), axes))


# --- sum: the cotangent is repeated over what was summed

REDUCE_SUM = linear(
    "reduce_sum",
    numpy=lambda x, *, axes: np.add.reduce(x, axis=axes, dtype=x.dtype),
    aval=_aval,
    transpose=lambda cotangent, operand, *, axes: spread(cotangent, operand.shape, axes),
    code=Reduce(combine=lambda e, a, b: e.add(a, b), identity=lambda dtype: dtype.type(0), is_sum=True),
    samples=Samples(kinds="fib", cases=(*_CASES, _EMPTY)),
    doc="`numpy.sum` over axes, in the operand's dtype (of bools: any).",
)


def reduce_sum(x: Node, axes: Sequence[int]) -> Node:
    """The sum over `axes` (sorted, not negative)."""
    return apply(REDUCE_SUM, x, axes=tuple(axes)) if axes else x


# --- maximum, minimum: the derivative goes, in equal shares, to the elements that equal the result
#     (where the result is nan: to all, so that nobody takes it for 0)


def _winners(x: Node, out: Node, axes, loses: str) -> tuple[Node, Node]:
    """Which elements are the result, and how many they are."""
    winners = call("logical_not", call(loses, x, spread(out, x.shape, axes)))
    return winners, reduce_sum(cast(winners, x.dtype), axes)


def _declare_extremum(name: str, loses: str, numpy, combine, identity, samples: Samples) -> Primitive:
    def aval(x: Aval, *, axes) -> Aval:
        if any(x.shape[axis] == 0 for axis in axes):
            raise UsageValueError(
                f"the {name[-3:]} of no elements does not exist: shape {x.shape}, axes {axes}"
            )
        return _aval(x, axes=axes)

    def jvp(tangents, primals, out, *, axes):
        (x,), (tangent,) = primals, tangents
        winners, count = _winners(x, out, axes, loses)
        return reduce_sum(call("select", winners, tangent, full(0.0, x.aval)), axes) / count

    def vjp(cotangent, primals, out, *, axes):
        (x,) = primals
        winners, count = _winners(x, out, axes, loses)
        return [call("select", winners, spread(cotangent / count, x.shape, axes), full(0.0, x.aval))]

    def reference(x, *, axes):
        return numpy(x, axis=axes)

    doc = f"`numpy.{name[-3:]}` over axes; nan wins (of bools: {'any' if name == 'reduce_max' else 'all'})."
    return Primitive(name, reference, aval, Reduce(combine, identity), jvp, vjp, None, samples, doc)


def _lowest(dtype: np.dtype):
    return (
        dtype.type(-np.inf)
        if dtype.kind == "f"
        else dtype.type(0 if dtype.kind == "b" else np.iinfo(dtype).min)
    )


def _highest(dtype: np.dtype):
    return (
        dtype.type(np.inf)
        if dtype.kind == "f"
        else dtype.type(1 if dtype.kind == "b" else np.iinfo(dtype).max)
    )


_TIED = Samples(
    kinds="fib",
    cases=_CASES,
    singular=(((np.array([2.0, 2.0, 2.0, 2.0]),), (np.full(4, 0.25),), {"axes": (0,)}),),
)
REDUCE_MAX = _declare_extremum("reduce_max", "less", np.max, emit_maximum, _lowest, _TIED)
REDUCE_MIN = _declare_extremum("reduce_min", "greater", np.min, emit_minimum, _highest, _TIED)


def reduce_max(x: Node, axes: Sequence[int]) -> Node:
    """The largest over `axes` (sorted, not negative)."""
    return apply(REDUCE_MAX, x, axes=tuple(axes)) if axes else x


def reduce_min(x: Node, axes: Sequence[int]) -> Node:
    """The smallest over `axes` (sorted, not negative)."""
    return apply(REDUCE_MIN, x, axes=tuple(axes)) if axes else x


# --- product: d out / d x_j is the product of the others, made of products before and after j, never by
#     division, so zeros are right; cumprod's own derivative is right at zeros too, and so the second
#     derivative is


def others(x: Node, axes: Sequence[int]) -> Node:
    """For each element, the product of the others that share its place in the product over `axes`."""
    kept = _kept_axes(x.ndim, axes)
    order = (*kept, *axes)
    turned = transpose(x, order)
    flat = reshape(turned, (*[x.shape[axis] for axis in kept], prod(x.shape[axis] for axis in axes)))
    last, n = len(kept), flat.shape[-1]
    if n == 0:
        return x
    one = full(1, aval_of((*flat.shape[:-1], 1), x.dtype))
    if n == 1:
        products = full(1, flat.aval)
    else:
        before = concatenate([one, cumprod(slice_axis(flat, last, 0, n - 1), last)], last)
        after = concatenate([cumprod(slice_axis(flat, last, 1, n - 1), last, reverse=1), one], last)
        products = before * after
    return transpose(reshape(products, turned.shape), inverse(order))


def _prod_jvp(tangents, primals, out, *, axes):
    return reduce_sum(chain(tangents[0], others(primals[0], axes)), axes)


def _prod_vjp(cotangent, primals, out, *, axes):
    (x,) = primals
    return [chain(spread(cotangent, x.shape, axes), others(x, axes))]


_ZEROS = (
    ((np.array([0.0, 2.0, 3.0]),), (np.array([6.0, 0.0, 0.0]),), {"axes": (0,)}),
    ((np.array([0.0, 2.0, 0.0]),), (np.zeros(3),), {"axes": (0,)}),
)
REDUCE_PROD = Primitive(
    "reduce_prod",
    reference=lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
    aval=_aval,
    code=Reduce(combine=lambda e, a, b: e.mul(a, b), identity=lambda dtype: dtype.type(1)),
    jvp=_prod_jvp,
    vjp=_prod_vjp,
    samples=Samples(kinds="fib", cases=(*_CASES, _EMPTY), singular=_ZEROS),
    doc="`numpy.prod` over axes, in the operand's dtype (of bools: all).",
)


def reduce_prod(x: Node, axes: Sequence[int]) -> Node:
    """The product over `axes` (sorted, not negative)."""
    return apply(REDUCE_PROD, x, axes=tuple(axes)) if axes else x
