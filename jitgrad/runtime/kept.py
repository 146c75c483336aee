"""Machine code by key: what this process or an earlier one compiled for the same structure, by the same emitter.

A key is a digest of what the code was made from (a kernel's value, a routine's name, or the text of a module) and of
everything that makes code of it: jitgrad's sources, LLVM's and NumPy's versions, the processor. Equal keys mean equal
code, so a process that finds all its keys neither emits nor compiles.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from ..backends.target import Target
from ..ir.primitive import PRIMITIVES
from ..lowering.kernel import Array, Fold, Instruction, Kernel, Store
from ..ops import OWN
from . import machine
from .disk import Entry, digest, store

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_EMITTING = ("backends", "ir", "lowering", "ops", "runtime")  # the parts of jitgrad that machine code depends on
_ATOMS = (int, str, bytes, bool, float, type(None))


@dataclass(frozen=True)
class Compiled:
    """The address of a function, and the module that must stay alive for it."""

    address: int
    code: machine.Code


def loaded(keys: Iterable[str], provide: Callable[[Iterable[str]], object]) -> dict[str, Compiled]:
    """What the disk has of `keys`. `provide` makes names that an object file calls known to LLVM."""
    found: dict[str, Compiled] = {}
    place = store()
    if place is None:
        return found
    for key in keys:
        if key in found:  # it came with another key's file
            continue
        entry = place.read(key)
        if entry is None:
            continue
        provide(entry.imports)
        code = machine.load_object(entry.code, entry.imports, tuple(entry.symbols.values()))
        if code is not None:
            found |= {other: Compiled(code.addresses[symbol], code) for other, symbol in entry.symbols.items()}
    return found


def keep(symbols: dict[str, str], code: machine.Code) -> None:
    """Writes `code` to the disk; `symbols` says which symbol answers which key."""
    place = store()
    if place is not None and symbols:
        place.write(Entry(symbols, code.imports, code.object_code))


def compiled_text(text: str, symbols: Sequence[str], **how) -> machine.Code:
    """The module of known text, from the disk or compiled (`how`: see `machine.compile_text`)."""
    keys = {key: symbol for symbol in symbols if (key := text_key(text, symbol))}
    found = loaded(keys, lambda names: None)
    if found and len(found) == len(symbols):
        return next(iter(found.values())).code
    code = machine.compile_text(text, list(symbols), **how)
    keep(keys, code)
    return code


# --- keys; None where nothing may be kept


def kernel_key(kernel: Kernel) -> str | None:
    """The key of a kernel's structure. None for one with operations that are not jitgrad's own: their name does not
    say what they emit."""
    if store() is None or any(PRIMITIVES.get(op) is not OWN.get(op) for op in _operations(kernel)):
        return None
    try:
        return _key(b"kernel", marshal.dumps(_plain(kernel), 2))  # version 2: the same bytes for equal values
    except TypeError:
        return None


def routine_key(symbol: str) -> str | None:
    """The key of a function that its name says all about."""
    return _key(b"routine", symbol.encode())


def text_key(text: str, symbol: str) -> str | None:
    """The key of the function `symbol` in a module of this text."""
    return _key(b"text", symbol.encode(), text.encode())


def _operations(kernel: Kernel) -> set[str]:
    return {step.op for step in kernel.body} | {fold.op for fold in kernel.folds}


_RECORDS = {kind: tuple(field.name for field in fields(kind)) for kind in (Kernel, Array, Instruction, Store, Fold)}


def _plain(value):
    """`value` out of tuples, numbers and strings alone, dtypes as their names, records as all of their fields; TypeError
    for anything else."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is tuple:
        return tuple([_plain(item) for item in value])
    if kind in _RECORDS:
        return tuple([_plain(getattr(value, name)) for name in _RECORDS[kind]])
    if isinstance(value, np.dtype):
        return ("dtype", value.str)
    raise TypeError(kind)


def _key(kind: bytes, *parts: bytes) -> str | None:
    surroundings = None if store() is None else _surroundings(machine.host())
    return surroundings and digest(surroundings.encode(), kind, *parts)


@lru_cache(maxsize=8)
def _surroundings(target: Target) -> str | None:
    """A digest of everything that turns structure into machine code on this machine."""
    sources = source_digest(_PACKAGE)
    versions = (llvmlite.__version__, str(llvm.llvm_version_info), np.__version__, sys.implementation.cache_tag)
    return sources and digest(sources.encode(), repr(target).encode(), *(str(version).encode() for version in versions))


def source_digest(package: str) -> str | None:
    """A digest of the text of jitgrad's emitting parts; None where the sources cannot be read."""
    texts = []
    try:
        for part in _EMITTING:
            for folder, _, names in sorted(os.walk(os.path.join(package, part))):
                for name in sorted(name for name in names if name.endswith(".py")):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        texts += [os.path.relpath(path, package).encode(), file.read()]
    except OSError:
        return None
    return digest(*texts) if texts else None
