"""A compiled plan: arrays in, one native call, arrays out. Re-entrant: whatever a call writes belongs to the call."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from ..errors import InternalError
from ..ir import interpret
from ..lowering.plan import ALIGNMENT, Plan

_SMALL_ARENA = 1 << 26  # larger arenas are not kept between calls


class _Workspace(threading.local):
    """The thread's arena, kept between calls: fresh pages cost more than most kernels."""

    memory: np.ndarray | None = None
    in_use = False


_workspace = _Workspace()


class Executable:
    """Runs `plan`. `words` and `table` are what the native driver reads; `keep` what must outlive them."""

    def __init__(self, plan: Plan, words: np.ndarray, table: np.ndarray, run, keep: tuple, host_errors: threading.local):
        self.plan, self._words, self._table, self._run, self._keep = plan, words, table, run, keep
        self._host_errors = host_errors
        self._outputs = [(node.shape, node.dtype) for node in plan.graph.outputs]
        self._slots = ctypes.c_void_p * (len(plan.graph.inputs) + len(self._outputs) + 1)
        self._arguments = (table.ctypes.data, len(table))

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The outputs for `arrays`, which have the shapes, dtypes and layouts that were compiled for."""
        outputs = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        addresses = [array.ctypes.data for array in arrays]
        addresses += [output.ctypes.data for output in outputs]
        outermost = not _workspace.in_use
        memory = self._arena(outermost)
        start = memory.ctypes.data
        bases = self._slots(*addresses, -(-start // ALIGNMENT) * ALIGNMENT)
        _workspace.in_use = True
        try:
            status = self._run(bases, *self._arguments)
        finally:
            if outermost:
                _workspace.in_use = False
        if status:
            self._raise(status, arrays)
        return outputs

    def _arena(self, outermost: bool) -> np.ndarray:
        """Memory for this call; a call inside a call (from a routine on the host) gets its own."""
        need = self.plan.arena_bytes + ALIGNMENT
        if not outermost or need > _SMALL_ARENA:
            return np.empty(need, np.uint8)
        if _workspace.memory is None or _workspace.memory.size < need:
            _workspace.memory = np.empty(need, np.uint8)
        return _workspace.memory

    def _raise(self, status: int, arrays: Sequence[np.ndarray]) -> None:
        """Raises what went wrong. The interpreter, run again on the same arrays, knows the index and the user's line."""
        error = getattr(self._host_errors, "error", None)
        self._host_errors.error = None
        if error is not None:
            raise error
        interpret.run(self.plan.graph, arrays)
        raise InternalError(f"compiled code reported status {status}, the interpreter nothing")
