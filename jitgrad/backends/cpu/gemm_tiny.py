"""Many tiny matrix products (up to 8 x 8): the extents are part of the code, a whole product stays in registers.

Row i of C is the sum over k of a[i, k] times row k of B, added up in the order of k.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from .calling import BYTE, I64, RoutineCode

LARGEST = 8   # extent of a tiny matrix
FEWEST = 16   # products, below which the general routine will do

I32 = ir.IntType(32)


def is_tiny(extents: Sequence[int], products: int) -> bool:
    return all(1 <= extent <= LARGEST for extent in extents) and products >= FEWEST


def emit_tiny(
    code: RoutineCode, kind: ir.Type, extents: Sequence[int], unit: Sequence[bool], strides: Sequence, at: list
) -> None:
    """C = A B for matrices at the addresses `at`; `strides`, (row, column) of A, B and C, are run-time elements. Where
    `unit` says so, the rows of B (the first flag) and of C (the second) lie in one piece."""
    height, width, terms = extents
    tiny = _Tiny(code.builder, kind)
    (a, a_strides), (b, b_strides), (c, c_strides) = zip(at, strides, strict=True)
    rows = [tiny.row(tiny.moved(b, k, b_strides[0]), width, b_strides[1], unit[0]) for k in range(terms)]
    for i in range(height):
        first = tiny.moved(a, i, a_strides[0])
        total = None
        for k in range(terms):
            factor = tiny.spread(tiny.load(tiny.moved(first, k, a_strides[1])), width)
            total = tiny.builder.fmul(factor, rows[k]) if total is None else tiny.fma(factor, rows[k], total)
        tiny.put(total, tiny.moved(c, i, c_strides[0]), width, c_strides[1], unit[1])


class _Tiny:
    """Emits what a tiny product is made of."""

    def __init__(self, builder: ir.IRBuilder, kind: ir.Type):
        self.builder, self.kind = builder, kind
        self.size = 8 if isinstance(kind, ir.DoubleType) else 4

    def moved(self, pointer: ir.Value, count: int, stride: ir.Value) -> ir.Value:
        """`count` strides further."""
        if count == 0:
            return pointer
        return self.builder.gep(pointer, [self.builder.mul(stride, I64(count * self.size))], source_etype=BYTE)

    def load(self, pointer: ir.Value) -> ir.Value:
        return self.builder.load(pointer, typ=self.kind)

    def row(self, pointer: ir.Value, width: int, stride: ir.Value, unit: bool) -> ir.Value:
        vector = ir.VectorType(self.kind, width)
        if unit:
            return self.builder.load(pointer, align=self.size, typ=vector)
        row = ir.Constant(vector, ir.Undefined)
        for j in range(width):
            row = self.builder.insert_element(row, self.load(self.moved(pointer, j, stride)), I32(j))
        return row

    def put(self, row: ir.Value, pointer: ir.Value, width: int, stride: ir.Value, unit: bool) -> None:
        if unit:
            self.builder.store(row, pointer, align=self.size)
            return
        for j in range(width):
            self.builder.store(self.builder.extract_element(row, I32(j)), self.moved(pointer, j, stride))

    def spread(self, value: ir.Value, width: int) -> ir.Value:
        vector = ir.VectorType(self.kind, width)
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, width), [0] * width)
        return self.builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    def fma(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        module, vector = self.builder.module, x.type
        name = f"llvm.fma.v{vector.count}f{8 * self.size}"
        if name not in module.globals:
            ir.Function(module, ir.FunctionType(vector, [vector] * 3), name)
        return self.builder.call(module.globals[name], [x, y, z])
