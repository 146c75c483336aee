"""LLVM as jitgrad uses it: the host as a target, IR text in, addresses out."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from functools import lru_cache

import llvmlite.binding as llvm

from ..backends.math_library import definition, symbol_of
from ..backends.scalar import FAST_MATH, math_symbol
from ..backends.target import Target, vector_bytes
from ..errors import InternalError, Limitation

# LLVM's state is global to the process and llvmlite does not guard it.
LOCK = threading.RLock()
# A child is forked with the lock free and LLVM in order, whatever other threads were doing.
os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=LOCK.release)


@lru_cache(maxsize=1)
def host() -> Target:
    """This machine's processor. Limitation on x86-64 without AVX2, FMA and F16C (before 2013): there LLVM would call
    library functions for plain instructions, which may not exist."""
    _initialize()
    features = llvm.get_host_cpu_features().flatten()
    missing = [name for name in ("avx2", "fma", "f16c") if f"+{name}" not in features.split(",")]
    if missing and llvm.get_process_triple().startswith("x86_64"):
        raise Limitation(f"this processor has no {', '.join(missing)}", 'Use tier="interpret": the compiler needs them.')
    return Target("cpu", llvm.get_process_triple(), llvm.get_host_cpu_name(), features, vector_bytes(features))


@lru_cache(maxsize=1)
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target_machine(level: int) -> llvm.TargetMachine:
    """A target machine of its own for each module: the engine that compiles the module disposes of it."""
    target = host()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=level, jit=True)


def address_of(function) -> int:
    """The address of a ctypes function."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def provide(symbol: str, address: int) -> None:
    """Makes `address` known to LLVM as `symbol`."""
    llvm.add_symbol(symbol, address)


@dataclass(frozen=True)
class Code:
    """Machine code of one module: addresses by symbol. Lives as long as this object."""

    addresses: dict[str, int]
    engine: object
    assembly: str | None = None


def assemble(functions: list[str], declared: set[str], used: set[tuple]) -> str:
    """The text of a module: `functions`, what they declare, and the mathematics they use.

    Mathematics that is to be inlined is defined in the module; what is called is compiled once for the whole process.
    """
    called = sorted((key for key in used if not key[-1]), key=_by_name)
    _provide_called(called)
    inlined = sorted((key for key in used if key[-1]), key=_by_name)
    return _module(functions, {*declared, *(definition(*key).declaration for key in called)}, inlined)


def _by_name(key: tuple) -> tuple:
    name, dtype, *rest = key
    return name, dtype.name, *rest


def _module(functions: list[str], declared: set[str], defined: list[tuple]) -> str:
    texts: dict[str, str] = {}
    for text in sorted(declared):
        texts.setdefault(symbol_of(text), text)
    definitions = []
    for key in defined:
        found = definition(*key, host().scaling)
        definitions.append(found.text)
        for text in found.needs:
            texts.setdefault(symbol_of(text), text)
    return "\n".join([*texts.values(), *definitions, *functions, "!0 = !{}"])


_called: dict[tuple, Code] = {}


def _provide_called(keys: list[tuple]) -> None:
    """Compiles the mathematical functions that kernels call, those that no kernel has called before."""
    with LOCK:
        missing = [key for key in keys if key not in _called]
        if missing:
            symbols = [math_symbol(*key) for key in missing]
            code = compile_text(_module([], set(), missing), symbols)
            for key, symbol in zip(missing, symbols, strict=True):
                provide(symbol, code.addresses[symbol])
                _called[key] = code


def compile_text(text: str, symbols: list[str], want_assembly: bool = False, optimize: bool = True, level: int = 2) -> Code:
    """Compiles a module; gives the addresses of `symbols`. `optimize=False` for code that is as it should be already."""
    with LOCK:
        target = host()
        machine = _target_machine(level)
        try:
            module = llvm.parse_assembly(text)
        except RuntimeError as error:
            raise InternalError(f"LLVM rejects the emitted code: {str(error).splitlines()[0]}") from error
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
        if optimize:
            _optimize(module, machine, relaxed=FAST_MATH in text)
        assembly = machine.emit_assembly(module) if want_assembly else None
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        return Code({symbol: engine.get_function_address(symbol) for symbol in symbols}, engine, assembly)


def _optimize(module: llvm.ModuleRef, machine: llvm.TargetMachine, relaxed: bool) -> None:
    """A short pipeline: bodies are straight-line, vectorised and free of redundancy already. Where arithmetic is `relaxed`,
    operations in another order may be redundant after all."""
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    builder = llvm.create_pass_builder(machine, options)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    if relaxed:
        passes.add_reassociate_pass()
        passes.add_new_gvn_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
