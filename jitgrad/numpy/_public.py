"""How NumPy's names are reached through `jitgrad.numpy`: traced where a value is traced, else NumPy's own."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from ..frontend import trace
from ..frontend.convert import as_array, contains_traced
from ..frontend.missing import unsupported
from ..frontend.registry import NUMPY_FUNCTIONS
from ._build import note_reads
from .creation import CREATION


class Ufunc:
    """A ufunc of NumPy that takes lists of traced values as well."""

    __slots__ = ("_ufunc",)

    def __init__(self, ufunc: np.ufunc):
        self._ufunc = ufunc

    def __call__(self, *args, **kwargs):
        if contains_traced(args) or (trace.current() is not None and _holds_array(args)):
            args = tuple(as_array(arg) if isinstance(arg, (list, tuple, np.ndarray)) else arg for arg in args)
        return self._ufunc(*args, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._ufunc, name)

    def __repr__(self) -> str:
        return f"<jitgrad.numpy ufunc {self._ufunc.__name__!r}>"


def attribute(module, prefix: str, name: str, namespace: dict):
    """`module.name` in its form for jitgrad.numpy, which `namespace` then remembers."""
    try:
        value = getattr(module, name)
    except AttributeError:
        raise AttributeError(f"jitgrad.numpy has no {prefix}{name}: NumPy has none either") from None
    value = Ufunc(value) if isinstance(value, np.ufunc) else public(value) if _is_function(value) else value
    namespace[name] = value
    return value


def _is_function(value) -> bool:
    return callable(value) and not isinstance(value, type) and hasattr(value, "__name__")


def public(function: Callable) -> Callable:
    """`function` of NumPy, traced where a traced value is among its arguments, and inside a trace."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        implementation = NUMPY_FUNCTIONS.get(function)
        values = (*args, *kwargs.values())
        if contains_traced(values):
            if implementation is None:
                raise unsupported(function)
            return implementation(*args, **kwargs)
        if trace.current() is None:
            return function(*args, **kwargs)
        if implementation is not None and (function in CREATION or _holds_array(values)):
            return implementation(*args, **kwargs)
        note_reads(values)
        return function(*args, **kwargs)

    return call


def _holds_array(value) -> bool:
    """Whether a plain array is anywhere in a nest of lists and tuples."""
    if isinstance(value, (list, tuple)):
        return any(_holds_array(part) for part in value)
    return isinstance(value, np.ndarray)
