"""What a step moves and computes, from its loops alone: for people, and to decide what is worth cutting up."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ..ir.primitive import PRIMITIVES, Scalar
from .kernel import ABSENT
from .region import ControlStep, Step
from .steps import KernelStep, RoutineStep

# Of one thread, so that rational and transcendental chains of a million numbers come out about right (AVX-512): an
# operation of cost 1 on an element, and a byte that is in no near cache.
_NANOSECONDS_PER_FLOP = 0.05
_NANOSECONDS_PER_BYTE = 0.05


class Work(NamedTuple):
    """Elementary operations, and bytes that a step asks memory for."""

    flops: int
    read: int
    written: int

    @property
    def nanoseconds(self) -> float:
        """About how long it takes: good enough to tell what is long from what is short."""
        return _NANOSECONDS_PER_FLOP * self.flops + _NANOSECONDS_PER_BYTE * (self.read + self.written)


def work_of(step: Step) -> Work:
    """An estimate from the loops: caches are not thought of, and a gathered array counts once per element taken."""
    if isinstance(step, ControlStep):
        return Work(0, 0, 0)  # what loops do is decided when they run
    return _kernel_work(step) if isinstance(step, KernelStep) else _routine_work(step)


def _kernel_work(step: KernelStep) -> Work:
    kernel, extents = step.kernel, step.binding.extents
    flops = sum(_cost(op.op) * _points(op.axes, extents) for op in kernel.body)
    flops += len(kernel.folds) * prod(extents)
    adding = {store.slot: len(store.indices) for store in kernel.stores if store.indices}
    flops += len(adding) * prod(extents)
    written = adding.keys() | {store.slot for store in kernel.stores} | {fold.slot for fold in kernel.folds}
    gathers = {op.params[0]: _points(op.axes, extents) for op in kernel.body if op.op == "gather"}
    moved = []
    for slot, array in enumerate(kernel.arrays):
        if array.indexed:
            count = gathers.get(slot, prod(extents))
        else:
            count = prod(extent for extent, mark in zip(extents, array.pattern, strict=True) if mark != ABSENT)
        moved.append(count * array.dtype.itemsize)
    return Work(
        flops,
        sum(size for slot, size in enumerate(moved) if slot not in written or slot in adding),
        sum(size for slot, size in enumerate(moved) if slot in written),
    )


def _points(axes: int, extents: tuple[int, ...]) -> int:
    return prod(extent for k, extent in enumerate(extents) if axes >> k & 1)


def _cost(op: str) -> int:
    primitive = PRIMITIVES.get(op)
    return primitive.code.cost if primitive is not None and isinstance(primitive.code, Scalar) else 0


def _routine_work(step: RoutineStep) -> Work:
    itemsize = step.node.dtype.itemsize
    read = sum(prod(access.shape) * access.base.dtype.itemsize for access in step.operands)
    size = prod(step.result.shape)
    flops = 2 * size * step.operands[0].shape[-1] if step.routine == "matmul" else size
    return Work(flops, read, max(1, size) * itemsize)
