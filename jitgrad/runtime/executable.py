"""A compiled plan: arrays in, one native call, arrays out. Re-entrant: whatever a call writes belongs to the call."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import InternalError
from ..ir import interpret
from ..lowering.memory import ALIGNMENT
from ..lowering.plan import Plan
from ..lowering.region import ControlStep
from . import entry
from .layout import Layout
from .result_memory import empty, handler_capsule, is_large
from .threads import parallel_address, thread_count

_KEPT_ARENA_BYTES = 1 << 28
_LONG_WORK = 20_000  # elements written in a call beyond which other Python threads are let run meanwhile


class Executable:
    """Runs `plan`, by the driver at `driver_address`, with at most so many threads (None: as many as the process may use).
    `keep` must outlive it."""

    def __init__(self, plan: Plan, layout: Layout, driver_address: int, threads: int | None, keep: tuple, host_errors):
        self.plan, self._layout, self.driver_address, self._keep = plan, layout, driver_address, keep
        self._run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(driver_address)
        self._host_errors: threading.local = host_errors
        self.threads = min(layout.widest, thread_count(threads)) if layout.widest > 1 else 1
        self.arena_bytes = plan.arena_bytes + self.threads * plan.private_bytes
        self._program = self._record()
        self._outputs = [(node.shape, node.dtype) for node in plan.graph.outputs]
        self._slots = ctypes.c_void_p * plan.slots
        self._arenas: list[np.ndarray] = []  # those not in use: fresh pages cost more than most kernels
        self._records: list[np.ndarray] = []

    def _record(self) -> np.ndarray:
        """What the driver reads, see `backends/cpu/driver.py`."""
        plan, layout = self.plan, self._layout
        parallel = parallel_address() if self.threads > 1 else 0
        head = [layout.table.ctypes.data, len(layout.table), parallel]
        phases = [layout.phases.ctypes.data, len(layout.phases), layout.pieces.ctypes.data]
        private = [plan.slots, plan.private_slot, plan.private_bytes, self.threads]
        return np.array([*head, *phases, *private, plan.stacks, plan.arena_slot], np.int64)

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The outputs for `arrays`, which have the shapes, dtypes and layouts that were compiled for."""
        outputs = [empty(shape, dtype) for shape, dtype in self._outputs]
        addresses = [array.ctypes.data for array in arrays]
        addresses += [output.ctypes.data for output in outputs]
        arena = self._take_arena()
        start = arena.ctypes.data
        start = -(-start // ALIGNMENT) * ALIGNMENT
        bases = self._slots(*addresses, start, start + self.plan.arena_bytes)
        stopped = None
        try:
            status = self._run(bases, self._program.ctypes.data)
        except SystemError as error:  # a call that was stopped by a signal comes back with its exception set
            status, stopped = 0, error.__cause__ or error
        if arena.size <= _KEPT_ARENA_BYTES:
            self._arenas.append(arena)
        if stopped is not None:
            raise stopped
        if status:
            self._raise(status, arrays)
        return outputs

    def _take_arena(self) -> np.ndarray:
        try:
            return self._arenas.pop()  # atomic: no other call gets the same
        except IndexError:
            return np.empty(self.arena_bytes + ALIGNMENT, np.uint8)

    def native(self, kinds: Sequence[type]) -> Callable | None:
        """A builtin function for arguments of these types (np.ndarray, or float and other scalar types), see `entry`:
        it gives the one output, or a tuple of them, 0-d ones as NumPy scalars, or `NotImplemented`. It must not
        outlive this object. None where this interpreter's objects are not laid out as it needs."""
        graph = self.plan.graph
        inputs = [entry.input_words(kind, node.dtype, node.shape) for kind, node in zip(kinds, graph.inputs, strict=True)]
        outputs = [entry.output_words(node.dtype, node.shape) for node in graph.outputs]
        handler = id(handler_capsule()) if any(is_large(shape, dtype) for shape, dtype in self._outputs) else 0
        sizes = self.plan.arena_bytes, self.arena_bytes
        words = entry.record(inputs, outputs, self.program_address, *sizes, self._is_long(), handler)
        function = entry.native_function(words)
        if function is not None:
            self._records.append(words)
            self._arenas.clear()  # it keeps one of its own
        return function

    @property
    def program_address(self) -> int:
        """The record that the native driver, `i64 (bases, record)`, reads."""
        return self._program.ctypes.data

    def _is_long(self) -> bool:
        """Whether a call takes long enough to let go of the GIL."""
        if any(isinstance(step, ControlStep) for step in self.plan.steps):
            return True
        return self.threads > 1 or sum(node.aval.size for step in self.plan.steps for node in step.touches) > _LONG_WORK

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
