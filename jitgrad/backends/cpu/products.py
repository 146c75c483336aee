"""Matrix products as a routine: our own product for each index of the batch axes."""

from __future__ import annotations

from math import prod

import numpy as np
from llvmlite import ir

from ...ir.node import Node
from ...lowering.plan import RoutineStep, Slot
from ..target import Target
from .calling import Loop, RoutineCode, loop_words, merged_loops, place_words
from .gemm import choose_tile, emit_gemm, workspace_elements
from .gemm_tiny import emit_tiny, is_tiny

BATCH_LOOPS = 3  # axes are merged first, so more are hardly ever needed


def symbol(step: RoutineStep) -> str | None:
    dtype = step.node.dtype
    if dtype.name not in ("float64", "float32") or len(_batch(step)) > BATCH_LOOPS:
        return None
    name = f"jg.matmul.f{8 * dtype.itemsize}"
    extents = _extents(step)
    if not is_tiny(extents, prod(step.node.shape[:-2])):  # the whole node's: a part is done by the same routine
        return name
    unit = [str(int(access.strides[-1] == 1)) for access in (step.operands[1], step.result)]
    return ".".join([name, *map(str, extents), *unit])


def source(name: str, target: Target) -> str:
    _, _, kind, *tiny = name.split(".")
    return _tiny_source(name, kind, [int(word) for word in tiny]) if tiny else _general_source(name, target)


def _tiny_source(name: str, kind: str, numbers: list[int]) -> str:
    module = ir.Module()
    code = RoutineCode(module, name)
    element = ir.DoubleType() if kind == "f64" else ir.FloatType()
    pointers, strides = _operands(code)[::2]
    code.nest(
        [code.loop(3) for _ in range(BATCH_LOOPS)],
        pointers,
        lambda at: emit_tiny(code, element, numbers[:3], [flag == 1 for flag in numbers[3:]], strides, at),
    )
    code.finish()
    return "\n".join(str(value) for value in module.global_values)


def _operands(code: RoutineCode) -> tuple[list, list, list]:
    """What `words` begins with: addresses of A, B, C and scratch; extents; strides."""
    pointers = [code.address() for _ in range(3)]
    scratch = code.address()
    extents = [code.word() for _ in range(3)]
    return pointers, [scratch, *extents], [(code.word(), code.word()) for _ in range(3)]


def _general_source(name: str, target: Target) -> str:
    dtype = np.dtype("float" + name.rsplit(".f")[1])
    module = ir.Module()
    product = emit_gemm(module, dtype, choose_tile(dtype, target), name + ".product")
    product.linkage = "internal"
    code = RoutineCode(module, name)
    pointers, (scratch, *extents), strides = _operands(code)

    def multiply(at: list) -> None:
        a, b, c = ((p, *s) for p, s in zip(at, strides, strict=True))
        code.builder.call(product, [*extents, *a, *b, *c, ir.IntType(1)(0), scratch])

    code.nest([code.loop(3) for _ in range(BATCH_LOOPS)], pointers, multiply)
    code.finish()
    return "\n".join(str(value) for value in module.global_values)


def scratch_bytes(step: RoutineStep, target: Target) -> int:
    dtype = step.node.dtype
    return workspace_elements(dtype, choose_tile(dtype, target), *_extents(step)) * dtype.itemsize


def words(step: RoutineStep, buffers: dict[Node, Slot], scratch: Slot) -> list[int]:
    arrays = (*step.operands, step.result)
    found = [word for access in arrays for word in place_words(access, buffers)]
    found += [scratch.slot, scratch.offset, *_extents(step)]
    found += [stride for access in arrays for stride in access.strides[-2:]]
    loops = _batch(step)
    none: Loop = (1, 0, 0, 0)
    for loop in (*[none] * (BATCH_LOOPS - len(loops)), *loops):
        found += loop_words(loop, step.node.dtype.itemsize)
    return found


def _extents(step: RoutineStep) -> tuple[int, int, int]:
    return step.result.shape[-2], step.result.shape[-1], step.operands[0].shape[-1]


def _batch(step: RoutineStep) -> list[Loop]:
    return merged_loops(step.result.shape[:-2], [access.strides[:-2] for access in (*step.operands, step.result)])
