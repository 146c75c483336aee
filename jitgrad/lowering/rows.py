"""A step seen as a loop over rows that can be gone through some at a time: how far its arrays move from row to row."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ir.node import Node
from .kernel import Binding
from .steps import KernelStep, RoutineStep


@dataclass(frozen=True)
class Rows:
    """`step` as a loop over rows along its loop `axis`; `merged` iterations of that loop are one row.

    Per array: `strides`, the elements from row to row, and `spans`, the elements that a row reaches over. `folded` are
    the arrays that hold a fold over all rows: of some of the rows, a part of it.
    """

    step: KernelStep
    axis: int
    merged: int
    strides: tuple[int, ...]
    spans: tuple[int, ...]
    folded: frozenset[int]

    @property
    def buffers(self) -> tuple[Node, ...]:
        return self.step.binding.buffers

    @property
    def folded_elements(self) -> int:
        """Elements of what is folded over the rows, all of it together."""
        return sum(self.buffers[slot].aval.size for slot in self.folded)

    def bound(self, first: int, count: int, offsets: tuple[int, ...]) -> Binding:
        """The binding for rows `first` to `first + count`, with the arrays moved by `offsets`."""
        binding = self.step.binding
        extents = list(binding.extents)
        extents[self.axis] = count * self.merged
        moved = tuple(a + b for a, b in zip(binding.offsets, offsets, strict=True))
        return replace(binding, extents=tuple(extents), offsets=moved)


def rows_of(step: KernelStep | RoutineStep, rows: int, axis: int = 0) -> Rows | None:
    """`step` as a loop over `rows` rows along `axis`; None where it is none, or where its rows depend on each other in
    another way than by folds."""
    if not isinstance(step, KernelStep) or axis >= step.kernel.rank:
        return None
    kernel, extents = step.kernel, step.binding.extents
    if extents[axis] % rows or (extents[axis] != rows and kernel.rank > 1):
        return None
    if any(store.indices for store in kernel.stores):
        return None
    if any(one.op == "iota" and one.params[0] == axis for one in kernel.body):
        return None
    merged = extents[axis] // rows
    spans = tuple(
        (merged - 1) * abs(strides[axis])
        + sum((e - 1) * abs(s) for k, (e, s) in enumerate(zip(extents, strides, strict=True)) if k != axis)
        for strides in step.binding.strides
    )
    strides = tuple(merged * strides[axis] for strides in step.binding.strides)
    folded = frozenset(fold.slot for fold in kernel.folds if fold.axes >> axis & 1)
    return Rows(step, axis, merged, strides, spans, folded)
