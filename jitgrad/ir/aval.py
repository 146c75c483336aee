"""The abstract value of a node: its shape and dtype."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

_SHORT = {"float64": "f64", "float32": "f32", "float16": "f16", "bool": "bool", "complex128": "c128", "complex64": "c64"}
_LONG = {short: long for long, short in _SHORT.items()}


def short_name(dtype: np.dtype) -> str:
    """A dtype's name in printed graphs: f64, i64, u8, bool, ..."""
    name = dtype.name
    return _SHORT.get(name) or name.replace("uint", "u").replace("int", "i")


def dtype_from_short(short: str) -> np.dtype:
    """The dtype whose `short_name` is `short`."""
    if short in _LONG:
        return np.dtype(_LONG[short])
    return np.dtype(short.replace("u", "uint") if short[0] == "u" else short.replace("i", "int"))


class Aval:
    """Shape and dtype, made by `aval_of`, which keeps the common ones so that equal avals mostly are one object."""

    __slots__ = ("shape", "dtype", "size", "__weakref__")
    shape: tuple[int, ...]
    dtype: np.dtype
    size: int

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype, self.size = shape, dtype, prod(shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __eq__(self, other) -> bool:
        return self is other or (isinstance(other, Aval) and self.shape == other.shape and self.dtype == other.dtype)

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"{short_name(self.dtype)}[{','.join(map(str, self.shape))}]"


_NO_ARRAY = np.dtype("V8")


class TupleAval(Aval):
    """Several values at once: what a loop or a branch gives, to be taken apart by `get`."""

    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Aval, ...]):
        super().__init__((), _NO_ARRAY)
        self.parts = parts

    def __eq__(self, other) -> bool:
        return isinstance(other, TupleAval) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash((TupleAval, self.parts))

    def __repr__(self) -> str:
        return f"({', '.join(map(repr, self.parts))})"


class StackAval(Aval):
    """A stack of values of one aval, of a height that is known at run time: what a loop saves for its derivative."""

    __slots__ = ("element",)

    def __init__(self, element: Aval):
        super().__init__((), _NO_ARRAY)
        self.element = element

    def __eq__(self, other) -> bool:
        return isinstance(other, StackAval) and self.element == other.element

    def __hash__(self) -> int:
        return hash((StackAval, self.element))

    def __repr__(self) -> str:
        return f"{self.element!r}*"


@lru_cache(maxsize=1 << 14)
def _interned(shape: tuple[int, ...], dtype: np.dtype) -> Aval:
    return Aval(shape, dtype)


def aval_of(shape, dtype) -> Aval:
    """The one `Aval` with this shape and dtype."""
    return _interned(tuple(shape), np.dtype(dtype))
