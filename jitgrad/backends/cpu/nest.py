"""A kernel as LLVM IR text: loops, addresses, lanes, accumulators. One function `i64 f(ptr bases, ptr words)`.

`bases` holds base addresses, `words` the binding as 64-bit words (see `binding_words`). The result is 0, or `BAD_INDEX`.
The innermost loop runs on explicit vectors, several at a time, its rest under a mask. How many lanes accumulate a sum
is a property of the kernel alone, so sums do not depend on the machine's vector width.

Counters and accumulators are stack slots here; LLVM's first pass turns them into registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.node import Node
from ...ir.primitive import PRIMITIVES, Scalar
from ...lowering.kernel import ABSENT, STRIDED, UNIT, Array, Binding, Fold, Instruction, Kernel, Store
from ..scalar import BOOL, Emitter, Value, llvm_type, scalar_type
from ..target import Target

BAD_INDEX = 1
CHUNK = 4096  # elements summed in one accumulator before it is added to the outer one: keeps long sums accurate
MATH_COST = 8      # cost from which an operation is taken for a function of the mathematics library
MOST_INLINED = 4  # calls of the mathematics library in a body beyond which they stay calls: code size is compile time
I64 = np.dtype(np.int64)


def binding_words(binding: Binding, kernel: Kernel, buffers: dict[Node, object]) -> list:
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
    words += [_number_word(number) for number in binding.numbers]
    return words


def _number_word(number) -> int:
    raw = np.asarray(number).tobytes()
    return int.from_bytes(raw + bytes(8 - len(raw)), "little", signed=True)


@dataclass(frozen=True)
class Lanes:
    """How the innermost loop runs: vectors of `width` (0: scalars), `copies` of them a step; `peeled`: the full steps
    run without a mask, else all steps run under one."""

    width: int
    copies: int
    peeled: bool


def choose_lanes(kernel: Kernel, target: Target) -> Lanes:
    """Lanes by the size of the body and its widest element."""
    inner = 1 << (kernel.rank - 1) if kernel.rank else 0
    # Along an axis of the indices, two lanes may add to one element.
    conflicts = any(store.indices and kernel.arrays[store.slot].pattern[-1:] == (ABSENT,) for store in kernel.stores)
    if kernel.rank == 0 or conflicts:
        return Lanes(0, 1, True)
    widest = max([step.dtype.itemsize for step in kernel.body if step.axes & inner] or [8])
    width = target.vector_bytes // widest
    cost = sum(_cost(step) for step in kernel.body if step.axes & inner)
    if any(fold.axes & inner for fold in kernel.folds):
        lanes = (256 if cost <= 10 else 64) // widest
        return Lanes(min(width, lanes), max(1, lanes // width), cost <= 40)
    return Lanes(width, 4 if cost <= 8 else 2 if cost <= 24 else 1, cost <= 40)


def _cost(step: Instruction) -> int:
    primitive = PRIMITIVES.get(step.op)
    return primitive.code.cost if primitive is not None and isinstance(primitive.code, Scalar) else 1


class Nest(Emitter):
    """Writes one kernel's function."""

    def __init__(self, kernel: Kernel, name: str, target: Target):
        super().__init__()
        self.kernel, self.symbol = kernel, name
        self.lanes = choose_lanes(kernel, target)
        self.inline_math = sum(_cost(step) >= MATH_COST for step in kernel.body) * self.lanes.copies <= MOST_INLINED
        self.slots: list[str] = []                # allocas, for the entry block
        self.extents: list[str] = []
        self.rows: list[list[str]] = []           # per array: its address at the current loops, by depth
        self.strides: list[dict[int, str]] = []   # per array: byte strides of STRIDED axes
        self.indexed: list[list[tuple[str, str]]] = []
        self.numbers: list[Value] = []
        self.counters: list[str] = []             # the current values of the loop counters
        self.values: dict[int, Value] = {}        # body values of the enclosing loops
        self.accumulators: dict[Fold, tuple[list[str], str]] = {}
        self.failed: str = ""

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

    # --- words, slots, loops

    def _read_words(self) -> None:
        self._word = 0
        self.extents = [self._next_word() for _ in range(self.kernel.rank)]
        for array in self.kernel.arrays:
            slot, offset = self._next_word(), self._next_word()
            at = self.raw(f"getelementptr ptr, ptr %bases, i64 {slot}")
            base = self.raw(f"load ptr, ptr {at}, !invariant.load !0")
            self.rows.append([self.raw(f"getelementptr i8, ptr {base}, i64 {offset}")])
            self.strides.append({k: self._next_word() for k, mark in enumerate(array.pattern) if mark == STRIDED})
            self.indexed.append([(self._next_word(), self._next_word()) for _ in range(array.indexed)])
        for dtype in self.kernel.numbers:
            kind = memory_type(dtype)
            self.numbers.append(Value(self._next_word(kind), dtype))

    def _next_word(self, kind: str = "i64") -> str:
        at = self.raw(f"getelementptr i64, ptr %words, i64 {self._word}")
        self._word += 1
        return self.raw(f"load {kind}, ptr {at}, !invariant.load !0")

    def _slot(self, kind: str, initial: str) -> str:
        """A stack slot that holds `initial` at entry."""
        name = self.name("s")
        self.slots.append(f"  {name} = alloca {kind}, align 64")
        self.line(f"store {kind} {initial}, ptr {name}")
        return name

    def _loop(self, start: str, stop: str, step: str, body) -> None:
        """for (i = start; i < stop; i += step) body(i)"""
        counter = self._slot("i64", start)
        head, inside, after = (self.name(stem)[1:] for stem in ("head", "body", "after"))
        self.line(f"br label %{head}")
        self.lines.append(f"{head}:")
        i = self.raw(f"load i64, ptr {counter}", "i")
        going = self.raw(f"icmp slt i64 {i}, {stop}")
        self.line(f"br i1 {going}, label %{inside}, label %{after}")
        self.lines.append(f"{inside}:")
        body(i)
        self.line(f"store i64 {self.raw(f'add nsw i64 {i}, {step}')}, ptr {counter}")
        self.line(f"br label %{head}")
        self.lines.append(f"{after}:")

    def _when(self, condition: str, body) -> None:
        inside, after = self.name("then")[1:], self.name("after")[1:]
        self.line(f"br i1 {condition}, label %{inside}, label %{after}")
        self.lines.append(f"{inside}:")
        body()
        self.line(f"br label %{after}")
        self.lines.append(f"{after}:")

    # --- the nest

    def _level(self, depth: int) -> None:
        """Everything inside the outer `depth` loops."""
        outer_values = dict(self.values)
        for index, step in enumerate(self.kernel.body):
            if step.axes.bit_length() == depth:
                self.values[index] = self._evaluate(step, self.values, None, None)
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
        self.values = outer_values

    def _enter(self, depth: int, counter: str) -> None:
        """The body of the loop over axis `depth`."""
        self.counters.append(counter)
        for k, array in enumerate(self.kernel.arrays):
            row = self.rows[k][-1]
            if array.pattern[depth] == STRIDED:
                step = self.raw(f"mul nsw i64 {counter}, {self.strides[k][depth]}")
                row = self.raw(f"getelementptr i8, ptr {row}, i64 {step}")
            elif array.pattern[depth] == UNIT:
                row = self.raw(f"getelementptr {memory_type(array.dtype)}, ptr {row}, i64 {counter}")
            self.rows[k].append(row)
        self._level(depth + 1)
        for rows in self.rows:
            rows.pop()
        self.counters.pop()

    def _finish_point(self) -> None:
        """Stores and folds where every loop is a scalar one."""
        for store in self.kernel.stores:
            self._store(store, self.values, None, None)
        for fold in self.kernel.folds:
            value = self.values[fold.value]
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
        inner = {o for step in self.kernel.body if step.axes.bit_length() == self.kernel.rank for o in step.operands}
        met = [index for index in inner if index in self.values and self.kernel.body[index].op not in ("gather", "literal")]
        if len(met) > 12:
            return dict(self.values)
        return self.values | {index: self.spread(self.values[index], self.lanes.width) for index in met}

    def _lane_numbers(self) -> str:
        return f"<{', '.join(f'i64 {k}' for k in range(self.lanes.width))}>"

    def _counters_of_lanes(self, counter: str) -> str:
        """<counter, counter + 1, ...>"""
        spread = self.spread(Value(counter, I64), self.lanes.width)
        return self.raw(f"add nsw <{self.lanes.width} x i64> {spread.name}, {self._lane_numbers()}")

    def _mask(self, counter: str, end: str) -> str:
        left = self.spread(Value(self.raw(f"sub nsw i64 {end}, {counter}"), I64), self.lanes.width)
        return self.raw(f"icmp slt <{self.lanes.width} x i64> {self._lane_numbers()}, {left.name}")

    def _minimum(self, x: str, y: str) -> str:
        less = self.raw(f"icmp slt i64 {x}, {y}")
        return self.raw(f"select i1 {less}, i64 {x}, i64 {y}")

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
        return self.cast(Value(self.counters[axis], I64), dtype)

    def _gather(self, slot: int, indices: list[Value], counter: str | None, mask: str | None) -> Value:
        offset = self._indexed_offset(slot, indices, mask)
        return self._read(slot, counter, mask, offset)

    def _indexed_offset(self, slot: int, indices: list[Value], mask: str | None) -> Value:
        """The bytes that checked indices add to an array's address; a bad index sets the flag and counts as 0."""
        total = None
        for index, (extent, stride) in zip(indices, self.indexed[slot], strict=True):
            extent_value = Value(extent, I64)
            wrapped = self.select(self.lt(index, self.like(index, 0)), self.add(index, extent_value), index)
            inside = self._binary("icmp ult", wrapped, extent_value, BOOL)
            self._flag(self.not_(inside), mask)
            moved = self.mul(self.select(inside, wrapped, self.like(wrapped, 0)), Value(stride, I64))
            total = moved if total is None else self.add(total, moved)
        return total

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

    # --- memory

    def _read(self, slot: int, counter: str | None, mask: str | None, offset: Value | None = None) -> Value:
        array = self.kernel.arrays[slot]
        where = self._address(slot, counter, offset)
        kind = memory_type(array.dtype, where.lanes_read)
        if where.scattered:
            raw = self._masked("gather", kind, f"{where.pointer_type} {where.name}, i32 {array.dtype.itemsize}", where, mask)
        elif where.lanes_read and mask:
            raw = self._masked("load", kind, f"ptr {where.name}, i32 {array.dtype.itemsize}", where, mask)
        else:
            raw = self.raw(f"load {kind}, ptr {where.name}, align {array.dtype.itemsize}")
        value = Value(raw, array.dtype, where.lanes_read)
        return self._from_memory(value)

    def _masked(self, verb: str, kind: str, address: str, where: _Address, mask: str | None) -> str:
        """A masked load or gather; lanes that do not count read as zero."""
        lanes = where.lanes_read
        mask = mask or f"<{', '.join(['i1 true'] * lanes)}>"
        suffix = _suffix_of(kind, lanes)
        pointer = where.pointer_type if where.scattered else "ptr"
        pointer_suffix = f"v{lanes}p0" if where.scattered else "p0"
        function = f"@llvm.masked.{verb}.{suffix}.{pointer_suffix}"
        self.declared.add(f"declare {kind} {function}({pointer}, i32 immarg, <{lanes} x i1>, {kind})")
        return self.raw(f"call {kind} {function}({address}, <{lanes} x i1> {mask}, {kind} zeroinitializer)")

    def _write(self, slot: int, value: Value, counter: str | None, mask: str | None, offset: Value | None = None) -> None:
        array = self.kernel.arrays[slot]
        where = self._address(slot, counter, offset)
        lanes = where.lanes_read
        if lanes:
            value = self.spread(value, lanes)
        value = self._to_memory(value)
        kind = memory_type(array.dtype, lanes)
        size = array.dtype.itemsize
        if where.scattered or (lanes and mask):
            verb, pointer = ("scatter", where.pointer_type) if where.scattered else ("store", "ptr")
            pointer_suffix = f"v{lanes}p0" if where.scattered else "p0"
            function = f"@llvm.masked.{verb}.{_suffix_of(kind, lanes)}.{pointer_suffix}"
            mask = mask or f"<{', '.join(['i1 true'] * lanes)}>"
            self.declared.add(f"declare void {function}({kind}, {pointer}, i32 immarg, <{lanes} x i1>)")
            self.line(f"call void {function}({kind} {value.name}, {pointer} {where.name}, i32 {size}, <{lanes} x i1> {mask})")
        else:
            self.line(f"store {kind} {value.name}, ptr {where.name}, align {size}")

    def _address(self, slot: int, counter: str | None, offset: Value | None) -> _Address:
        """Where the array is at the current loops, in lanes when the innermost loop moves along it."""
        array, row = self.kernel.arrays[slot], self.rows[slot][-1]
        inner = self.kernel.rank - 1
        mark = array.pattern[inner] if counter is not None else ABSENT
        if offset is not None and not offset.lanes:
            row, offset = self.raw(f"getelementptr i8, ptr {row}, i64 {offset.name}"), None
        if mark == UNIT and offset is None:
            at = self.raw(f"getelementptr {memory_type(array.dtype)}, ptr {row}, i64 {counter}")
            return _Address(at, False, self.lanes.width)
        if mark == ABSENT and offset is None:
            return _Address(row, False, 0)
        if mark != ABSENT:
            stride = self.strides[slot][inner] if mark == STRIDED else str(array.dtype.itemsize)
            lanes = Value(self._counters_of_lanes(counter), I64, self.lanes.width)
            moved = self.mul(lanes, Value(stride, I64))
            offset = moved if offset is None else self.add(offset, moved)
        width = self.lanes.width
        pointers = self.raw(f"getelementptr i8, ptr {row}, <{width} x i64> {offset.name}")
        return _Address(pointers, True, width)

    def _from_memory(self, value: Value) -> Value:
        if value.dtype != BOOL:
            return value
        return self.ne(Value(value.name, np.dtype(np.int8), value.lanes), Value("0", np.dtype(np.int8)))

    def _to_memory(self, value: Value) -> Value:
        return self.cast(value, np.int8) if value.dtype == BOOL else value

    def _store(self, store: Store, values: dict[int, Value], counter: str | None, mask: str | None) -> None:
        value = values[store.value]
        if not store.indices:
            self._write(store.slot, value, counter, mask)
            return
        offset = self._indexed_offset(store.slot, [values[index] for index in store.indices], mask)
        present = self._read(store.slot, counter, mask, offset)
        self._write(store.slot, self.add(present, value), counter, mask, offset)

    # --- folds

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
        self.accumulators[fold] = inner, self._outer_slots(kind, initial)

    def _outer_slots(self, kind: str, initial: str) -> list[str]:
        return [self._slot(kind, initial) for _ in range(self.lanes.copies)] if self.lanes.width else []

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
            self._combine_into(outer, fold, value, None)
            self.line(f"store {kind} {initial}, ptr {inner}")

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

        fill(kept, self.rows[fold.slot][0])


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


def _suffix_of(kind: str, lanes: int) -> str:
    """How a vector type is spelled in an intrinsic's name."""
    element = kind[1:-1].split(" x ")[1]
    return f"v{lanes}" + {"double": "f64", "float": "f32", "half": "f16"}.get(element, element)
