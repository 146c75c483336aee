"""What calls of NumPy's functions and ufuncs on traced arrays mean: tables that the layers above fill."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..ir.primitive import PRIMITIVES, Primitive
from .aliasing import VIEW_FUNCTIONS, mark_views

# NumPy function -> the same on traced arrays; called with exactly the arguments of the NumPy call.
NUMPY_FUNCTIONS: dict[Callable, Callable] = {}

# ufunc -> the same on traced arrays, for ufuncs composed out of primitives. An elementwise one is called with Arrays
# that have the dtypes of NumPy's loop and one common shape; a generalized one (matmul) with Arrays in the loop's dtypes.
# It returns one Array, or a tuple of Arrays; the result dtype is set by the caller to that of NumPy's loop.
UFUNCS: dict[np.ufunc, Callable] = {}


# NumPy's makers of arrays that are filled later: where rewritten code stores into what they make, it is traced.
MAKERS: set[Callable] = set()


def creation_of(function: Callable) -> Callable | None:
    """What makes a traced array in place of the array that `function` of NumPy makes; None for other functions."""
    return NUMPY_FUNCTIONS.get(function) if function in MAKERS else None


def implements(*functions: Callable) -> Callable[[Callable], Callable]:
    """Registers the decorated function as what each of `functions` (of NumPy, or ufuncs) does on traced arrays.

    >>> @implements(np.packbits)
    ... def packed(x):
    ...     return x * 2
    >>> NUMPY_FUNCTIONS.pop(np.packbits) is packed
    True
    """

    def register(implementation: Callable) -> Callable:
        for function in functions:
            if isinstance(function, np.ufunc):
                UFUNCS[function] = implementation
            elif function in VIEW_FUNCTIONS:
                NUMPY_FUNCTIONS[function] = _marking(implementation)
            else:
                NUMPY_FUNCTIONS[function] = implementation
        return implementation

    return register


def _marking(implementation: Callable) -> Callable:
    """`implementation`, its results marked as views of the arguments where they are."""

    @functools.wraps(implementation)
    def marked(*args, **kwargs):
        result = implementation(*args, **kwargs)
        mark_views(result, (args, tuple(kwargs.values())))
        return result

    return marked


def primitive_of(ufunc: np.ufunc) -> Primitive | None:
    """The primitive that declares itself to be `ufunc`."""
    return next((primitive for primitive in PRIMITIVES.values() if primitive.ufunc is ufunc), None)
