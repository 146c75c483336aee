"""Which traced arrays would share memory in NumPy, so that in-place operations are right or refused.

An in-place operation rebinds one handle to a new node. In NumPy it would also be seen through views of the array and
through the array that it is a view of. Handles that would share memory hold one token; while more than one of them is
alive, in-place operations on them are refused.
"""

from __future__ import annotations

import sys

import numpy as np

from ..errors import Limitation
from ..ir.node import Node
from ..ir.primitive import View

# Functions of NumPy whose results may be views of their arguments.
VIEW_FUNCTIONS = frozenset(
    getattr(np, name)
    for name in (
        "reshape ravel transpose permute_dims matrix_transpose swapaxes moveaxis rollaxis squeeze expand_dims "
        "atleast_1d atleast_2d atleast_3d broadcast_to broadcast_arrays split array_split hsplit vsplit dsplit "
        "diagonal diag flip fliplr flipud rot90 real imag trim_zeros unstack"
    ).split()
    if hasattr(np, name)  # permute_dims, matrix_transpose and unstack came during NumPy 2
)
_CHAIN = 16  # no NumPy function makes a view by more steps than this


class Handle:
    """Something that stands for an array's memory; `memory` is the token shared with its views, or None."""

    __slots__ = ("memory",)
    node: Node

    def __init__(self):
        self.memory = None


def share(view: Handle, base: Handle) -> None:
    """Notes that `view` would be a view of `base`."""
    if base.memory is None:
        base.memory = object()
    view.memory = base.memory


def _holders(handle: Handle) -> int:
    return sys.getrefcount(handle.memory)


def _count_of_one() -> int:
    alone = Handle()
    alone.memory = object()
    return _holders(alone)


_ONE = _count_of_one()


def check_unshared(handle: Handle) -> None:
    """Refuses an in-place operation that other live arrays would see in NumPy."""
    if handle.memory is not None and _holders(handle) > _ONE:
        raise Limitation(
            "an in-place operation on a traced array that shares memory with another one (a view)",
            "Write it as a new array: y = y + 1 in place of y += 1, or take a copy() first.",
        )


def mark_views(result, arguments) -> None:
    """Notes which of the arrays in `result` would be views of one of `arguments`, as their nodes tell."""
    bases = {id(base.node): base for base in _handles(arguments)}
    for view in _handles(result):
        node = view.node
        for _ in range(_CHAIN):
            base = bases.get(id(node))
            if base is not None and base is not view:
                share(view, base)
                break
            if not isinstance(node.primitive.code, View) or not node.operands:
                break
            node = node.operands[0]


def _handles(value) -> list[Handle]:
    if isinstance(value, Handle):
        return [value]
    if isinstance(value, (tuple, list)):
        return [handle for part in value for handle in _handles(part)]
    return []
