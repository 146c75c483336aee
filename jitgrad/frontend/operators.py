"""Operators between traced arrays and whatever else: the hot path of tracing."""

from __future__ import annotations

import numpy as np

from ..errors import UsageOverflowError, UsageTypeError, UsageValueError
from ..ir.aval import aval_of
from ..ir.node import Node, call, full
from .aliasing import check_unshared, is_part, rebind
from .convert import (
    WEAK,
    as_array,
    broadcast_shapes,
    cast,
    kind_of,
    number_in,
    spread,
    spread_number,
)
from .handle import Handle, array_of, check_scope
from .loops import COMPARISONS, OPERATOR_LOOPS, Loop, operator_loop, ufunc_loop
from .power import known_power

# Whether np.power takes the square root where the exponent is 1/2, as the operator always does for arrays: newer
# versions of NumPy do, and the two differ at -0.0 and -inf.
with np.errstate(invalid="ignore"):
    _POWER_TAKES_ROOTS = bool(np.isnan(np.power(np.full(2, -np.inf), 0.5)[0]))

# ufuncs for which the value of a Python number matters, not only its type.
_POWERS = (np.power, np.float_power)
_BY_VALUE = COMPARISONS.union(_POWERS)


def operate(ufunc: np.ufunc, x, y):
    """The operator of `ufunc` between x and y, of which at least one is a traced array."""
    x_shape: tuple[int, ...] = ()
    y_shape: tuple[int, ...] = ()
    if isinstance(x, Handle):
        check_scope(x)
        aval = x.node.aval
        x_shape, x_kind = aval.shape, x.weak or aval.dtype
    elif type(x) in WEAK:
        x_kind = type(x)
    elif (x := _operand_or_none(x)) is None:
        return NotImplemented
    else:
        x_shape, x_kind = x.node.aval.shape, kind_of(x)
    if isinstance(y, Handle):
        check_scope(y)
        aval = y.node.aval
        y_shape, y_kind = aval.shape, y.weak or aval.dtype
    elif type(y) in WEAK:
        y_kind = type(y)
    elif (y := _operand_or_none(y)) is None:
        return NotImplemented
    else:
        y_shape, y_kind = y.node.aval.shape, kind_of(y)
    kinds = x_kind, y_kind
    loop = OPERATOR_LOOPS.get((ufunc, kinds)) or operator_loop(ufunc, kinds)
    shape = x_shape if x_shape == y_shape else broadcast_shapes(x_shape, y_shape)
    if ufunc in _BY_VALUE:
        return array_of(_by_value(loop, x, y, shape, scalars=shape == ()), loop.weak)
    operands = loop.operands
    return array_of(loop.build(operand_node(x, operands[0], shape), operand_node(y, operands[1], shape)), loop.weak)


def operate_one(ufunc: np.ufunc, x: Handle) -> Handle:
    """The unary operator of `ufunc`."""
    check_scope(x)
    loop = operator_loop(ufunc, (kind_of(x),))
    return array_of(loop.build(cast(x.node, loop.operands[0])), loop.weak)


def operate_in_place(ufunc: np.ufunc, x: Handle, y):
    """x op= y: the handle takes the new value, as every name of NumPy's array would; a scalar is replaced, not changed.

    0-d values are taken for NumPy's scalars, which are immutable, unless they are views.
    """
    check_unshared(x)
    if not x.node.aval.shape and not is_part(x):
        return operate(ufunc, x, y)
    (result,) = call_elementwise(ufunc, (x, y))
    store(x, result, ufunc)
    return x


