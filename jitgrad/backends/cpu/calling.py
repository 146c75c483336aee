"""What native routines have in common: reading their words, loops, and operands' axes as few loops."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from ...ir.node import Node
from ...lowering.access import Access
from ...lowering.plan import Slot

I64, PTR, BYTE = ir.IntType(64), ir.PointerType(), ir.IntType(8)

Loop = tuple[int, ...]  # the extent, then the stride of each array


def merged_loops(extents: Sequence[int], strides: Sequence[Sequence[int]]) -> list[Loop]:
    """Loops over axes with these extents; neighbours that every array (a row of `strides`) walks as one are one loop."""
    loops: list[Loop] = []
    for extent, *steps in zip(extents, *strides, strict=True):
        if extent == 1:
            continue
        if loops and all(outer == inner * extent for outer, inner in zip(loops[-1][1:], steps, strict=True)):
            loops[-1] = (loops[-1][0] * extent, *steps)
        else:
            loops.append((extent, *steps))
    return loops


def place_words(access: Access, buffers: dict[Node, Slot]) -> list[int]:
    """The words of an operand: the slot of its base address and the bytes after it."""
    place = buffers[access.base]
    return [place.slot, place.offset + access.offset * access.base.dtype.itemsize]


def loop_words(loop: Loop, itemsize: int) -> list[int]:
    extent, *strides = loop
    return [extent, *(stride * itemsize for stride in strides)]


class RoutineCode:
    """The function `i64 symbol(bases, words)` under construction; words are read in their order."""

    def __init__(self, module: ir.Module, symbol: str):
        function = ir.Function(module, ir.FunctionType(I64, [PTR, PTR]), symbol)
        self.bases, self.words = function.args
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self._read = 0

    def word(self) -> ir.Value:
        at = self.builder.gep(self.words, [I64(self._read)], source_etype=I64)
        self._read += 1
        return self.builder.load(at, typ=I64)

    def address(self) -> ir.Value:
        """The address that `place_words` describes."""
        base = self.builder.load(self.builder.gep(self.bases, [self.word()], source_etype=PTR), typ=PTR)
        return self.moved(base, self.word())

    def moved(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.builder.gep(pointer, [offset], source_etype=BYTE)

    def loop(self, arrays: int) -> tuple[ir.Value, list[ir.Value]]:
        """(extent, strides) that `loop_words` describes."""
        return self.word(), [self.word() for _ in range(arrays)]

    def nest(self, loops: list, pointers: list, body) -> None:
        """`body(pointers)` at every index of `loops`."""
        if not loops:
            body(pointers)
            return
        (extent, strides), *inner = loops
        with counted(self.builder, extent) as i:
            at = [self.moved(p, self.builder.mul(i, s)) for p, s in zip(pointers, strides, strict=True)]
            self.nest(inner, at, body)

    def finish(self) -> None:
        self.builder.ret(I64(0))


class counted:
    """`with counted(builder, n) as i:` emits a loop with i from 0 to n - 1."""

    def __init__(self, builder: ir.IRBuilder, extent: ir.Value):
        self.builder, self.extent = builder, extent

    def __enter__(self):
        b = self.builder
        before = b.block
        self.head, self.body, self.after = (b.append_basic_block() for _ in range(3))
        b.branch(self.head)
        b.position_at_end(self.head)
        self.i = b.phi(I64)
        self.i.add_incoming(I64(0), before)
        b.cbranch(b.icmp_signed("<", self.i, self.extent), self.body, self.after)
        b.position_at_end(self.body)
        return self.i

    def __exit__(self, *_):
        b = self.builder
        self.i.add_incoming(b.add(self.i, I64(1)), b.block)
        b.branch(self.head)
        b.position_at_end(self.after)
