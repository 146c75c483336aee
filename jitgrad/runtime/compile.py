"""Graph to executable: the one module that knows the whole road."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from ..backends.cpu.control import GROW, POLL, ControlCode, control_code
from ..backends.cpu.driver import DRIVER_SYMBOL, driver_source
from ..backends.cpu.nest import Nest
from ..backends.cpu.routines import native_source, native_symbol, scratch_bytes
from ..config import config
from ..ir.graph import Graph
from ..ir.node import interning
from ..lowering.kernel import Kernel
from ..lowering.plan import Plan, make_plan
from ..lowering.region import ControlStep, Step, segments_of
from ..lowering.steps import KernelStep
from ..passes.pipeline import optimize
from . import machine
from .executable import Executable
from .kept import Compiled, compiled_text, keep, kernel_key, loaded, routine_key, text_key
from .layout import lay_out
from .mathematics import assemble, provide_names
from .observe import Observer, configured_observer
from .threads import thread_count

_CACHED_KERNELS = 4096


class CodeCache:
    """Machine code by structure: kernels by value, routines by name. Bounded; plans keep what they use alive."""

    def __init__(self, size: int):
        self._size = size
        self._found: OrderedDict[Kernel | str, Compiled] = OrderedDict()
        self.lock = threading.RLock()

    def get(self, key: Kernel | str) -> Compiled | None:
        with self.lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def put(self, key: Kernel | str, compiled: Compiled) -> None:
        with self.lock:
            self._found[key] = compiled
            while len(self._found) > self._size:
                self._found.popitem(last=False)


CODE = CodeCache(_CACHED_KERNELS)


def compile_graph(
    graph: Graph, layouts: Sequence[tuple[int, ...] | None] | None = None, threads: int | None = None
) -> Executable:
    """An executable for `graph`; `layouts[k]` gives the strides, in elements, of an input that is not C-ordered.
    `threads`: the most that a call uses, None for as many as the process may use."""
    with interning():
        observe = configured_observer()
        return link(plan_graph(graph, layouts, observe, threads), observe, threads)


def plan_graph(
    graph: Graph,
    layouts: Sequence[tuple[int, ...] | None] | None = None,
    observe: Observer | None = None,
    threads: int | None = None,
) -> Plan:
    """The passes, and the plan of what they make of `graph`."""
    if observe is not None:
        observe("traced", graph)
    optimized = optimize(graph, observe)
    given = layouts or [None] * len(graph.inputs)
    strides = {node: layout for node, layout in zip(optimized.inputs, given, strict=True) if layout is not None}
    started = time.perf_counter()
    plan = make_plan(optimized, strides, lambda step: scratch_bytes(step, machine.host()), thread_count(threads))
    if observe is not None:
        observe("optimized", optimized)
        observe("plan", plan, time.perf_counter() - started)
    return plan


def link(plan: Plan, observe: Observer | None = None, threads: int | None = None) -> Executable:
    """Compiles what is not compiled yet, and lays the plan out for the driver, with at most so many `threads`."""
    code: dict = dict(compiled_for({*_called(plan.steps), DRIVER_SYMBOL}, observe))
    controls = {step: control_code(step, CONTROL, config.fastmath) for step in plan.steps if isinstance(step, ControlStep)}
    code |= {step: _compiled_control(control, observe) for step, control in controls.items()}
    errors = threading.local()
    addresses = {key: compiled.address for key, compiled in code.items()}
    layout = lay_out(plan, addresses, controls, lambda error: setattr(errors, "error", error))
    return Executable(plan, layout, addresses[DRIVER_SYMBOL], threads, (*code.values(), *layout.keep), errors)


def _called(steps: Iterable[Step]) -> set[Kernel | str]:
    """The kernels and native routines that steps call, those inside of loops and branches too."""
    found: set = set()
    for step in steps:
        if isinstance(step, ControlStep):
            found |= _called(inner for segment in segments_of(step.region) for inner in segment.steps)
        else:
            found.add(step.kernel if isinstance(step, KernelStep) else native_symbol(step))
    return found - {None}


CONTROL = "jg.control"


def _compiled_control(control: ControlCode, observe: Observer | None) -> Compiled:
    """The code of a loop or branch: from memory by its text, from the disk, or compiled."""
    text = control_text(control)
    if observe is not None:
        observe("llvm", text)
    found = CODE.get(text)
    if found is None:
        code = compiled_text(text, [CONTROL])
        found = Compiled(code.addresses[CONTROL], code)
        CODE.put(text, found)
    return found


def control_text(control: ControlCode) -> str:
    """LLVM IR of a loop or branch."""
    functions = [text for name, text in (("@jg.grow", GROW), ("@jg.poll", POLL)) if name in control.text] + [control.text]
    return assemble(functions, set(control.declared), set(control.functions))


def compiled_for(keys: set, observe: Observer | None = None) -> dict[Kernel | str, Compiled]:
    """The compiled form of each kernel or named routine: from memory, from the disk, or compiled.

    Kernels to compile are compiled together. An observer of code is shown code: nothing comes from the disk then.
    """
    found = {key: compiled for key in keys if (compiled := CODE.get(key)) is not None}
    names = {key: kernel_key(key) if isinstance(key, Kernel) else routine_key(key) for key in keys if key not in found}
    if observe is None or not (observe.wants("llvm") or observe.wants("asm")):
        kept = loaded([name for name in names.values() if name], provide_names)
        found |= {key: kept[name] for key, name in names.items() if name in kept}
    missing = [key for key in names if key not in found]
    groups: list[list] = [[key] for key in missing if isinstance(key, str)]
    groups.append([key for key in missing if isinstance(key, Kernel) and names[key]])
    groups.append([key for key in missing if isinstance(key, Kernel) and not names[key]])
    for group in groups:
        if group:
            found |= _compile(group, names, observe)
    for key in names:
        CODE.put(key, found[key])
    return found


def _compile(keys: list, names: dict, observe: Observer | None) -> dict[Kernel | str, Compiled]:
    """Compiles one module, some kernels or one routine, and keeps it under the kernels' and routines' names on disk."""
    started = time.perf_counter()
    text, symbols = module_text(keys) if isinstance(keys[0], Kernel) else (_routine_text(keys[0]), keys)
    emitted = time.perf_counter()
    assembly = observe is not None and observe.wants("asm")
    if names[keys[0]] is None:
        names = {key: text_key(text, symbol) for key, symbol in zip(keys, symbols, strict=True)}
        kept = {} if assembly else loaded([name for name in names.values() if name], provide_names)
        if all(names[key] in kept for key in keys):
            return {key: kept[names[key]] for key in keys}
    code = machine.compile_text(text, symbols, assembly, optimize=isinstance(keys[0], Kernel))
    if observe is not None:
        observe("llvm", text, emitted - started)
        observe("asm", code.assembly or "", time.perf_counter() - emitted)
    keep({names[key]: symbol for key, symbol in zip(keys, symbols, strict=True) if names[key]}, code)
    return {key: Compiled(code.addresses[symbol], code) for key, symbol in zip(keys, symbols, strict=True)}


def _routine_text(symbol: str) -> str:
    return "declare void @free(ptr)\n" + driver_source() if symbol == DRIVER_SYMBOL else native_source(symbol, machine.host())


def module_text(kernels: list[Kernel]) -> tuple[str, list[str]]:
    """LLVM IR that defines the kernels, and their symbols in the same order."""
    nests = [Nest(kernel, f"kernel{index}", machine.host()) for index, kernel in enumerate(kernels)]
    functions = [nest.function() for nest in nests]
    declared = set().union(*(nest.declared for nest in nests))
    used = set().union(*(nest.functions for nest in nests))
    return assemble(functions, declared, used), [nest.symbol for nest in nests]
