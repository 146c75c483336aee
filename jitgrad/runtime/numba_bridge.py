"""Compiled programs as functions that `@numba.njit` code can call. The one module that knows Numba.

The bridge is public Numba only: a small njit function, generated for the program's arguments, that makes the result
arrays and calls the native driver through a ctypes pointer. No Python object is touched, so it runs without the GIL
and inside other njit functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lowering.memory import ALIGNMENT
from .executable import Executable

_DRIVER = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def njit_function(executable: Executable, kinds: Sequence[type], captured: Sequence[np.ndarray]):
    """An njit function of arguments of these types (np.ndarray in C order, or float), with the shapes and dtypes that
    `executable` was compiled for. It returns the one output, or a tuple of them; 0-d outputs are scalars.

    It raises TypeError where an argument has another dtype, ValueError where it has another shape, IndexError where
    native code found a bad index. What `captured` holds is read at each call.
    """
    import numba  # noqa: PLC0415  (heavy, and needed by nobody else)

    source = _source(executable, kinds, captured)
    names: dict[str, Any] = {"np": np, "run": _DRIVER(executable.driver_address), "program": executable.program_address}
    names |= _dtypes(executable)
    exec(compile(source, "<jitgrad njit bridge>", "exec"), names)
    function = numba.njit(names["call"], nogil=True)
    function.jitgrad_program = executable, tuple(captured)  # alive as long as the function
    return function


def _dtypes(executable: Executable) -> dict[str, Any]:
    """The dtypes of inputs and outputs as the text names them: t0, ... their types, d0, ... themselves."""
    nodes = enumerate((*executable.plan.graph.inputs, *executable.plan.graph.outputs))
    return {name: value for k, node in nodes for name, value in ((f"t{k}", node.dtype.type), (f"d{k}", node.dtype))}


def _source(executable: Executable, kinds: Sequence[type], captured: Sequence[np.ndarray]) -> str:
    """The text of the function `call`."""
    plan = executable.plan
    count, total = len(kinds), len(plan.graph.inputs)
    lines = [
        f"def call({', '.join(f'x{k}' for k in range(count))}):",
        f"    bases = np.empty({plan.slots}, np.int64)",
    ]
    for k, (kind, node) in enumerate(zip(kinds, plan.graph.inputs, strict=False)):
        if kind is np.ndarray:
            lines += [
                f"    if not x{k}.dtype == d{k}:",  # Numba has no != of dtypes
                f"        raise TypeError('argument {k} has another dtype than the {node.dtype} this was compiled for')",
                f"    if x{k}.shape != {node.shape}:",
                f"        raise ValueError('argument {k} has another shape than the {node.shape} this was compiled for')",
                f"    a{k} = np.ascontiguousarray(x{k})",
            ]
        else:
            lines += [f"    a{k} = np.empty(1, t{k})", f"    a{k}[0] = x{k}"]
        lines.append(f"    bases[{k}] = a{k}.ctypes.data")
    lines += [f"    bases[{count + k}] = {array.ctypes.data}" for k, array in enumerate(captured)]
    results = []
    for k, node in enumerate(plan.graph.outputs):
        lines += [f"    y{k} = np.empty({node.shape or (1,)}, t{total + k})", f"    bases[{total + k}] = y{k}.ctypes.data"]
        results.append(f"y{k}" if node.shape else f"y{k}[0]")
    lines += [
        f"    arena = np.empty({executable.arena_bytes + ALIGNMENT}, np.uint8)",
        f"    bases[{plan.arena_slot}] = (arena.ctypes.data + {ALIGNMENT - 1}) // {ALIGNMENT} * {ALIGNMENT}",
        f"    bases[{plan.private_slot}] = bases[{plan.arena_slot}] + {plan.arena_bytes}",
        "    status = run(bases.ctypes.data, program)",
        # Numba frees an array after its last use: these are used until here, whatever took their addresses.
        f"    alive = {' + '.join(['bases.size', 'arena.size', *(f'a{k}.size' for k in range(count))])}",
        "    if status != 0 or alive < 0:",
        "        raise IndexError('an index is out of bounds')",
        f"    return {', '.join(results)}",
    ]
    return "\n".join(lines)
