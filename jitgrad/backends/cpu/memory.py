"""The memory of a kernel: its words, addresses in lanes, loads and stores under masks, along strides and at indices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...ir.node import Node
from ...lowering.kernel import ABSENT, STRIDED, UNIT, Binding, Kernel, Store
from ...lowering.plan import Slot
from ..scalar import BOOL, Value, llvm_type, scalar_type
from .frame import I64, Indexed, KernelFrame

MOST_TOLD = 4  # accesses along strides of a kernel up to which common strides are told from others
COMMON_STEPS = (-1, 2, 3)  # strides, in elements, of reversed arrays and of columns of pairs and triples


def binding_words(binding: Binding, kernel: Kernel, buffers: dict[Node, Slot]) -> list:
    """The words that the kernel's function reads: extents; per array its slot, byte offset, byte strides along STRIDED
    axes, and (extent, byte stride) of its indexed axes; the numbers. `buffers` gives a node's (slot, offset)."""
    words: list = list(binding.extents)
    for k, array in enumerate(kernel.arrays):
        size = array.dtype.itemsize
        place = buffers[binding.buffers[k]]
        words += [place.slot, place.offset + binding.offsets[k] * size]
        words += [s * size for s, mark in zip(binding.strides[k], array.pattern, strict=True) if mark == STRIDED]
        for extent, stride in binding.indexed[k]:
            words += [extent, stride * size]
    words += [number_word(number) for number in binding.numbers]
    return words


def number_word(number) -> int:
    """The word that holds a number."""
    raw = np.asarray(number).tobytes()
    return int.from_bytes(raw + bytes(8 - len(raw)), "little", signed=True)


_At = tuple[str, Value | None]  # an address, and the bytes that each lane adds to it


