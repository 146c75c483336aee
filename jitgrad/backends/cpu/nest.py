"""A kernel as LLVM IR text: one function `i64 f(ptr bases, ptr words)`.

`bases` holds base addresses, `words` the binding as 64-bit words (see `memory.binding_words`). The result is 0, or
`BAD_INDEX`. The innermost loop runs on explicit vectors, several at a time, its rest under a mask.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.primitive import PRIMITIVES
from ...lowering.kernel import STRIDED, UNIT, Instruction
from ..scalar import BOOL, Value
from .folds import KernelFolds
from .memory import I64, memory_type

BAD_INDEX = 1
CHUNK = 2048  # elements summed in one set of accumulators before they are added to the outer ones: keeps long sums accurate


class Nest(KernelFolds):
    """Writes one kernel's function."""

    def function(self) -> str:
        """The whole definition."""
        self._read_words()
        if any(array.indexed for array in self.kernel.arrays):
            self.failed = self._slot("i1", "false")
        for fold in self.kernel.folds:
            if self._in_memory(fold):
                self._clear(fold)
        self._level(0)
        result = "0"
        if self.failed:
            flag = self.raw(f"load i1, ptr {self.failed}")
            result = self.raw(f"select i1 {flag}, i64 {BAD_INDEX}, i64 0")
        self.line(f"ret i64 {result}")
        head = f"define i64 @{self.symbol}(ptr noalias nocapture readonly %bases, ptr noalias nocapture readonly %words) {{"
        return "\n".join([head, "entry:", *self.slots, *self.lines, "}"])

    # --- the nest

    def _level(self, depth: int) -> None:
        """Everything inside the outer `depth` loops."""
        outside = self.point
        for index, step in enumerate(self.kernel.body):
            if step.axes.bit_length() == depth:
                value = self._evaluate(step, self.point.values, None, None)
                self.point = replace(self.point, values={**self.point.values, index: value})
        if depth < self.kernel.rank or not self.lanes.width:
            self._settle_ready(depth)
        starting = [fold for fold in self.kernel.folds if self._suffix(fold) == depth < self.kernel.rank]
        for fold in starting:
            self._start(fold)
        if depth == self.kernel.rank:
            self._finish_point()
        elif depth == self.kernel.rank - 1 and self.lanes.width:
            self._inner_loop()
        else:
            self._loop("0", self.extents[depth], "1", lambda i: self._enter(depth, i))
        for fold in starting:
            self._conclude(fold)
        self.point = outside

    def _enter(self, depth: int, counter: str) -> None:
        """The body of the loop over axis `depth`."""
        outside = self.point
        rows = []
        for k, (row, array) in enumerate(zip(outside.rows, self.kernel.arrays, strict=True)):
            if array.pattern[depth] == STRIDED:
                step = self.raw(f"mul nsw i64 {counter}, {self.strides[k][depth]}")
                row = self.raw(f"getelementptr i8, ptr {row}, i64 {step}")
            elif array.pattern[depth] == UNIT:
                row = self.raw(f"getelementptr {memory_type(array.dtype)}, ptr {row}, i64 {counter}")
            rows.append(row)
        self.point = replace(outside, counters=(*outside.counters, counter), rows=tuple(rows))
        self._level(depth + 1)
        self.point = outside

    def _finish_point(self) -> None:
        """Stores and folds where every loop is a scalar one."""
        for store in self.kernel.stores:
            self._store(store, self.point.values, None, None)
        for fold in self.kernel.folds:
            value = self.point.values[fold.value]
            if fold in self.accumulators:
                (slot, *_), _ = self.accumulators[fold]
                self._combine_into(slot, fold, value, None)
            elif self._in_memory(fold):
                self._combine_in_memory(fold, value, None, None)
            else:
                self._write(fold.slot, value, None, None)

    # --- the innermost loop, in lanes

    def _inner_loop(self) -> None:
        """for each chunk: full steps of copies * width elements, then what is left under a mask."""
        depth, lanes = self.kernel.rank - 1, self.lanes
        n = self.extents[depth]
        spread = self._spread_scalars()
        folding = [fold for fold in self.kernel.folds if fold in self.accumulators]
        if not folding:
            self._steps("0", n, spread)
            return

        def chunk(start: str) -> None:
            end = self._minimum(self.raw(f"add nsw i64 {start}, {CHUNK}"), n)
            self._steps(start, end, spread)
            for fold in folding:
                self._absorb(fold)

        assert CHUNK % (lanes.width * lanes.copies) == 0
        self._loop("0", n, str(CHUNK), chunk)

    def _steps(self, start: str, end: str, spread: dict[int, Value]) -> None:
        """Full steps, then as many single vectors under a mask as are needed; or masked steps alone."""
        width, copies = self.lanes.width, self.lanes.copies
        step = width * copies
        if not self.lanes.peeled:
            self._loop(start, end, str(step), lambda i: self._step(i, spread, range(copies), end))
            return
        length = self.raw(f"sub nsw i64 {end}, {start}")
        rest = self.raw(f"and i64 {length}, {step - 1}")
        full_end = self.raw(f"sub nsw i64 {end}, {rest}")
        self._loop(start, full_end, str(step), lambda i: self._step(i, spread, range(copies), None))
        for copy in range(copies):
            begin = self.raw(f"add nsw i64 {full_end}, {copy * width}")
            some = self.raw(f"icmp slt i64 {begin}, {end}")
            self._when(some, lambda copy=copy: self._step(full_end, spread, range(copy, copy + 1), end))

    def _step(self, counter: str, spread: dict[int, Value], copies: range, end: str | None) -> None:
        """The vectors numbered `copies` after `counter`; with `end`, only the lanes before it count."""
        evaluated = []
        for copy in copies:
            i = self.raw(f"add nsw i64 {counter}, {copy * self.lanes.width}") if copy else counter
            mask = None if end is None else self._mask(i, end)
            values = dict(spread)
            for index, step in enumerate(self.kernel.body):
                if step.axes.bit_length() == self.kernel.rank:
                    values[index] = self._evaluate(step, values, i, mask)
            evaluated.append((copy, i, mask, values))
        for copy, i, mask, values in evaluated:
            for store in self.kernel.stores:
                self._store(store, values, i, mask)
            for fold in self.kernel.folds:
                value = self.spread(values[fold.value], self.lanes.width)
                if fold in self.accumulators:
                    self._combine_into(self.accumulators[fold][0][copy], fold, value, mask)
                elif self._in_memory(fold):
                    self._combine_in_memory(fold, value, i, mask)
                else:
                    self._write(fold.slot, value, i, mask)

    def _spread_scalars(self) -> dict[int, Value]:
        """Outer values, those that vectors meet spread once before the loop (unless they would fill the registers)."""
        body, values = self.kernel.body, self.point.values
        inner = {
            operand
            for step in body
            if step.axes.bit_length() == self.kernel.rank and not (step.op == "gather" and step.params[0] in self.point.settled)
            for operand in step.operands
        }
        met = [index for index in inner if index in values and body[index].op != "literal"]
        if len(met) > 12:
            return dict(values)
        return {**values, **{index: self.spread(values[index], self.lanes.width) for index in met}}

    # --- values

    def _evaluate(self, step: Instruction, values: dict[int, Value], counter: str | None, mask: str | None) -> Value:
        """One instruction; in lanes from `counter` on if that is given."""
        operands = [values[index] for index in step.operands]
        match step.op:
            case "load":
                return self._read(step.params[0], counter, mask)
            case "number":
                value = self.numbers[step.params[0]]
                return self.cast(Value(value.name, np.dtype(np.int8)), BOOL) if value.dtype == BOOL else value
            case "literal":
                value, bits = step.params
                return self.constant(np.frombuffer(bits, step.dtype)[0] if bits else value, step.dtype)
            case "iota":
                return self._iota(step.params[0], step.dtype, counter)
            case "gather":
                return self._gather(step.params[0], operands, counter, mask)
        primitive = PRIMITIVES[step.op]
        return primitive.code.emit(self, *operands, **dict(step.params))

    def _iota(self, axis: int, dtype: np.dtype, counter: str | None) -> Value:
        if counter is not None and axis == self.kernel.rank - 1:
            lanes = self._counters_of_lanes(counter)
            return self.cast(Value(lanes, I64, self.lanes.width), dtype)
        return self.cast(Value(self.point.counters[axis], I64), dtype)

    def _gather(self, slot: int, indices: list[Value], counter: str | None, mask: str | None) -> Value:
        if counter is None and slot not in self.point.settled:
            self._settle(slot)
        offset = None if slot in self.point.settled else self._indexed_offset(slot, indices, mask)
        return self._read(slot, counter, mask, offset)
