"""Fusion, kernels and plan as text for people, and what a plan's steps move and compute."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ..ir.node import Node
from ..ir.primitive import PRIMITIVES, Library, Scalar, ScatterAdd
from ..ir.text import line_of, names_of
from .fuse import Fusion, Home
from .kernel import ABSENT, Kernel, describe
from .plan import KernelStep, Plan, RoutineStep, Slot, buffer_bytes


class Work(NamedTuple):
    """What a step does, by its loops alone: elementary operations, and bytes that it asks memory for."""

    flops: int
    read: int
    written: int


# --- fusion: which node is computed where


def fusion_text(fusion: Fusion) -> str:
    """The homes in the order of their times: what each computes, stores and folds."""
    names = names_of(fusion.graph)
    homes = sorted({*fusion.computed, *fusion.folds, *fusion.pieces})
    lines: list[str] = []
    for home in homes:
        part = f", part {home.part}" if home.part else ""
        lines.append(f"level {home.level} over {_shape(home.domain)}{part}:")
        lines += [f"  {row}" for row in _home_rows(fusion, home, names)]
    elsewhere = [node for node in fusion.graph.nodes if isinstance(node.primitive.code, Library | ScatterAdd)]
    if elsewhere:
        lines.append("on their own:")
        lines += [f"  level {fusion.level[node]}  {line_of(node, names)}" for node in elsewhere]
    return "\n".join(lines) + "\n"


def _home_rows(fusion: Fusion, home: Home, names: dict[Node, str]):
    for node in fusion.computed.get(home, ()):
        stored = fusion.stored.get(node) == home and node.shape == home.domain
        yield ("store    " if stored else "register ") + line_of(node, names)
    for node in fusion.folds.get(home, ()):
        yield "fold     " + line_of(node, names)
    for piece, place, index in fusion.pieces.get(home, ()):
        yield f"piece    {names[piece]} into {names[place]}, operand {index}"


def _shape(extents: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, extents)) + ")"


# --- kernels


def kernels_of(plan: Plan) -> list[Kernel]:
    """The plan's kernels, each once, in the order of their first use."""
    return list(dict.fromkeys(step.kernel for step in plan.steps if isinstance(step, KernelStep)))


def kernels_text(plan: Plan) -> str:
    """Every kernel once, as a loop nest."""
    texts = [describe(kernel).replace("kernel", f"kernel{k}", 1) for k, kernel in enumerate(kernels_of(plan))]
    return "\n\n".join(texts) + "\n" if texts else "no kernels\n"


# --- plan


def plan_text(plan: Plan) -> str:
    """The steps in order, with what they read and write, and where the buffers lie."""
    names = names_of(plan.graph)
    numbers = {kernel: k for k, kernel in enumerate(kernels_of(plan))}
    lines = []
    for index, step in enumerate(plan.steps):
        work = work_of(step)
        written = list(dict.fromkeys(step.writes))
        read = [node for node in dict.fromkeys(step.touches) if node not in written]
        lines.append(f"{index:3d}  {title(step, numbers)}")
        lines.append(f"       reads {_named(read, names)}; writes {_named(written, names)}")
        lines.append(f"       {work.flops:,} flops, {work.read:,} bytes read, {work.written:,} bytes written")
    for strip in plan.strips:
        rows = f"{strip.block} of {strip.rows} rows at a time"
        lines.append(f"steps {strip.start} to {strip.stop - 1} are called for {rows}, so that they meet in cache")
    lines.append("buffers:")
    lines += [f"  {names[node]:<6}{node.aval!s:<16}{_where(slot, plan)}" for node, slot in plan.buffers.items()]
    lines.append(f"arena: {plan.arena_bytes:,} bytes")
    return "\n".join(lines) + "\n"


def title(step: KernelStep | RoutineStep, numbers: dict[Kernel, int]) -> str:
    """`kernel0 over (100, 3)` or `routine matmul -> f64[3,3]`."""
    if isinstance(step, KernelStep):
        return f"kernel{numbers[step.kernel]} over {_shape(step.binding.extents)}"
    return f"routine {step.routine} -> {step.node.aval}"


def _named(nodes: list[Node], names: dict[Node, str]) -> str:
    return ", ".join(names.get(node, str(node.aval)) for node in nodes) or "nothing"


def _where(slot: Slot, plan: Plan) -> str:
    inputs, outputs = len(plan.graph.inputs), len(plan.graph.outputs)
    if slot.slot < inputs:
        return f"input {slot.slot}"
    if slot.slot < inputs + outputs:
        return f"output {slot.slot - inputs}"
    return f"arena + {slot.offset}"


# --- work


def work_of(step: KernelStep | RoutineStep) -> Work:
    """An estimate from the loops: caches are not thought of, and a gathered array counts once per element taken."""
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
    read = sum(prod(access.shape) * access.base.dtype.itemsize for access in step.operands)
    size = step.node.aval.size
    flops = 2 * size * step.operands[0].shape[-1] if step.routine == "matmul" else size
    return Work(flops, read, buffer_bytes(step.node))
