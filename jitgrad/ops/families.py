"""The families of primitives: what a whole kind of operation has in common, said once.

elementwise   one expression per argument gives both jvp and vjp
linear        tangents go through the operation itself, cotangents through its transpose
Everything else gives its own jvp and vjp to `Primitive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval, aval_of
from ..ir.node import Node, apply
from ..ir.primitive import Primitive, Samples, Scalar
from .masking import chain


def total(terms: Iterable[Node | None]) -> Node | None:
    """The sum of the terms that are there; None when none is."""
    result = None
    for term in terms:
        if term is not None:
            result = term if result is None else result + term
    return result


def same_aval(*avals: Aval, **_) -> Aval:
    """Equal avals in, the same out. The user-facing layer has broadcast and promoted."""
    first = avals[0]
    for aval in avals[1:]:
        if aval is not first and aval != first:
            raise InternalError(f"operands of one elementwise operation differ: {first} and {aval}")
    return first


def predicate_aval(*avals: Aval, **_) -> Aval:
    """Equal avals in, bool of the same shape out."""
    return aval_of(same_aval(*avals).shape, np.bool_)


class Unit:
    """A slope that costs nothing: `ONE` or `MINUS_ONE`."""


ONE, MINUS_ONE = Unit(), Unit()


def times(slope: Node | Unit | None, factor: Node, singular: bool = False) -> Node | None:
    """slope * factor (see `masking.chain`), where a slope of None means that no derivative flows."""
    if slope is None:
        return None
    if slope is ONE:
        return factor
    if isinstance(slope, Unit):
        return -factor
    return chain(factor, slope, singular)


_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)


def in_single(emit: Callable) -> Callable:
    """`emit` with float16 operands computed in float32 and rounded once, as NumPy does."""

    def wide(e, *values, **params):
        if all(value.dtype != _HALF for value in values):
            return emit(e, *values, **params)
        out = emit(
            e, *[e.cast(value, _SINGLE) if value.dtype == _HALF else value for value in values], **params
        )
        return e.cast(out, _HALF) if out.dtype == _SINGLE else out

    return wide


def elementwise(
    name: str,
    *,
    numpy: Callable,
    emit: Callable,
    partials: Callable | None = None,
    jvp: Callable | None = None,
    vjp: Callable | None = None,
    singular: bool = False,
    own_half: bool = False,
    aval: Callable = same_aval,
    cost: int = 1,
    samples: Samples | None = None,
    doc: str = "",
) -> Primitive:
    """out[i] = emit(emitter, x[i], ..., **params).

    `partials(*primals, out, **params)` gives d out / d argument for each argument: a node, `ONE` or
    `MINUS_ONE`, or None where no derivative flows. `singular` says that a slope is infinite or nan at some
    finite argument; products with it are masked (see `masking`). Instead of `partials`, `jvp` and `vjp` may
    be given; with none of them, no derivative flows. `numpy` is the reference; where it is a ufunc, calls of
    it on traced arrays become this primitive. `own_half`: `emit` wants float16 operands as they are, not in
    float32.
    """
    if partials is not None:

        def jvp(tangents, primals, out, **params):
            slopes = partials(*primals, out, **params)
            return total(
                times(s, t, singular) for s, t in zip(slopes, tangents, strict=True) if t is not None
            )

        def vjp(cotangent, primals, out, **params):
            return [times(slope, cotangent, singular) for slope in partials(*primals, out, **params)]

    ufunc = numpy if isinstance(numpy, np.ufunc) else None
    code = Scalar(emit if own_half else in_single(emit), cost)
    jvp, vjp = jvp or no_tangent, vjp or no_cotangents
    return Primitive(
        name, numpy, aval, code, jvp, vjp, ufunc, samples or Samples(), doc or f"`numpy.{name}`."
    )


def no_tangent(tangents, primals, out, **params):
    """jvp of operations whose derivative is zero wherever it exists (floor, sign): nothing flows."""
    return None


def no_cotangents(cotangent, primals, out, **params):
    """vjp of operations whose derivative is zero wherever it exists."""
    return [None] * len(primals)


def linear(
    name: str,
    *,
    numpy: Callable,
    aval: Callable,
    transpose: Callable,
    code,
    samples: Samples | None = None,
    doc: str = "",
) -> Primitive:
    """Linear in its one array: `transpose(cotangent, operand_aval, **params)` is the operand's cotangent.

    On integers and bools it computes all the same, but no derivative flows.
    """

    def jvp(tangents, primals, out, **params):
        return apply(primitive, *tangents, **params)

    def vjp(cotangent, primals, out, **params):
        return [transpose(cotangent, primals[0].aval, **params)]

    primitive = Primitive(name, numpy, aval, code, jvp, vjp, None, samples or Samples(), doc)
    return primitive
