"""Definitions of the mathematical functions that emitted code calls, one LLVM function per (name, dtype, lanes, inline).

Our own branch-free functions where there is one, else the C library's, called lane by lane.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from llvmlite import ir

from .scalar import llvm_type, math_symbol
from .vector_math import FUNCTIONS
from .vector_math.lanes import MathModule

# The C library's names where they differ from NumPy's. Single precision has an "f" appended.
_C_NAMES = {"power": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh",
            "arccosh": "acosh", "arctanh": "atanh"}  # fmt: skip
_BINARY = {"power", "arctan2", "hypot"}


@dataclass(frozen=True)
class Definition:
    """IR text of a function, its declaration, the texts it needs declared beside it, and the C symbols it calls."""

    text: str
    declaration: str
    needs: tuple[str, ...]
    symbols: tuple[str, ...] = ()


@cache
def definition(name: str, dtype: np.dtype, lanes: int, inline: bool, scaling: bool = False) -> Definition:
    """The definition of `math_symbol(name, dtype, lanes, inline)`; `scaling`: see `Target.scaling`."""
    return _own(name, dtype, lanes, inline, scaling) if name in FUNCTIONS else _from_c(name, dtype, lanes, inline)


def _own(name: str, dtype: np.dtype, lanes: int, inline: bool, scaling: bool) -> Definition:
    element = ir.DoubleType() if dtype.itemsize == 8 else ir.FloatType()
    kind = ir.VectorType(element, lanes) if lanes else element
    arity = 2 if name in _BINARY else 1
    module = MathModule(scaling)
    function = ir.Function(module, ir.FunctionType(kind, [kind] * arity), math_symbol(name, dtype, lanes, inline))
    if inline:
        function.linkage = "internal"
        function.attributes.add("alwaysinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(FUNCTIONS[name](builder, *function.args))
    needs = tuple(str(value) for value in module.global_values if value is not function)
    return Definition(str(function), _declaration(name, dtype, lanes, inline), needs)


def _declaration(name: str, dtype: np.dtype, lanes: int, inline: bool) -> str:
    kind = llvm_type(dtype, lanes)
    arguments = ", ".join([kind] * (2 if name in _BINARY else 1))
    return f"declare {kind} @{math_symbol(name, dtype, lanes, inline)}({arguments}) nounwind willreturn memory(none)"


def _from_c(name: str, dtype: np.dtype, lanes: int, inline: bool) -> Definition:
    symbol = _C_NAMES.get(name, name) + ("f" if dtype.itemsize == 4 else "")
    arity = 2 if name in _BINARY else 1
    element, kind = llvm_type(dtype), llvm_type(dtype, lanes)
    declaration = f"declare {element} @{symbol}({', '.join([element] * arity)}) nounwind willreturn memory(none)"
    parameters = [f"%x{k}" for k in range(arity)]
    linkage = "internal " if inline else ""
    taken = ", ".join(f"{kind} {p}" for p in parameters)
    lines = [f"define {linkage}{kind} @{math_symbol(name, dtype, lanes, inline)}({taken}) {{"]
    if not lanes:
        lines += [f"  %r = call {element} @{symbol}({', '.join(f'{element} {p}' for p in parameters)})", f"  ret {kind} %r"]
    else:
        result = "poison"
        for lane in range(lanes):
            for p in parameters:
                lines.append(f"  {p}l{lane} = extractelement {kind} {p}, i32 {lane}")
            arguments = ", ".join(f"{element} {p}l{lane}" for p in parameters)
            lines.append(f"  %c{lane} = call {element} @{symbol}({arguments})")
            lines.append(f"  %r{lane} = insertelement {kind} {result}, {element} %c{lane}, i32 {lane}")
            result = f"%r{lane}"
        lines.append(f"  ret {kind} {result}")
    return Definition("\n".join([*lines, "}"]), _declaration(name, dtype, lanes, inline), (declaration,), (symbol,))


_SYMBOL = re.compile(r'@"?([\w.$-]+)"?')


def symbol_of(text: str) -> str:
    """The symbol that a declaration or a global's text is about."""
    return _SYMBOL.findall(text)[0]
