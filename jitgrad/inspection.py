"""Looking at what jitgrad makes of a function: `show` prints a stage on the road to machine code, `explain` one call."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable

from .api.function import Function, Jit
from .backends.cpu.control import control_code
from .backends.cpu.routines import native_symbol
from .config import config
from .errors import Limitation, UsageTypeError, UsageValueError
from .ir.node import interning
from .ir.text import to_text
from .lowering.describe import kernels_of, title
from .lowering.plan import Plan, buffer_bytes
from .lowering.region import ControlStep, Step, pushed_bytes
from .lowering.steps import RoutineStep
from .lowering.work import work_of
from .passes.pipeline import pass_names
from .runtime import machine
from .runtime.compile import CONTROL, control_text, module_text, plan_graph
from .runtime.observe import Observer
from .runtime.program import INTERPRET_BELOW, Program, Runner, interpreted_calls
from .runtime.signature import name_leaves, signature
from .runtime.threads import thread_count
from .stages import check_stage

TARGETS = ("cpu", "numpy")


class Text(str):
    """Text that shows itself as it is, in an interactive session too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def show(
    function: Callable,
    *args,
    stage: str = "optimized",
    target: str = "cpu",
    changed_by: str | None = None,
    **kwargs,
) -> Text:
    """What `function(*args, **kwargs)` is on the road to machine code.

    Args:
      function: a plain function (shown as `jit` would run it), or grad(f), value_and_grad(f), jit(f), ...
      stage: "traced", "pass:<name>", "optimized", "fused", "kernels", "plan", "llvm", "asm", or "all".
      target: "cpu", or "numpy" for the interpreter, which runs the traced graph and has no later stages.
      changed_by: the name of a pass: a diff of the graph before and after it, instead of a stage.

    Returns: the text; it prints itself in an interactive session. Graphs are Python that runs, see `jitgrad.ir.text`.

    Raises:
      UsageValueError: for a stage, target or pass that does not exist; the message lists those there are.

    The function is traced, and the trace kept, as if it were called; nothing is run.

    >>> import numpy as np
    >>> from jitgrad import grad
    >>> def f(x):
    ...     return np.sum(x * x)
    >>> print(show(grad(f), np.ones(3)).splitlines()[0])
    def graph(x0: "f64[3]"):
    """
    check_stage(stage, pass_names())
    _check_target(target)
    program, _ = _program(function, args, kwargs)
    if changed_by is not None:
        return _changed_by(program.runner, changed_by)
    if target == "numpy" and stage not in ("traced", "all"):
        raise UsageValueError(f"target numpy has no stage {stage!r}", "It interprets the graph of stage 'traced'.")
    found = _stages(program.runner, "traced" if target == "numpy" else stage)
    if stage != "all":
        return Text(found[stage])
    return Text("\n".join(f"--- {name}\n{text}" for name, text in found.items()))


def explain(function: Callable, *args, **kwargs) -> Text:
    """How the call `function(*args, **kwargs)` is answered, and what it costs.

    Says whether the call's signature is known and if not, what is new; which tier answers; how many nodes the passes
    leave; each kernel and routine with its loops, operations and bytes (counted by loops: caches are not thought of);
    the memory for intermediates and the peak of a call; what is computed on the host by NumPy.

    `function` is a plain function (explained as `jit` would run it) or a transformed one. It is traced, and the
    trace kept, as if it were called; nothing is run.

    >>> import numpy as np
    >>> from jitgrad import grad
    >>> print(explain(grad(lambda x: np.sum(x * x)), np.ones(3)).splitlines()[0])
    grad of <lambda>: first call
    """
    function = _transformed(function)
    known = _known_programs(function)
    reason = _why_new(function, args, kwargs)
    program, _ = _program(function, args, kwargs)
    runner = program.runner
    with interning(runner.graph.nodes):
        plan = plan_graph(runner.graph, runner.layouts, None, runner.threads)
    lines = [repr(function)[1:-1] + ": " + ("traced before" if id(program) in known else reason)]
    lines.append("tier: " + _tier(program))
    lines.append(f"nodes: {len(runner.graph.nodes)} traced, {len(plan.graph.nodes)} after the passes")
    lines += _inputs(program)
    threads = min(thread_count(runner.threads), max((sweep.blocks for sweep in plan.sweeps), default=1))
    lines += _steps(plan, threads)
    return Text("\n".join(lines))


# --- programs


