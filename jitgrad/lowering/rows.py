"""A step seen as a loop over rows that can be gone through some at a time: how far its arrays move from row to row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from ..ir.node import Node
from .access import Access
from .kernel import Store
from .region import ControlStep, Step
from .steps import KernelStep, RoutineStep

LARGEST_SHARED = 1 << 16  # bytes of the matrix that every row of a product is multiplied with: it stays in a near cache
PART_OF_WORK = 8          # elements that a block reads for each element of the parts of folds that it makes
FULL = 16                 # rows of a block if they are the elements of vectors: no less than two of them
COLUMNS_OF_ADDITION = 64  # columns of a piece of additions at indices: each piece goes over all indices again
EVEN = 64                 # blocks of more rows than that are multiples of it, so that vectors are full
ROWS_OF_PRODUCT = 128     # of a large product cut alone: each piece packs the whole other factor again


@dataclass(frozen=True)
class Rows:
    """A step as a loop over `rows` rows; what it touches, array by array:

    strides    elements from row to row
    spans      elements that a row reaches over
    folded     arrays that hold a fold over all rows: of some of the rows, a part of it
    whole      arrays that are not gone through row by row: taken by indices, or backwards
    least      rows that a block must have to be worth its overhead
    """

    step: Step
    rows: int
    strides: tuple[int, ...]
    spans: tuple[int, ...]
    folded: frozenset[int]
    whole: frozenset[int]
    least: int

    def may_be(self, block: int) -> bool:
        """Whether blocks of so many rows have the bits of all rows together."""
        return True

    @property
    def buffers(self) -> tuple[Node, ...]:
        return self.step.touches

    @property
    def offsets(self) -> tuple[int, ...]:
        raise NotImplementedError

    def part(self, first: int, count: int, moves: tuple[int, ...]) -> Step:
        """The step for rows `first` to `first + count`, its arrays moved by so many elements."""
        raise NotImplementedError

    def folds(self) -> list[tuple[str, Node]]:
        """(reduction, result) of each fold over the rows."""
        raise NotImplementedError

    def redirected(self, replaced: dict[Node, Node]) -> Rows:
        """The same with other buffers for what it writes."""
        return replace(self, step=self.step.renamed(replaced))


def rows_of(step: Step, rows: int) -> Rows | None:
    """`step` as a loop over `rows` rows beside others; None where it is none, or where its rows depend on each other in
    another way than by folds."""
    if isinstance(step, ControlStep):
        return None
    return _kernel_rows(step, rows, 0) if isinstance(step, KernelStep) else _product_rows(step, rows)


def loops_of(step: Step, threads: int) -> list[Rows]:
    """The loops of a step, each as rows, along which it can be cut when it is called alone; the outermost first.

    `threads` may say how many pieces are worth while only where the pieces have the bits of the whole.
    """
    if isinstance(step, KernelStep):
        loops = [_kernel_rows(step, extent, axis) for axis, extent in enumerate(step.binding.extents)]
        return [loop for loop in loops if loop is not None]
    if isinstance(step, ControlStep):
        return []
    return _product_loops(step, threads) if step.routine == "matmul" else []


def _least_rows(buffers: tuple[Node, ...], folded: frozenset[int], read: int) -> int:
    """Rows of which there must be so many that the parts of folds are little beside what they are folded from; `read` are
    the elements that one row reads."""
    parts = sum(buffers[slot].aval.size for slot in folded)
    return max(1, -(-PART_OF_WORK * parts // max(1, read)))


# --- kernels: the rows are steps of one loop


@dataclass(frozen=True)
class KernelRows(Rows):
    """`merged` iterations of the loop `axis` are one row."""

    step: KernelStep
    axis: int
    merged: int

    @property
    def offsets(self) -> tuple[int, ...]:
        return self.step.binding.offsets

    def part(self, first: int, count: int, moves: tuple[int, ...]) -> KernelStep:
        binding = self.step.binding
        extents = list(binding.extents)
        extents[self.axis] = count * self.merged
        offsets = tuple(offset + move for offset, move in zip(binding.offsets, moves, strict=True))
        return replace(self.step, binding=replace(binding, extents=tuple(extents), offsets=offsets))

    def folds(self) -> list[tuple[str, Node]]:
        return [(fold.op, self.buffers[fold.slot]) for fold in self.step.kernel.folds if fold.slot in self.folded]


def _kernel_rows(step: KernelStep, rows: int, axis: int) -> KernelRows | None:
    if axis >= step.kernel.rank:
        return None
    kernel, binding = step.kernel, step.binding
    extents = binding.extents
    if extents[axis] % rows or (extents[axis] != rows and kernel.rank > 1):
        return None
    if any(store.indices and not _keeps_apart(step, store, axis) for store in kernel.stores):
        return None
    if any(one.op == "iota" and one.params[0] == axis for one in kernel.body):
        return None
    merged = extents[axis] // rows
    spans = tuple(
        (merged - 1) * abs(strides[axis])
        + sum((e - 1) * abs(s) for k, (e, s) in enumerate(zip(extents, strides, strict=True)) if k != axis)
        for strides in binding.strides
    )
    strides = tuple(merged * strides[axis] for strides in binding.strides)
    folded = frozenset(fold.slot for fold in kernel.folds if fold.axes >> axis & 1)
    least = _least_rows(binding.buffers, folded, prod(extents) // max(1, rows))
    if axis == kernel.rank - 1 and axis > 0:
        least = max(least, COLUMNS_OF_ADDITION if any(store.indices for store in kernel.stores) else FULL)
    return KernelRows(step, rows, strides, spans, folded, _whole(step), least, axis, merged)


def _whole(step: KernelStep) -> frozenset[int]:
    adding = {store.slot for store in step.kernel.stores if store.indices}
    strides, indexed = step.binding.strides, step.binding.indexed
    return frozenset(
        slot
        for slot in range(len(strides))
        if (indexed[slot] and slot not in adding) or any(stride < 0 for stride in strides[slot])
    )


def _keeps_apart(step: KernelStep, store: Store, axis: int) -> bool:
    """Whether additions at indices never meet from different rows: the rows are columns of what is added to."""
    along = step.binding.strides[store.slot][axis] != 0
    return along and not any(step.kernel.body[index].axes >> axis & 1 for index in store.indices)


# --- matrix products: the rows are those of the first factor and the result, or the terms of the sums, or the batch


@dataclass(frozen=True)
class ProductRows(Rows):
    """`axes` is the axis along which result, first and second operand are cut, None where they are not."""

    step: RoutineStep
    axes: tuple[int | None, int | None, int | None]

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(access.offset for access in self.step.accesses)

    def part(self, first: int, count: int, moves: tuple[int, ...]) -> RoutineStep:
        result, *operands = (
            _cut(access, axis, count, move)
            for access, axis, move in zip(self.step.accesses, self.axes, moves, strict=True)
        )
        return replace(self.step, operands=tuple(operands), result=result)

    def may_be(self, block: int) -> bool:
        sides = self.axes[1] is None or self.axes[2] is None
        return not sides or self.rows % block != 1  # the sums of a single row or column have an order of their own

    def folds(self) -> list[tuple[str, Node]]:
        return [("reduce_sum", self.buffers[slot]) for slot in self.folded]


def _cut(access: Access, axis: int | None, count: int, move: int) -> Access:
    shape = access.shape if axis is None else (*access.shape[:axis], count, *access.shape[axis + 1 :])
    return Access(access.base, access.offset + move, shape, access.strides)


def _product_rows(step: RoutineStep, rows: int) -> ProductRows | None:
    """The product as a loop over batches, or over rows with a small matrix beside, or over the terms of a small result."""
    if step.routine != "matmul":
        return None
    (*batch, height, width), terms = step.result.shape, step.operands[0].shape[-1]
    itemsize = step.node.dtype.itemsize
    if batch:
        return _product_along(step, (0, 0, 0)) if batch[0] == rows else None
    if height == rows and terms * width * itemsize <= LARGEST_SHARED:
        return _product_along(step, (0, 0, None))
    if terms == rows and height * width * itemsize <= LARGEST_SHARED:
        return _product_along(step, (None, 1, 0))
    return None


def _product_loops(step: RoutineStep, threads: int) -> list[Rows]:
    """The product as a loop over batches, over the longer side and over the shorter one."""
    n = step.result.ndim - 2
    height, width = step.result.shape[n:]
    sides = [
        _product_along(step, (n, n, None), _least_side(height, threads)),
        _product_along(step, (n + 1, None, n + 1), _least_side(width, threads)),
    ]
    return [*(_product_along(step, (axis, axis, axis)) for axis in range(n)), *(sides if height >= width else sides[::-1])]


def _least_side(extent: int, threads: int) -> int:
    """Rows or columns of a piece: one piece for each thread, as each packs the other factor anew."""
    return max(ROWS_OF_PRODUCT, rounded(-(-extent // threads)))


def rounded(block: int) -> int:
    return block if block <= EVEN else -(-block // EVEN) * EVEN


def _product_along(step: RoutineStep, axes: tuple[int | None, int | None, int | None], least: int = 1) -> ProductRows:
    cut = list(zip(step.accesses, axes, strict=True))
    strides = tuple(0 if axis is None else access.strides[axis] for access, axis in cut)
    spans = tuple(_span(access, axis) for access, axis in cut)
    folded = frozenset((0,) if axes[0] is None else ())
    rows = next(access.shape[axis] for access, axis in cut if axis is not None)
    read = sum(prod(access.shape) // max(1, rows) for access, axis in cut[1:] if axis is not None)
    whole = frozenset(k for k, access in enumerate(step.accesses) if any(stride < 0 for stride in access.strides))
    least = max(least, _least_rows(step.touches, folded, read))
    return ProductRows(step, rows, strides, spans, folded, whole, least, axes)


def _span(access: Access, axis: int | None) -> int:
    """The elements that one row of the access reaches over."""
    walked = enumerate(zip(access.shape, access.strides, strict=True))
    return sum((extent - 1) * abs(stride) for k, (extent, stride) in walked if k != axis)
