"""Which names a function's code reads, and what it does with them, from its instructions.

`dis` describes an instruction in some twenty ways, which takes longer than tracing a small function does; what is
needed here is its name and the name that it reads.
"""

from __future__ import annotations

import dis
import functools
import opcode
import sys
from dataclasses import dataclass
from itertools import compress
from types import CodeType


@dataclass(frozen=True)
class Reads:
    """The names that one code object reads."""

    globals: tuple[str, ...]
    attributes: frozenset[str]
    every_attribute: bool  # attributes are read by computed names too
    decides: bool  # takes branches, or turns values into Python numbers
    element_calls: frozenset[str]  # global names, and makers of arrays, in calls with an element of something as argument
    makers: frozenset[str]  # what kinds of arrays the code may make from nothing, see `MAKERS`


_CONVERSIONS = {"float", "int", "bool", "round", "any", "all"}  # builtins
_CONVERTING_METHODS = {"item", "tolist", "allclose", "array_equal", "array_equiv"}
MAKERS = {
    "zeros": "zeros", "zeros_like": "zeros", "empty": "zeros", "empty_like": "zeros", "ones": "ones", "ones_like": "ones",
    "full": "other", "full_like": "other", "arange": "counting", "indices": "counting", "eye": "other", "identity": "other",
    "tri": "other", "linspace": "other",
}  # fmt: skip
"""Functions that make arrays from nothing, and of what elements."""
_COMPUTED = {"getattr", "vars", "__dict__", "attrgetter"}

Instruction = tuple[int, str | None]
"""Its opcode, and the name of the global, attribute or local variable that it reads."""


def _opcodes(*names: str) -> frozenset[int]:
    """The opcodes with these names, those that this Python has."""
    return frozenset(dis.opmap[name] for name in names if name in dis.opmap)


_GLOBAL = _opcodes("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTE = _opcodes("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
_LOCAL = _opcodes("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")
_CALL = _opcodes(*[name for name in dis.opmap if name.startswith("CALL")])
_BRANCH = _opcodes(*[name for name in dis.opmap if "JUMP" in name and "_IF_" in name])
_SLICE, _EXTENDED = dis.opmap["BUILD_SLICE"], dis.opmap["EXTENDED_ARG"]
# Arguments are places in co_names, above some bits that are flags.
_FLAG_BITS = {"LOAD_GLOBAL": 1} | ({"LOAD_ATTR": 1, "LOAD_SUPER_ATTR": 2} if sys.version_info >= (3, 12) else {})
_NAMED = {code: _FLAG_BITS.get(dis.opname[code], 0) for code in _GLOBAL | _ATTRIBUTE}
# Python 3.14 has made the subscription a binary operator.
_OPERATORS = [symbol for _, symbol in getattr(opcode, "_nb_ops", ())]
_BINARY = (dis.opmap["BINARY_OP"], _OPERATORS.index("[]")) if "[]" in _OPERATORS else None
SUBSCRIPTION = dis.opmap.get("BINARY_SUBSCR", 256)


def instructions_of(code: CodeType) -> list[Instruction]:
    """What `code` does. Names of cells are left out."""
    found: list[Instruction] = []
    names, variables = code.co_names, code.co_varnames
    operations, arguments = code.co_code[::2], code.co_code[1::2]
    extension = 0
    for operation, argument in compress(zip(operations, arguments, strict=True), operations):  # without caches, which are 0
        if extension:
            argument |= extension
            extension = 0
        if operation in _NAMED:
            found.append((operation, names[argument >> _NAMED[operation]]))
        elif operation in _LOCAL and argument < len(variables):
            found.append((operation, variables[argument]))
        elif operation == _EXTENDED:
            extension = argument << 8
        else:
            found.append((SUBSCRIPTION if (operation, argument) == _BINARY else operation, None))
    return found


_originals: dict[CodeType, CodeType] = {}


def note_original(rewritten: CodeType, original: CodeType) -> None:
    """Notes that `rewritten`, and the code inside it, does what `original` does: that is what is looked at."""
    if len(_originals) > _MOST_ORIGINALS:
        _originals.clear()
    _originals[rewritten] = original
    for inner in rewritten.co_consts:
        if isinstance(inner, CodeType):
            note_original(inner, original)


_MOST_ORIGINALS = 1 << 14


def reads_of(code: CodeType) -> Reads:
    """What `code` reads."""
    original = _originals.get(code)
    return _reads_of(code) if original is None else all_reads_of(original)


@functools.lru_cache(maxsize=4096)
def all_reads_of(code: CodeType) -> Reads:
    """What `code` reads, and the functions inside it: of rewritten code it cannot be told which of them it was."""
    found = [_reads_of(code), *(all_reads_of(inner) for inner in code.co_consts if isinstance(inner, CodeType))]
    return Reads(
        tuple(dict.fromkeys(name for one in found for name in one.globals)),
        frozenset().union(*(one.attributes for one in found)),
        any(one.every_attribute for one in found),
        any(one.decides for one in found),
        frozenset().union(*(one.element_calls for one in found)),
        frozenset().union(*(one.makers for one in found)),
    )


@functools.lru_cache(maxsize=4096)
def _reads_of(code: CodeType) -> Reads:
    instructions = instructions_of(code)
    names = dict.fromkeys([name for operation, name in instructions if operation in _GLOBAL and name is not None])
    attributes = {name for operation, name in instructions if operation in _ATTRIBUTE and name is not None}
    used = attributes.union(names)
    element_calls, nested = _uses_of_elements(instructions)
    decides = (
        not _BRANCH.isdisjoint(code.co_code[::2])
        or not (_CONVERSIONS.isdisjoint(names) and _CONVERTING_METHODS.isdisjoint(used))
        or nested
        or not element_calls.isdisjoint(MAKERS)  # np.zeros(sizes[0])
    )
    return Reads(
        tuple(names),
        frozenset(attributes),
        not _COMPUTED.isdisjoint(used),
        decides,
        frozenset(element_calls),
        frozenset(MAKERS[name] for name in used.intersection(MAKERS)),
    )


def _uses_of_elements(instructions: list[Instruction]) -> tuple[set[str], bool]:
    """The names (global ones, and makers of arrays) in calls that have an element of something as argument, and whether
    an element picks from something, as in `a[b[i]]`."""
    if (SUBSCRIPTION, None) not in instructions:
        return set(), False
    found: set[str] = set()
    since_call: set[str] = set()
    nested = took_element = False
    for k, (operation, name) in enumerate(instructions):
        takes_element = operation == SUBSCRIPTION and _takes_element(instructions, k)
        if takes_element:
            nested |= took_element
            found |= since_call
        elif operation in _CALL:
            since_call.clear()
        elif name is not None and (operation in _GLOBAL or (operation in _ATTRIBUTE and name in MAKERS)):
            since_call.add(name)
        took_element = takes_element
    return found, nested


def _takes_element(instructions: list[Instruction], k: int) -> bool:
    """Whether the subscription k is of something else than `.shape`, with something else than a slice."""
    of_shape = k > 1 and instructions[k - 2][1] == "shape"
    return not of_shape and instructions[k - 1][0] != _SLICE
