"""The innermost loop: the body in lanes, several vectors a step, for one row or for several rows at once.

Full steps run without a mask. What is left after them is the same in every row, so its masks are made at entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...ir.primitive import PRIMITIVES
from ...lowering.kernel import Fold, Instruction
from ..scalar import BOOL, Value
from .folds import CHUNK, KernelFolds
from .frame import I64, Point

MOST_SPREAD = 12  # outer values that are kept in vectors through the loop: more would fill the registers


class InnerLoop(KernelFolds):
    """Emits the innermost loop and the values of the body."""

    rest_masks: tuple[str, ...] = ()  # of the step that is not full, by vector

    def _prepare_rest(self) -> None:
        lanes = self.lanes
        if self.kernel.rank < 2 or not lanes.width or not lanes.peeled:
            return
        rest = self.raw(f"and i64 {self.extents[-1]}, {lanes.width * lanes.copies - 1}")
        self.rest_masks = tuple([self._mask(str(copy * lanes.width), rest) for copy in range(lanes.copies)])

    def _inner_loop(self, points: list[Point], start: str, stop: str) -> None:
        """From column `start` to `stop` for each of `points`; where long sums gather, a chunk at a time."""
        spread: dict[str, Value] = {}
        points = [self._spread_scalars(point, spread) for point in points]
        assert CHUNK % (self.lanes.width * self.lanes.copies) == 0
        self._in_chunks(start, stop, len(points), lambda begin, end: self._steps(begin, end, points))

    def _in_chunks(self, start: str, stop: str, rows: int, walk: Callable[[str, str], None]) -> None:
        """`walk(begin, end)` for the elements from `start` to `stop` of `rows` rows: where long sums gather, by chunks."""
        if not self.totals:
            walk(start, stop)
            return

        def chunk(begin: str) -> None:
            end = self._minimum(self.raw(f"add nsw i64 {begin}, {self._chunk}"), stop)
            walk(begin, end)
            length = self.raw(f"sub nsw i64 {end}, {begin}")
            self._gathered(self.raw(f"mul nsw i64 {length}, {rows}"))

        if self.columns is not None:  # a block of columns is less than a chunk
            chunk(start)
        else:
            self._loop(start, stop, str(self._chunk), chunk)

    def _steps(self, start: str, end: str, points: list[Point]) -> None:
        """Full steps, then the rest under masks; or masked steps alone."""
        width, copies = self.lanes.width, self.lanes.copies
        step = width * copies
        if not self.lanes.peeled:
            self._loop(start, end, str(step), lambda i: self._step(i, points, range(copies), end))
            return
        length = self.raw(f"sub nsw i64 {end}, {start}")
        rest = self.raw(f"and i64 {length}, {step - 1}")
        full_end = self.raw(f"sub nsw i64 {end}, {rest}")
        self._loop(start, full_end, str(step), lambda i: self._step(i, points, range(copies), None))
        for part in [range(copies)] if self.lanes.joined else [range(copy, copy + 1) for copy in range(copies)]:
            some = self.raw(f"icmp ugt i64 {rest}, {part.start * width}")
            self._when(some, lambda part=part: self._step(full_end, points, part, end))

    def _step(self, counter: str, points: list[Point], copies: range, end: str | None) -> None:
        """The vectors numbered `copies` after `counter`; with `end`, only the lanes before it count."""
        evaluated = []
        for copy in copies:
            i = self.raw(f"add nsw i64 {counter}, {copy * self.lanes.width}") if copy else counter
            mask = None if end is None else self.rest_masks[copy] if self.rest_masks else self._mask(i, end)
            rows: list[dict[int, Value]] = []
            for point in points:
                rows.append(self._body(point, i, mask, rows[0] if rows else None))
            evaluated.append((copy, i, mask, rows))
        for copy, i, mask, rows in evaluated:
            for point, values in zip(points, rows, strict=True):
                self.point = point
                for store in self.kernel.stores:
                    self._store(store, values, i, mask)
            for fold in self.kernel.folds:
                self._fold(fold, points, [self.spread(values[fold.value], self.lanes.width) for values in rows], copy, i, mask)

    def _fold(
        self, fold: Fold, points: list[Point], values: list[Value], copy: int, counter: str, mask: str | None
    ) -> None:
        """A vector of each of `points`: together where the rows are folded, else each for itself."""
        if self.kernel.rank > 1 and fold.axes >> (self.kernel.rank - 2) & 1:
            points, values = points[:1], [self._combine_all(fold, values)]
        for row, (point, value) in enumerate(zip(points, values, strict=True)):
            self.point = point
            if fold in self.accumulators:
                self._combine_into(self.accumulators[fold][row * self.lanes.copies + copy], fold, value, mask)
            elif self._in_memory(fold):
                self._combine_in_memory(fold, value, counter, mask)
            else:
                self._write(fold.slot, value, counter, mask)

    def _body(self, point: Point, counter: str, mask: str | None, first: dict[int, Value] | None) -> dict[int, Value]:
        """All values at a vector of `point`; what does not depend on the row is taken from the `first` row."""
        self.point = point
        values = dict(point.values)
        for index, step in enumerate(self.kernel.body):
            if step.axes.bit_length() == self.kernel.rank:
                if first is not None and not step.axes >> (self.kernel.rank - 2) & 1:
                    values[index] = first[index]
                else:
                    values[index] = self._evaluate(step, values, counter, mask)
        return values

    def _spread_scalars(self, point: Point, spread: dict[str, Value]) -> Point:
        """The outer values that vectors meet, spread once before the loop (unless they would fill the registers).
        `spread` has those that are already."""
        body, values = self.kernel.body, point.values
        inner = {
            operand
            for step in body
            if step.axes.bit_length() == self.kernel.rank
            and not (step.op == "gather" and (step.params[0], step.operands) in point.settled)
            for operand in step.operands
        }
        met = [index for index in inner if index in values and body[index].op != "literal"]
        if len(met) > MOST_SPREAD:
            return point
        for value in [values[index] for index in met]:
            if value.name not in spread:
                spread[value.name] = self.spread(value, self.lanes.width)
        return replace(point, values={**values, **{index: spread[values[index].name] for index in met}})

    # --- values

    def _evaluate(self, step: Instruction, values, counter: str | None, mask: str | None) -> Value:
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
                at = self._at_indices((step.params[0], step.operands), values, counter, mask)
                return self._read(step.params[0], counter, mask, at)
        primitive = PRIMITIVES[step.op]
        return primitive.code.emit(self, *operands, **dict(step.params))

    def _iota(self, axis: int, dtype: np.dtype, counter: str | None) -> Value:
        if counter is not None and axis == self.kernel.rank - 1:
            lanes = self._counters_of_lanes(counter)
            return self.cast(Value(lanes, I64, self.lanes.width), dtype)
        return self.cast(Value(self.point.counters[axis], I64), dtype)
