"""A compiled plan: arrays in, one native call, arrays out. Re-entrant: whatever a call writes belongs to the call."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InternalError
from ..ir import interpret
from ..lowering.plan import ALIGNMENT, Plan
from . import entry
from .machine import address_of

_KEPT_ARENA_BYTES = 1 << 28
_LONG_WORK = 20_000  # elements written in a call beyond which other Python threads are let run meanwhile


class Executable:
    """Runs `plan`. `words` and `table` are what the native driver reads; `keep` what must outlive them."""

    def __init__(self, plan: Plan, words: np.ndarray, table: np.ndarray, run, keep: tuple, host_errors: threading.local):
        self.plan, self._words, self._table, self._run, self._keep = plan, words, table, run, keep
        self._host_errors = host_errors
        self._outputs = [(node.shape, node.dtype) for node in plan.graph.outputs]
        self._slots = ctypes.c_void_p * (len(plan.graph.inputs) + len(self._outputs) + 1)
        self._arenas: list[np.ndarray] = []  # those not in use: fresh pages cost more than most kernels
        self._records: list[np.ndarray] = []

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The outputs for `arrays`, which have the shapes, dtypes and layouts that were compiled for."""
        outputs = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        addresses = [array.ctypes.data for array in arrays]
        addresses += [output.ctypes.data for output in outputs]
        arena = self._take_arena()
        start = arena.ctypes.data
        bases = self._slots(*addresses, -(-start // ALIGNMENT) * ALIGNMENT)
        status = self._run(bases, self._table.ctypes.data, len(self._table))
        if arena.size <= _KEPT_ARENA_BYTES:
            self._arenas.append(arena)
        if status:
            self._raise(status, arrays)
        return outputs

    def _take_arena(self) -> np.ndarray:
        try:
            return self._arenas.pop()  # atomic: no other call gets the same
        except IndexError:
            return np.empty(self.plan.arena_bytes + ALIGNMENT, np.uint8)

    def native(self, kinds: Sequence[type]) -> Callable | None:
        """A builtin function for arguments of these types (np.ndarray, or float and other scalar types), see `entry`:
        it gives the one output, or a tuple of them, 0-d ones as NumPy scalars, or `NotImplemented`. It must not
        outlive this object. None where this interpreter's objects are not laid out as it needs."""
        graph = self.plan.graph
        inputs = [entry.input_words(kind, node.dtype, node.shape) for kind, node in zip(kinds, graph.inputs, strict=True)]
        outputs = [entry.output_words(node.dtype, node.shape) for node in graph.outputs]
        words = entry.record(inputs, outputs, self._table, self.plan.arena_bytes, self._is_long())
        function = entry.native_function(words)
        if function is not None:
            self._records.append(words)
            self._arenas.clear()  # it keeps one of its own
        return function

    @property
    def driver_address(self) -> int:
        """The native driver, `i64 (bases, table, steps)`."""
        return address_of(self._run)

    @property
    def table_address(self) -> int:
        """The table of calls that the driver runs."""
        return self._table.ctypes.data

    @property
    def calls(self) -> int:
        """How many calls the table has."""
        return len(self._table)

    def _is_long(self) -> bool:
        """Whether a call takes long enough to let go of the GIL."""
        return sum(node.aval.size for step in self.plan.steps for node in step.touches) > _LONG_WORK

    def __del__(self, is_finalizing=sys.is_finalizing, free=entry.free_kept_arena):
        if not is_finalizing():  # at the interpreter's end modules go before objects, and memory goes by itself
            for words in getattr(self, "_records", ()):
                free(words)

    def _raise(self, status: int, arrays: Sequence[np.ndarray]) -> None:
        """Raises what went wrong. The interpreter, run again on the same arrays, knows the index and the user's line."""
        error = getattr(self._host_errors, "error", None)
        self._host_errors.error = None
        if error is not None:
            raise error
        interpret.run(self.plan.graph, arrays)
        raise InternalError(f"compiled code reported status {status}, the interpreter nothing")
