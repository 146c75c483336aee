"""How a block was left: by its end, by `break` or by `return`, with what in its names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import UsageTypeError
from ...ir.node import call as make
from ...ir.node import constant
from ..array import Array
from .iterables import INT64
from .values import UNBOUND

FELL, BROKE, RETURNED = 0, 1, 2


@dataclass(eq=False)
class Left:
    """How a block was left: `code`, its local variables then, and the value that it returns."""

    code: Any
    names: dict[str, Any]
    value: Any = None
    broken: Any = False
    returns: bool = False  # on some way it returns a value


def fell(names: dict) -> Left:
    return Left(FELL, names)


skipped = fell  # by `continue`


def broke(names: dict) -> Left:
    return Left(BROKE, names)


def returned(value, names: dict) -> Left:
    return Left(RETURNED, names, value, returns=True)


def go_on(rest: Callable, names: Sequence[str], values: dict) -> Left:
    """The block goes on with `rest`."""
    return rest(*taken(names, values))


def taken(names: Sequence[str], values: dict) -> list:
    return [values.get(name, UNBOUND) for name in names]


def values(left: Left, names: Sequence[str]) -> list:
    """What the names hold after a block."""
    return taken(names, left.names)


def done(left: Left):
    """What a function returns that was left like this."""
    if isinstance(left.code, Array):
        raise UsageTypeError(
            "on some ways through it the function returns a value, on others nothing, which traced values decide",
            "Return a value of one structure on every way.",
        )
    return left.value if left.code == RETURNED else None


def is_code(code, which: int):
    return Array(make("equal", code.node, constant(which, INT64)), bool)


def without_break(code: Array) -> Array | int:
    """RETURNED where the code is that, else FELL."""
    returned = make("equal", code.node, constant(RETURNED, INT64))
    return Array(make("select", returned, constant(RETURNED, INT64), constant(FELL, INT64)), int)
