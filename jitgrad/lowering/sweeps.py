"""Steps that are called for some rows at a time: what one hands to the next is still in cache, and threads share the rows.

A *sweep* is a run of kernels whose loops go over the same rows, each reading of what the others wrote only the row it
is at (softmax, layer normalisation, log-sum-exp and their gradients), called for one block of rows after another. What
is only handed on inside the run needs memory for one block, not for all rows. A fold over all rows (a loss, the gradient
of a bias, a sum of columns) is made in parts, one a block; a kernel after the sweep puts them together. A single large
kernel is a sweep too.

Blocks do not depend on each other, so they may run at once. How many there are is a matter of sizes alone, never of the
number of threads, and so is the order in which parts are added up. (Large matrix products are cut into one piece a thread:
their pieces have the bits of the whole.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..ir.aval import aval_of
from ..ir.node import Node, fresh_input
from .build import combining_kernel
from .region import ControlStep, Step
from .rows import EVEN, Rows, loops_of, rounded, rows_of
from .steps import KernelStep, RoutineStep
from .work import Work, work_of

BLOCK_BYTES = 1 << 17    # of all arrays of a run together: half of a small second-level cache
LEAST_BYTES = 1 << 20    # a run that touches less stays in cache anyway
WIDEST_ROW = 1 << 19     # bytes of a row of all arrays, beyond which even one row is no block
MOST_CALLS = 1 << 12     # calls of a run's kernels, each of which costs some 20 ns and its words
WINDOW = 48              # steps that are looked at to extend a run
CANDIDATES = 3           # numbers of rows that are tried for a run
PARALLEL_WORK = 60_000   # nanoseconds of one thread from which work is worth sharing
PIECE_WORK = 15_000      # nanoseconds that a piece of it should take
MOST_PIECES = 64
MOST_COMBINED = 16       # folds whose parts one kernel puts together


@dataclass(frozen=True)
class Sweep:
    """Steps `start` to `stop` of a plan are called for `block` of the `rows` at a time.

    `private` buffers hold one block. Per step and array, `moves` are the elements from row to row and from block to block.
    """

    start: int
    stop: int
    rows: int
    block: int
    views: tuple[Rows, ...]
    moves: tuple[tuple[tuple[int, int], ...], ...]
    private: frozenset[Node]

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    def private_bytes(self, node: Node) -> int:
        return self.block * (node.aval.size // self.rows) * node.dtype.itemsize

    def steps(self, number: int) -> Iterator[Step]:
        """The steps, in order, for block `number`."""
        first = number * self.block
        count = min(self.block, self.rows - first)
        for view, moves in zip(self.views, self.moves, strict=True):
            yield view.part(first, count, tuple(first * row + number * block for row, block in moves))


def find_sweeps(steps: list, fixed: set[Node], threads: int) -> tuple[list, list[Sweep]]:
    """`steps` in an order in which runs stand together, each followed by the kernels that put parts of folds together,
    and the sweeps. `fixed` are inputs and outputs: never private. `threads`: see `rows.loops_of`."""
    ordered: list = []
    sweeps: list[Sweep] = []
    works = {id(step): work_of(step) for step in steps}
    while steps:
        run = _best_run(steps, threads) if _may_pay([works[id(step)] for step in steps[:WINDOW]]) else None
        if run is None:
            ordered.append(steps[0])
            steps = steps[1:]
            continue
        outside = {node for step in (*ordered, *run.rest) for node in step.touches}
        sweep, combining = run.sweep(len(ordered), outside | fixed)
        sweeps.append(sweep)
        ordered += [*(view.step for view in sweep.views), *combining]
        steps = run.rest
    return ordered, sweeps


def _may_pay(works: list[Work]) -> bool:
    """Whether steps that do so much could make a run worth while."""
    if sum(work.nanoseconds for work in works) >= PARALLEL_WORK:
        return True
    return sum(work.read + work.written for work in works) >= LEAST_BYTES


def _best_run(steps: list, threads: int) -> _Run | None:
    """The run from the first step on that takes in most steps; None if none is worth while."""
    runs = [_Run(steps, rows) for rows in _numbers_of_rows(steps)]
    best = max(runs, key=lambda run: len(run.views), default=None)
    if best is not None and best.is_worthwhile():
        return best
    return _cut_alone(steps, threads)


def _numbers_of_rows(steps: list) -> list[int]:
    """The numbers of rows that a run from the first step on may have."""
    first = steps[0]
    if isinstance(first, RoutineStep):
        return [first.result.shape[0]] if first.routine == "matmul" else []
    if isinstance(first, ControlStep):
        return []
    if first.kernel.rank == 0:
        return []
    outer = first.binding.extents[0]
    if first.kernel.rank > 1:
        return [outer]
    # Merged loops: a row may be some iterations.
    later = (s.binding.extents[0] for s in steps[1:WINDOW] if isinstance(s, KernelStep) and s.kernel.rank > 1)
    return [outer, *(rows for rows in dict.fromkeys(later) if rows < outer and outer % rows == 0)][:CANDIDATES]


def _cut_alone(steps: list, threads: int) -> _Run | None:
    """The first step alone, cut along the first of its loops that gives pieces enough."""
    work = work_of(steps[0]).nanoseconds
    if work < PARALLEL_WORK:
        return None
    wanted = _pieces(work)
    found: _Run | None = None
    for loop in loops_of(steps[0], threads):
        run = _Run(steps, loop.rows, loop)
        if run.views and run.blocks_for(wanted) > (1 if found is None else found.blocks_for(wanted)):
            found = run
            if found.blocks_for(wanted) * 2 > wanted:
                break
    return found


class _Run:
    """The steps, from the first of `steps` on, that can be called for the same rows together; `rest` are the others.

    With `alone`, the first step alone, along that loop.
    """

    def __init__(self, steps: list, rows: int, alone: Rows | None = None):
        self.rows, self.alone = rows, alone is not None
        self.views: list[Rows] = []
        self.rest: list = []
        self._written: dict[Node, tuple[int, int]] = {}  # by the run: (offset, elements from row to row)
        self._folded: set[Node] = set()                  # over the rows: not there before the run's end
        self._touched: set[Node] = set()
        self._left_touched: set[Node] = set()            # by steps that are not in the run
        self._left_written: set[Node] = set()
        if alone is not None:
            if self._fits(alone):
                self._take(alone)
            self.rest = steps[1:]
            return
        for step in steps[:WINDOW]:
            if not self._joins(step):
                self.rest.append(step)
                self._left_touched.update(step.touches)
                self._left_written.update(step.writes)
        self.rest += steps[WINDOW:]

    @property
    def work(self) -> float:
        return sum(work_of(view.step).nanoseconds for view in self.views)

    # --- which steps

    def _joins(self, step: Step) -> bool:
        """Takes `step` into the run if it can be."""
        view = rows_of(step, self.rows)
        if view is None or 2 * view.least > self.rows or not self._is_free(step) or not self._fits(view):
            return False
        self._take(view)
        return True

    def _is_free(self, step: Step) -> bool:
        """Whether `step` may be called before the steps that were left."""
        return self._left_written.isdisjoint(step.touches) and self._left_touched.isdisjoint(step.writes)

    def _fits(self, view: Rows) -> bool:
        """Whether the step keeps to its row in all that the run writes."""
        for slot, node in enumerate(view.buffers):
            if node in self._folded or (slot in view.folded and node in self._touched):
                return False
            writes = node in view.step.writes
            if slot in view.folded or not (writes or node in self._written):
                continue
            if writes and node in self._touched and node not in self._written:
                return False
            place = view.offsets[slot], view.strides[slot]
            overlapping = not self.alone and view.spans[slot] >= view.strides[slot]
            if slot in view.whole or overlapping or self._written.get(node, place) != place:
                return False
        return True

    def _take(self, view: Rows) -> None:
        self.views.append(view)
        self._touched.update(view.buffers)
        for slot, node in enumerate(view.buffers):
            if slot in view.folded:
                self._folded.add(node)
            elif node in view.step.writes:
                self._written[node] = view.offsets[slot], view.strides[slot]

    # --- how many rows at a time

    def _row_bytes(self) -> int:
        """Bytes of a row of all arrays that move from row to row."""
        arrays: dict[Node, int] = {}
        for view in self.views:
            for node, stride in zip(view.buffers, view.strides, strict=True):
                arrays[node] = max(arrays.get(node, 0), abs(stride) * node.dtype.itemsize)
        return max(1, sum(arrays.values()))

    def is_worthwhile(self) -> bool:
        """Whether there is something to hand on, and enough of it; or enough work to share."""
        if len(self.views) < 2 or self._block() >= self.rows:
            return False
        row = self._row_bytes()
        return self.work >= PARALLEL_WORK or (row <= WIDEST_ROW and row * self.rows >= LEAST_BYTES)

    def _block(self) -> int:
        """Rows that stay in cache together, or that give pieces enough, and enough rows for the parts of folds."""
        block = -(-self.rows // _pieces(self.work))
        row = self._row_bytes()
        if row * self.rows >= LEAST_BYTES:
            block = min(block, BLOCK_BYTES // row)
        return rounded(max(1, block, -(-self.rows * len(self.views) // MOST_CALLS), *(view.least for view in self.views)))

    def blocks_for(self, wanted: int) -> int:
        """How many blocks there are for a step on its own that should be cut into `wanted`."""
        return -(-self.rows // self._block_for(wanted))

    def _block_for(self, wanted: int) -> int:
        (view,) = self.views
        block = rounded(max(-(-self.rows // wanted), view.least))
        while not view.may_be(block):
            block += EVEN
        return block

    # --- the result

    def sweep(self, start: int, public: set[Node]) -> tuple[Sweep, list[KernelStep]]:
        """The sweep, whose first step will have the number `start`, and the steps that put parts of folds together."""
        block = self._block_for(_pieces(self.work)) if self.alone else self._block()
        blocks = -(-self.rows // block)
        private = frozenset(
            node
            for node, (offset, stride) in self._written.items()
            if node not in public and offset == 0 and stride * self.rows == node.aval.size and not self.alone
        )
        views, moves = [], []
        parts: dict[tuple, list[tuple[Node, Node]]] = {}
        for view in self.views:
            in_parts, made = _in_parts(view, blocks)
            for op, part, result in made:
                parts.setdefault((op, part.aval), []).append((part, result))
            views.append(in_parts)
            moves.append(tuple(_moves(in_parts, slot, private) for slot in range(len(view.buffers))))
        sweep = Sweep(start, start + len(views), self.rows, block, tuple(views), tuple(moves), private)
        combining = []
        for (op, _), pairs in parts.items():
            combining += [_combining(op, pairs[k : k + MOST_COMBINED]) for k in range(0, len(pairs), MOST_COMBINED)]
        return sweep, combining


def _pieces(work: float) -> int:
    """How many pieces so much work is worth."""
    return max(1, min(MOST_PIECES, int(work / PIECE_WORK)))


def _moves(view: Rows, slot: int, private: frozenset[Node]) -> tuple[int, int]:
    node = view.buffers[slot]
    if slot in view.folded:
        return 0, node.aval.size // node.shape[0]
    return (0, 0) if node in private else (view.strides[slot], 0)


def _in_parts(view: Rows, blocks: int) -> tuple[Rows, list[tuple[str, Node, Node]]]:
    """The view with folds over the rows going to arrays of parts, and (reduction, parts, result) of each."""
    made = [(op, fresh_input(aval_of((blocks, *result.shape), result.dtype)), result) for op, result in view.folds()]
    return (view.redirected({result: parts for _, parts, result in made}) if made else view), made


def _combining(op: str, pairs: list[tuple[Node, Node]]) -> KernelStep:
    """The step that puts parts together: each of `pairs` is (parts, result)."""
    parts, results = [part for part, _ in pairs], [result for _, result in pairs]
    return KernelStep(*combining_kernel(op, parts, results), tuple(results))
