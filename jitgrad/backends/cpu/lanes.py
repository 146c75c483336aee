"""How the innermost loop of a kernel runs: how many lanes, how many vectors a step, with a masked rest or masked throughout.

How many lanes accumulate a sum is a property of the kernel alone, so sums do not depend on the machine's vector width.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.primitive import PRIMITIVES, Scalar
from ...lowering.kernel import ABSENT, Instruction, Kernel
from ..target import Target

MATH_COST = 8     # cost from which an operation is taken for a function of the mathematics library
MOST_INLINED = 2  # calls of the mathematics library in a body beyond which they stay calls: code size is compile time


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
    cost = sum(cost_of(step) for step in kernel.body if step.axes & inner)
    if any(fold.axes & inner for fold in kernel.folds):
        lanes = (256 if cost <= 10 else 64) // widest
        return Lanes(min(width, lanes), max(1, lanes // width), cost <= 40)
    return Lanes(width, 4 if cost <= 8 else 2 if cost <= 24 else 1, cost <= 40)


def cost_of(step: Instruction) -> int:
    """In additions."""
    primitive = PRIMITIVES.get(step.op)
    return primitive.code.cost if primitive is not None and isinstance(primitive.code, Scalar) else 1


def inlines_math(kernel: Kernel, lanes: Lanes) -> bool:
    """Whether the body has few enough calls of the mathematics library to have them inlined."""
    return sum(cost_of(step) >= MATH_COST for step in kernel.body) * lanes.copies <= MOST_INLINED