def _transformed(function: Callable) -> Function:
    if isinstance(function, Function):
        return function
    if not callable(function):
        raise UsageTypeError(f"a function is wanted, not {function!r:.60}", "Write show(f, x), not show(f(x)).")
    return Jit(function, (), (), "auto")


def _program(function: Callable, args: tuple, kwargs: dict) -> tuple[Program, list]:
    """The program that answers a call: the one there is, or a new one."""
    function = _transformed(function)
    return function._dispatcher.find(function, args, kwargs)


def _known_programs(function: Function) -> set[int]:
    return {id(program) for programs in function._dispatcher.programs.values() for program in programs}


def _why_new(function: Function, args: tuple, kwargs: dict) -> str:
    """What is new about a call that no known program answers."""
    dispatcher = function._dispatcher
    if not dispatcher.programs:
        return "first call"
    marked = dispatcher._mark_static(function, args, kwargs)
    name = name_leaves(*marked, function.parameters)
    key = (config.options(), *signature(*marked, name).key)
    if key in dispatcher.programs:
        return "new trace: something that the function reads from outside has changed"
    closest = max(dispatcher.programs, key=lambda other: sum(a == b for a, b in zip(key, other, strict=False)))
    if closest[0] != key[0]:
        return "new trace: options have changed"
    if len(closest) != len(key) or closest[1] != key[1]:
        return "new trace: the arguments are built differently"
    new = [
        f"{name(k)} is {_leaf(now)}, was {_leaf(then)}"
        for k, (now, then) in enumerate(zip(key[2:], closest[2:], strict=True))
        if now != then
    ]
    return "new trace: " + "; ".join(new)


def _leaf(key: tuple) -> str:
    """A leaf's part of a call's key, in words."""
    if len(key) == 3:
        shape, dtype, layout = key
        return f"{dtype}{list(shape)}" + ("" if layout is None else f" with strides {layout}")
    return "a float" if len(key) == 1 else f"{key[1]!r:.40}"


def _tier(program: Program) -> str:
    runner = program.runner
    if runner.tier == "interpret":
        return "interpreted by NumPy, always"
    if runner.executable is not None:
        return "interpreted by NumPy" if runner.executable == runner.interpret else "compiled"
    if runner.tier == "compile":
        return "compiled at the first call"
    first = interpreted_calls(runner.graph)
    if first == 0:
        return f"compiled at the first call (more than {INTERPRET_BELOW:,} elements)"
    calls, then = ("call", "the second") if first == 1 else (f"{first} calls", "then")
    return f"interpreted at the first {calls}, compiled from {'now' if runner.asked >= first else then} on"


def _inputs(program: Program) -> list[str]:
    captured = len(program.guards.arrays)
    graph = program.runner.graph
    given = len(graph.inputs) - captured
    lines = ["inputs: " + (", ".join(str(node.aval) for node in graph.inputs[:given]) or "none")]
    if captured:
        lines.append("read from outside at each call: " + ", ".join(str(node.aval) for node in graph.inputs[given:]))
    lines.append("outputs: " + (", ".join(str(node.aval) for node in graph.outputs) or "none"))
    return lines


def _steps(plan: Plan, threads: int) -> list[str]:
    numbers = {kernel: k for k, kernel in enumerate(kernels_of(plan))}
    works = [work_of(step) for step in plan.steps]
    lines = [f"steps: {len(plan.steps)}, {len(numbers)} different kernels"]
    for step, done in zip(plan.steps, works, strict=True):
        host = "  on the host, by NumPy" if _on_host(step) else ""
        lines.append(
            f"  {title(step, numbers):<34}{done.flops:>12,} flops {done.read:>12,} B read {done.written:>12,} B written{host}"
        )
    flops, read, written = (sum(part) for part in zip(*works, strict=True)) if works else (0, 0, 0)
    lines.append(f"in all: {flops:,} flops, {read:,} bytes read, {written:,} bytes written")
    lines.append(_kept(plan))
    return [*lines, *_memory(plan, threads)]


