"""A kernel as LLVM IR text: one function `i64 f(ptr bases, ptr words)`.

`bases` holds base addresses, `words` the binding as 64-bit words (see `memory.binding_words`). The result is 0, or
`BAD_INDEX`. The layers below: `memory` (words, addresses), `folds` (accumulators), `inner` (the innermost loop on
explicit vectors), `columns` (folds that keep the innermost axis); here the loops around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...lowering.kernel import STRIDED, UNIT, Fold
from .columns import ColumnFolds
from .frame import Point
from .memory import memory_type

BAD_INDEX = 1
STREAMS = 4  # of additions at indices side by side: a power of two


class Nest(ColumnFolds):
    """Writes one kernel's function."""

    def function(self) -> str:
        """The whole definition."""
        self._read_words()
        self._measure_sums()
        self._prepare_rest()
        self._prepare_columns()
        if any(array.indexed for array in self.kernel.arrays):
            self.failed = self._slot("i1", "false")
        for fold in self.kernel.folds:
            if self._in_memory(fold) and not self._is_column(fold):
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
        self._arrive(depth)
        starting = self._starting(depth)
        for fold in starting:
            self._start(fold, 1)
        inside = self.point
        if self.columns is not None and depth == self.columns.start:
            self._column_blocks(lambda: self._loop_at(depth))
        else:
            self._loop_at(depth)
        for fold in starting:
            self._conclude(fold, [inside])
        self.point = outside

    def _starting(self, depth: int) -> list[Fold]:
        return [fold for fold in self.kernel.folds if self._suffix(fold) == depth < self.kernel.rank]

    def _arrive(self, depth: int) -> None:
        """The values that the outer `depth` loops determine."""
        values = dict(self.point.values)
        self.point = replace(self.point, values=values)
        for index, step in enumerate(self.kernel.body):
            if step.axes.bit_length() == depth:
                values[index] = self._evaluate(step, values, None, None)
        if depth < self.kernel.rank or not self.lanes.width:
            self._settle_ready(depth)

    def _loop_at(self, depth: int) -> None:
        """The loop over axis `depth`, with what is inside."""
        if depth == self.kernel.rank:
            self._finish_point()
        elif depth == self.kernel.rank - 1 and self.lanes.width:
            self._inner_loop([self.point], *self.block)
        elif depth == self.kernel.rank - 2 and self.columns is not None:
            self._row_chunks(self.extents[depth], lambda begin, end: self._rows(depth, begin, end))
        elif depth == self.kernel.rank - 2 and self.lanes.rows > 1:
            self._rows(depth, "0", self.extents[depth])
        elif depth == self.kernel.rank - 1:
            self._in_chunks("0", self.extents[depth], 1, lambda begin, end: self._each(depth, begin, end))
        else:
            self._each(depth, "0", self.extents[depth])

    def _each(self, depth: int, begin: str, end: str) -> None:
        if self.kernel.rank == 1 and any(store.indices for store in self.kernel.stores):
            begin = self._streams(begin, end)
        self._loop(begin, end, "1", lambda i: self._enter(depth, i))

    def _streams(self, begin: str, end: str) -> str:
        """Most of the only loop, in equal parts that are gone through side by side; the beginning of what is left.

        Neighbours often add to one element (indices in order), and each would wait for what the one before stores."""
        part = self.raw(f"lshr i64 {self.raw(f'sub nsw i64 {end}, {begin}')}, {STREAMS.bit_length() - 1}")
        starts = [begin]
        for _ in range(STREAMS):
            starts.append(self.raw(f"add nsw i64 {starts[-1]}, {part}"))

        def at(i: str) -> None:
            for start in starts[:-1]:
                self._enter(0, self.raw(f"add nsw i64 {i}, {start}"))

        self._loop("0", part, "1", at)
        return starts[-1]

    def _enter(self, depth: int, counter: str) -> None:
        """The body of the loop over axis `depth`."""
        outside = self.point
        self.point = self._moved(depth, counter)
        self._level(depth + 1)
        self.point = outside

    def _rows(self, depth: int, begin: str, end: str) -> None:
        """Rows from `begin` to `end`, several at once. Past the end the last row comes again, where that changes nothing;
        where rows are added up, the last ones come one by one."""
        together = self.lanes.rows
        if not any(fold.axes >> depth & 1 or self._in_memory(fold) for fold in self.kernel.folds):
            self._loop(begin, end, str(together), lambda i: self._rows_at(depth, i, together, end))
            return
        count = self.raw(f"sub nsw i64 {end}, {begin}")
        grouped = self.raw(f"sub nsw i64 {end}, {self.raw(f'and i64 {count}, {together - 1}')}")
        self._loop(begin, grouped, str(together), lambda i: self._rows_at(depth, i, together, None))
        if together > 1:
            self._loop(grouped, end, "1", lambda i: self._rows_at(depth, i, 1, None))

    def _rows_at(self, depth: int, first: str, count: int, end: str | None) -> None:
        """`count` rows from `first` on; with `end`, none from there on."""
        outside, points = self.point, []
        row, at = first, self._moved(depth, first)
        for k in range(count):
            if k:
                row, at = self._next_row(depth, at, row, end)
            self.point = at
            self._arrive(depth + 1)
            points.append(self.point)
        starting = self._starting(depth + 1)
        for fold in starting:
            self._start(fold, count)
        self._inner_loop(points, *self.block)
        for fold in starting:
            self._conclude(fold, points)
        self.point = outside

    def _next_row(self, depth: int, at: Point, row: str, end: str | None) -> tuple[str, Point]:
        """The row after `row`, which is `at`: by addition, as the products of `_moved` take longer."""
        following = self.raw(f"add nsw i64 {row}, 1")
        inside = self.raw(f"icmp slt i64 {following}, {end}") if end else ""
        row = self.raw(f"select i1 {inside}, i64 {following}, i64 {row}") if end else following

        def move(slot: int, address: str) -> str:
            stride = self.strides[slot].get(depth)
            if stride and end:
                stride = self.raw(f"select i1 {inside}, i64 {stride}, i64 0")
            return self.raw(f"getelementptr i8, ptr {address}, i64 {stride}") if stride else address

        self.point = at
        return row, self._with_addresses((*at.counters[:-1], row), move)

    def _moved(self, depth: int, counter: str) -> Point:
        """The point inside the loop over axis `depth`."""

        def move(slot: int, row: str) -> str:
            array = self.kernel.arrays[slot]
            if array.pattern[depth] == STRIDED:
                step = self.raw(f"mul nsw i64 {counter}, {self.strides[slot][depth]}")
                return self.raw(f"getelementptr i8, ptr {row}, i64 {step}")
            if array.pattern[depth] == UNIT:
                return self.raw(f"getelementptr {memory_type(array.dtype)}, ptr {row}, i64 {counter}")
            return row

        return self._with_addresses((*self.point.counters, counter), move)

    def _with_addresses(self, counters: tuple[str, ...], move: Callable[[int, str], str]) -> Point:
        rows = tuple([move(slot, row) for slot, row in enumerate(self.point.rows)])
        settled = {access: move(access[0], address) for access, address in self.point.settled.items()}
        return replace(self.point, counters=counters, rows=rows, settled=settled)

    def _finish_point(self) -> None:
        """Stores and folds where every loop is a scalar one."""
        for store in self.kernel.stores:
            self._store(store, self.point.values, None, None)
        for fold in self.kernel.folds:
            value = self.point.values[fold.value]
            if fold in self.accumulators:
                self._combine_into(self.accumulators[fold][0], fold, value, None)
            elif self._in_memory(fold):
                self._combine_in_memory(fold, value, None, None)
            else:
                self._write(fold.slot, value, None, None)
