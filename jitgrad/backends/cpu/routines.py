"""Library routines of the CPU target: matrix products of our own, and calls back to NumPy for the rest.

A routine has the kernels' interface, `i64 f(ptr bases, ptr words)`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
from llvmlite import ir

from ...ir.node import Node
from ...lowering.access import Access, contiguous_strides
from ...lowering.plan import RoutineStep, Slot
from ..target import Target
from .gemm import choose_tile, emit_gemm, workspace_elements

BATCH_LOOPS = 3  # loops over batch axes in a product's code; axes are merged first, so more are hardly ever needed
HOST_ERROR = 2

_I64, _PTR = ir.IntType(64), ir.PointerType()


def native_symbol(step: RoutineStep) -> str | None:
    """The symbol of the native routine for `step`; None when it is called back on the host."""
    dtype = step.node.dtype
    if step.routine == "matmul" and dtype.name in ("float64", "float32") and _batch(step) is not None:
        return f"jg.matmul.f{8 * dtype.itemsize}"
    return None


@cache
def native_source(symbol: str, target: Target) -> str:
    """The module text that defines the native routine `symbol`."""
    dtype = np.dtype("float" + symbol.rsplit(".f")[1])
    module = ir.Module()
    product = emit_gemm(module, dtype, choose_tile(dtype, target), symbol + ".product")
    product.linkage = "internal"
    _emit_batched(module, product, symbol, dtype.itemsize)
    return "\n".join(str(value) for value in module.global_values)


def scratch_bytes(step: RoutineStep, target: Target) -> int:
    """What a native routine needs for itself."""
    if native_symbol(step) is None:
        return 0
    dtype = step.node.dtype
    m, n, k = _extents(step)
    return workspace_elements(dtype, choose_tile(dtype, target), m, n, k) * dtype.itemsize


def routine_words(step: RoutineStep, buffers: dict[Node, Slot], scratch: Slot) -> list[int]:
    """The words that the native routine of `step` reads."""
    size = step.node.dtype.itemsize
    a, b = step.operands
    words: list[int] = []
    for base, offset in ((a.base, a.offset), (b.base, b.offset), (step.node, 0)):
        words += [buffers[base].slot, buffers[base].offset + offset * size]
    words += [scratch.slot, scratch.offset, *_extents(step)]
    for matrix in (a.strides, b.strides, contiguous_strides(step.node.shape)):
        words += matrix[-2:]
    for extent, *strides in _batch(step) or ():
        words += [extent, *(stride * size for stride in strides)]
    return words


def _extents(step: RoutineStep) -> tuple[int, int, int]:
    return step.node.shape[-2], step.node.shape[-1], step.operands[0].shape[-1]


def _batch(step: RoutineStep) -> list[tuple[int, int, int, int]] | None:
    """(extent, strides of a, b and the result) of each batch loop, neighbouring axes merged where all three walk them
    as one; None when more loops are left than the routine has."""
    result = contiguous_strides(step.node.shape)
    loops: list[tuple[int, int, int, int]] = []
    walks = (*(access.strides[:-2] for access in step.operands), result[:-2])
    for extent, *strides in zip(step.node.shape[:-2], *walks, strict=True):
        if extent == 1:
            continue
        if loops and all(outer == inner * extent for outer, inner in zip(loops[-1][1:], strides, strict=True)):
            loops[-1] = (loops[-1][0] * extent, *strides)
        else:
            loops.append((extent, *strides))
    if len(loops) > BATCH_LOOPS:
        return None
    return [(1, 0, 0, 0)] * (BATCH_LOOPS - len(loops)) + loops


def _emit_batched(module: ir.Module, product: ir.Function, symbol: str, itemsize: int) -> None:
    """i64 symbol(bases, words): the product for each index of the batch loops."""
    function = ir.Function(module, ir.FunctionType(_I64, [_PTR, _PTR]), symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    count = 0

    def word():
        nonlocal count
        at = builder.gep(function.args[1], [_I64(count)], source_etype=_I64)
        count += 1
        return builder.load(at, typ=_I64)

    def address():
        base = builder.load(builder.gep(function.args[0], [word()], source_etype=_PTR), typ=_PTR)
        return builder.gep(base, [word()], source_etype=ir.IntType(8))

    pointers = [address() for _ in range(3)]
    scratch = address()
    extents = [word() for _ in range(3)]
    strides = [(word(), word()) for _ in range(3)]
    loops = [(word(), [word() for _ in range(3)]) for _ in range(BATCH_LOOPS)]

    def nest(depth: int, pointers: list) -> None:
        if depth == BATCH_LOOPS:
            a, b, c = ((p, *s) for p, s in zip(pointers, strides, strict=True))
            builder.call(product, [*extents, *a, *b, *c, ir.IntType(1)(0), scratch])
            return
        extent, moves = loops[depth]
        with _counted(builder, extent) as i:
            nest(depth + 1, [
                builder.gep(p, [builder.mul(i, move)], source_etype=ir.IntType(8))
                for p, move in zip(pointers, moves, strict=True)
            ])  # fmt: skip

    nest(0, pointers)
    builder.ret(_I64(0))


class _counted:
    """`with _counted(builder, n) as i:` emits a loop with i from 0 to n - 1."""

    def __init__(self, builder: ir.IRBuilder, extent: ir.Value):
        self.builder, self.extent = builder, extent

    def __enter__(self):
        b = self.builder
        before = b.block
        self.head, self.body, self.after = (b.append_basic_block() for _ in range(3))
        b.branch(self.head)
        b.position_at_end(self.head)
        self.i = b.phi(_I64)
        self.i.add_incoming(_I64(0), before)
        b.cbranch(b.icmp_signed("<", self.i, self.extent), self.body, self.after)
        b.position_at_end(self.body)
        return self.i

    def __exit__(self, *_):
        b = self.builder
        self.i.add_incoming(b.add(self.i, _I64(1)), b.block)
        b.branch(self.head)
        b.position_at_end(self.after)


# --- routines on the host

HOST_FUNCTION = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


def host_function(step: RoutineStep, buffers: dict[Node, Slot], report: Callable[[BaseException], None]):
    """A C function that computes `step` by its primitive's reference. ctypes takes the GIL for it.

    An exception is given to `report`, and the function's status is `HOST_ERROR`.
    """
    reference, params = step.node.primitive.reference, step.node.params
    result = Access(step.node, 0, step.node.shape, contiguous_strides(step.node.shape))

    def call(bases: int, _words: int) -> int:
        try:
            operands = [_array_at(bases, access, buffers[access.base]) for access in step.operands]
            with np.errstate(all="ignore"):
                _array_at(bases, result, buffers[step.node])[...] = reference(*operands, **params)
            return 0
        except BaseException as error:  # anything that left a C callback would be lost
            report(error)
            return HOST_ERROR

    return HOST_FUNCTION(call)


def _array_at(bases: int, access: Access, place: Slot) -> np.ndarray:
    """The elements of `access`, with the base addresses at `bases`, as an array without a copy."""
    address = ctypes.c_int64.from_address(bases + 8 * place.slot).value + place.offset
    size = access.base.dtype.itemsize
    lowest = access.offset + sum(min(0, (e - 1) * s) for e, s in zip(access.shape, access.strides, strict=True) if e)
    highest = access.offset + sum(max(0, (e - 1) * s) for e, s in zip(access.shape, access.strides, strict=True) if e)
    memory = (ctypes.c_char * ((highest - lowest + 1) * size)).from_address(address + lowest * size)
    return np.ndarray(
        access.shape, access.base.dtype, memory, (access.offset - lowest) * size, tuple(s * size for s in access.strides)
    )
