"""The reductions of a kernel: accumulators in lanes where the last loops are folded, in memory where outer ones are."""

from __future__ import annotations

from ...ir.primitive import PRIMITIVES
from ...lowering.kernel import Array, Fold, Kernel
from ..scalar import BOOL, Value, llvm_type
from ..target import Target
from .frame import Point
from .memory import KernelMemory, memory_type

CHUNK = 2048         # elements of a sum in lanes that are added without compensation
SCALAR_CHUNK = 256   # and of one in a scalar loop


class KernelFolds(KernelMemory):
    """Emits the reductions.

    A sum of floats gathers a chunk of elements in one set of accumulators, which is then added to a second set with
    compensation: the error of long sums does not grow. A sum that is not long never touches the second set.
    """

    def __init__(self, kernel: Kernel, name: str, target: Target):
        super().__init__(kernel, name, target)
        self.accumulators: dict[Fold, list[str]] = {}
        self.totals: dict[Fold, list[tuple[str, str]]] = {}  # of long sums: slots of the sum and of its rounding error
        self.long: dict[int, str] = {}     # whether the loops from a depth on make a chunk or more
        self.pending: dict[int, str] = {}  # slots: elements since the accumulators that start at a depth were emptied

    def _measure_sums(self) -> None:
        """Finds out at entry which sums are long."""
        for depth in sorted({self._suffix(fold) for fold in self.kernel.folds if self._is_chunked(fold)} - {self.kernel.rank}):
            count = self.extents[depth]
            for extent in self.extents[depth + 1 :]:
                count = self.raw(f"mul i64 {count}, {extent}")
            self.long[depth] = self.raw(f"icmp sge i64 {count}, {self._chunk}")

    @property
    def _chunk(self) -> int:
        return CHUNK if self.lanes.width else SCALAR_CHUNK

    def _is_chunked(self, fold: Fold) -> bool:
        return self.kernel.arrays[fold.slot].dtype.kind == "f" and PRIMITIVES[fold.op].code.is_sum

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

    def _start(self, fold: Fold, rows: int) -> None:
        """Accumulators for the loops inside: those of `rows` rows, row after row, where each row has its own."""
        dtype, width, depth = self.kernel.arrays[fold.slot].dtype, self.lanes.width, self._suffix(fold)
        identity = self._identity(fold)
        initial = self.spread(identity, width).name if width else identity.name
        kind = llvm_type(dtype, width)
        count = rows * self.lanes.copies
        self.accumulators[fold] = [self._slot(kind, initial) for _ in range(count)]
        if not self._is_chunked(fold):
            return
        self.totals[fold] = [(self._room(kind), self._room(kind)) for _ in range(count)]
        self._when(self.long[depth], lambda: self._clear_totals(fold, kind, initial))
        if depth < self.kernel.rank - 1 and depth not in self.pending:
            self.pending[depth] = self._slot("i64", "0")

    def _clear_totals(self, fold: Fold, kind: str, initial: str) -> None:
        for pair in self.totals[fold]:
            for slot in pair:
                self.line(f"store {kind} {initial}, ptr {slot}")

    def _combine(self, fold: Fold, x: Value, y: Value) -> Value:
        return PRIMITIVES[fold.op].code.combine(self, x, y)

    def _combine_into(self, slot: str, fold: Fold, value: Value, mask: str | None) -> None:
        kind = llvm_type(value.dtype, value.lanes)
        present = Value(self.raw(f"load {kind}, ptr {slot}"), value.dtype, value.lanes)
        result = self._combine(fold, present, value)
        if mask:
            result = self.select(Value(mask, BOOL, value.lanes), result, present)
        self.line(f"store {kind} {result.name}, ptr {slot}")

    def _gathered(self, elements: str) -> None:
        """After `elements` more in the accumulators: empties those that have gathered a chunk."""
        for depth in sorted({self._suffix(fold) for fold in self.totals}):
            if depth == self.kernel.rank - 1:
                full = self.long[depth]
            else:
                pending = self.raw(f"add i64 {self.raw(f'load i64, ptr {self.pending[depth]}')}, {elements}")
                full = self.raw(f"icmp sge i64 {pending}, {self._chunk}")
                self.line(f"store i64 {self.raw(f'select i1 {full}, i64 0, i64 {pending}')}, ptr {self.pending[depth]}")
            self._when(full, lambda depth=depth: self._absorb_at(depth))

    def _absorb_at(self, depth: int) -> None:
        for fold in self.totals:
            if self._suffix(fold) == depth:
                self._absorb(fold)

    def _absorb(self, fold: Fold) -> None:
        """Adds the accumulators to the totals and clears them."""
        dtype, width = self.kernel.arrays[fold.slot].dtype, self.lanes.width
        kind, initial = llvm_type(dtype, width), self.spread(self._identity(fold), width).name
        for inner, (total, error) in zip(self.accumulators[fold], self.totals[fold], strict=True):
            value, before, lost = (Value(self.raw(f"load {kind}, ptr {s}"), dtype, width) for s in (inner, total, error))
            after, lost = self._add_compensated(before, lost, value)
            self.line(f"store {kind} {after.name}, ptr {total}")
            self.line(f"store {kind} {lost.name}, ptr {error}")
            self.line(f"store {kind} {initial}, ptr {inner}")

    def _add_compensated(self, total: Value, error: Value, value: Value) -> tuple[Value, Value]:
        """total + value, and the rounding error, put aside for the next addition (W. Kahan: Further remarks on reducing
        truncation errors. Communications of the ACM 8, 1965). An infinite sum has no error."""
        flags, self.flags = self.flags, ""  # reassociation would cancel the error
        due = self.sub(value, error)
        result = self.add(total, due)
        lost = self.sub(self.sub(result, total), due)
        lost = self.select(self.is_nan(lost), self.like(lost, 0.0), lost)
        self.flags = flags
        return result, lost

    def _conclude(self, fold: Fold, points: list[Point]) -> None:
        """After the fold's loops: lanes to one value for each point, in halves; then to memory."""
        dtype, width, copies = self.kernel.arrays[fold.slot].dtype, self.lanes.width, self.lanes.copies
        kind = llvm_type(dtype, width)
        if fold in self.totals:
            self._when(self.long[self._suffix(fold)], lambda: self._finish_long(fold, kind))
        parts = [Value(self.raw(f"load {kind}, ptr {slot}"), dtype, width) for slot in self.accumulators[fold]]
        del self.accumulators[fold]
        self.totals.pop(fold, None)
        rows = [self._combine_all(fold, parts[k : k + copies]) for k in range(0, len(parts), copies)]
        for point, result in zip(points, self._fold_lanes(fold, rows), strict=True):
            self.point = point
            if self._in_memory(fold):
                self._combine_in_memory(fold, result, None, None)
            else:
                self._write(fold.slot, result, None, None)

    def _finish_long(self, fold: Fold, kind: str) -> None:
        self._absorb(fold)
        for inner, (total, _) in zip(self.accumulators[fold], self.totals[fold], strict=True):
            self.line(f"store {kind} {self.raw(f'load {kind}, ptr {total}')}, ptr {inner}")

    def _combine_all(self, fold: Fold, parts: list[Value]) -> Value:
        """The parts, a power of two of them, combined in pairs."""
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [self._combine(fold, x, y) for x, y in zip(parts[:half], parts[half:], strict=True)]
        return parts[0]

    def _fold_lanes(self, fold: Fold, rows: list[Value]) -> list[Value]:
        """Of each vector the lanes folded, low half with high half. Halves of two vectors are folded as one."""
        lanes = rows[0].lanes
        if not lanes:
            return rows
        while lanes > 1:
            half = lanes // 2
            if len(rows) == 1:
                rows = [self._fold_halves(fold, rows[0], rows[0], lanes, rows[0].lanes // lanes)]
            else:
                pairs = zip(rows[::2], rows[1::2], strict=True)
                rows = [self._fold_halves(fold, x, y, lanes, 2 * x.lanes // lanes) for x, y in pairs]
            lanes = half
        kind = llvm_type(rows[0].dtype, rows[0].lanes)
        names = [f"extractelement {kind} {row.name}, i32 {k}" for row in rows for k in range(row.lanes)]
        return [Value(self.raw(name), rows[0].dtype) for name in names]

    def _fold_halves(self, fold: Fold, x: Value, y: Value, lanes: int, segments: int) -> Value:
        """x and y joined have `segments` (of which they are the first) of `lanes`: the low half of each with its high."""
        kind, half = llvm_type(x.dtype, x.lanes), lanes // 2
        low, high = (
            self.raw(f"shufflevector {kind} {x.name}, {kind} {y.name}, <{segments * half} x i32> <{picks}>")
            for picks in (
                ", ".join(f"i32 {segment * lanes + start + k}" for segment in range(segments) for k in range(half))
                for start in (0, half)
            )
        )
        return self._combine(fold, Value(low, x.dtype, segments * half), Value(high, x.dtype, segments * half))

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
