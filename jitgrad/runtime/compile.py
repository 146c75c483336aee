"""Graph to executable: the one module that knows the whole road."""

from __future__ import annotations

import ctypes
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backends.cpu.driver import DRIVER_SYMBOL, driver_source
from ..backends.cpu.memory import binding_words
from ..backends.cpu.nest import Nest
from ..backends.cpu.routines import host_function, native_source, native_symbol, routine_words, scratch_bytes
from ..ir.graph import Graph
from ..ir.node import interning
from ..lowering.kernel import Kernel
from ..lowering.plan import KernelStep, Plan, Slot, make_plan
from ..passes.pipeline import optimize
from . import machine
from .executable import Executable
from .observe import Observer, configured_observer

_CACHED_KERNELS = 4096


@dataclass(frozen=True)
class Compiled:
    """The address of a kernel's or routine's function, and the module that must stay alive for it."""

    address: int
    code: machine.Code


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


def compile_graph(graph: Graph, layouts: Sequence[tuple[int, ...] | None] | None = None) -> Executable:
    """An executable for `graph`; `layouts[k]` gives the strides, in elements, of an input that is not C-ordered."""
    with interning():
        observe = configured_observer()
        return link(plan_graph(graph, layouts, observe), observe)


def plan_graph(
    graph: Graph, layouts: Sequence[tuple[int, ...] | None] | None = None, observe: Observer | None = None
) -> Plan:
    """The passes, and the plan of what they make of `graph`."""
    if observe is not None:
        observe("traced", graph)
    optimized = optimize(graph, observe)
    given = layouts or [None] * len(graph.inputs)
    strides = {node: layout for node, layout in zip(optimized.inputs, given, strict=True) if layout is not None}
    started = time.perf_counter()
    plan = make_plan(optimized, strides, lambda step: scratch_bytes(step, machine.host()))
    if observe is not None:
        observe("optimized", optimized)
        observe("plan", plan, time.perf_counter() - started)
    return plan


def link(plan: Plan, observe: Observer | None = None) -> Executable:
    """Compiles what is not compiled yet, and lays out the words and the table of calls that the driver reads."""
    keys = {step.kernel if isinstance(step, KernelStep) else native_symbol(step) for step in plan.steps}
    code = compiled_for(keys - {None} | {DRIVER_SYMBOL}, observe)
    errors = threading.local()
    arena = len(plan.graph.inputs) + len(plan.graph.outputs)
    words: list[int] = []
    starts, functions, keep = [], [], [*code.values()]
    for step, scratch in _calls(plan):
        starts.append(len(words))
        if isinstance(step, KernelStep):
            words += binding_words(step.binding, step.kernel, plan.buffers)
            functions.append(code[step.kernel].address)
        elif (symbol := native_symbol(step)) is not None:
            words += routine_words(step, plan.buffers, Slot(arena, max(0, scratch)))
            functions.append(code[symbol].address)
        else:
            function = host_function(step, plan.buffers, lambda error: setattr(errors, "error", error))
            keep.append(function)
            functions.append(machine.address_of(function))
    laid_out = np.array(words or [0], np.int64)
    table = np.array(
        [(function, laid_out.ctypes.data + 8 * start) for function, start in zip(functions, starts, strict=True)], np.uint64
    ).reshape(-1, 2)
    run = _driver(code[DRIVER_SYMBOL].address)
    return Executable(plan, laid_out, table, run, tuple(keep), errors)


def _calls(plan: Plan):
    """(step, scratch offset) of every call: sweeps block by block, other steps once."""
    sweeps = {sweep.start: sweep for sweep in plan.sweeps}
    index = 0
    while index < len(plan.steps):
        step, sweep = plan.steps[index], sweeps.get(index)
        if sweep is not None:
            for block in range(sweep.blocks):
                for number, one in enumerate(sweep.steps(block), sweep.start):
                    yield one, plan.scratch[number]
        else:
            yield step, plan.scratch[index]
        index = sweep.stop if sweep is not None else index + 1


def _driver(address: int):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)


def compiled_for(keys: set, observe: Observer | None = None) -> dict[Kernel | str, Compiled]:
    """The compiled form of each kernel or named routine; kernels not compiled yet are compiled together."""
    known = {key: CODE.get(key) for key in keys}
    missing = [key for key, compiled in known.items() if compiled is None]
    found = {key: compiled for key, compiled in known.items() if compiled is not None}
    groups: list[list] = [[key] for key in missing if isinstance(key, str)]
    for group in ([key for key in missing if isinstance(key, Kernel)], *groups):
        if group:
            found |= _compile(group, observe)
    return found


def _compile(keys: list, observe: Observer | None) -> dict[Kernel | str, Compiled]:
    """Compiles one module: some kernels, or one routine."""
    started = time.perf_counter()
    text, symbols = module_text(keys) if isinstance(keys[0], Kernel) else (_routine_text(keys[0]), keys)
    emitted = time.perf_counter()
    assembly = observe is not None and observe.wants("asm")
    code = machine.compile_text(text, symbols, assembly, optimize=isinstance(keys[0], Kernel))
    if observe is not None:
        observe("llvm", text, emitted - started)
        observe("asm", code.assembly or "", time.perf_counter() - emitted)
    found = {key: Compiled(code.addresses[symbol], code) for key, symbol in zip(keys, symbols, strict=True)}
    for key, compiled in found.items():
        CODE.put(key, compiled)
    return found


def _routine_text(symbol: str) -> str:
    return driver_source() if symbol == DRIVER_SYMBOL else native_source(symbol, machine.host())


def module_text(kernels: list[Kernel]) -> tuple[str, list[str]]:
    """LLVM IR that defines the kernels, and their symbols in the same order."""
    nests = [Nest(kernel, f"kernel{index}", machine.host()) for index, kernel in enumerate(kernels)]
    functions = [nest.function() for nest in nests]
    declared = set().union(*(nest.declared for nest in nests))
    used = set().union(*(nest.functions for nest in nests))
    return machine.assemble(functions, declared, used), [nest.symbol for nest in nests]
