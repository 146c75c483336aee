"""The reductions of a kernel: accumulators in lanes where the last loops are folded, in memory where outer ones are."""

from __future__ import annotations

from ...ir.primitive import PRIMITIVES
from ...lowering.kernel import Array, Fold, Kernel
from ..scalar import BOOL, Value, llvm_type
from ..target import Target
from .memory import KernelMemory, memory_type


class KernelFolds(KernelMemory):
    """Emits the reductions."""

    def __init__(self, kernel: Kernel, name: str, target: Target):
        super().__init__(kernel, name, target)
        self.accumulators: dict[Fold, tuple[list[str], list[str]]] = {}  # slots of a chunk, and of all chunks
        self.errors: dict[str, str] = {}  # slot of all chunks -> slot of the rounding error that it has gathered

    def _suffix(self, fold: Fold) -> int:
        """The outermost loop from which on every loop belongs to the fold."""
        start = self.kernel.rank
        while start and fold.axes >> (start - 1) & 1:
            start -= 1
        return start

    def _in_memory(self, fold: Fold) -> bool:
        """Whether the fold accumulates in its result's buffer: some loop outside its last loops belongs to it too."""
        return fold.axes & ((1 << self._suffix(fold)) - 1) != 0

    def _identity(self, fold: Fold) -> Value:
        dtype = self.kernel.arrays[fold.slot].dtype
        return self.constant(PRIMITIVES[fold.op].code.identity(dtype), dtype)

    def _start(self, fold: Fold) -> None:
        dtype, width = self.kernel.arrays[fold.slot].dtype, self.lanes.width
        identity = self._identity(fold)
        initial = self.spread(identity, width).name if width else identity.name
        kind = llvm_type(dtype, width)
        inner = [self._slot(kind, initial) for _ in range(self.lanes.copies)]
        outer = [self._slot(kind, initial) for _ in range(self.lanes.copies)] if width else []
        self.accumulators[fold] = inner, outer
        if PRIMITIVES[fold.op].code.is_sum and dtype.kind == "f":
            self.errors |= {slot: self._slot(kind, initial) for slot in outer}

    def _combine(self, fold: Fold, x: Value, y: Value) -> Value:
        return PRIMITIVES[fold.op].code.combine(self, x, y)

    def _combine_into(self, slot: str, fold: Fold, value: Value, mask: str | None) -> None:
        kind = llvm_type(value.dtype, value.lanes)
        present = Value(self.raw(f"load {kind}, ptr {slot}"), value.dtype, value.lanes)
        result = self._combine(fold, present, value)
        if mask:
            result = self.select(Value(mask, BOOL, value.lanes), result, present)
        self.line(f"store {kind} {result.name}, ptr {slot}")

    def _absorb(self, fold: Fold) -> None:
        """Adds the chunk's accumulators to the outer ones and clears them."""
        dtype, width = self.kernel.arrays[fold.slot].dtype, self.lanes.width
        kind, initial = llvm_type(dtype, width), self.spread(self._identity(fold), width).name
        for inner, outer in zip(*self.accumulators[fold], strict=True):
            value = Value(self.raw(f"load {kind}, ptr {inner}"), dtype, width)
            if outer in self.errors:
                self._add_compensated(outer, self.errors[outer], value)
            else:
                self._combine_into(outer, fold, value, None)
            self.line(f"store {kind} {initial}, ptr {inner}")

    def _add_compensated(self, slot: str, error_slot: str, value: Value) -> None:
        """slot += value, the rounding error put aside for the next addition (W. Kahan: Further remarks on reducing
        truncation errors. Communications of the ACM 8, 1965). An infinite sum has no error."""
        kind = llvm_type(value.dtype, value.lanes)
        total, error = (Value(self.raw(f"load {kind}, ptr {s}"), value.dtype, value.lanes) for s in (slot, error_slot))
        flags, self.flags = self.flags, ""  # reassociation would cancel the error
        due = self.sub(value, error)
        result = self.add(total, due)
        lost = self.sub(self.sub(result, total), due)
        lost = self.select(self.is_nan(lost), self.like(lost, 0.0), lost)
        self.flags = flags
        self.line(f"store {kind} {result.name}, ptr {slot}")
        self.line(f"store {kind} {lost.name}, ptr {error_slot}")

    def _conclude(self, fold: Fold) -> None:
        """After the fold's loops: lanes to one value, in halves; then to memory."""
        inner, outer = self.accumulators.pop(fold)
        dtype, width = self.kernel.arrays[fold.slot].dtype, self.lanes.width
        kind = llvm_type(dtype, width)
        parts = [Value(self.raw(f"load {kind}, ptr {slot}"), dtype, width) for slot in (outer or inner)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [self._combine(fold, x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
        result = self._fold_lanes(fold, parts[0])
        if self._in_memory(fold):
            self._combine_in_memory(fold, result, None, None)
        else:
            self._write(fold.slot, result, None, None)

    def _fold_lanes(self, fold: Fold, value: Value) -> Value:
        lanes = value.lanes
        while lanes > 1:
            kind, half = llvm_type(value.dtype, lanes), lanes // 2
            low, high = (
                self.raw(f"shufflevector {kind} {value.name}, {kind} poison, <{half} x i32> <{picks}>")
                for picks in (", ".join(f"i32 {k}" for k in range(start, start + half)) for start in (0, half))
            )
            value = self._combine(fold, Value(low, value.dtype, half), Value(high, value.dtype, half))
            lanes = half
        if not value.lanes:
            return value
        name = self.raw(f"extractelement {llvm_type(value.dtype, 1)} {value.name}, i32 0")
        return Value(name, value.dtype)

    def _combine_in_memory(self, fold: Fold, value: Value, counter: str | None, mask: str | None) -> None:
        present = self._read(fold.slot, counter, mask)
        self._write(fold.slot, self._combine(fold, present, value), counter, mask)

    def _clear(self, fold: Fold) -> None:
        """Fills the result's buffer with the fold's identity: loops over the kept axes, one element at a time."""
        identity = self._identity(fold)
        kept = [k for k in range(self.kernel.rank) if not fold.axes >> k & 1]
        array: Array = self.kernel.arrays[fold.slot]

        def fill(remaining: list[int], row: str) -> None:
            if not remaining:
                value = self._to_memory(identity)
                kind = memory_type(array.dtype)
                self.line(f"store {kind} {value.name}, ptr {row}, align {array.dtype.itemsize}")
                return
            axis, *rest = remaining
            stride = self.strides[fold.slot].get(axis, str(array.dtype.itemsize))

            def inside(i: str) -> None:
                step = self.raw(f"mul nsw i64 {i}, {stride}")
                fill(rest, self.raw(f"getelementptr i8, ptr {row}, i64 {step}"))

            self._loop("0", self.extents[axis], "1", inside)

        fill(kept, self.point.rows[fold.slot])