def call_elementwise(ufunc: np.ufunc, inputs, signature: tuple | None = None, casting="same_kind") -> tuple[Handle, ...]:
    """The results of the ufunc's call: promotion, broadcasting, then the loop."""
    values = [value if type(value) in WEAK else as_array(value) for value in inputs]
    kinds = tuple([kind_of(value) if isinstance(value, Handle) else type(value) for value in values])
    loop = ufunc_loop(ufunc, kinds, signature, casting)
    shape = broadcast_shapes(*[value.node.aval.shape if isinstance(value, Handle) else () for value in values])
    if ufunc in _BY_VALUE:
        x, y = values
        return (array_of(_by_value(loop, x, y, shape, scalars=not _POWER_TAKES_ROOTS)),)
    result = loop.build(*[operand_node(v, dtype, shape) for v, dtype in zip(values, loop.operands, strict=True)])
    return tuple(map(array_of, result)) if type(result) is tuple else (array_of(result),)


def operand_node(value, dtype: np.dtype, shape: tuple[int, ...]) -> Node:
    """A traced array or a Python number as an operand of a loop: of this dtype and shape."""
    if not isinstance(value, Handle):
        return spread_number(value, dtype, shape)
    node = value.node
    aval = node.aval
    if aval.dtype is not dtype and aval.dtype != dtype:
        node = call("cast", node, dtype=dtype)
    return node if aval.shape == shape else spread(node, shape)


def _operand_or_none(value) -> Handle | None:
    """A traced array, or None where the other operand's class wants to deal with it (its __array_ufunc__ is None)."""
    return None if getattr(value, "__array_ufunc__", True) is None else as_array(value)


def store(target: Handle, result: Handle, ufunc: np.ufunc) -> None:
    """Rebinds `target` to `result` as NumPy would store it: cast by the same_kind rule, broadcast, never broadcasting
    the target."""
    check_unshared(target)
    have, want = result.node.aval, target.node.aval
    if not np.can_cast(have.dtype, want.dtype, "same_kind"):
        raise UsageTypeError(
            f"cannot cast the output of {ufunc.__name__} from {have.dtype} to {want.dtype} in place",
            f"Write it as a new array (y = y op x), or start from y.astype({have.dtype}).",
        )
    if broadcast_shapes(have.shape, want.shape) != want.shape:
        raise UsageValueError(
            f"an array of shape {want.shape} cannot take the result of shape {have.shape} in place",
            "Write it as a new array: y = y op x.",
        )
    rebind(target, spread(cast(result.node, want.dtype), want.shape))


# --- operations that look at the value of a Python number


def _by_value(loop: Loop, x, y, shape: tuple[int, ...], scalars: bool) -> Node:
    if loop.ufunc in _POWERS:
        found = _known_power(loop, x, y, shape, scalars)
        if found is not None:
            return found
    elif type(x) is int or type(y) is int:
        try:
            return loop.build(operand_node(x, loop.operands[0], shape), operand_node(y, loop.operands[1], shape))
        except UsageOverflowError:
            return _compared_out_of_range(loop, x, y, shape)
    elif loop.weak is None:
        loop = ufunc_loop(loop.ufunc, (_comparison_kind(x), _comparison_kind(y)))
    return loop.build(operand_node(x, loop.operands[0], shape), operand_node(y, loop.operands[1], shape))


def _comparison_kind(value):
    """An integer known only at run time is compared as the int64 that it is: it may not fit the other's dtype."""
    if not isinstance(value, Handle):
        return type(value)
    return value.node.aval.dtype if value.weak is int else kind_of(value)


def _known_power(loop: Loop, x, y, shape: tuple[int, ...], scalars: bool) -> Node | None:
    exponent = number_in(y.node) if isinstance(y, Handle) else y
    if exponent is None:
        return None
    if type(y) is int and y < 0:
        operand_node(y, loop.operands[1], ())  # refused for unsigned integers
    base = operand_node(x, loop.operands[0], shape)
    return known_power(base, exponent, scalars or loop.ufunc is np.float_power)


def _compared_out_of_range(loop: Loop, x, y, shape: tuple[int, ...]) -> Node:
    """A comparison with a Python integer beyond all values of the other's dtype: as that of its sign with 0."""
    signs = [(value > 0) - (value < 0) if type(value) is int else 0 for value in (x, y)]
    return full(bool(loop.ufunc(*signs)), aval_of(shape, np.bool_))
