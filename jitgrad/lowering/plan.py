"""The plan of one graph: the order of calls, and where every buffer lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config import config
from ..ir.body import is_constant
from ..ir.graph import Graph
from ..ir.node import Node, full
from ..ir.primitive import Control, Library, Place, ScatterAdd
from .access import Accesses
from .build import KernelBuilder, covers_whole
from .fuse import Fusion, Home, fuse
from .kernel import Binding, Kernel
from .legalize import legalize
from .memory import Arena
from .region import RESULT, ControlStep, Spot, Step
from .regions import Homes, lower
from .steps import KernelStep, RoutineStep
from .sweeps import Sweep, find_sweeps

STACK_BYTES = 16  # of a stack's address and size


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
    steps: tuple[Step, ...]
    buffers: dict[Node, Slot]
    arena_bytes: int
    private_bytes: int
    scratch: tuple[int, ...]
    sweeps: tuple[Sweep, ...]
    fusion: Fusion
    stacks: int = 0  # of its loops: where their memory is, `STACK_BYTES` each, stands at the start of the arena

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
    graph: Graph,
    layouts: dict[Node, tuple[int, ...]],
    scratch_bytes: Callable[[RoutineStep], int],
    threads: int = 1,
    sweeping: bool = True,
) -> Plan:
    """The plan of `graph`; `layouts` are the strides of inputs that are not C-ordered, `scratch_bytes` what a routine
    of the target needs for itself, `threads` how many a call will use at most. Without `sweeping`, each step is called
    once."""
    graph = legalize(graph, layouts)
    accesses = Accesses(layouts)
    fusion = fuse(graph)
    homes = Homes()

    def inner(part: Graph) -> tuple:
        plan = make_plan(part, {}, scratch_bytes, sweeping=False)
        return plan.steps, plan.buffers, plan.scratch, plan.arena_bytes, plan.arena_slot, plan.graph.outputs

    timed = sorted(_steps(fusion, accesses, homes, inner), key=lambda timed: timed[0])
    steps = [step.renamed(fusion.heirs) for _, step in timed if not _is_idle(step)]
    sweeps: list[Sweep] = []
    if sweeping and "sweeps" not in config.skip:
        steps, sweeps = find_sweeps(steps, {*graph.inputs, *graph.outputs}, threads)
    buffers, arena, own, scratch = _allocate(graph, steps, sweeps, scratch_bytes, homes.count)
    return Plan(graph, tuple(steps), buffers, arena, own, tuple(scratch), tuple(sweeps), fusion, homes.count)


# --- the order of calls


def _steps(fusion: Fusion, accesses: Accesses, homes: Homes, inner: Callable[[Graph], tuple]):
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
        if isinstance(node.primitive.code, Control):
            yield (fusion.level[node], 0, 1, count), _control_step(fusion.graph, accesses, node, homes, inner)
        else:
            yield from _node_steps(fusion, accesses, node, count)


def _control_step(graph: Graph, accesses: Accesses, node: Node, homes: Homes, inner: Callable[[Graph], tuple]) -> ControlStep:
    results = tuple((n.params["part"], n) for n in graph.nodes if n.primitive.name == "get" and n.operands[0] is node)
    outside = {part: Spot(RESULT, part) for part, result in results if result.aval.shape}
    region = lower(node, outside, homes, inner)
    absent = [is_constant(o) or o.primitive.name == "empty" for o in node.operands]
    operands = tuple(None if gone else accesses.strided(o) for o, gone in zip(node.operands, absent, strict=True))
    return ControlStep(node, region, operands, results)


def _is_idle(step: Step) -> bool:
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


def _allocate(graph: Graph, steps: list, sweeps: list[Sweep], scratch_bytes: Callable[[RoutineStep], int], stacks: int):
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
    arena, own, scratch = Arena(), Arena(), []
    if stacks:
        arena.take(stacks * STACK_BYTES)
    for index, step in enumerate(steps):
        for taken in steps[index : starts.get(index, index + 1)]:
            for node in taken.writes:
                if node in private and node not in buffers:
                    buffers[node] = Slot(arena_slot + 1, own.take(private[node]))
                elif node not in buffers:
                    buffers[node] = Slot(arena_slot, arena.take(buffer_bytes(node)))
        step, place = (blocks[index], own) if index in blocks else (step, arena)
        need = scratch_bytes(step) if isinstance(step, RoutineStep) else 0
        if isinstance(step, ControlStep):
            need = step.region.frame
        scratch.append(place.take(need) if need else -1)
        if need:
            place.give(scratch[-1], need)
        for node in dying.get(index, ()):
            if node in private:
                own.give(buffers[node].offset, private[node])
            else:
                arena.give(buffers[node].offset, buffer_bytes(node))
    return buffers, arena.size, own.size, scratch
