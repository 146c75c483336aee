"""What is around a kernel's arithmetic: the words it reads, its loops and branches, stack slots, lanes and their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...lowering.kernel import STRIDED, Instruction, Kernel
from ..scalar import BOOL, FAST_MATH, Emitter, Value, scalar_type
from ..target import Target
from .lanes import choose_columns, choose_lanes, inlines_math

I64 = np.dtype(np.int64)
Indexed = tuple[int, tuple[int, ...]]  # an array's slot, and the body's values that index it


@dataclass(frozen=True)
class Point:
    """Where the enclosing loops are: their counters, the address of each array, the values computed so far, and the
    addresses of indexed arrays at indices that are known here."""

    counters: tuple[str, ...]
    rows: tuple[str, ...]
    values: Mapping[int, Value]
    settled: Mapping[Indexed, str] = field(default_factory=dict)


class KernelFrame(Emitter):
    """Emits what any kernel needs around its arithmetic. Counters and accumulators are stack slots; LLVM's first pass
    turns them into registers."""

    def __init__(self, kernel: Kernel, name: str, target: Target):
        super().__init__()
        self.columns = choose_columns(kernel)
        self.order = self.columns.order if self.columns else tuple(range(kernel.rank))
        self.kernel, self.symbol = reordered(kernel, self.order), name
        self.lanes = choose_lanes(kernel, target, self.columns)
        self.inline_math = inlines_math(kernel, self.lanes)
        self.flags = FAST_MATH if kernel.fastmath else ""
        self.slots: list[str] = []                # allocas, for the entry block
        self.extents: list[str] = []
        self.strides: list[dict[int, str]] = []   # per array: byte strides of STRIDED axes
        self.indexed: list[list[tuple[str, str]]] = []
        self.numbers: list[Value] = []
        self.point = Point((), (), {})
        self.failed: str = ""
        self.accesses = _indexed_accesses(kernel)

    # --- words, slots, loops

    def _read_words(self) -> None:
        self._word = 0
        place = {axis: k for k, axis in enumerate(self.order)}  # the words are in the order of the kernel as it was given
        given = [self._next_word() for _ in range(self.kernel.rank)]
        self.extents = [given[axis] for axis in self.order]
        rows = []
        for array in self.kernel.arrays:
            slot, offset = self._next_word(), self._next_word()
            at = self.raw(f"getelementptr ptr, ptr %bases, i64 {slot}")
            base = self.raw(f"load ptr, ptr {at}, !invariant.load !0")
            rows.append(self.raw(f"getelementptr i8, ptr {base}, i64 {offset}"))
            moving = [place[axis] for axis in range(self.kernel.rank) if array.pattern[place[axis]] == STRIDED]
            self.strides.append({k: self._next_word() for k in moving})
            self.indexed.append([(self._next_word(), self._next_word()) for _ in range(array.indexed)])
        for dtype in self.kernel.numbers:
            kind = "i8" if dtype == BOOL else scalar_type(dtype)
            self.numbers.append(Value(self._next_word(kind), dtype))
        self.point = Point((), tuple(rows), {})

    def _next_word(self, kind: str = "i64") -> str:
        at = self.raw(f"getelementptr i64, ptr %words, i64 {self._word}")
        self._word += 1
        return self.raw(f"load {kind}, ptr {at}, !invariant.load !0")

    def _slot(self, kind: str, initial: str) -> str:
        """A stack slot that holds `initial` at entry."""
        name = self._room(kind)
        self.line(f"store {kind} {initial}, ptr {name}")
        return name

    def _room(self, kind: str) -> str:
        """A stack slot."""
        name = self.name("s")
        self.slots.append(f"  {name} = alloca {kind}, align 64")
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

    def _when(self, condition: str, body, rare: bool = False) -> None:
        inside, after = self.name("then")[1:], self.name("after")[1:]
        weights = ', !prof !{!"branch_weights", i32 1, i32 1000}' if rare else ""
        self.line(f"br i1 {condition}, label %{inside}, label %{after}{weights}")
        self.lines.append(f"{inside}:")
        body()
        self.line(f"br label %{after}")
        self.lines.append(f"{after}:")

    def _switch(self, value: str, cases: dict, otherwise) -> None:
        """The code of the case that `value` is, or `otherwise`."""
        names = {case: self.name("case")[1:] for case in cases}
        other, after = self.name("other")[1:], self.name("after")[1:]
        self.line(f"switch i64 {value}, label %{other} [{' '.join(f'i64 {case}, label %{names[case]}' for case in cases)}]")
        for name, body in [*((names[case], body) for case, body in cases.items()), (other, otherwise)]:
            self.lines.append(f"{name}:")
            body()
            self.line(f"br label %{after}")
        self.lines.append(f"{after}:")

    # --- lanes

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


def reordered(kernel: Kernel, order: tuple[int, ...]) -> Kernel:
    """The kernel with its loops in another order."""
    if order == tuple(range(kernel.rank)):
        return kernel
    place = {axis: k for k, axis in enumerate(order)}

    def bits(axes: int) -> int:
        return sum(1 << place[axis] for axis in range(kernel.rank) if axes >> axis & 1)

    def moved(one: Instruction) -> Instruction:
        return replace(one, axes=bits(one.axes), params=(place[one.params[0]],) if one.op == "iota" else one.params)

    return replace(
        kernel,
        arrays=tuple(replace(array, pattern=tuple(array.pattern[axis] for axis in order)) for array in kernel.arrays),
        body=tuple(moved(one) for one in kernel.body),
        folds=tuple(replace(fold, axes=bits(fold.axes)) for fold in kernel.folds),
    )


def _indexed_accesses(kernel: Kernel) -> list[Indexed]:
    gathers = [(one.params[0], one.operands) for one in kernel.body if one.op == "gather"]
    return [*gathers, *((store.slot, store.indices) for store in kernel.stores if store.indices)]
