"""Which traced arrays would share memory in NumPy, and what a store through one of them does to the others.

A traced array is a handle on a node. Handles that would share memory have one `Memory`, whose node is the value of
the memory as a whole; each has the way from there to its own value, a path of views. A store makes a new value of the
whole, from which the others are read anew. Where a way is not known (what a function made of the array), a store is
refused, or what cannot be read anew may not be used any more.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from math import prod

import numpy as np

from ..errors import Limitation
from ..ir.node import Node, apply, call
from ..ir.primitive import Gather, View
from .handle import Handle, array_of, make_stale

# Functions of NumPy whose results may be views of their arguments.
VIEW_FUNCTIONS = frozenset({
    np.reshape, np.ravel, np.transpose, np.permute_dims, np.matrix_transpose, np.swapaxes, np.moveaxis, np.rollaxis,
    np.squeeze, np.expand_dims, np.atleast_1d, np.atleast_2d, np.atleast_3d, np.broadcast_to, np.broadcast_arrays,
    np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.unstack, np.diagonal, np.diag, np.flip, np.fliplr,
    np.flipud, np.rot90, np.real, np.imag, np.trim_zeros, np.linalg.matrix_transpose, np.linalg.diagonal,
    np.einsum, np.ix_, np.diff, np.linalg.matrix_power,
})  # fmt: skip
_CHAIN = 16  # no NumPy function makes a view by more steps than this

Path = tuple[Node, ...]
"""Nodes of views, each to be made again of another first operand."""


class Memory:
    """Memory that several handles show: its value as a whole, and the handles that are alive."""

    __slots__ = ("node", "_handles")

    def __init__(self, first: Handle):
        self.node = first.node
        self._handles: list[weakref.ref] = [weakref.ref(first)]

    def add(self, handle: Handle) -> None:
        self._handles = [ref for ref in self._handles if ref() is not None]
        self._handles.append(weakref.ref(handle))

    def others(self, handle: Handle) -> list[Handle]:
        found = [ref() for ref in self._handles]
        return [other for other in found if other is not None and other is not handle and other.memory is self]


def share(view: Handle, base: Handle) -> None:
    """Notes that `view` would be a view of `base`."""
    if base.memory is None:
        base.memory, base.path = Memory(base), ()
    memory = base.memory
    assert isinstance(memory, Memory)
    steps = _steps_between(base.node, view.node)
    path = None if steps is None or base.path is None else (*base.path, *steps)
    if path is not None and not _is_strided(memory.node.aval.shape, path):
        return  # NumPy would have made a copy
    view.memory, view.path = memory, path
    memory.add(view)


def view_of(base: Handle, node: Node) -> Handle:
    """An array of `node` that NumPy would make as a view of `base`."""
    view = array_of(node)
    share(view, base)
    return view


def _steps_between(base: Node, view: Node) -> Path | None:
    """The views that lead from one node to the other."""
    steps: list[Node] = []
    while view is not base:
        if len(steps) == _CHAIN or not _is_view(view):
            return None
        steps.append(view)
        view = view.operands[0]
    return tuple(reversed(steps))


def _is_view(node: Node) -> bool:
    """Whether it shows a part of its first operand: an element or row at a traced place does too."""
    code = node.primitive.code
    return bool(node.operands) and (isinstance(code, View) or (isinstance(code, Gather) and not node.operands[1].aval.shape))


def _is_strided(shape: tuple[int, ...], path: Path) -> bool:
    """Whether strides can show what the path shows of C-ordered memory."""
    found = 0, shape, tuple(prod(shape[k + 1 :]) for k in range(len(shape)))
    for step in path:
        code, (offset, extents, strides) = step.primitive.code, found
        if isinstance(code, Gather):
            count = len(step.operands) - 1
            found = offset, extents[count:], strides[count:]
        elif (seen := code.strided(offset, extents, strides, **step.params)) is None:
            return False
        else:
            found = seen
    return True


def _seen(whole: Node, path: Path) -> Node:
    """What a path shows of `whole`."""
    for step in path:
        whole = apply(step.primitive, whole, *step.operands[1:], **step.params)
    return whole


def _written(whole: Node, path: Path, value: Node) -> Node | None:
    """`whole` with `value` in the place that a path shows; None where elements are shown more than once."""
    if not path:
        return value
    step = path[0]
    inner = _written(_seen(whole, path[:1]), path[1:], value)
    if inner is None:
        return None
    match step.primitive.name:
        case "slice":
            return call("put", whole, inner, starts=step.params["starts"], steps=step.params["steps"])
        case "reshape":
            return call("reshape", inner, shape=whole.aval.shape)
        case "transpose":
            axes = step.params["axes"]
            return call("transpose", inner, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))
        case "gather":
            return call("scatter_set", whole, inner, *step.operands[1:])
    return None


def is_part(handle: Handle) -> bool:
    """Whether a 0-d array is a part of an array (x[0, ...]), not a number."""
    return isinstance(handle.memory, Memory) and bool(handle.memory.node.aval.shape)


def check_unshared(handle: Handle) -> None:
    """Refuses an in-place operation that would be seen through arrays of which it is not known how."""
    memory = handle.memory
    if isinstance(memory, Memory) and handle.path is None and memory.others(handle):
        raise _refused()


def _refused() -> Limitation:
    return Limitation(
        "an in-place operation on a traced array that shares memory with another one (a view)",
        "Write it as a new array: y = y + 1 in place of y += 1, or take a copy() first.",
    )


def rebind(handle: Handle, node: Node) -> None:
    """Gives `handle` a new value in place: all arrays that show its memory have it too."""
    memory = handle.memory
    if not isinstance(memory, Memory):
        handle.node = node
        return
    others = memory.others(handle)
    if not others:
        handle.node, handle.memory, handle.path = node, None, None
        return
    whole = None if handle.path is None else _written(memory.node, handle.path, node)
    if whole is None:
        raise _refused()
    memory.node, handle.node = whole, node
    for other in others:
        if other.path is None:
            make_stale(other)
        else:
            other.node = _seen(whole, other.path)


def mark_views(result, arguments) -> None:
    """Notes which of the arrays in `result` would be views of one of `arguments`, as their nodes tell.

    A view of a view may be made straight from what lies under both (two transposes are none at all), so the nodes
    under the arguments count as well.
    """
    bases: dict[int, Handle] = {}
    for base in _handles(arguments):
        for node in _viewed(base.node):
            bases.setdefault(id(node), base)
    for view in _handles(result):
        viewed = next((bases[id(node)] for node in _viewed(view.node) if id(node) in bases), None)
        if viewed is not None and viewed is not view:
            share(view, viewed)


def _viewed(node: Node) -> Iterator[Node]:
    """`node`, and the nodes whose memory it shows."""
    for _ in range(_CHAIN):
        yield node
        if not isinstance(node.primitive.code, View) or not node.operands:
            return
        node = node.operands[0]


def _handles(value) -> list[Handle]:
    if isinstance(value, Handle):
        return [value]
    if isinstance(value, (tuple, list)):
        return [handle for part in value for handle in _handles(part)]
    return []
