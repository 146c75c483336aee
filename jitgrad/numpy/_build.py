"""Builders that the functions of this package share: arguments to nodes, axes, equal shapes, one node a step.

The functions are written on nodes: `@implementation(np.f)` turns their results into traced arrays at the
border, and leaves the function itself for use by other functions. `node_of` takes what a user may pass.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from .. import ops
from ..errors import Limitation, UsageIndexError, UsageTypeError, UsageValueError
from ..frontend.array import Array
from ..frontend.calls import operation
from ..frontend.convert import as_array, broadcast_shapes, kind_of, promote_dtypes, spread_number
from ..frontend.convert import contains_traced as holds_traced
from ..frontend.convert import result_dtype as dtype_of_kinds
from ..frontend.registry import implements
from ..frontend.trace import read_values
from ..ir.aval import aval_of
from ..ir.node import Node, call, full, like
from ..ops import cast, iota, reshape, transpose  # noqa: F401  (the others take them from here)

BOOL, INT, FLOAT = np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.float64)
NOT_GIVEN = np._NoValue


class UsageAxisError(UsageValueError, UsageIndexError):
    """An axis that the array does not have (as NumPy's AxisError: a ValueError and an IndexError)."""


# --- the border between the user's values and nodes


def newer(name: str, module=np) -> Callable | None:
    """A function that older versions of NumPy 2 do not have."""
    return getattr(module, name, None)


def implementation(*functions: Callable | None, calls_back: bool = False) -> Callable[[Callable], Callable]:
    """Registers the decorated function, written on nodes, as what `functions` of NumPy do with traced values.

    None among them stands for a function that the installed NumPy does not have. `calls_back`: it calls functions of the
    user's.
    """

    def register(body: Callable) -> Callable:
        def on_arrays(*args, **kwargs):
            return wrap(body(*args, **kwargs))

        on_arrays = functools.wraps(body)(on_arrays if calls_back else operation(on_arrays))
        implements(*dict.fromkeys(function for function in functions if function is not None))(on_arrays)
        return body

    return register


def wrap(result):
    """Nodes, also in tuples and lists, as traced arrays; anything else as it is."""
    if isinstance(result, Node):
        return Array(result)
    if isinstance(result, (tuple, list)):
        parts = [wrap(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


def node_of(value) -> Node:
    """The node of anything that can stand for an array: traced, plain, a number, a nest of lists of these."""
    return value if isinstance(value, Node) else as_array(value).node


def refuse_out(out) -> None:
    """`out=` names a buffer that a traced value cannot be stored in."""
    if out is not None:
        raise UsageTypeError("out= cannot be used with traced values", "Assign the result: y = np.f(x).")


def is_traced(value) -> bool:
    """Whether `value` is known only when the traced function runs."""
    return isinstance(value, (Array, Node))


def static_array(value, what: str, dtype=None) -> np.ndarray:
    """`value` as a plain array, whose present values decide what is traced; `what` names it in the error."""
    if contains_traced(value):
        raise Limitation(
            f"{what} must not be a traced value: the shape of the result depends on it",
            "Pass plain integers, or compute it outside of the differentiated function.",
        )
    note_reads(value)
    return np.asarray(value, dtype)


def note_reads(value) -> None:
    """Tells the trace that it depends on the present values of plain arrays, also in nests of lists and tuples."""
    if isinstance(value, (list, tuple)):
        for part in value:
            note_reads(part)
    elif isinstance(value, (np.ndarray, np.generic)):
        read_values(value)


def plain_int(value) -> int:
    """`value` as an int (TypeError if it is none); one that comes from an array decides what is traced."""
    if isinstance(value, (np.ndarray, np.generic)):
        read_values(value)
    return operator.index(value)


def contains_traced(value) -> bool:
    """Whether a traced value is anywhere in a nest of lists and tuples."""
    return isinstance(value, Node) or holds_traced(value)


# --- dtypes


def _wrapped(value):
    return Array(value) if isinstance(value, Node) else value


def result_dtype(*values) -> np.dtype:
    """NumPy's result type: Python numbers, traced or not, are weak."""
    return dtype_of_kinds(*[kind_of(as_array(_wrapped(value))) for value in values])


def common(*values) -> list[Node]:
    """The nodes of all values in their result type; shapes stay."""
    return promote_dtypes(*map(_wrapped, values))


def number_as(value, dtype) -> Node:
    """`value` in `dtype`; a Python integer that does not fit is refused, anything else is cast."""
    if type(value) in (bool, int, float):
        return spread_number(value, np.dtype(dtype), ())
    return cast(node_of(value), dtype)


def floating(x: Node) -> Node:
    """x itself if it is float, else as float64: what NumPy computes means and norms in."""
    return x if x.dtype.kind in "f" else cast(x, FLOAT)


def lowest(dtype: np.dtype):
    """What no value of `dtype` lies under."""
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else np.iinfo(dtype).min


def highest(dtype: np.dtype):
    """What no value of `dtype` lies above."""
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max


# --- axes and shapes


def axis_of(axis, ndim: int) -> int:
    """A non-negative axis."""
    axis = plain_int(axis)
    if not -ndim <= axis < ndim:
        raise UsageAxisError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return axis % ndim


def axes_of(axis, ndim: int) -> tuple[int, ...]:
    """Non-negative axes from None (all), an int or a sequence of ints, sorted."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(ordered_axes(axis, ndim)))


def ordered_axes(axis, ndim: int) -> tuple[int, ...]:
    """Non-negative axes in the order given; no axis twice."""
    if not isinstance(axis, (tuple, list)):
        return (axis_of(axis, ndim),)
    axes = tuple(axis_of(one, ndim) for one in axis)
    if len(set(axes)) != len(axes):
        raise UsageValueError(f"an axis is named twice in {tuple(axis)}")
    return axes


def shape_of(shape) -> tuple[int, ...]:
    """A shape from an int or a sequence of ints."""
    if isinstance(shape, np.ndarray):
        shape = static_array(shape, "a shape").tolist()
    if hasattr(shape, "__index__"):
        return (plain_int(shape),)
    return tuple(plain_int(extent) for extent in shape)


def spread(x: Node, shape: tuple[int, ...]) -> Node:
    """x broadcast to `shape`, axes counted from the last."""
    if x.shape == shape:
        return x
    fits = x.ndim <= len(shape) and all(e in (1, n) for e, n in zip(x.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise UsageValueError(f"an array of shape {x.shape} cannot be broadcast to shape {shape}")
    return ops.broadcast_to(x, shape)


def spread_all(*nodes: Node) -> list[Node]:
    """All nodes broadcast to their common shape."""
    shape = broadcast_shapes(*[node.shape for node in nodes])
    return [spread(node, shape) for node in nodes]


def keep(y: Node, shape: tuple[int, ...], axes: tuple[int, ...], keepdims) -> Node:
    """y, reduced over `axes` of `shape`, with those axes put back as 1 if `keepdims`."""
    if not keepdims:
        return y
    return reshape(y, tuple(1 if axis in axes else extent for axis, extent in enumerate(shape)))


# --- one node each


def flat(x: Node) -> Node:
    return reshape(x, (x.aval.size,))


def flat_unless(x: Node, axis, lenient: bool = False) -> tuple[Node, int]:
    """NumPy's reading of `axis=None`: the flattened array and axis 0. `lenient`: a 0-d array has one axis."""
    alone = axis is None or (lenient and _is_lenient(axis, x))
    return (flat(x), 0) if alone else (x, axis_of(axis, x.ndim))


def _is_lenient(axis, x: Node) -> bool:
    """Axis 0 or -1 of a 0-d array, which NumPy's oldest functions allow."""
    return not x.ndim and not isinstance(axis, (tuple, list)) and plain_int(axis) in (0, -1)


def lenient_axes(axis, x: Node) -> tuple[int, ...]:
    """`axes_of`, with axis 0 or -1 of a 0-d array as none."""
    return () if axis is not None and _is_lenient(axis, x) else axes_of(axis, x.ndim)


def move(x: Node, source: tuple[int, ...], destination: tuple[int, ...]) -> Node:
    """x with the axes `source` at the places `destination`; the others keep their order."""
    order = [axis for axis in range(x.ndim) if axis not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        order.insert(place, axis)
    return transpose(x, tuple(order))


def insert_axis(x: Node, axis: int) -> Node:
    """x with a new axis of extent 1 at the non-negative place `axis`."""
    return reshape(x, x.shape[:axis] + (1,) + x.shape[axis:])


def part(x: Node, axis: int, start: int, count: int, step: int = 1) -> Node:
    """x[start], x[start + step], ...: `count` of them along `axis`; `start` is not negative."""
    return ops.slice_axis(x, axis, start if count else 0, count, step)


def at(x: Node, axis: int, index: int) -> Node:
    """x[index] along `axis`, which goes away; `index` may be negative."""
    taken = part(x, axis, index % x.shape[axis], 1)
    return reshape(taken, x.shape[:axis] + x.shape[axis + 1 :])


def join(nodes: Sequence[Node], axis: int) -> Node:
    """The nodes, of one dtype, one after the other along `axis`."""
    return ops.concatenate(list(nodes), axis)


def reduce(name: str, x: Node, axes: tuple[int, ...]) -> Node:
    """The reduction called `name` over `axes` (sorted)."""
    return call(name, x, axes=axes) if axes else x


def total(x: Node, axes: tuple[int, ...]) -> Node:
    """The sum over `axes`."""
    return ops.reduce_sum(x, axes)


def select(condition: Node, x, y) -> Node:
    """x where the condition holds, else y; one of them may be a Python number."""
    if not isinstance(x, Node):
        x = like(y, x)
    return ops.select(*spread_all(condition, x, like(x, y)))


def equal(x: Node, y) -> Node:
    x, y = spread_all(x, like(x, y))
    return opposite(call("logical_xor", x, y)) if x.dtype == BOOL else call("equal", x, y)


def nonzero(x: Node) -> Node:
    """x != 0 as bool: nan is not zero."""
    return x if x.dtype == BOOL else call("not_equal", x, like(x, 0))


def both(x: Node, y: Node) -> Node:
    return call("logical_and", *spread_all(x, y))


def either(x: Node, y: Node) -> Node:
    return call("logical_or", *spread_all(x, y))


def opposite(x: Node) -> Node:
    return call("logical_not", x)


def plus(x: Node, y: Node) -> Node:
    """x + y broadcast; on bool it is `or`, as NumPy's."""
    x, y = spread_all(x, y)
    return either(x, y) if x.dtype == BOOL else x + y


def minus(x: Node, y: Node) -> Node:
    """x - y broadcast; refused for bool, as by NumPy."""
    x, y = spread_all(x, y)
    if x.dtype == BOOL:
        raise UsageTypeError("subtraction of booleans is not defined in NumPy", "Use ^ or np.logical_xor.")
    return x - y


def times(x: Node, y: Node) -> Node:
    """x * y broadcast; on bool it is `and`, as NumPy's."""
    x, y = spread_all(x, y)
    return both(x, y) if x.dtype == BOOL else x * y


def over(x: Node, y: Node) -> Node:
    x, y = spread_all(x, y)
    return x / y


def safe_sqrt(x: Node) -> Node:
    """sqrt(x), with derivative 0 at x = 0.

    Norms and standard deviations have their minimum there, so 0 is a subgradient of them, the smallest one.
    """
    zero = equal(x, 0)
    return select(zero, 0, call("sqrt", select(zero, 1, x)))


def filled(shape: tuple[int, ...], value, dtype) -> Node:
    """`value` at every place."""
    return full(value, aval_of(shape, dtype))


def count_along(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements are reduced into one."""
    return prod(shape[axis] for axis in axes)
