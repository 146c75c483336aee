"""Runs of kernels over the same rows, called strip by strip, so that what one hands to the next is still in cache.

A run is a sequence of kernels whose outermost loop goes over the same number of rows, each reading of what the others
wrote only the row it is at (softmax, layer normalisation, log-sum-exp and their gradients). It is called for a block of
rows at a time. What is only handed on inside the run needs memory for one block, not for all rows. The kernels are
what they are without it, and so are the results, bit for bit (but that a total over all rows, taken out of a kernel
that also makes a value a row, may be summed in other lanes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ir.node import Node
from .kernel import Binding, Fold, Instruction, Store
from .steps import KernelStep, RoutineStep

BLOCK_BYTES = 1 << 17    # of all arrays of a run together: half of a small second-level cache
LEAST_BYTES = 1 << 20    # a run that touches less stays in cache anyway
WIDEST_ROW = 1 << 19     # bytes of a row of all arrays, beyond which even one row is no block
MOST_CALLS = 1 << 12     # calls of a run's kernels, each of which costs some 20 ns and its words
WINDOW = 48              # steps that are looked at to extend a run


@dataclass(frozen=True)
class Rows:
    """A kernel step seen as a loop over rows: per array the elements from row to row, and those a row spans; `merged`
    loop iterations are one row."""

    strides: tuple[int, ...]
    spans: tuple[int, ...]
    merged: int


@dataclass(frozen=True)
class Strip:
    """Steps `start` to `stop` of a plan are called for `block` of the `rows` at a time. `private` buffers hold a block."""

    start: int
    stop: int
    rows: int
    block: int
    views: tuple[Rows, ...]
    private: frozenset[Node]

    def private_bytes(self, node: Node) -> int:
        return self.block * (node.aval.size // self.rows) * node.dtype.itemsize

    def bindings(self, steps: list[KernelStep]):
        """(step, binding) of every call, in order."""
        for first in range(0, self.rows, self.block):
            count = min(self.block, self.rows - first)
            for step, view in zip(steps, self.views, strict=True):
                yield step, _at_rows(step.binding, view, first, count, self.private)


def _at_rows(binding: Binding, view: Rows, first: int, count: int, private: frozenset[Node]) -> Binding:
    offsets = (
        offset if node in private else offset + first * stride
        for node, offset, stride in zip(binding.buffers, binding.offsets, view.strides, strict=True)
    )
    return replace(binding, extents=(count * view.merged, *binding.extents[1:]), offsets=tuple(offsets))


def find_strips(steps: list, fixed: set[Node]) -> tuple[list, list[Strip]]:
    """`steps` in an order in which runs stand together, and the runs. `fixed` are inputs and outputs: never private."""
    ordered: list = []
    strips: list[Strip] = []
    while steps:
        run = _Run(steps) if _may_start(steps[0]) else None
        if run is not None and run.is_worthwhile():
            outside = {node for step in (*ordered, *run.rest) for node in step.touches}
            strips.append(run.strip(len(ordered), outside | fixed))
            ordered += run.steps
            steps = run.rest
        else:
            ordered.append(steps[0])
            steps = steps[1:]
    return ordered, strips


def _may_start(step: KernelStep | RoutineStep) -> bool:
    return isinstance(step, KernelStep) and step.kernel.rank > 1 and view_rows(step, step.binding.extents[0]) is not None


def view_rows(step: KernelStep | RoutineStep, rows: int) -> Rows | None:
    """`step` as a loop over `rows` rows; None where it is none, or where its rows depend on each other."""
    if not isinstance(step, KernelStep) or step.kernel.rank == 0:
        return None
    kernel, (outer, *inner) = step.kernel, step.binding.extents
    if outer % rows or (outer != rows and inner):
        return None
    if any(fold.axes & 1 for fold in kernel.folds) or any(store.indices for store in kernel.stores):
        return None
    if any(one.op == "iota" and one.params[0] == 0 for one in kernel.body):
        return None
    merged = outer // rows
    spans = (
        (merged - 1) * abs(strides[0]) + sum((e - 1) * abs(s) for e, s in zip(inner, strides[1:], strict=True))
        for strides in step.binding.strides
    )
    return Rows(tuple(merged * strides[0] for strides in step.binding.strides), tuple(spans), merged)


def without_total(step: KernelStep | RoutineStep, rows: int) -> tuple[KernelStep, KernelStep] | None:
    """A step that computes one value a row and also their total (a loss), as two: only the total needs all rows at once.

    Both evaluate the body, which is little work for as little as one value a row.
    """
    if not isinstance(step, KernelStep) or step.kernel.rank != 1 or step.binding.extents[0] != rows:
        return None
    totals = tuple(fold for fold in step.kernel.folds if fold.axes)
    values = tuple(fold for fold in step.kernel.folds if not fold.axes)
    if not totals or not (step.kernel.stores or values):
        return None
    return _reduced(step, step.kernel.stores, values), _reduced(step, (), totals)


def _reduced(step: KernelStep, stores: tuple[Store, ...], folds: tuple[Fold, ...]) -> KernelStep:
    """The step with these of its stores and folds alone, and no more arrays and instructions than they need."""
    kernel, binding = step.kernel, step.binding
    roots: list[Store | Fold] = [*stores, *folds]
    needed: set[int] = set()
    pending = [root.value for root in roots] + [index for store in stores for index in store.indices]
    while pending:
        index = pending.pop()
        if index not in needed:
            needed.add(index)
            pending.extend(kernel.body[index].operands)
    number = {index: k for k, index in enumerate(sorted(needed))}
    reads = {one.params[0] for index in needed if (one := kernel.body[index]).op in ("load", "gather")}
    kept = sorted(reads | {root.slot for root in roots})
    slot = {old: new for new, old in enumerate(kept)}

    def renumbered(one: Instruction) -> Instruction:
        params = (slot[one.params[0]], *one.params[1:]) if one.op in ("load", "gather") else one.params
        return replace(one, operands=tuple(number[k] for k in one.operands), params=params)

    smaller = replace(
        kernel,
        arrays=tuple(kernel.arrays[k] for k in kept),
        body=tuple(renumbered(kernel.body[index]) for index in sorted(needed)),
        stores=tuple(Store(number[s.value], slot[s.slot], tuple(number[k] for k in s.indices)) for s in stores),
        folds=tuple(replace(fold, value=number[fold.value], slot=slot[fold.slot]) for fold in folds),
    )
    chosen = replace(
        binding,
        buffers=tuple(binding.buffers[k] for k in kept),
        offsets=tuple(binding.offsets[k] for k in kept),
        strides=tuple(binding.strides[k] for k in kept),
        indexed=tuple(binding.indexed[k] for k in kept),
    )
    writes = {binding.buffers[root.slot] for root in roots}
    return KernelStep(smaller, chosen, tuple(node for node in step.writes if node in writes))


class _Run:
    """The steps, from the first of `steps` on, that can be called row by row together; `rest` are the others."""

    def __init__(self, steps: list):
        self.rows = steps[0].binding.extents[0]
        self.steps: list[KernelStep] = []
        self.views: list[Rows] = []
        self.rest: list = []
        self._written: dict[Node, tuple[int, int]] = {}  # by the run: (offset, elements from row to row)
        self._left_touched: set[Node] = set()            # by steps that are not in the run
        self._left_written: set[Node] = set()
        for step in steps[:WINDOW]:
            if not self._joins(step):
                parts = without_total(step, self.rows)
                if parts is not None and self._joins(parts[0]):
                    step = parts[1]
                self._leave(step)
        self.rest += steps[WINDOW:]

    def _joins(self, step: KernelStep | RoutineStep) -> bool:
        """Takes `step` into the run if it can be."""
        view = view_rows(step, self.rows)
        if not isinstance(step, KernelStep) or view is None or not self._is_free(step) or not self._fits(step, view):
            return False
        self._take(step, view)
        return True

    def _leave(self, step: KernelStep | RoutineStep) -> None:
        self.rest.append(step)
        self._left_touched.update(step.touches)
        self._left_written.update(step.writes)

    def _is_free(self, step: KernelStep) -> bool:
        """Whether `step` may be called before the steps that were left."""
        return self._left_written.isdisjoint(step.touches) and self._left_touched.isdisjoint(step.writes)

    def _fits(self, step: KernelStep, view: Rows) -> bool:
        """Whether `step` keeps to its row in all that the run writes."""
        touched = {node for one in self.steps for node in one.touches}
        for slot, node in enumerate(step.binding.buffers):
            writes = node in step.writes
            if not writes and node not in self._written:
                continue
            if writes and node in touched and node not in self._written:
                return False
            stride, negative = view.strides[slot], any(s < 0 for s in step.binding.strides[slot])
            place = step.binding.offsets[slot], stride
            if step.binding.indexed[slot] or negative or view.spans[slot] >= stride or self._written.get(node, place) != place:
                return False
        return True

    def _take(self, step: KernelStep, view: Rows) -> None:
        self.steps.append(step)
        self.views.append(view)
        for slot, node in enumerate(step.binding.buffers):
            if node in step.writes:
                self._written[node] = step.binding.offsets[slot], view.strides[slot]

    def _row_bytes(self) -> int:
        """Bytes of a row of all arrays that move from row to row."""
        arrays: dict[Node, int] = {}
        for step, view in zip(self.steps, self.views, strict=True):
            for node, stride in zip(step.binding.buffers, view.strides, strict=True):
                arrays[node] = max(arrays.get(node, 0), abs(stride) * node.dtype.itemsize)
        return sum(arrays.values())

    def is_worthwhile(self) -> bool:
        row = self._row_bytes()
        return len(self.steps) > 1 and row <= WIDEST_ROW and row * self.rows >= LEAST_BYTES

    def strip(self, start: int, public: set[Node]) -> Strip:
        block = max(1, BLOCK_BYTES // self._row_bytes(), -(-self.rows * len(self.steps) // MOST_CALLS))
        if block > 64:
            block -= block % 64
        private = frozenset(
            node
            for node, (offset, stride) in self._written.items()
            if node not in public and offset == 0 and stride * self.rows == node.aval.size
        )
        return Strip(start, start + len(self.steps), self.rows, block, tuple(self.views), private)
