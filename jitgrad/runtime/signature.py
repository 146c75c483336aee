"""What a call looks like to the program cache: structure, shapes, dtypes, layouts, and the values of static leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..errors import UsageTypeError
from ..frontend.array import Array
from ..frontend.captures import is_library_class
from ..frontend.function import Argument
from ..frontend.trace import array_aval, check_dtype, outside_error, plain
from ..ir.aval import aval_of

_FLOAT = Argument(aval_of((), np.float64), float)
_FLOAT_KEY = (float,)


class Signature(NamedTuple):
    """One call, taken apart.

    key         equal for calls that one trace serves
    leaves      of (args, kwargs): an `Argument` where the graph has an input, else the value itself
    structure   of (args, kwargs)
    arrays      the inputs' values, in order, in native byte order and aligned
    layouts     per input None (C order) or its element strides
    kinds       per input the type of the object that was passed; None as soon as some leaf is no input
    """

    key: tuple
    leaves: list
    structure: Any
    arrays: list[np.ndarray]
    layouts: list[tuple[int, ...] | None]
    kinds: list[type] | None


class Identity:
    """A key that is equal only for the very same object, which it keeps alive."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other) -> bool:
        return isinstance(other, Identity) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Static:
    """An argument declared static: passed on as it is, not looked into."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


def signature(args: tuple, kwargs: dict, name_leaf: Callable[[int], str]) -> Signature:
    """The signature of a call; `name_leaf(k)` is how messages call leaf k."""
    raw, structure = tree.flatten((args, kwargs))
    keys: list = [structure]
    leaves: list = []
    arrays: list[np.ndarray] = []
    layouts: list[tuple[int, ...] | None] = []
    for index, leaf in enumerate(raw):
        kind = type(leaf)
        if kind is float:
            keys.append(_FLOAT_KEY)
            leaves.append(_FLOAT)
            arrays.append(np.asarray(leaf))
            layouts.append(None)
        elif isinstance(leaf, (np.ndarray, np.floating, np.complexfloating)):
            array = ready(leaf, partial(name_leaf, index))
            layout = layout_of(array)
            keys.append((array.shape, array.dtype, layout))
            leaves.append(Argument(array_aval(array), None))
            arrays.append(array)
            layouts.append(layout)
        else:
            keys.append(static_key(leaf, partial(name_leaf, index)))
            leaves.append(leaf.value if kind is Static else leaf)
    kinds = list(map(type, raw)) if len(arrays) == len(raw) else None
    return Signature(tuple(keys), leaves, structure, arrays, layouts, kinds)


def ready(value: np.ndarray | np.generic, name: Callable[[], str]) -> np.ndarray:
    """`value` as a program takes it: a plain ndarray of a known dtype, native byte order, aligned."""
    if type(value) is np.ndarray:
        if value.dtype.kind in "fiub" and value.flags.aligned and value.dtype.isnative:
            return value
        array = value
    else:
        array = np.asarray(value) if isinstance(value, np.generic) else plain(value, name())
    native = check_dtype(array.dtype, name()).newbyteorder("=")
    return np.require(array, native, "A")


def layout_of(array: np.ndarray) -> tuple[int, ...] | None:
    """None for C order, else the strides in elements."""
    if array.flags.c_contiguous:
        return None
    size = array.itemsize
    return tuple(stride // size for stride in array.strides)


def static_key(value, name: Callable[[], str]) -> tuple:
    """A key for a value that is part of the program: by value where it has one, else by identity."""
    kind = type(value)
    if kind is Static:
        return "static", _frozen(value.value, name)
    if kind is Array:
        raise outside_error()
    if kind is complex:
        check_dtype(np.dtype(complex), name())
    if _is_foreign_array(value):
        raise UsageTypeError(
            f"{name()} is a {kind.__module__}.{kind.__name__}, which is not an ndarray", "Pass np.asarray(...) of it."
        )
    if isinstance(value, set):
        return kind, frozenset(value)
    try:
        hash(value)
    except TypeError:
        return kind, Identity(value)
    if isinstance(value, np.generic) and value.dtype.kind not in "iubUS":
        check_dtype(value.dtype, name())
    if kind.__eq__ is not object.__eq__ and not is_library_class(kind):
        return kind, Identity(value)  # equal by rules of the user's may yet be different
    return kind, value


def _is_foreign_array(value) -> bool:
    """Whether `value` is another library's array, or a buffer: its elements would be taken for constants."""
    if isinstance(value, (np.generic, type)):
        return False
    return isinstance(value, (bytearray, memoryview)) or any(
        hasattr(value, name) for name in ("__array__", "__array_interface__", "__dlpack__")
    )


def _frozen(value, name: Callable[[], str]):
    """A declared static value as a key that tells 1, 1.0, True, 0.0 and -0.0 apart."""
    if isinstance(value, (tuple, frozenset)):
        return type(value), tuple(_frozen(part, name) for part in value)
    if isinstance(value, (float, complex)):
        return type(value), repr(value)
    try:
        hash(value)
    except TypeError:
        raise UsageTypeError(
            f"{name()} is declared static, but a {type(value).__name__} has no hash",
            "Static arguments are compared by value: pass a tuple for a list, or do not declare it static.",
        ) from None
    return type(value), value


def name_leaves(args: Sequence, kwargs: dict, parameters: Sequence[str]) -> Callable[[int], str]:
    """A function from a leaf's index to how the user would write that leaf."""

    def name(index: int) -> str:
        names = []
        for position, argument in enumerate(args):
            root = parameters[position] if position < len(parameters) else f"argument {position}"
            names += tree.leaf_names(tree.flatten(argument)[1], root)
        for key in sorted(kwargs):
            names += tree.leaf_names(tree.flatten(kwargs[key])[1], key)
        return names[index] if index < len(names) else "an argument"

    return name
