"""Comparisons, logic, bits, classification, and the choice between two values."""

from __future__ import annotations

import numpy as np

from ..errors import InternalError
from ..ir.aval import Aval
from ..ir.node import Node, apply, constant_value, full
from ..ir.primitive import Library, Primitive, Samples
from .families import elementwise, no_cotangents, no_tangent, predicate_aval, same_aval

_ANY_KIND = Samples(kinds="fib")
_BITS = Samples(kinds="ib")
_INTEGERS = Samples(kinds="i")
_BOOLS = Samples(kinds="b")

# --- comparisons and classification: bool out, no derivative

for _name, _method in {
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
}.items():
    elementwise(
        _name,
        numpy=getattr(np, _name),
        emit=lambda e, x, y, _method=_method: getattr(e, _method)(x, y),
        aval=predicate_aval,
        samples=_ANY_KIND,
    )


def _infinity(e, x):
    return e.like(x, np.inf)


for _name, _emit in {
    "isnan": lambda e, x: e.is_nan(x),
    "isinf": lambda e, x: e.eq(e.abs(x), _infinity(e, x)),
    "isfinite": lambda e, x: e.lt(e.abs(x), _infinity(e, x)),
    "signbit": lambda e, x: e.sign_bit(x),
}.items():
    elementwise(_name, numpy=getattr(np, _name), emit=_emit, aval=predicate_aval)

# --- logic: bool in, bool out

elementwise("logical_and", numpy=np.logical_and, emit=lambda e, x, y: e.and_(x, y), samples=_BOOLS)
elementwise("logical_or", numpy=np.logical_or, emit=lambda e, x, y: e.or_(x, y), samples=_BOOLS)
elementwise("logical_xor", numpy=np.logical_xor, emit=lambda e, x, y: e.xor(x, y), samples=_BOOLS)
elementwise("logical_not", numpy=np.logical_not, emit=lambda e, x: e.not_(x), samples=_BOOLS)

# --- bits

elementwise("bitwise_and", numpy=np.bitwise_and, emit=lambda e, x, y: e.and_(x, y), samples=_BITS)
elementwise("bitwise_or", numpy=np.bitwise_or, emit=lambda e, x, y: e.or_(x, y), samples=_BITS)
elementwise("bitwise_xor", numpy=np.bitwise_xor, emit=lambda e, x, y: e.xor(x, y), samples=_BITS)
elementwise("invert", numpy=np.invert, emit=lambda e, x: e.not_(x), samples=_BITS)
elementwise("left_shift", numpy=np.left_shift, emit=lambda e, x, y: e.shift_left(x, y), samples=_INTEGERS)
elementwise("right_shift", numpy=np.right_shift, emit=lambda e, x, y: e.shift_right(x, y), samples=_INTEGERS)

for _name in ("gcd", "lcm"):
    Primitive(
        _name,
        reference=getattr(np, _name),
        aval=same_aval,
        code=Library(_name),
        jvp=no_tangent,
        vjp=no_cotangents,
        ufunc=getattr(np, _name),
        samples=Samples(kinds="i"),
        doc=f"`numpy.{_name}`.",
    )

# --- choice


def _select_aval(condition: Aval, x: Aval, y: Aval) -> Aval:
    if condition.dtype != np.bool_ or condition.shape != x.shape:
        raise InternalError(
            f"select wants a bool condition of the shape of its operands, not {condition} for {x}"
        )
    return same_aval(x, y)


# out = x where c, else y:    d = dx where c, else dy.   Selects, not products: 0 * nan never comes in.
def _select_jvp(tangents, primals, out):
    _, dx, dy = tangents
    if dx is None and dy is None:
        return None
    zero = full(0.0, out.aval)
    return select(primals[0], zero if dx is None else dx, zero if dy is None else dy)


def _select_vjp(cotangent, primals, out):
    condition, zero = primals[0], full(0.0, cotangent.aval)
    return [None, select(condition, cotangent, zero), select(condition, zero, cotangent)]


_CONDITION = np.array([True, False, True, True, False])
_SELECT = elementwise(
    "select",
    numpy=np.where,
    emit=lambda e, condition, x, y: e.select(condition, x, y),
    jvp=_select_jvp,
    vjp=_select_vjp,
    aval=_select_aval,
    own_half=True,
    samples=Samples(kinds="fib", cases=(((_CONDITION, (5,), (5,)), {}),)),
    doc="`numpy.where` with three arguments: x where the condition holds, else y.",
)


def select(condition: Node, x: Node, y: Node) -> Node:
    """x where `condition` holds, else y; x itself where both are the same node or the condition is known."""
    if x is y:
        return x
    known = constant_value(condition)
    return apply(_SELECT, condition, x, y) if known is None else x if known else y


_STOP_GRADIENT = elementwise(
    "stop_gradient",
    numpy=lambda x: x,
    emit=lambda e, x: x,
    own_half=True,
    cost=0,
    samples=Samples(kinds="fib"),
    doc="x itself, but constant for derivatives.",
)


def stop_gradient(x: Node) -> Node:
    """x, through which no derivative flows."""
    return apply(_STOP_GRADIENT, x)
