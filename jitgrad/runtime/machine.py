"""LLVM as jitgrad uses it: the host as a target, IR text or object code in, addresses out."""

from __future__ import annotations

import ctypes
import itertools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import llvmlite.binding as llvm

from ..backends.scalar import FAST_MATH
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
    """A target machine that makes code for this process."""
    target = host()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=level, jit=True)


def address_of(function) -> int:
    """The address of a ctypes function."""
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


_provided: dict[str, int] = {}
_owners: list = []  # of what code was linked to: never freed


def provide(symbol: str, address: int, owner: object = None) -> None:
    """Links code that is made from now on to `address` where it wants `symbol`; `owner` is kept alive for ever."""
    _provided[symbol] = address
    _owners.append(owner)


@dataclass(frozen=True)
class Code:
    """Machine code of one module: addresses by symbol. Lives as long as this object.

    `object_code` is the module as an object file, `imports` the names that it wants from outside.
    """

    addresses: dict[str, int]
    library: object
    object_code: bytes
    imports: tuple[str, ...]
    assembly: str | None = None


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
        wanted = [value.name for value in (*module.functions, *module.global_variables) if value.is_declaration]
        imports = tuple(name for name in wanted if not name.startswith("llvm."))
        code = load_object(machine.emit_object(module), imports, symbols)
        if code is None:
            raise InternalError("LLVM does not link the emitted code")
        return replace(code, assembly=assembly)


def load_object(object_code: bytes, imports: tuple[str, ...], symbols: Sequence[str]) -> Code | None:
    """The code of an object file, whatever process made it; None when a name that it needs is not known here."""
    with LOCK:
        linking = llvm.JITLibraryBuilder().add_object_img(object_code).add_current_process()
        for name in imports:
            if name in _provided:
                linking.import_symbol(name, _provided[name])
        for symbol in symbols:
            linking.export_symbol(symbol)
        try:
            library = linking.link(_linker(), f"jitgrad{next(_libraries)}")
        except RuntimeError:
            return None
        return Code({symbol: library[symbol] for symbol in symbols}, library, object_code, imports)


_libraries = itertools.count()


@lru_cache(maxsize=1)
def _linker() -> llvm.LLJIT:
    return llvm.create_lljit_compiler(_target_machine(2), suppress_errors=True)


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
