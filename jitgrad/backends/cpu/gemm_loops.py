"""Small vocabulary over llvmlite's builder for the matrix product: elements, vectors, loops, minima."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from jitgrad.backends.cpu.gemm_tile import Tile

I1 = ir.IntType(1)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
PTR = ir.PointerType()


def i64(value: int) -> ir.Constant:
    """A 64-bit integer constant."""
    return ir.Constant(I64, value)


@dataclass(frozen=True)
class Context:
    """What every emitter of one product shares: module, types, blocking, the prefix of its symbols."""

    module: ir.Module
    dtype: np.dtype
    tile: Tile
    name: str

    @property
    def element(self) -> ir.Type:
        return ir.DoubleType() if self.dtype == np.float64 else ir.FloatType()

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(self.element, self.tile.lanes)

    @property
    def vector_bits(self) -> int:
        return self.tile.lanes * self.dtype.itemsize * 8

    @property
    def masks(self) -> bool:
        """Whether masked access is an instruction at all; elsewhere LLVM would expand it into branches."""
        return self.vector_bits >= 256

    @property
    def masks_are_free(self) -> bool:
        """Whether a masked load costs what a plain one costs: ragged columns of B are then read in place."""
        return self.vector_bits == 512

    def function(self, suffix: str, params: str) -> tuple[Code, dict[str, ir.Value]]:
        """An internal function. Parameters are words ``name:type`` with type i, p or b (i64, pointer, i1)."""
        kinds = {"i": I64, "p": PTR, "b": I1}
        names, types = zip(*((word[:-2], kinds[word[-1]]) for word in params.split()), strict=True)
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), types), f"{self.name}.{suffix}")
        function.linkage = "internal"
        function.calling_convention = "fastcc"
        function.attributes.add("nounwind")
        function.attributes.add("noinline")
        return self.body(function, names)

    def body(self, function: ir.Function, names: Sequence[str]) -> tuple[Code, dict[str, ir.Value]]:
        """A builder at the entry of the function, and its arguments under the given names."""
        for argument, name in zip(function.args, names, strict=True):
            argument.name = name
        return Code(self, function.append_basic_block("entry")), dict(zip(names, function.args, strict=True))


class Code(ir.IRBuilder):
    """A builder that knows the element and vector types of its product."""

    def __init__(self, context: Context, block: ir.Block) -> None:
        super().__init__(block)
        self.context = context

    def invoke(self, function: ir.Function, *args: ir.Value) -> None:
        """Call an internal function."""
        self.call(function, args, cconv="fastcc")

    def at(self, base: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        """The address some elements behind base."""
        for offset in offsets:
            if offset != 0:
                index = i64(offset) if isinstance(offset, int) else offset
                base = self.gep(base, [index], source_etype=self.context.element)
        return base

    def get(self, address: ir.Value) -> ir.Value:
        """Load one element."""
        return self.get_kind(address, self.context.element)

    def get_kind(self, address: ir.Value, kind: ir.Type, mask: ir.Value | None = None) -> ir.Value:
        """Load at an element's alignment; lanes outside the mask are not read and are zero."""
        if mask is None:
            return self.load(address, typ=kind, align=self.context.dtype.itemsize)
        align = ir.Constant(I32, self.context.dtype.itemsize)
        function = self._intrinsic("llvm.masked.load", kind, (PTR, I32, mask.type, kind), ".p0")
        return self.call(function, [address, align, mask, self.zeros(kind)])

    def put(self, value: ir.Value, address: ir.Value, mask: ir.Value | None = None) -> None:
        """Store at an element's alignment; lanes outside the mask are not touched."""
        if mask is None:
            self.store(value, address, align=self.context.dtype.itemsize)
            return
        align = ir.Constant(I32, self.context.dtype.itemsize)
        types = (value.type, PTR, I32, mask.type)
        function = self._intrinsic("llvm.masked.store", ir.VoidType(), types, ".p0", overload=value.type)
        self.call(function, [value, address, align, mask])

    def prefetch(self, address: ir.Value) -> None:
        """Ask for a cache line that will be written."""
        name = "llvm.prefetch.p0"
        types = ir.FunctionType(ir.VoidType(), (PTR, I32, I32, I32))
        function = self.context.module.globals.get(name) or ir.Function(self.context.module, types, name)
        self.call(function, [address, *(ir.Constant(I32, flag) for flag in (1, 3, 1))])

    def multiply_add(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x*y + z, fused where the target has the instruction (elsewhere ``llvm.fma`` would call libm)."""
        return self.call(self._intrinsic("llvm.fmuladd", x.type, (x.type,) * 3), [x, y, z])

    def sum_lanes(self, vector: ir.Value) -> ir.Value:
        """Sum of a vector's elements, as a tree."""
        element = vector.type.element
        function = self._intrinsic(
            "llvm.vector.reduce.fadd", element, (element, vector.type), overload=vector.type
        )
        return self.call(function, [ir.Constant(element, -0.0), vector], fastmath=("reassoc",))

    def _intrinsic(
        self,
        name: str,
        result: ir.Type,
        args: tuple[ir.Type, ...],
        tail: str = "",
        overload: ir.Type | None = None,
    ) -> ir.Function:
        over = overload or result
        bits = {ir.DoubleType(): "f64", ir.FloatType(): "f32"}[getattr(over, "element", over)]
        full = f"{name}.{f'v{over.count}' if isinstance(over, ir.VectorType) else ''}{bits}{tail}"
        known = self.context.module.globals.get(full)
        return known or ir.Function(self.context.module, ir.FunctionType(result, args), full)

    def zeros(self, kind: ir.Type) -> ir.Constant:
        """The zero of an element or vector type."""
        return ir.Constant(kind, None if isinstance(kind, ir.VectorType) else 0.0)

    def splat(self, value: ir.Value, lanes: int | None = None) -> ir.Value:
        """A vector with the value in every lane."""
        count = lanes or self.context.tile.lanes
        kind = ir.VectorType(value.type, count)
        single = self.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, count), None)
        return self.shuffle_vector(single, ir.Constant(kind, ir.Undefined), zeros)

    def lane_mask(self, count: ir.Value) -> ir.Value:
        """The mask of the first ``count`` lanes; ``count`` may lie outside 0..lanes."""
        lanes = self.context.tile.lanes
        clipped = self.trunc(self.least(count, i64(lanes)), I32)
        iota = ir.Constant(ir.VectorType(I32, lanes), list(range(lanes)))
        return self.icmp_signed("<", iota, self.splat(clipped))

    def least(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The smaller of two integers."""
        return self.select(self.icmp_signed("<", x, y), x, y)

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: ir.Value) -> Iterator[ir.Value]:
        """``for index in range(start, stop, step)``; may run zero times."""
        with self.open_loop(start, stop) as (index, advance):
            yield index
            advance(step)

    @contextmanager
    def open_loop(
        self, start: ir.Value, stop: ir.Value
    ) -> Iterator[tuple[ir.Value, Callable[[ir.Value], None]]]:
        """``while index < stop``; the body ends with ``advance(step)``, the step being a run-time value."""
        before = self.block
        head, body, after = (self.append_basic_block(part) for part in ("head", "body", "after"))
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(I64)
        index.add_incoming(start, before)
        self.cbranch(self.icmp_signed("<", index, stop), body, after)
        self.position_at_end(body)
        yield index, lambda step: index.add_incoming(self.add(index, step), self.block)
        self.branch(head)
        self.position_at_end(after)


class CarriedLoop:
    """``for index in range(start, stop, step)`` with values carried in registers; runs at least once.

    The test is at the bottom: one branch an iteration without a pass that rotates loops.
    """

    def __init__(
        self,
        code: Code,
        stop: ir.Value,
        initial: Sequence[ir.Value],
        start: ir.Value | None = None,
        step: int = 1,
    ) -> None:
        self._code, self._stop, self._step = code, stop, step
        before, self._head = code.block, code.append_basic_block("carried")
        code.branch(self._head)
        code.position_at_end(self._head)
        self.index = code.phi(I64)
        self.index.add_incoming(i64(0) if start is None else start, before)
        self.values = [code.phi(value.type) for value in initial]
        for phi, value in zip(self.values, initial, strict=True):
            phi.add_incoming(value, before)

    def close(self, following: Sequence[ir.Value]) -> list[ir.Value]:
        """End the body with the values of the next iteration; returns those of the last one."""
        code, block = self._code, self._code.block
        index = code.add(self.index, i64(self._step))
        self.index.add_incoming(index, block)
        for phi, value in zip(self.values, following, strict=True):
            phi.add_incoming(value, block)
        after = code.append_basic_block("after")
        code.cbranch(code.icmp_signed("<", index, self._stop), self._head, after)
        code.position_at_end(after)
        return list(following)
