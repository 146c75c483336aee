"""Definitions of the mathematical functions that emitted code calls, one LLVM function per (name, dtype, lanes, inline).

Nothing is left to the C library: the code is the same on every target, and needs no other symbol.
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

BINARY = frozenset({"power", "fmod", "arctan2", "hypot"})


@dataclass(frozen=True)
class Definition:
    """IR text of a function, its declaration, and the texts it needs beside it."""

    text: str
    declaration: str
    needs: tuple[str, ...]


@cache
def definition(name: str, dtype: np.dtype, lanes: int, inline: bool, scaling: bool = False) -> Definition:
    """The definition of `math_symbol(name, dtype, lanes, inline)`; `scaling`: see `Target.scaling`."""
    element = ir.DoubleType() if dtype.itemsize == 8 else ir.FloatType()
    kind = ir.VectorType(element, lanes) if lanes else element
    arity = 2 if name in BINARY else 1
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
    arguments = ", ".join([kind] * (2 if name in BINARY else 1))
    return f"declare {kind} @{math_symbol(name, dtype, lanes, inline)}({arguments}) nounwind willreturn memory(none)"


_SYMBOL = re.compile(r'@"?([\w.$-]+)"?')


def symbol_of(text: str) -> str:
    """The symbol that a declaration or a global's text is about."""
    return _SYMBOL.findall(text)[0]
