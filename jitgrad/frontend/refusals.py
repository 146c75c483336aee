"""What a traced array refuses, because it would end in a wrong result: to turn into a plain number or array."""

from __future__ import annotations

import re

import numpy as np

from ..errors import UsageTypeError, user_location
from ..ir.node import Node, call, full
from .decisions import decided
from .handle import Handle

_BUFFER_STORE = re.compile(r"\]\s*(?:[-+*/%@&|^]|//|\*\*|<<|>>)?=(?!=)")


def _stores_into_buffer() -> bool:
    """Whether the user's line looks like `buffer[i] = value`."""
    where = user_location(3)
    return where is not None and _BUFFER_STORE.search(where.source) is not None


def _refuse_number(name: str) -> UsageTypeError:
    if _stores_into_buffer():
        return _refused_store()
    return UsageTypeError(
        f"{name}() of a traced value: its number is not known while the function is traced",
        f"Leave {name}() out, and use NumPy's functions in place of those of the math module (np.sin, not math.sin).",
    )


def _refused_store() -> UsageTypeError:
    return UsageTypeError(
        "a traced value cannot be stored in a plain NumPy array",
        "Collect the parts in a list, then np.stack or np.concatenate them (jitgrad.numpy.array for numbers).",
    )


class Refusals(Handle):
    """Methods of numbers, sequences and arrays that a value without numbers cannot have."""

    __slots__ = ()

    def __float__(self):
        raise _refuse_number("float")

    def __int__(self):
        if self.size == 1 and self.dtype.kind in "iub" and (value := decided(self.node)) is not None:
            return value
        raise _refuse_number("int")

    def __complex__(self):
        raise _refuse_number("complex")

    def __index__(self):
        if self.size == 1 and self.dtype.kind in "iub" and (value := decided(self.node)) is not None:
            return value
        raise UsageTypeError(
            "a traced value cannot be used as a plain integer (a range bound, a shape, an axis, a slice bound)",
            "Pass it as a plain int from outside. To index, use x[i] or x[i + np.arange(n)]; to loop, np.where.",
        )

    def __bool__(self):
        if self.size > 1:
            what = "the truth value of an array with more than one element is ambiguous"
            raise UsageTypeError(what, "Use np.where(condition, a, b), or np.any / np.all.")
        if self.size == 1 and (value := decided(self._as_truth())) is not None:
            return bool(value)
        raise UsageTypeError(
            "the truth of a traced value is not known while the function is traced (if, while, and, or, not)",
            "Use np.where(condition, a, b), np.minimum/np.maximum, or & | ~ in place of and, or, not.",
        )

    def __array__(self, dtype=None, copy=None):
        if _stores_into_buffer():
            raise _refused_store()
        raise UsageTypeError(
            "a traced value cannot become a plain NumPy array (np.array, np.asarray, SciPy, C code)",
            "Use it as it is; for a list of traced values use np.stack or jitgrad.numpy.array.",
        )

    def __delitem__(self, key):
        raise UsageTypeError("elements of a traced array cannot be deleted", "Use np.delete(x, i) or slices.")

    def __contains__(self, value):
        return bool(np.any(self == value))

    def _as_truth(self) -> Node:
        node = self.checked().node
        return node if node.dtype.kind == "b" else call("not_equal", node, full(0, node.aval))

    def __reduce_ex__(self, protocol):
        raise UsageTypeError("a traced value cannot be pickled", "Return it from the function, pickle the result.")

    def __getattr__(self, name: str):
        # AttributeError, so that hasattr() answers; only reached where nothing of this name exists.
        raise AttributeError(f"a traced array has no {name!r}: its memory does not exist while it is traced")
