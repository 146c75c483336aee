"""Folds that keep the innermost axis (sums of columns): a block of columns after another, through all rows.

Some rows at a time meet in registers, in pairs, before they are added to the block's results in memory. A sum of
floats over many rows gathers `CHUNK_ROWS` of them in a block of its own, on the stack, which is then added to the
results with compensation: its error does not grow with the rows. A column's sum depends on the number of rows alone,
not on where the column stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...lowering.kernel import Fold
from ..scalar import BOOL, Value
from .inner import InnerLoop
from .memory import memory_type

CHUNK_ROWS = 256
BLOCK = 1024  # columns: a row of them and its sums stay in the first-level cache


class ColumnFolds(InnerLoop):
    """Emits the blocks of columns, and what gathers there."""

    block = ("0", "0")      # the columns that are walked, from and to
    many_rows = ""          # whether the rows are more than a chunk
    rows_pending = ""       # slot: rows gathered on the stack, where two loops or more are folded
    begun = ""              # slot: whether the block has a chunk behind it

    def _prepare_columns(self) -> None:
        self.block = "0", self.extents[-1] if self.extents else "0"
        self.sums = [fold for fold in self.kernel.folds if self._is_column(fold) and self._is_chunked(fold)]
        self.places: dict[Fold, tuple[str, str, str]] = {}  # where the sum of a chunk, of all, and its error are at column 0
        if self.sums and self.columns is not None:
            rows, *others = self.extents[self.columns.start : -1]
            for extent in others:
                rows = self.raw(f"mul i64 {rows}, {extent}")
            self.many_rows = self.raw(f"icmp sgt i64 {rows}, {CHUNK_ROWS}")

    def _is_column(self, fold: Fold) -> bool:
        return self.columns is not None and not fold.axes >> (self.kernel.rank - 1) & 1

    def _column_blocks(self, rows_of_block: Callable[[], None]) -> None:
        """`rows_of_block()` for each block, with the results cleared before and complete after."""
        width = max(128, BLOCK // max(1, len(self.sums)) // 128 * 128)
        assert width % (self.lanes.width * self.lanes.copies) == 0  # blocks but the last have no rest
        stacks = {fold: (self._stack(fold, width), self._stack(fold, width)) for fold in self.sums}
        outside, columns = self.point, self.extents[-1]

        def block(begin: str) -> None:
            self.block = begin, self._minimum(self.raw(f"add nsw i64 {begin}, {width}"), columns)
            self.rows_pending = self._slot("i64", "0") if self._folds_two_loops() else ""
            rows = list(outside.rows)
            for fold, pair in stacks.items():
                chunk, error = (self._moved_back(fold, stack, begin) for stack in pair)
                self.places[fold] = chunk, rows[fold.slot], error
                rows[fold.slot] = self.raw(f"select i1 {self.many_rows}, ptr {chunk}, ptr {rows[fold.slot]}")
            self.point = replace(outside, rows=tuple(rows))
            self._fill([fold for fold in self.kernel.folds if self._is_column(fold) and fold not in self.sums])
            if self.sums:
                self.begun = self._slot("i1", "false")
            if self._folds_two_loops():
                self._next_chunk()
                rows_of_block()
                self._when(self.many_rows, self._next_chunk)
            else:
                rows_of_block()
            self.point = outside

        self._loop("0", columns, str(width), block)
        self.block = "0", columns

    def _folds_two_loops(self) -> bool:
        return self.columns is not None and bool(self.sums) and self.columns.start < self.kernel.rank - 2

    def _row_chunks(self, rows: str, walk: Callable[[str, str], None]) -> None:
        """`walk(begin, end)` for a chunk of rows after another; before each, and after the last of many, the results of
        the chunk before go to the totals."""

        def chunk(begin: str) -> None:
            if not self.rows_pending:
                self._next_chunk()
            end = self._minimum(self.raw(f"add nsw i64 {begin}, {CHUNK_ROWS}"), rows)
            begin = self._minimum(begin, end)  # there are no rows after the last
            walk(begin, end)
            if self.rows_pending:
                self._note_rows(self.raw(f"sub nsw i64 {end}, {begin}"))

        if not self.sums:
            walk("0", rows)
            return
        stop = rows
        if not self.rows_pending:
            stop = self.raw(f"select i1 {self.many_rows}, i64 {self.raw(f'add nsw i64 {rows}, {CHUNK_ROWS}')}, i64 {rows}")
        self._loop("0", stop, str(CHUNK_ROWS), chunk)

    def _note_rows(self, count: str) -> None:
        """Rows of several loops: a new chunk when as many as make one have gathered."""
        pending = self.raw(f"add i64 {self.raw(f'load i64, ptr {self.rows_pending}')}, {count}")
        full = self.raw(f"and i1 {self.raw(f'icmp sge i64 {pending}, {CHUNK_ROWS}')}, {self.many_rows}")
        self.line(f"store i64 {self.raw(f'select i1 {full}, i64 0, i64 {pending}')}, ptr {self.rows_pending}")
        self._when(full, self._next_chunk)

    # --- the results of a block

    def _stack(self, fold: Fold, columns: int) -> str:
        name = self.name("s")
        self.slots.append(f"  {name} = alloca [{columns} x {memory_type(self.kernel.arrays[fold.slot].dtype)}], align 64")
        return name

    def _moved_back(self, fold: Fold, pointer: str, begin: str) -> str:
        """Where column 0 would be if `pointer` is at column `begin`."""
        back = self.raw(f"mul nsw i64 {begin}, {-self.kernel.arrays[fold.slot].dtype.itemsize}")
        return self.raw(f"getelementptr i8, ptr {pointer}, i64 {back}")

    def _over_block(self, body: Callable[[str, str], None]) -> None:
        """`body(counter, mask)` for the columns of the block, a vector at a time."""
        begin, end = self.block
        self._loop(begin, end, str(self.lanes.width), lambda i: body(i, self._mask(i, end)))

    def _at(self, fold: Fold, pointer: str) -> None:
        """Lets reads and writes of the fold's array go to `pointer`."""
        rows = list(self.point.rows)
        rows[fold.slot] = pointer
        self.point = replace(self.point, rows=tuple(rows))

    def _fill(self, folds: list[Fold]) -> None:
        """Writes the folds' identities to their results."""

        def body(i: str, mask: str) -> None:
            for fold in folds:
                self._write(fold.slot, self._identity(fold), i, mask)

        if folds:
            self._over_block(body)

    def _next_chunk(self) -> None:
        """Adds the results of the chunk before, if there is one, to the totals, and clears them. (Of few rows the one
        chunk's results are the totals: they are cleared.)"""
        inside, begun = self.point, Value(self.raw(f"load i1, ptr {self.begun}"), BOOL)

        def body(i: str, mask: str) -> None:
            for fold, places in self.places.items():
                found = (self._read_at(fold, place, i, mask) for place in places)
                value, total, error = (self.select(begun, one, self._identity(fold)) for one in found)
                total, error = self._add_compensated(total, error, value)
                for place, new in zip(places[::-1], (error, total, self._identity(fold)), strict=True):
                    self._at(fold, place)
                    self._write(fold.slot, new, i, mask)
            self.point = inside

        self._over_block(body)
        self.line(f"store i1 true, ptr {self.begun}")

    def _read_at(self, fold: Fold, pointer: str, counter: str, mask: str) -> Value:
        self._at(fold, pointer)
        return self._read(fold.slot, counter, mask)