class KernelMemory(KernelFrame):
    """Emits loads and stores."""

    def _read(self, slot: int, counter: str | None, mask: str | None, at: _At | None = None) -> Value:
        array = self.kernel.arrays[slot]
        if counter is not None and mask is None and at is None and array.pattern[-1] == STRIDED:
            return self._from_memory(self._read_strided(slot, counter))
        where = self._address(slot, counter, at)
        kind = memory_type(array.dtype, where.lanes_read)
        if where.scattered:
            raw = self._masked("gather", kind, f"{where.pointer_type} {where.name}, i32 {array.dtype.itemsize}", where, mask)
        elif where.lanes_read and mask:
            raw = self._masked("load", kind, f"ptr {where.name}, i32 {array.dtype.itemsize}", where, mask)
        else:
            raw = self.raw(f"load {kind}, ptr {where.name}, align {array.dtype.itemsize}")
        value = Value(raw, array.dtype, where.lanes_read)
        return self._from_memory(value)

    def _read_strided(self, slot: int, counter: str) -> Value:
        """A vector along a stride: where the stride is a common one, by whole vectors and a choice of their lanes, which
        takes a fraction of the time; else element by element."""
        dtype, width, stride = self.kernel.arrays[slot].dtype, self.lanes.width, self.strides[slot][self.kernel.rank - 1]
        kind, size = memory_type(dtype, width), dtype.itemsize
        start = self.raw(f"getelementptr i8, ptr {self.point.rows[slot]}, i64 {self.raw(f'mul nsw i64 {counter}, {stride}')}")
        result = self._room(kind)

        def by_vectors(step: int) -> None:
            first = min(0, step * (width - 1))  # from where on the elements are in memory, in elements after `start`
            last = max(0, step * (width - 1)) - width + 1
            begins = [min(first + k * width, last) for k in range(abs(step))]
            places = [(k * step, max(n for n, begin in enumerate(begins) if begin <= k * step)) for k in range(width)]
            found = "poison"
            for n, begin in enumerate(begins):
                where = self.raw(f"getelementptr i8, ptr {start}, i64 {begin * size}")
                loaded = self.raw(f"load {kind}, ptr {where}, align {size}")
                picks = ", ".join(f"i32 {width + at - begin if source == n else k}" for k, (at, source) in enumerate(places))
                found = self.raw(f"shufflevector {kind} {found}, {kind} {loaded}, <{width} x i32> <{picks}>")
            self.line(f"store {kind} {found}, ptr {result}")

        def one_by_one() -> None:  # processors' own gathers take longer
            place, found, element = start, "poison", memory_type(dtype)
            for k in range(width):
                one = self.raw(f"load {element}, ptr {place}, align {size}")
                found = self.raw(f"insertelement {kind} {found}, {element} {one}, i32 {k}")
                place = self.raw(f"getelementptr i8, ptr {place}, i64 {stride}")
            self.line(f"store {kind} {found}, ptr {result}")

        self._switch(stride, {step * size: lambda step=step: by_vectors(step) for step in self._steps_told()}, one_by_one)
        return Value(self.raw(f"load {kind}, ptr {result}"), dtype, width)

    def _masked(self, verb: str, kind: str, address: str, where: _Address, mask: str | None) -> str:
        """A masked load or gather; lanes that do not count read as zero."""
        lanes = where.lanes_read
        mask = mask or _mask_text([True] * lanes)
        suffix = _suffix_of(kind, lanes)
        pointer = where.pointer_type if where.scattered else "ptr"
        pointer_suffix = f"v{lanes}p0" if where.scattered else "p0"
        function = f"@llvm.masked.{verb}.{suffix}.{pointer_suffix}"
        self.declared.add(f"declare {kind} {function}({pointer}, i32 immarg, <{lanes} x i1>, {kind})")
        return self.raw(f"call {kind} {function}({address}, <{lanes} x i1> {mask}, {kind} zeroinitializer)")

    def _write(self, slot: int, value: Value, counter: str | None, mask: str | None, at: _At | None = None) -> None:
        array = self.kernel.arrays[slot]
        if counter is not None and mask is None and at is None and array.pattern[-1] == STRIDED:
            self._write_strided(slot, self._to_memory(self.spread(value, self.lanes.width)), counter)
            return
        where = self._address(slot, counter, at)
        lanes = where.lanes_read
        if lanes:
            value = self.spread(value, lanes)
        value = self._to_memory(value)
        kind = memory_type(array.dtype, lanes)
        size = array.dtype.itemsize
        if where.scattered or (lanes and mask):
            self._masked_write(kind, value.name, where, size, mask or _mask_text([True] * lanes))
        else:
            self.line(f"store {kind} {value.name}, ptr {where.name}, align {size}")

    def _masked_write(self, kind: str, value: str, where: _Address, size: int, mask: str) -> None:
        lanes = where.lanes_read
        verb, pointer = ("scatter", where.pointer_type) if where.scattered else ("store", "ptr")
        pointer_suffix = f"v{lanes}p0" if where.scattered else "p0"
        function = f"@llvm.masked.{verb}.{_suffix_of(kind, lanes)}.{pointer_suffix}"
        self.declared.add(f"declare void {function}({kind}, {pointer}, i32 immarg, <{lanes} x i1>)")
        self.line(f"call void {function}({kind} {value}, {pointer} {where.name}, i32 {size}, <{lanes} x i1> {mask})")

    def _write_strided(self, slot: int, value: Value, counter: str) -> None:
        """A vector along a stride, as `_read_strided` reads it."""
        dtype, width, stride = self.kernel.arrays[slot].dtype, self.lanes.width, self.strides[slot][self.kernel.rank - 1]
        kind, size = memory_type(dtype, width), dtype.itemsize
        start = self.raw(f"getelementptr i8, ptr {self.point.rows[slot]}, i64 {self.raw(f'mul nsw i64 {counter}, {stride}')}")

        def by_vectors(step: int) -> None:
            for begin in range(min(0, step * (width - 1)), max(1, step * (width - 1) + 1), width):
                lanes = [divmod(begin + k, step) for k in range(width)]
                here = [rest == 0 and lane < width for lane, rest in lanes]
                picks = ", ".join(f"i32 {lane if hit else 0}" for (lane, _), hit in zip(lanes, here, strict=True))
                spaced = self.raw(f"shufflevector {kind} {value.name}, {kind} poison, <{width} x i32> <{picks}>")
                at = self.raw(f"getelementptr i8, ptr {start}, i64 {begin * size}")
                self._masked_write(kind, spaced, _Address(at, False, width), size, _mask_text(here))

        def one_by_one() -> None:
            place, element = start, memory_type(dtype)
            for k in range(width):
                one = self.raw(f"extractelement {kind} {value.name}, i32 {k}")
                self.line(f"store {element} {one}, ptr {place}, align {size}")
                place = self.raw(f"getelementptr i8, ptr {place}, i64 {stride}")

        self._switch(stride, {step * size: lambda step=step: by_vectors(step) for step in self._steps_told()}, one_by_one)

    def _steps_told(self) -> tuple[int, ...]:
        """The strides that are told from others at run time: none where so many accesses would make much code."""
        strided = sum(array.pattern[-1] == STRIDED for array in self.kernel.arrays)
        return COMMON_STEPS if strided <= MOST_TOLD else ()

    def _address(self, slot: int, counter: str | None, at: _At | None) -> _Address:
        """Where the array is at the current loops, in lanes when the innermost loop moves along it."""
        array = self.kernel.arrays[slot]
        row, offset = at or (self.point.rows[slot], None)
        inner = self.kernel.rank - 1
        mark = array.pattern[inner] if counter is not None else ABSENT
        if mark == UNIT and offset is None:
            element = self.raw(f"getelementptr {memory_type(array.dtype)}, ptr {row}, i64 {counter}")
            return _Address(element, False, self.lanes.width)
        if mark == ABSENT and offset is None:
            return _Address(row, False, 0)
        if counter is not None and mark != ABSENT:
            stride = self.strides[slot][inner] if mark == STRIDED else str(array.dtype.itemsize)
            lanes = Value(self._counters_of_lanes(counter), I64, self.lanes.width)
            moved = self.mul(lanes, Value(stride, I64))
            offset = moved if offset is None else self.add(offset, moved)
        assert offset is not None  # the other cases have returned
        width = self.lanes.width
        pointers = self.raw(f"getelementptr i8, ptr {row}, <{width} x i64> {offset.name}")
        return _Address(pointers, True, width)

    def _from_memory(self, value: Value) -> Value:
        if value.dtype != BOOL:
            return value
        return self.ne(Value(value.name, np.dtype(np.int8), value.lanes), Value("0", np.dtype(np.int8)))

    def _to_memory(self, value: Value) -> Value:
        return self.cast(value, np.int8) if value.dtype == BOOL else value

    # --- indexed arrays

    def _settle_ready(self, depth: int) -> None:
        """Settles every indexed access whose indices are known inside the outer `depth` loops."""
        for access in self.accesses:
            if all(self.kernel.body[index].axes.bit_length() <= depth for index in access[1]):
                self._settled(access)

    def _settled(self, access: Indexed) -> str:
        """The address of an indexed access, which the loops within this point do not change but by the array's strides."""
        if access not in self.point.settled:
            slot, indices = access
            offset = self._indexed_offset(slot, [self.point.values[index] for index in indices], None)
            address = self.raw(f"getelementptr i8, ptr {self.point.rows[slot]}, i64 {offset.name}")
            self.point = replace(self.point, settled={**self.point.settled, access: address})
        return self.point.settled[access]

    def _at_indices(self, access: Indexed, values: Mapping[int, Value], counter: str | None, mask: str | None) -> _At:
        if counter is None or access in self.point.settled:
            return self._settled(access), None
        slot, indices = access
        return self.point.rows[slot], self._indexed_offset(slot, [values[index] for index in indices], mask)

    def _indexed_offset(self, slot: int, indices: list[Value], mask: str | None) -> Value:
        """The bytes that checked indices add to an array's address; a bad index sets the flag and counts as 0."""
        total = None
        for index, (extent, stride) in zip(indices, self.indexed[slot], strict=True):
            checked = self._checked(index, Value(extent, I64), mask) if index.lanes else self._checked_rarely(index, extent)
            moved = self.mul(checked, Value(stride, I64))
            total = moved if total is None else self.add(total, moved)
        assert total is not None, "an indexed array without an index"
        return total

    def _checked(self, index: Value, extent: Value, mask: str | None) -> Value:
        wrapped = self.select(self.lt(index, self.like(index, 0)), self.add(index, extent), index)
        inside = self._binary("icmp ult", wrapped, extent, BOOL)
        self._flag(self.not_(inside), mask)
        return self.select(inside, wrapped, self.like(wrapped, 0))

    def _checked_rarely(self, index: Value, extent: str) -> Value:
        """One index: most are not negative, which a branch finds out faster than the checks take."""
        place = self._slot("i64", index.name)
        beyond = self.raw(f"icmp uge i64 {index.name}, {extent}")

        def wrap() -> None:
            self.line(f"store i64 {self._checked(index, Value(extent, I64), None).name}, ptr {place}")

        self._when(beyond, wrap, rare=True)
        return Value(self.raw(f"load i64, ptr {place}"), I64)

    def _flag(self, bad: Value, mask: str | None) -> None:
        if bad.lanes:
            vector = llvm_type(BOOL, bad.lanes)
            name = self.raw(f"and {vector} {bad.name}, {mask}") if mask else bad.name
            bits = self.raw(f"bitcast {vector} {name} to i{bad.lanes}")
            any_bad = self.raw(f"icmp ne i{bad.lanes} {bits}, 0")
        else:
            any_bad = bad.name
        flag = self.raw(f"load i1, ptr {self.failed}")
        self.line(f"store i1 {self.raw(f'or i1 {flag}, {any_bad}')}, ptr {self.failed}")

    def _store(self, store: Store, values: Mapping[int, Value], counter: str | None, mask: str | None) -> None:
        value = values[store.value]
        if not store.indices:
            self._write(store.slot, value, counter, mask)
            return
        at = self._at_indices((store.slot, store.indices), values, counter, mask)
        if at[1] is not None and self.kernel.arrays[store.slot].pattern[-1] == ABSENT:
            self._add_one_by_one(store.slot, self.spread(value, self.lanes.width), at, mask)
            return
        present = self._read(store.slot, counter, mask, at)
        self._write(store.slot, self.add(present, value), counter, mask, at)

    def _add_one_by_one(self, slot: int, value: Value, at: _At, mask: str | None) -> None:
        """Adds lanes that may meet at an element: they go through the stack, as choosing a lane takes longer."""
        row, offset = at
        assert offset is not None
        width, dtype = self.lanes.width, value.dtype
        kind = memory_type(dtype)
        values = self._slot(memory_type(dtype, width), self._to_memory(value).name)
        offsets = self._slot(f"<{width} x i64>", offset.name)
        count = str(width)
        if mask:
            bits = self.raw(f"bitcast <{width} x i1> {mask} to i{width}")
            count = self.intrinsic("ctpop", Value(self.raw(f"zext i{width} {bits} to i64"), I64)).name

        def add(k: str) -> None:
            moved = self.raw(f"load i64, ptr {self.raw(f'getelementptr i64, ptr {offsets}, i64 {k}')}")
            place = self.raw(f"getelementptr i8, ptr {row}, i64 {moved}"), None
            element = self.raw(f"load {kind}, ptr {self.raw(f'getelementptr {kind}, ptr {values}, i64 {k}')}")
            one = self._from_memory(Value(element, dtype))
            self._write(slot, self.add(self._read(slot, None, None, place), one), None, None, place)

        self._loop("0", count, "1", add)


@dataclass(frozen=True)
class _Address:
    """A pointer (or, `scattered`, a vector of them) to `lanes_read` elements (0: one)."""

    name: str
    scattered: bool
    lanes_read: int

    @property
    def pointer_type(self) -> str:
        return f"<{self.lanes_read} x ptr>"


def memory_type(dtype: np.dtype, lanes: int = 0) -> str:
    """LLVM's type of elements in memory: as in registers, but a bool takes a byte."""
    element = "i8" if dtype == BOOL else scalar_type(dtype)
    return f"<{lanes} x {element}>" if lanes else element


def _mask_text(lanes: list[bool]) -> str:
    """A constant mask."""
    return f"<{', '.join(f'i1 {str(lane).lower()}' for lane in lanes)}>"


def _suffix_of(kind: str, lanes: int) -> str:
    """How a vector type is spelled in an intrinsic's name."""
    element = kind[1:-1].split(" x ")[1]
    return f"v{lanes}" + {"double": "f64", "float": "f32", "half": "f16"}.get(element, element)
