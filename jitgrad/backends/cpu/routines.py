"""Library routines of the CPU target: native ones by family, and calls back to NumPy for the rest.

A routine has the kernels' interface, `i64 f(ptr bases, ptr words)`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np

from ...ir.node import Node
from ...lowering.access import Access
from ...lowering.plan import RoutineStep, Slot
from ..target import Target
from . import products, scans

HOST_ERROR = 2

# The module that knows each native routine: `symbol(step)` (None: this one goes to the host), `source(symbol, target)`,
# `words(step, buffers, scratch)` and `scratch_bytes(step, target)`.
_FAMILIES = {"matmul": products, **dict.fromkeys(scans.ROUTINES, scans)}


def native_symbol(step: RoutineStep) -> str | None:
    """The symbol of the native routine for `step`; None when it is called back on the host."""
    family = _FAMILIES.get(step.routine)
    return None if family is None else family.symbol(step)


@cache
def native_source(symbol: str, target: Target) -> str:
    """The module text that defines the native routine `symbol`."""
    return _FAMILIES[symbol.split(".")[1]].source(symbol, target)


def scratch_bytes(step: RoutineStep, target: Target) -> int:
    """What a native routine needs for itself."""
    return 0 if native_symbol(step) is None else _FAMILIES[step.routine].scratch_bytes(step, target)


def routine_words(step: RoutineStep, buffers: dict[Node, Slot], scratch: Slot) -> list[int]:
    """The words that the native routine of `step` reads."""
    return _FAMILIES[step.routine].words(step, buffers, scratch)


# --- routines on the host

HOST_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


def host_function(step: RoutineStep, buffers: dict[Node, Slot], report: Callable[[BaseException], None]):
    """A C function that computes `step` by its primitive's reference. ctypes takes the GIL for it.

    An exception is given to `report`, and the function's status is `HOST_ERROR`.
    """
    reference, params = step.node.primitive.reference, step.node.params

    def call(bases: int, _words: int) -> int:
        try:
            operands = [_array_at(bases, access, buffers[access.base]) for access in step.operands]
            with np.errstate(all="ignore"):
                _array_at(bases, step.result, buffers[step.result.base])[...] = reference(*operands, **params)
            return 0
        except BaseException as error:  # anything that left a C callback would be lost
            report(error)
            return HOST_ERROR

    return HOST_FUNCTION(call)


def _array_at(bases: int, access: Access, place: Slot) -> np.ndarray:
    """The elements of `access`, with the base addresses at `bases`, as an array without a copy."""
    address = ctypes.c_int64.from_address(bases + 8 * place.slot).value + place.offset
    size = access.base.dtype.itemsize
    lowest = access.offset + sum(min(0, (e - 1) * s) for e, s in zip(access.shape, access.strides, strict=True) if e)
    highest = access.offset + sum(max(0, (e - 1) * s) for e, s in zip(access.shape, access.strides, strict=True) if e)
    memory = (ctypes.c_char * ((highest - lowest + 1) * size)).from_address(address + lowest * size)
    return np.ndarray(
        access.shape, access.base.dtype, memory, (access.offset - lowest) * size, tuple(s * size for s in access.strides)
    )
