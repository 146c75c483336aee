"""The state of a traced array: its node, its weak type, the trace that it belongs to, and the memory it would have.

`Array`, which adds what ndarrays can do, stands at the end of this package's imports, as its operators need all the
modules that compute with traced arrays. Those take and give `Handle`s, and make new ones by `array_of`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from ..errors import JitgradError, Limitation, UsageError
from ..ir.node import Node, _scope


class Handle:
    """A value inside a traced function.

    node     what computes it; in-place operations bind another one
    weak     the Python type (bool, int, float) of a traced Python number, which promotes as Python numbers do (NEP 50);
             None for everything else
    scope    the scope of nodes that it was made in; it means nothing outside
    memory   shared with arrays that would share memory in NumPy, see `aliasing`; None while there are none
    path     how the array's value is seen in that memory; None where that is not known
    """

    __slots__ = ("__weakref__", "memory", "node", "path", "scope", "weak")

    def __init__(self, node: Node, weak: type | None = None):
        self.node, self.weak, self.scope = node, weak, _scope.get()
        self.memory: object = None
        self.path: tuple[Node, ...] | None = None

    # Any, as every method of an ndarray is there: they are added by the classes below this one.
    def checked(self) -> Any:
        """Itself, or UsageError if the trace that it belongs to has ended."""
        check_scope(self)
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents, as plain integers."""
        return self.node.aval.shape

    @property
    def dtype(self) -> np.dtype:
        """NumPy's dtype."""
        return self.node.aval.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.aval.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.node.aval.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.node.aval.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.shape))
        return f"Traced(weak {self.weak.__name__})" if self.weak else f"Traced({self.dtype}[{shape}])"

    def __format__(self, specification: str) -> str:
        return repr(self)


_made: type[Handle] = Handle
_Kind = TypeVar("_Kind", bound=type[Handle])


def made_by_array_of(kind: _Kind) -> _Kind:
    """Decorates the class that `array_of` makes instances of: `Array`."""
    global _made
    _made = kind
    return kind


def array_of(node: Node, weak: type | None = None) -> Handle:
    """A new traced array: an `Array` of the node, in the scope that is open."""
    return _made(node, weak)


def check_scope(handle: Handle) -> None:
    """UsageError if the trace that the handle belongs to has ended."""
    if handle.scope is not _scope.get():
        raise _leaked(handle)


_STALE: Any = object()


def make_stale(handle: Handle) -> None:
    """The handle may not be used any more: its memory was stored into, and it is not known what it shows now."""
    handle.scope = _STALE


def _leaked(handle: Handle) -> JitgradError:
    if handle.scope is _STALE:
        return Limitation(
            "a traced array is used that shares memory with another one, into which was stored since",
            "Make it again after the store, or take a copy() of it before.",
        )
    where = handle.node.where
    made = f" (made at {where})" if where else ""
    return UsageError(
        f"a traced value leaked out of its function: {handle!r}{made} belongs to a trace that has ended",
        "Return what you need from the function; do not keep traced values in globals, attributes or caches.",
    )
