"""Loops and branches as LLVM IR: one function `i64 f(ptr bases, ptr words)` for each that a plan has, inner ones inside.

Scalars are in registers (stack slots here, which LLVM's first pass turns into registers), arrays in memory; kernels and
routines on arrays are called. The text holds no sizes, offsets or addresses: those are words, read at entry, so that
another size of the same program is the same code. The result is 0, `BAD_INDEX` or `NO_MEMORY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.aval import StackAval
from ...ir.body import is_constant
from ...ir.node import Node, constant_value
from ...lowering.plan import STACK_BYTES, Slot
from ...lowering.region import (
    FRAME,
    OPERAND,
    Choose,
    Compute,
    ControlStep,
    Copy,
    Element,
    Fill,
    Index,
    Keep,
    Load,
    Operation,
    Pop,
    Push,
    Repeat,
    Same,
    Segment,
    Side,
    Spot,
    StoreElement,
    StorePart,
    every,
)
from ...lowering.steps import KernelStep
from ..scalar import BOOL, FAST_MATH, Emitter, Value, llvm_type
from .memory import binding_words, memory_type
from .nest import BAD_INDEX
from .routines import native_symbol, routine_words

NO_MEMORY = 3
STOPPED = 4  # by a signal: an exception is set
POLL_CYCLES = 100_000_000  # between two looks: some 30 ms
FEW_STEPS, MANY_STEPS = 16, 1 << 16  # of loops that do much or little in each, after which the clock is looked at
MOST_INLINED = 24  # calls of the mathematics library in one function up to which they are inlined
DEAR = 8
I64 = np.dtype(np.int64)

GROW = f"""define internal i64 @jg.grow(ptr %stack, i64 %need) noinline {{
  %sizep = getelementptr i64, ptr %stack, i64 1
  %size = load i64, ptr %sizep
  %double = shl i64 %size, 1
  %more = icmp ugt i64 %need, %double
  %wanted = select i1 %more, i64 %need, i64 %double
  %few = icmp ult i64 %wanted, 4096
  %new = select i1 %few, i64 4096, i64 %wanted
  %old = load ptr, ptr %stack
  %data = call ptr @realloc(ptr %old, i64 %new)
  %none = icmp eq ptr %data, null
  br i1 %none, label %failed, label %fine
failed:
  ret i64 {NO_MEMORY}
fine:
  store ptr %data, ptr %stack
  store i64 %new, ptr %sizep
  ret i64 0
}}"""


# Looks, some times a second, whether a signal has come that Python wants to answer (Ctrl-C): the exception is set then.
POLL = f"""@jg.polled = internal global i64 0
declare i64 @llvm.readcyclecounter()
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare i32 @PyErr_CheckSignals()
define internal i64 @jg.poll() noinline {{
  %now = call i64 @llvm.readcyclecounter()
  %last = load atomic i64, ptr @jg.polled monotonic, align 8
  %passed = sub i64 %now, %last
  %soon = icmp ult i64 %passed, {POLL_CYCLES}
  br i1 %soon, label %going, label %look
look:
  store atomic i64 %now, ptr @jg.polled monotonic, align 8
  %state = call i32 @PyGILState_Ensure()
  %signal = call i32 @PyErr_CheckSignals()
  call void @PyGILState_Release(i32 %state)
  %none = icmp eq i32 %signal, 0
  br i1 %none, label %going, label %stopped
going:
  ret i64 0
stopped:
  ret i64 {STOPPED}
}}"""


@dataclass(frozen=True)
class Word:
    """What a word of the function is: `kind` says how `layout` works it out from `value`."""

    kind: str
    value: Any


@dataclass(frozen=True)
class ControlCode:
    """The function's text, with `symbol` as its name; what it declares and calls; its words."""

    text: str
    symbol: str
    declared: frozenset[str]
    functions: frozenset
    words: tuple[Word, ...]


def control_code(step: ControlStep, symbol: str, fastmath: bool) -> ControlCode:
    """The code of one loop or branch of a plan."""
    return _Writer(step, fastmath).code(symbol)


