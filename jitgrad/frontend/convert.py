"""From whatever a user may pass to nodes: arrays, numbers, lists; NumPy's promotion and broadcasting made explicit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np

from ..errors import UsageError, UsageOverflowError, UsageTypeError, UsageValueError
from ..ir.aval import aval_of
from ..ir.node import CONSTANT, Node, call, constant, full, scope
from .handle import Handle, array_of, check_scope
from .trace import capture, check_dtype, read_values

# Python's number types are weak (NEP 50): they take the dtype of what they meet. The dtype is that of one alone.
WEAK = {bool: np.dtype(np.bool_), int: np.dtype(np.int64), float: np.dtype(np.float64)}
_UNIT = {bool: False, int: 0, float: 0.0}


def as_array(value) -> Handle:
    """`value` as a traced array: traced, an array, a number (weak if Python's), or a nest of lists of these.

    Raises UsageTypeError for what is no numeric array, UsageError for a traced value of another trace.
    """
    kind = type(value)
    if isinstance(value, Handle):
        check_scope(value)
        return value
    if kind in WEAK:
        return array_of(_number(value, kind), None if kind is int and value > _LARGEST else kind)
    if isinstance(value, np.ndarray):
        return array_of(capture(value))
    if isinstance(value, np.generic):
        check_dtype(value.dtype, "an operand")
        read_values(value)
        return array_of(constant(value, value.dtype))
    if isinstance(value, (list, tuple)) and contains_traced(value):
        return stack([as_array(part) for part in value])
    return array_of(capture(_plain_array(value)))


_LARGEST = np.iinfo(np.int64).max


def _number(value, kind: type) -> Node:
    """The node of a Python number alone; large integers are uint64, as in NumPy."""
    dtype = np.dtype(np.uint64) if kind is int and value > _LARGEST else WEAK[kind]
    return spread_number(value, dtype, ())


def _plain_array(value) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageTypeError(f"a {type(value).__name__} cannot be used as an array: {error}") from None
    if array.dtype.kind in "OUS":
        what = "None" if value is None else f"a value of type {type(value).__name__}"
        raise UsageTypeError(f"{what} cannot be an operand beside traced values", "Use numbers and numeric arrays.")
    return array


def contains_traced(value) -> bool:
    """Whether a traced array is anywhere in a nest of lists and tuples."""
    if isinstance(value, (list, tuple)):
        return any(contains_traced(part) for part in value)
    return isinstance(value, Handle)


def stack(parts: Sequence[Handle]) -> Handle:
    """The arrays, of one shape, promoted to one dtype and stacked along a new first axis; all weak stays strong, as
    `np.array([1.0, 2.0])` does."""
    shapes = {part.node.aval.shape for part in parts}
    if len(shapes) != 1:
        raise UsageValueError(f"a list of traced values has parts of different shapes: {_listed(shapes)}")
    (shape,) = shapes
    dtype = result_dtype(*[kind_of(part) for part in parts])
    rows = [call("reshape", cast(part.node, dtype), shape=(1, *shape)) for part in parts]
    return array_of(rows[0] if len(rows) == 1 else call("concatenate", *rows, axis=0))


def _listed(shapes) -> str:
    return ", ".join(map(str, sorted(shapes)))


# --- promotion


def kind_of(array: Handle):
    """What promotion goes by: a dtype, or Python's type for a weak value."""
    return array.weak or array.node.aval.dtype


@lru_cache(maxsize=1 << 12)
def result_dtype(*kinds) -> np.dtype:
    """NumPy's result type for dtypes and weak Python types.

    >>> result_dtype(np.dtype(np.float32), float), result_dtype(np.dtype(np.int8), float), result_dtype(int, bool)
    (dtype('float32'), dtype('float64'), dtype('int64'))
    """
    return np.result_type(*[_UNIT.get(kind, kind) for kind in kinds])


def promote(*operands) -> list[Node]:
    """The operands as nodes of NumPy's common dtype and their common shape."""
    arrays, dtype = _with_dtype(operands)
    shape = broadcast_shapes(*[array.node.aval.shape for array in arrays])
    return [spread(_in_dtype(a, o, dtype), shape) for a, o in zip(arrays, operands, strict=True)]


def promote_dtypes(*operands) -> list[Node]:
    """The operands as nodes of NumPy's common dtype; shapes stay."""
    arrays, dtype = _with_dtype(operands)
    return [_in_dtype(a, o, dtype) for a, o in zip(arrays, operands, strict=True)]


def _with_dtype(operands) -> tuple[list[Handle], np.dtype]:
    arrays = [as_array(operand) for operand in operands]
    return arrays, result_dtype(*[kind_of(array) for array in arrays])


def _in_dtype(array: Handle, operand, dtype: np.dtype) -> Node:
    """A Python number is converted as NumPy does (range checked); anything else cast."""
    return spread_number(operand, dtype, ()) if type(operand) in WEAK else cast(array.node, dtype)


def cast(node: Node, dtype: np.dtype) -> Node:
    """`node` in `dtype`."""
    return node if node.aval.dtype == dtype else call("cast", node, dtype=dtype)


# --- broadcasting


@lru_cache(maxsize=1 << 12)
def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of NumPy's broadcasting; UsageValueError names all shapes when there is none."""
    if len(set(shapes)) == 1:
        return shapes[0]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise UsageValueError(
            "operands could not be broadcast together with shapes " + " ".join(map(str, shapes)),
            "Counted from the last axis, extents must be equal or 1.",
        ) from None


def spread(node: Node, shape: tuple[int, ...]) -> Node:
    """`node` broadcast to `shape`, which must be possible."""
    have = node.aval.shape
    if have == shape:
        return node
    return call("broadcast", node, shape=shape, axes=_last_axes(len(have), len(shape)))


@cache
def _last_axes(count: int, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim - count, ndim))


def spread_number(value, dtype: np.dtype, shape: tuple[int, ...]) -> Node:
    """A Python number as `dtype`, at every place of `shape`; UsageOverflowError when it is out of range."""
    if value != value or value == 0:  # not told apart by comparison: nan, 0.0 and -0.0
        return full(_converted(value, dtype), aval_of(shape, dtype))
    table = scope().table
    key = (spread_number, type(value), value, dtype, shape)
    node = table.get(key)
    if node is None:
        node = table[key] = full(_converted(value, dtype), aval_of(shape, dtype))
    return node


def _converted(value, dtype: np.dtype):
    if type(value) is float and dtype is WEAK[float]:
        return dtype.type(value)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(value, dtype)[()]
    except OverflowError:
        raise UsageOverflowError(f"Python integer {_short(value)} out of bounds for {dtype}") from None


def _short(value: int) -> str:
    text = f"{value}" if abs(value) < 10**40 else f"of {value.bit_length()} bits"
    return text


def number_in(node: Node):
    """The number that a 0-d constant node is, or None."""
    return node.params["value"] if node.primitive is CONSTANT else None
