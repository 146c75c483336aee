"""How the innermost loop of a kernel runs: how many lanes, how many vectors a step, with a masked rest or masked throughout.

How many lanes accumulate a sum is a property of the kernel alone, so sums do not depend on the machine's vector width.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.primitive import PRIMITIVES, Scalar
from ...lowering.kernel import ABSENT, STRIDED, UNIT, Instruction, Kernel
from ..target import Target

CHEAP = 10        # cost up to which a body is copied for several rows or vectors
MATH_COST = 8     # cost from which an operation is taken for a function of the mathematics library
MOST_INLINED = 2  # calls of the mathematics library in a body beyond which they stay calls: code size is compile time


@dataclass(frozen=True)
class Lanes:
    """How the innermost loop runs: vectors of `width` (0: scalars), `copies` of them a step, for `rows` iterations of the
    loop around it at once. `peeled`: the full steps run without a mask, else all steps run under one. `joined`: the rest
    is one masked step, not a branch a vector."""

    width: int
    copies: int
    peeled: bool
    joined: bool = False
    rows: int = 1


def choose_lanes(kernel: Kernel, target: Target, columns: Columns | None) -> Lanes:
    """Lanes by the size of the body and its widest element."""
    inner = 1 << (kernel.rank - 1) if kernel.rank else 0
    cost = inner_cost(kernel)
    folding = any(fold.axes & inner for fold in kernel.folds)
    # Along an axis of the indices, two lanes may add to one element: they do one by one.
    conflicts = [s.indices for s in kernel.stores if s.indices and kernel.arrays[s.slot].pattern[-1:] == (ABSENT,)]
    moving = all(any(kernel.body[index].axes & inner for index in indices) for indices in conflicts)
    if kernel.rank == 0 or not moving or (conflicts and cost <= CHEAP):
        return Lanes(0, 1, True)
    widest = max([step.dtype.itemsize for step in kernel.body if step.axes & inner] or [8])
    width = target.vector_bytes // widest
    strided = any(array.pattern[-1] == STRIDED for array in kernel.arrays)
    cheap = cost <= CHEAP and not strided and not conflicts  # these accesses are much code each: they are not copied
    rows = _rows_at_once(kernel, cost, columns) if cheap else 1
    if folding:
        alone = kernel.rank == 1
        lanes = (256 if cheap and alone else 128 if kernel.fastmath and alone and cost <= 40 else 64) // widest
        width = min(width, lanes)
        return Lanes(width, max(1, lanes // width), cost <= 40, cheap and not kernel.stores, rows)
    copies = 1 if rows > 1 or strided or conflicts else 4 if cost <= 8 else 2 if cost <= 24 else 1
    return Lanes(width, copies, cost <= 40, rows=rows)


def _rows_at_once(kernel: Kernel, cost: int, columns: Columns | None) -> int:
    """Rows that share a pass: sums of columns meet in registers, sums of rows share the additions across lanes."""
    if kernel.rank < 2 or not kernel.folds or any(store.indices for store in kernel.stores):
        return 1
    return 8 if columns is not None and cost <= 4 else 4


@dataclass(frozen=True)
class Columns:
    """How sums of columns run: the loops in `order`; those from `start` on, but the innermost, are folded."""

    order: tuple[int, ...]
    start: int


def choose_columns(kernel: Kernel) -> Columns | None:
    """For a kernel whose folds keep the innermost axis and fold the same outer axes, or those and the innermost."""
    innermost = kernel.rank - 1
    if innermost < 1 or any(store.indices for store in kernel.stores):
        return None
    inner = 1 << innermost
    folded = {fold.axes for fold in kernel.folds if not fold.axes & inner}
    if len(folded) != 1:
        return None
    (axes,) = folded
    order = [k for k in range(innermost) if not axes >> k & 1] + [k for k in range(innermost) if axes >> k & 1]
    start = innermost - axes.bit_count()
    kept_inside = sum(1 << k for k in order[start:]) | inner
    for fold in kernel.folds:
        column = not fold.axes & inner
        if column and kernel.arrays[fold.slot].pattern[innermost] != UNIT:
            return None
        if not column and fold.axes & kept_inside != kept_inside:
            return None
    if not axes:
        return None
    return Columns((*order, innermost), start)


def inner_cost(kernel: Kernel) -> int:
    """Of the body's part in the innermost loop."""
    if kernel.rank == 0:
        return 0
    return sum(cost_of(step) for step in kernel.body if step.axes >> (kernel.rank - 1) & 1)


def cost_of(step: Instruction) -> int:
    """In additions."""
    primitive = PRIMITIVES.get(step.op)
    return primitive.code.cost if primitive is not None and isinstance(primitive.code, Scalar) else 1


def inlines_math(kernel: Kernel, lanes: Lanes) -> bool:
    """Whether the body has few enough calls of the mathematics library to have them inlined.

    Never with float16: what computes in float64 inside would be rounded to float16 at once, for which x86-64 has no
    instruction, and LLVM would call a function that no process need have.
    """
    if any(step.dtype.kind == "f" and step.dtype.itemsize == 2 for step in kernel.body):
        return False
    return sum(cost_of(step) >= MATH_COST for step in kernel.body) * lanes.copies <= MOST_INLINED
