"""Fusion, kernels and plan as text for people."""

from __future__ import annotations

from ..ir.node import Node
from ..ir.primitive import Library
from ..ir.text import line_of, names_of
from .fuse import Fusion, Home
from .kernel import Kernel, describe
from .plan import Plan, Slot
from .region import ControlStep, Step
from .steps import KernelStep
from .sweeps import Sweep
from .work import work_of

# --- fusion: which node is computed where


def fusion_text(fusion: Fusion) -> str:
    """The homes in the order of their times: what each computes, stores and folds."""
    names = names_of(fusion.graph)
    lines: list[str] = []
    for home in sorted(fusion.homes):
        part = f", part {home.part}" if home.part else ""
        lines.append(f"level {home.level} over {_shape(home.domain)}{part}:")
        lines += [f"  {row}" for row in _home_rows(fusion, home, names)]
    elsewhere = [node for node in fusion.graph.nodes if isinstance(node.primitive.code, Library)]
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
    for node in fusion.scatters.get(home, ()):
        yield "scatter  " + line_of(node, names)
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
    lines += [_sweep_text(sweep) for sweep in plan.sweeps]
    lines.append("buffers:")
    lines += [f"  {names.get(node, 'parts'):<6}{node.aval!s:<16}{_where(slot, plan)}" for node, slot in plan.buffers.items()]
    lines.append(f"arena: {plan.arena_bytes:,} bytes")
    if plan.private_bytes:
        lines.append(f"private to each thread: {plan.private_bytes:,} bytes")
    return "\n".join(lines) + "\n"


def _sweep_text(sweep: Sweep) -> str:
    if sweep.stop - sweep.start == 1:
        return f"step {sweep.start} is cut into {sweep.blocks} pieces, which may run at once"
    rows = f"{sweep.block} of {sweep.rows} rows at a time"
    return f"steps {sweep.start} to {sweep.stop - 1} are called for {rows}, so that they meet in cache"


def title(step: Step, numbers: dict[Kernel, int]) -> str:
    """`kernel0 over (100, 3)` or `routine matmul -> f64[3,3]`."""
    if isinstance(step, KernelStep):
        return f"kernel{numbers[step.kernel]} over {_shape(step.binding.extents)}"
    if isinstance(step, ControlStep):
        return f"{step.node.primitive.name} -> {step.node.aval}"
    return f"routine {step.routine} -> {step.node.aval}"


def _named(nodes: list[Node], names: dict[Node, str]) -> str:
    return ", ".join(names.get(node, str(node.aval)) for node in nodes) or "nothing"


def _where(slot: Slot, plan: Plan) -> str:
    inputs, outputs = len(plan.graph.inputs), len(plan.graph.outputs)
    if slot.slot < inputs:
        return f"input {slot.slot}"
    if slot.slot < inputs + outputs:
        return f"output {slot.slot - inputs}"
    return f"{'arena' if slot.slot == plan.arena_slot else 'private'} + {slot.offset}"
