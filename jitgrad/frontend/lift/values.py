"""What the names of a block hold, and what becomes of it where ways join: traced values of one type, or the same object.

A value is a tree (`jitgrad.tree`) of leaves. Leaves that are numbers or arrays can differ between two sides of a branch, or
from step to step of a loop: then they are traced. Anything else must stay the very object that it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import tree
from ...errors import Limitation, UsageTypeError, UsageValueError
from ...ir.aval import Aval, aval_of
from ...ir.node import Node, full
from ..array import Array
from ..convert import WEAK, as_array, cast, result_dtype, spread


class _Unbound:
    """The value of a name that has none yet."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<unbound>"


UNBOUND = _Unbound()


class Poison:
    """The value of a name that has one only on one side of a branch, or only if a loop makes a step: using it is an error."""

    __array_ufunc__ = None
    __slots__ = ("_message",)

    def __init__(self, message: str):
        object.__setattr__(self, "_message", message)

    def __getattribute__(self, name: str):
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        raise self._error()

    def _error(self) -> Exception:
        return UsageValueError(object.__getattribute__(self, "_message"), "Give it a value of one type on every way.")

    def __repr__(self) -> str:
        return "<no value>"


def _refusing(self, *args, **kwargs):
    raise Poison._error(self)


_OPERATIONS = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"),
    *("radd", "rsub", "rmul", "rtruediv", "rfloordiv", "rmod", "rpow", "rmatmul", "rand", "ror", "rxor"),
    *("neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "bool", "int", "float", "index"),
    *("len", "iter", "getitem", "setitem", "call", "contains"),
)
for _name in _OPERATIONS:
    setattr(Poison, f"__{_name}__", _refusing)
Poison.__hash__ = object.__hash__  # type: ignore[method-assign]

NUMBERS = (bool, int, float)
Numeric = Array | np.ndarray | np.generic | bool | int | float


def is_numeric(value) -> bool:
    """Whether a value can become a traced one."""
    if isinstance(value, Array) or type(value) in NUMBERS:
        return True
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf"


@dataclass(frozen=True)
class Kind:
    """The type of a traced value: its aval, and the Python type if it is a number of Python's."""

    aval: Aval
    weak: type | None

    @property
    def promotes_as(self):
        return self.weak or self.aval.dtype


def kind_of(value) -> Kind:
    array = as_array(value)
    return Kind(array.node.aval, array.weak)


def joined(first: Kind, second: Kind) -> Kind | None:
    """The type that has both; None where shapes differ in more than a Python number's being spread."""
    if first == second:
        return first
    weak = None
    if first.weak and second.weak:
        weak = max(first.weak, second.weak, key=NUMBERS.index)
        dtype = WEAK[weak]
    else:
        dtype = result_dtype(first.promotes_as, second.promotes_as)
    shapes = {first.aval.shape, second.aval.shape}
    if len(shapes) > 1:
        numbers = [kind for kind in (first, second) if kind.weak is not None]
        if len(numbers) != 1:
            return None
        shapes -= {()}
    return Kind(aval_of(shapes.pop(), dtype), weak)


def as_kind(value, kind: Kind) -> Node:
    """The node of `value` as that type."""
    node = cast(as_array(value).node, kind.aval.dtype)
    return spread(node, kind.aval.shape)


def zeros_of(kind: Kind) -> Node:
    return full(0, kind.aval)


def same(first, second) -> bool:
    """Whether one value can stand for the other without being traced."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if type(first) in (int, bool, str, float, type(None), np.dtype):
        return first == second and (type(first) is not float or repr(first) == repr(second))
    return isinstance(first, Array) and first.node is second.node and first.weak is second.weak


def flatten(value) -> tuple[list, Any]:
    return tree.flatten(value)


def fresh(leaf):
    """A handle of its own for a traced array, so that what is done in place on one side is done there only."""
    return Array(leaf.node, leaf.weak) if isinstance(leaf, Array) else leaf


def check_apart(leaves: Sequence) -> None:
    """Refuses traced arrays of which several show one memory: in a block each is a value of its own."""
    seen: set[int] = set()
    for leaf in {id(one): one for one in leaves if isinstance(one, Array) and one.memory is not None}.values():
        if id(leaf.memory) in seen:
            raise Limitation(
                "a loop or branch on traced values uses two arrays that share memory (a view of the other)",
                "Take a copy() of one, or index the whole array inside.",
            )
        seen.add(id(leaf.memory))


def poisoned(name: str, why: str) -> Poison:
    return Poison(f"{name!r} {why}")


def refuse_poison(values: Sequence, what: str) -> None:
    for value in flatten(list(values))[0]:
        if isinstance(value, Poison):
            raise Poison._error(value)
        if isinstance(value, _Unbound):
            raise UsageTypeError(f"{what} uses a name that has no value")
