"""The mathematical functions that modules of kernels use: defined in the module, or compiled once and called."""

from __future__ import annotations

from collections.abc import Iterable

from ..backends.math_library import definition, symbol_of
from ..backends.scalar import called_function, math_symbol
from . import machine
from .kept import Compiled, keep, loaded, routine_key


def assemble(functions: list[str], declared: set[str], used: set[tuple]) -> str:
    """The text of a module: `functions`, what they declare, and the mathematics they use.

    Mathematics that is to be inlined is defined in the module; what is called is compiled once for the whole process.
    """
    called = sorted((key for key in used if not key[-1]), key=_by_name)
    provide_called(called)
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
        found = definition(*key, machine.host().scaling)
        definitions.append(found.text)
        for text in found.needs:
            texts.setdefault(symbol_of(text), text)
    return "\n".join([*texts.values(), *definitions, *functions, "!0 = !{}"])


_called: dict[str, Compiled] = {}


def provide_called(keys: Iterable[tuple]) -> None:
    """Makes the mathematical functions that kernels call known to LLVM, those that no kernel has called before."""
    with machine.LOCK:
        missing = {math_symbol(*key): key for key in keys if math_symbol(*key) not in _called}
        if not missing:
            return
        named = {symbol: routine_key(symbol) for symbol in missing}
        found = loaded([key for key in named.values() if key], provide_names)
        new = [symbol for symbol, key in named.items() if key not in found]
        for symbol, key in named.items():
            if key in found:
                _provide(symbol, found[key])
        if new:
            code = machine.compile_text(_module([], set(), [missing[symbol] for symbol in new]), new)
            for symbol in new:
                _provide(symbol, Compiled(code.addresses[symbol], code))
            keep({key: symbol for symbol in new if (key := named[symbol])}, code)


def _provide(symbol: str, compiled: Compiled) -> None:
    machine.provide(symbol, compiled.address, compiled)
    _called[symbol] = compiled


def provide_names(names: Iterable[str]) -> None:
    """Makes the mathematical functions among the names that an object file calls known to LLVM."""
    keys = map(called_function, names)
    provide_called(key for key in keys if key is not None)