class _Writer(Emitter):
    def __init__(self, step: ControlStep, fastmath: bool):
        super().__init__()
        self.step = step
        self.flags = FAST_MATH if fastmath else ""
        self.slots: list[str] = []
        self.head: list[str] = []  # what is computed at entry
        self.words: list[Word] = []
        self.values: dict[Node, Value] = {}
        self.parts: dict[tuple[Node, int], Value] = {}
        self.spots: dict[Spot, str] = {}
        self.bases: dict[tuple, str] = {}
        self.homes: dict[int, str] = {}
        self.reserved: dict[int, str] = {}  # stacks that have room: the address of their memory
        self.numbers: dict[Node, Value] = {}
        region = step.region
        math = [o.node for o in every(region.operations) if isinstance(o, Compute) and o.node.primitive.code.cost >= DEAR]
        half = any(o.node.dtype.itemsize == 2 for o in every(region.operations) if isinstance(o, Compute))
        self.inline_math = len(math) <= MOST_INLINED and not half

    def code(self, symbol: str) -> ControlCode:
        node = self.step.node
        for number, operand in enumerate(node.operands):
            if is_constant(operand) or operand.aval.shape or operand.primitive.name == "empty":
                continue
            dtype = I64 if isinstance(operand.aval, StackAval) else operand.dtype
            self.values[operand] = self._at_entry(lambda n=number, d=dtype: self._load(self._pointer(Spot(OPERAND, n)), d))
        self._run(self.step.region.operations)
        for part, result in self.step.results:
            if not result.aval.shape:
                self._write(self._pointer(Spot("result", part)), self.parts[node, part])
        self.line("ret i64 0")
        lines = [
            f"define i64 @{symbol}(ptr %bases, ptr %words) {{", "entry:", *self.slots, *self.head, *self.lines,
            "bad:", f"  ret i64 {BAD_INDEX}", "nomemory:", f"  ret i64 {NO_MEMORY}",
            "stopped:", f"  ret i64 {STOPPED}", "}",
        ]  # fmt: skip
        return ControlCode("\n".join(lines), symbol, frozenset(self.declared), frozenset(self.functions), tuple(self.words))

    # --- words and pointers, all worked out at entry

    def _at_entry(self, write):
        """What `write()` gives, its instructions at the function's entry."""
        lines, self.lines = self.lines, self.head
        try:
            return write()
        finally:
            self.lines = lines

    def _word(self, kind: str, value, llvm: str = "i64") -> str:
        """A word, read at entry."""

        def read() -> str:
            at = self.raw(f"getelementptr i64, ptr %words, i64 {len(self.words)}")
            self.words.append(Word(kind, value))
            return self.raw(f"load {llvm}, ptr {at}")

        return self._at_entry(read)

    def _integer(self, value: int) -> str:
        return self._word("integer", value)

    def _pointer(self, spot: Spot) -> str:
        """The address of a spot."""
        found = self.spots.get(spot)
        if found is None:
            found = self.spots[spot] = self._at_entry(lambda: self._new_pointer(spot))
        return found

    def _new_pointer(self, spot: Spot) -> str:
        whole = (FRAME,) if spot.kind == FRAME else (spot.kind, spot.number)
        if whole not in self.bases:
            slot = self._word("slot", (spot.kind, spot.number))
            at = self.raw(f"getelementptr ptr, ptr %bases, i64 {slot}")
            base = self.raw(f"load ptr, ptr {at}")
            self.bases[whole] = self.raw(f"getelementptr i8, ptr {base}, i64 {self._word('offset', (spot.kind, spot.number))}")
        further = spot.offset + (spot.number if spot.kind == FRAME else 0)
        return self.raw(f"getelementptr i8, ptr {self.bases[whole]}, i64 {self._integer(further)}")

    def _home(self, home: int) -> str:
        """The address of a stack's record."""

        def locate() -> str:
            slot = self._word("arena", None)
            at = self.raw(f"getelementptr ptr, ptr %bases, i64 {slot}")
            base = self.raw(f"load ptr, ptr {at}")
            return self.raw(f"getelementptr i8, ptr {base}, i64 {self._integer(home * STACK_BYTES)}")

        if home not in self.homes:
            self.homes[home] = self._at_entry(locate)
        return self.homes[home]

    # --- blocks

    def _slot(self, kind: str, initial: str) -> str:
        """A stack slot that holds `initial` from here on."""
        name = self.name("s")
        self.slots.append(f"  {name} = alloca {kind}, align 8")
        self.line(f"store {kind} {initial}, ptr {name}")
        return name

    def _label(self, stem: str) -> str:
        return self.name(stem)[1:]

    def _begin(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def _counted(self, count: str, body) -> None:
        """for (i = 0; i < count; i++) body(i)"""
        counter = self._slot("i64", "0")
        head, inside, after = self._label("head"), self._label("body"), self._label("after")
        self.line(f"br label %{head}")
        self._begin(head)
        i = self.raw(f"load i64, ptr {counter}")
        self.line(f"br i1 {self.raw(f'icmp slt i64 {i}, {count}')}, label %{inside}, label %{after}")
        self._begin(inside)
        body(i)
        self.line(f"store i64 {self.raw(f'add nsw i64 {i}, 1')}, ptr {counter}")
        self.line(f"br label %{head}")
        self._begin(after)

    def _leave_if(self, bad: str, target: str) -> None:
        after = self._label("fine")
        self.line(f"br i1 {bad}, label %{target}, label %{after}, !prof !{{!\"branch_weights\", i32 1, i32 100000}}")
        self._begin(after)

    # --- scalars

    def _value(self, node: Node) -> Value:
        found = self.values.get(node)
        if found is not None:
            return found
        if node.primitive.name == "get":
            return self.parts[node.operands[0], node.params["part"]]
        if node.primitive.name == "empty":
            return Value("0", I64)
        known = constant_value(node)
        assert known is not None, node
        return self._number(node, known)

    def _number(self, node: Node, known) -> Value:
        """A constant: 0, +-1 and truth values are part of the structure, others are words."""
        if node.dtype == BOOL or (known in (0, 1, -1) and not (known == 0 and np.signbit(known))):
            return self.constant(known, node.dtype)
        if node not in self.numbers:
            self.numbers[node] = Value(self._word("number", known, llvm_type(node.dtype)), node.dtype)
        return self.numbers[node]

    def _load(self, pointer: str, dtype: np.dtype) -> Value:
        kind = memory_type(dtype)
        raw = self.raw(f"load {kind}, ptr {pointer}")
        return Value(self.raw(f"icmp ne i8 {raw}, 0"), dtype) if dtype == BOOL else Value(raw, dtype)

    def _write(self, pointer: str, value: Value) -> None:
        name = self.raw(f"zext i1 {value.name} to i8") if value.dtype == BOOL else value.name
        self.line(f"store {memory_type(value.dtype)} {name}, ptr {pointer}")

    def _at_indices(self, pointer: str, indices: Sequence[Index], itemsize: int) -> str:
        """The address after checked indices."""
        total = None
        for index in indices:
            moved = self.raw(f"mul nsw i64 {self._checked(index)}, {self._integer(index.stride * itemsize)}")
            total = moved if total is None else self.raw(f"add nsw i64 {total}, {moved}")
        return pointer if total is None else self.raw(f"getelementptr i8, ptr {pointer}, i64 {total}")

    def _checked(self, index: Index) -> str:
        at = self._value(index.value).name
        if index.inside:
            return at
        extent = self._integer(index.extent)
        if not index.positive:
            negative = self.raw(f"icmp slt i64 {at}, 0")
            wrapped = self.raw(f"add i64 {at}, {extent}")
            at = self.raw(f"select i1 {negative}, i64 {wrapped}, i64 {at}")
        self._leave_if(self.raw(f"icmp uge i64 {at}, {extent}"), "bad")
        return at

    # --- operations

    def _run(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            getattr(self, "_do_" + type(operation).__name__.lower())(operation)

    def _do_compute(self, one: Compute) -> None:
        node = one.node
        operands = [self._value(operand) for operand in node.operands]
        self.values[node] = node.primitive.code.emit(self, *operands, **node.params)

    def _do_same(self, one: Same) -> None:
        self.values[one.node] = self._value(one.source)

    def _do_load(self, one: Load) -> None:
        self.values[one.node] = self._load(self._pointer(one.spot), one.node.dtype)

    def _do_keep(self, one: Keep) -> None:
        self._write(self._pointer(one.spot), self._value(one.value))

    def _do_element(self, one: Element) -> None:
        where = self._at_indices(self._pointer(one.spot), one.indices, one.node.dtype.itemsize)
        self.values[one.node] = self._load(where, one.node.dtype)

    def _do_storeelement(self, one: StoreElement) -> None:
        value = self._value(one.value)
        where = self._at_indices(self._pointer(one.spot), one.indices, value.dtype.itemsize)
        self._write(where, self.add(self._load(where, value.dtype), value) if one.adds else value)

    def _do_storepart(self, one: StorePart) -> None:
        size = one.target.dtype.itemsize
        target = self._at_indices(self._pointer(one.target.spot), one.indices, size)
        loops = merged(one.target.shape, one.target.strides, one.source.strides)
        self._part(target, self._pointer(one.source.spot), loops, one.target.dtype, one.adds)

    def _part(self, target: str, source: str, loops: list[tuple[int, int, int]], dtype: np.dtype, adds: bool) -> None:
        if not loops or (len(loops) == 1 and loops[0][1:] == (1, 1) and not adds):
            count = self._integer((loops[0][0] if loops else 1) * dtype.itemsize)
            if loops:
                self._copy(target, source, count)
                return
            value = self._load(source, dtype)
            self._write(target, self.add(self._load(target, dtype), value) if adds else value)
            return
        extent, step, source_step = loops[0]
        moves = self._integer(step * dtype.itemsize), self._integer(source_step * dtype.itemsize)

        def inside(i: str) -> None:
            at = [
                self.raw(f"getelementptr i8, ptr {pointer}, i64 {self.raw(f'mul nsw i64 {i}, {move}')}")
                for pointer, move in zip((target, source), moves, strict=True)
            ]
            self._part(at[0], at[1], loops[1:], dtype, adds)

        self._counted(self._integer(extent), inside)

    def _copy(self, target: str, source: str, size: str) -> None:
        self.declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)")
        self.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")

    def _do_copy(self, one: Copy) -> None:
        self._copy(self._pointer(one.target), self._pointer(one.source), self._integer(one.size))

    def _do_fill(self, one: Fill) -> None:
        target, kind = self._pointer(one.target), memory_type(one.dtype)
        if not np.asarray(one.value, one.dtype).tobytes().strip(b"\0"):
            self.declared.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)")
            size = self._integer(one.count * one.dtype.itemsize)
            self.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {size}, i1 false)")
            return
        number = self._word("number", one.value, kind)
        self._counted(
            self._integer(one.count),
            lambda i: self.line(f"store {kind} {number}, ptr {self.raw(f'getelementptr {kind}, ptr {target}, i64 {i}')}"),
        )

    def _do_segment(self, one: Segment) -> None:
        table = self.name("t")
        self.slots.append(f"  {table} = alloca [{len(one.spots)} x ptr], align 8")

        def fill() -> None:
            for slot, spot in enumerate(one.spots):
                pointer = self._pointer(spot)
                self.line(f"store ptr {pointer}, ptr {self.raw(f'getelementptr ptr, ptr {table}, i64 {slot}')}")

        self._at_entry(fill)
        for k, step in enumerate(one.steps):
            function = self._word("function", (one, step), "ptr")
            words = self._at_entry(lambda: self.raw(f"getelementptr i64, ptr %words, i64 {len(self.words)}"))
            self.words += [Word("integer", word) for word in _step_words(one, k)]
            status = self.raw(f"call i64 {function}(ptr {table}, ptr {words})")
            self._leave_if(self.raw(f"icmp ne i64 {status}, 0"), "bad")

    # --- stacks

    def _do_push(self, one: Push) -> None:
        top = self._value(one.stack).name
        size = self._integer(one.size) if one.spot is not None else str(one.size)
        above = self.raw(f"add nsw i64 {top}, {size}")
        data = self.reserved.get(one.home)
        if data is None:
            self._make_room(one.home, above)
            data = self.raw(f"load ptr, ptr {self._home(one.home)}")
        where = self.raw(f"getelementptr i8, ptr {data}, i64 {top}")
        if one.spot is None:
            self._write(where, self._value(one.value))
        else:
            self._copy(where, self._pointer(one.spot), size)
        self.values[one.node] = Value(above, I64)

    def _make_room(self, home: int, need: str) -> None:
        """Sees to it that the stack has `need` bytes."""
        record = self._home(home)
        size = self.raw(f"load i64, ptr {self.raw(f'getelementptr i64, ptr {record}, i64 1')}")
        grow, after = self._label("grow"), self._label("room")
        self.line(
            f"br i1 {self.raw(f'icmp ugt i64 {need}, {size}')}, label %{grow}, label %{after}, "
            '!prof !{!"branch_weights", i32 1, i32 100000}'
        )
        self._begin(grow)
        status = self.raw(f"call i64 @jg.grow(ptr {record}, i64 {need})")
        self.declared.add("declare ptr @realloc(ptr, i64)")
        self.line(f"br i1 {self.raw(f'icmp ne i64 {status}, 0')}, label %nomemory, label %{after}")
        self._begin(after)

    def _do_pop(self, one: Pop) -> None:
        size = self._integer(one.size) if one.spot is not None else str(one.size)
        below = self.raw(f"sub nsw i64 {self._value(one.stack).name}, {size}")
        where = self.raw(f"getelementptr i8, ptr {self.raw(f'load ptr, ptr {self._home(one.home)}')}, i64 {below}")
        self.parts[one.node, 0] = Value(below, I64)
        if one.spot is None:
            element = one.stack.aval.element  # type: ignore[attr-defined]
            self.parts[one.node, 1] = self._load(where, element.dtype)
        else:
            self._copy(self._pointer(one.spot), where, size)

    # --- loops and branches

    def _do_repeat(self, one: Repeat) -> None:
        trip = self._value(one.trip).name
        counter = self._slot("i64", "0")
        slots = {}
        for carried in one.carried:
            value = self._value(carried.init)
            slots[carried.part] = self._slot(llvm_type(value.dtype), value.name), value.dtype
        outer = dict(self.reserved)
        self._reserve(one, trip)
        for inner, outside in one.captured:
            self.values[inner] = self._value(outside)
        head, asking, inside, after = (self._label(stem) for stem in ("loop", "test", "step", "done"))
        self.line(f"br label %{head}")
        self._begin(head)
        i = self.raw(f"load i64, ptr {counter}")
        self.values[one.counter] = Value(i, I64)
        for carried in one.carried:
            slot, dtype = slots[carried.part]
            self.values[carried.input] = self.let(f"load {llvm_type(dtype)}, ptr {slot}", dtype, 0)
        self.line(f"br i1 {self.raw(f'icmp slt i64 {i}, {trip}')}, label %{asking}, label %{after}")
        self._begin(asking)
        if one.asked is not None:
            for inner, outside in one.test_captured:
                self.values[inner] = self._value(outside)
            self._run(one.test)
            self.line(f"br i1 {self._value(one.asked).name}, label %{inside}, label %{after}")
            self._begin(inside)
        self._run(one.body)
        for carried in one.carried:
            slot, dtype = slots[carried.part]
            self.line(f"store {llvm_type(dtype)} {self._value(carried.result).name}, ptr {slot}")
        following = self.raw(f"add nsw i64 {i}, 1")
        self.line(f"store i64 {following}, ptr {counter}")
        self._poll(following, FEW_STEPS if any(isinstance(o, Repeat | Segment) for o in every(one.body)) else MANY_STEPS)
        self.line(f"br label %{head}")
        self._begin(after)
        self.reserved = outer
        for carried in one.carried:
            self.parts[one.node, carried.part] = self.values[carried.input]
        self.parts[one.node, one.node.params["carries"]] = Value(i, I64)

    def _poll(self, step: str, period: int) -> None:
        """Every so many steps: stops if a signal has come."""
        look, on = self._label("poll"), self._label("on")
        due = self.raw(f"icmp eq i64 {self.raw(f'and i64 {step}, {period - 1}')}, 0")
        weights = f"!prof !{{!\"branch_weights\", i32 1, i32 {period}}}"
        self.line(f"br i1 {due}, label %{look}, label %{on}, {weights}")
        self._begin(look)
        status = self.raw("call i64 @jg.poll()")
        self.line(f"br i1 {self.raw(f'icmp ne i64 {status}, 0')}, label %stopped, label %{on}")
        self._begin(on)

    def _reserve(self, one: Repeat, trip: str) -> None:
        """Room for all that the loop pushes, where each step pushes once: no need to look each time."""
        tops = {carried.part: carried for carried in one.carried}
        homes = {self._home_of(one, part): carried for part, carried in tops.items()}
        for home, size in one.reserved:
            carried = homes.get(home)
            if carried is None:
                continue
            steps = self.intrinsic("smax", Value(trip, I64), Value("0", I64)).name
            bytes_ = self.raw(f"mul nsw i64 {steps}, {self._integer(size)}")
            self._make_room(home, self.raw(f"add nsw i64 {self._value(carried.init).name}, {bytes_}"))
            self.reserved[home] = self.raw(f"load ptr, ptr {self._home(home)}")

    @staticmethod
    def _home_of(one: Repeat, part: int) -> int | None:
        """The stack that a carried value is the height of."""
        return next((o.home for o in one.body if isinstance(o, Push) and _starts_from(o, one, part)), None)

    def _do_choose(self, one: Choose) -> None:
        predicate = self._value(one.predicate).name
        labels = [self._label("then"), self._label("otherwise")]
        after = self._label("joined")
        slots: dict[int, tuple[str, np.dtype]] = {}
        for part, result in one.sides[0].results.items():
            dtype = I64 if isinstance(result.aval, StackAval) else result.dtype
            name = self.name("s")
            self.slots.append(f"  {name} = alloca {llvm_type(dtype)}, align 8")
            slots[part] = name, dtype
        self.line(f"br i1 {predicate}, label %{labels[0]}, label %{labels[1]}")
        outer = dict(self.reserved)
        for label, side in zip(labels, one.sides, strict=True):
            self._begin(label)
            self._side(side, slots)
            self.line(f"br label %{after}")
        self.reserved = outer
        self._begin(after)
        for part, (slot, dtype) in slots.items():
            self.parts[one.node, part] = self.let(f"load {llvm_type(dtype)}, ptr {slot}", dtype, 0)

    def _side(self, side: Side, slots: dict[int, tuple[str, np.dtype]]) -> None:
        for inner, outside in side.captured:
            self.values[inner] = self._value(outside)
        self._run(side.operations)
        for part, result in side.results.items():
            slot, dtype = slots[part]
            self.line(f"store {llvm_type(dtype)} {self._value(result).name}, ptr {slot}")


def _step_words(segment: Segment, k: int) -> list[int]:
    """The words of a kernel or routine of a segment, whose table of base addresses is the segment's own."""
    step = segment.steps[k]
    if isinstance(step, KernelStep):
        return binding_words(step.binding, step.kernel, segment.buffers)
    if native_symbol(step) is None:
        return []
    return routine_words(step, segment.buffers, Slot(segment.scratch_slot, max(0, segment.scratch[k])))


def _starts_from(push: Push, one: Repeat, part: int) -> bool:
    return any(carried.part == part and push.stack is carried.input for carried in one.carried)


def merged(shape: Sequence[int], first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int, int]]:
    """Loops (extent, stride, stride), outermost first: those that both arrays walk as one are one."""
    loops: list[tuple[int, int, int]] = []
    for extent, a, b in zip(shape, first, second, strict=True):
        if extent == 1:
            continue
        if loops and loops[-1][1] == a * extent and loops[-1][2] == b * extent:
            loops[-1] = loops[-1][0] * extent, a, b
        else:
            loops.append((extent, a, b))
    return loops