def _memory(plan: Plan, threads: int) -> list[str]:
    """What a call allocates, all of it at once when it is at its peak, and what it is given."""
    given, made = (sum(buffer_bytes(node) for node in nodes) for nodes in (plan.graph.inputs, plan.graph.outputs))
    arena = plan.arena_bytes + threads * plan.private_bytes
    saved, is_known = pushed_bytes(o for step in plan.steps if isinstance(step, ControlStep) for o in step.region.operations)
    private = f" ({plan.private_bytes:,} of them for each of {threads} threads)" if plan.private_bytes else ""
    return [
        f"arena for intermediates: {arena:,} bytes{private}",
        *([f"saved by loops for their derivatives: {_amount(saved, is_known)}"] if plan.stacks else []),
        f"peak memory of a call: {made + arena + saved:,} bytes, {_parts(plan, is_known)}; inputs: {given:,} bytes more",
    ]


def _amount(saved: int, is_known: bool) -> str:
    return f"{saved:,} bytes" if is_known else f"{saved:,} bytes a step of loops whose number of steps is found out at run time"


def _parts(plan: Plan, is_known: bool) -> str:
    """What the peak consists of."""
    if not plan.stacks:
        return "outputs and arena"
    return "outputs, arena and what loops save" + ("" if is_known else " in one step")


def _kept(plan: Plan) -> str:
    """What goes through memory between the steps, and what is computed more than once instead."""
    given = {*plan.graph.inputs, *plan.graph.outputs}
    kept = [node for node in plan.buffers if node not in given]
    homes = Counter(node for nodes in plan.fusion.computed.values() for node in nodes)
    again = sum(count > 1 for count in homes.values())
    size = sum(buffer_bytes(node) for node in kept)
    return f"saved between steps: {len(kept)} values, {size:,} bytes; computed again where they are read: {again}"


def _on_host(step: Step) -> bool:
    return isinstance(step, RoutineStep) and native_symbol(step) is None


# --- stages


def _check_target(target: str) -> None:
    if target == "cuda":
        raise Limitation("there is no CUDA target yet", 'Use target="cpu" or target="numpy".')
    if target not in TARGETS:
        raise UsageValueError(f"there is no target {target!r}", "Targets are: " + ", ".join(TARGETS))


def _stages(runner: Runner, stage: str) -> dict[str, str]:
    """The text of the stage, or of all stages in order."""
    found: dict[str, str] = {}
    everything = stage == "all"
    if not everything and stage == "traced":
        return {stage: to_text(runner.graph)}
    observe = Observer(lambda name: everything or name == stage, found.__setitem__)
    with interning(runner.graph.nodes):
        plan = plan_graph(runner.graph, runner.layouts, observe, runner.threads)
    if stage.startswith("pass:") and stage not in found:
        raise UsageValueError(f"the pass {stage[5:]} is skipped", "Take it out of JITGRAD_SKIP.")
    if everything or stage in ("llvm", "asm"):
        _machine_code(plan, observe)
    return found


def _machine_code(plan: Plan, observe: Observer) -> None:
    """LLVM IR, and assembly, of the plan's kernels."""
    kernels = kernels_of(plan)
    modules = [module_text(kernels)] if kernels else []
    controls = [step for step in plan.steps if isinstance(step, ControlStep)]
    modules += [(control_text(control_code(step, CONTROL, config.fastmath)), [CONTROL]) for step in controls]
    if not modules:
        observe("llvm", "no kernels\n")
        observe("asm", "no kernels\n")
        return
    observe("llvm", "\n".join(text for text, _ in modules))
    if observe.wants("asm"):
        assembly = [machine.compile_text(text, symbols, want_assembly=True).assembly or "" for text, symbols in modules]
        observe("asm", "\n".join(assembly))


def _changed_by(runner: Runner, name: str) -> Text:
    """A diff of the graph before and after a pass."""
    if name not in pass_names():
        raise UsageValueError(f"there is no pass {name!r}", "Passes are: " + ", ".join(pass_names()))
    texts: list[tuple[str, str]] = []
    observe = Observer(lambda stage: stage == "traced" or stage.startswith("pass:"), lambda *seen: texts.append(seen))
    with interning(runner.graph.nodes):
        plan_graph(runner.graph, runner.layouts, observe, runner.threads)
    stages = [stage for stage, _ in texts]
    if f"pass:{name}" not in stages:
        raise UsageValueError(f"the pass {name} is skipped", "Take it out of JITGRAD_SKIP.")
    at = stages.index(f"pass:{name}")
    (before_name, before), (after_name, after) = texts[at - 1], texts[at]
    rows = difflib.unified_diff(before.splitlines(), after.splitlines(), before_name, after_name, lineterm="", n=3)
    return Text("\n".join(rows) or f"{name} changes nothing")
