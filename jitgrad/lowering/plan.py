"""The plan of one graph: the order of calls, and where every buffer lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config import config
from ..ir.graph import Graph
from ..ir.node import Node, full
from ..ir.primitive import Library, Place, ScatterAdd
from .access import Accesses
from .build import KernelBuilder, covers_whole
from .fuse import Fusion, Home, fuse
from .kernel import Binding, Kernel
from .legalize import legalize
from .steps import KernelStep, RoutineStep
from .sweeps import Sweep, find_sweeps

ALIGNMENT = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True)
class Slot:
    """Where a buffer lies: which base address (`slot`) and how many bytes after it."""

    slot: int
    offset: int


@dataclass(frozen=True)
class Plan:
    """All that is needed to run a graph of one size, but for the machine code.

    Base addresses (slots): the inputs in order, then the outputs, the arena of `arena_bytes`, and private memory of
    `private_bytes`, of which each thread has its own. The steps of a sweep are called block by block, by any thread; what
    is private to them lies in private memory. scratch[k] is the offset of step k's scratch, in private memory for the
    steps of sweeps, else in the arena, or -1.
    """

    graph: Graph
    steps: tuple[KernelStep | RoutineStep, ...]
    buffers: dict[Node, Slot]
    arena_bytes: int
    private_bytes: int
    scratch: tuple[int, ...]
    sweeps: tuple[Sweep, ...]
    fusion: Fusion

    @property
    def arena_slot(self) -> int:
        return len(self.graph.inputs) + len(self.graph.outputs)

    @property
    def private_slot(self) -> int:
        return self.arena_slot + 1

    @property
    def slots(self) -> int:
        """How many base addresses there are."""
        return self.arena_slot + 2


def make_plan(
    graph: Graph, layouts: dict[Node, tuple[int, ...]], scratch_bytes: Callable[[RoutineStep], int], threads: int = 1
) -> Plan:
    """The plan of `graph`; `layouts` are the strides of inputs that are not C-ordered, `scratch_bytes` what a routine
    of the target needs for itself, `threads` how many a call will use at most."""
    graph = legalize(graph, layouts)
    accesses = Accesses(layouts)
    fusion = fuse(graph)
    timed = sorted(_steps(fusion, accesses), key=lambda timed: timed[0])
    steps = [step.renamed(fusion.heirs) for _, step in timed if not _is_idle(step)]
    sweeps: list[Sweep] = []
    if "sweeps" not in config.skip:
        steps, sweeps = find_sweeps(steps, {*graph.inputs, *graph.outputs}, threads)
    buffers, arena, own, scratch = _allocate(graph, steps, sweeps, scratch_bytes)
    return Plan(graph, tuple(steps), buffers, arena, own, tuple(scratch), tuple(sweeps), fusion)


# --- the order of calls


def _steps(fusion: Fusion, accesses: Accesses):
    """(time, step) of every call; steps of one time are independent but for their last component."""
    count = 0
    for home in sorted(fusion.homes):
        if not _has_roots(fusion, home):
            continue
        kernel, binding = KernelBuilder(fusion, accesses, home).build()
        count += 1
        yield (*home.time, 1, count), _kernel_step(kernel, binding)
    for node in fusion.graph.nodes:
        count += 1
        yield from _node_steps(fusion, accesses, node, count)


def _is_idle(step: KernelStep | RoutineStep) -> bool:
    """Whether a step has no elements to compute (see `legalize` for reductions of no elements)."""
    return isinstance(step, KernelStep) and 0 in step.binding.extents


def _node_steps(fusion: Fusion, accesses: Accesses, node: Node, count: int):
    """The steps of a node that is no part of a home."""
    code, level = node.primitive.code, fusion.level[node]
    if isinstance(code, Library):
        operands = tuple(accesses.strided(operand) for operand in node.operands)
        yield (level, 0, 1, count), RoutineStep(code.routine, node, operands, accesses.strided(node))
    elif isinstance(code, ScatterAdd) and node.operands[0] not in fusion.heirs:
        yield (level, 0, 0, count), _filled(fusion, accesses, node, node.operands[0], level)
    elif isinstance(code, Place) and not covers_whole(node):
        times = [home.time for home, pieces in fusion.pieces.items() if any(place is node for _, place, _ in pieces)]
        yield (*min(times), 0, count), _filled(fusion, accesses, node, full(0, node.aval), min(times)[0])


def _has_roots(fusion: Fusion, home: Home) -> bool:
    return bool(
        home in fusion.folds
        or home in fusion.pieces
        or home in fusion.scatters
        or any(fusion.stored.get(node) == home for node in fusion.computed.get(home, ()))
    )


def _filled(fusion: Fusion, accesses: Accesses, target: Node, source: Node, level: int) -> KernelStep:
    """A kernel that copies `source` into the buffer of `target`, which has its shape."""
    builder = KernelBuilder(fusion, accesses, Home(level, target.shape))
    return _kernel_step(*builder.build_copy(source, target))


def _kernel_step(kernel: Kernel, binding: Binding) -> KernelStep:
    slots = [store.slot for store in kernel.stores] + [fold.slot for fold in kernel.folds]
    return KernelStep(kernel, binding, tuple(dict.fromkeys(binding.buffers[slot] for slot in slots)))


# --- buffers


def buffer_bytes(node: Node) -> int:
    return max(1, node.aval.size) * node.dtype.itemsize


def _allocate(graph: Graph, steps: list, sweeps: list[Sweep], scratch_bytes: Callable[[RoutineStep], int]):
    """Buffers by liveness: a buffer is taken before its first step and given back after its last; the steps of a sweep
    are one, as they are called again and again."""
    buffers = {node: Slot(slot, 0) for slot, node in enumerate(graph.inputs)}
    buffers |= {node: Slot(len(graph.inputs) + slot, 0) for slot, node in enumerate(graph.outputs)}
    arena_slot = len(graph.inputs) + len(graph.outputs)
    private = {node: sweep.private_bytes(node) for sweep in sweeps for node in sweep.private}
    blocks = {sweep.start + k: step for sweep in sweeps for k, step in enumerate(sweep.steps(0))}
    starts = {sweep.start: sweep.stop for sweep in sweeps}
    unit_end = {k: sweep.stop - 1 for sweep in sweeps for k in range(sweep.start, sweep.stop)}
    last = {node: unit_end.get(index, index) for index, step in enumerate(steps) for node in step.touches}
    dying: dict[int, list[Node]] = {}
    for node, index in last.items():
        if node not in buffers:
            dying.setdefault(index, []).append(node)
    arena, own, scratch = _Arena(), _Arena(), []
    for index, step in enumerate(steps):
        for taken in steps[index : starts.get(index, index + 1)]:
            for node in taken.writes:
                if node in private and node not in buffers:
                    buffers[node] = Slot(arena_slot + 1, own.take(private[node]))
                elif node not in buffers:
                    buffers[node] = Slot(arena_slot, arena.take(buffer_bytes(node)))
        step, place = (blocks[index], own) if index in blocks else (step, arena)
        need = scratch_bytes(step) if isinstance(step, RoutineStep) else 0
        scratch.append(place.take(need) if need else -1)
        if need:
            place.give(scratch[-1], need)
        for node in dying.get(index, ()):
            if node in private:
                own.give(buffers[node].offset, private[node])
            else:
                arena.give(buffers[node].offset, buffer_bytes(node))
    return buffers, arena.size, own.size, scratch


class _Arena:
    """First-fit allocation of offsets; neighbouring free pieces are joined."""

    def __init__(self):
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (offset, bytes), by offset

    def take(self, size: int) -> int:
        size = _rounded(size)
        for k, (offset, free) in enumerate(self._free):
            if free >= size:
                self._free[k : k + 1] = [(offset + size, free - size)] if free > size else []
                return offset
        offset = self.size
        if self._free and sum(self._free[-1]) == self.size:  # grow the last free piece
            offset = self._free.pop()[0]
        self.size = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        pieces = sorted([*self._free, (offset, _rounded(size))])
        joined = [pieces[0]]
        for piece in pieces[1:]:
            start, length = joined[-1]
            if start + length == piece[0]:
                joined[-1] = (start, length + piece[1])
            else:
                joined.append(piece)
        self._free = joined


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
