"""Which traced arrays would share memory in NumPy, so that in-place operations are right or refused.

An in-place operation rebinds one handle to a new node. In NumPy it would also be seen through views of the array and
through the array that it is a view of. Handles that would share memory hold one token; while more than one of them is
alive, in-place operations on them are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from ..errors import Limitation
from ..ir.node import Node
from ..ir.primitive import View
from .handle import Handle, array_of

# Functions of NumPy whose results may be views of their arguments.
VIEW_FUNCTIONS = frozenset({
    np.reshape, np.ravel, np.transpose, np.permute_dims, np.matrix_transpose, np.swapaxes, np.moveaxis, np.rollaxis,
    np.squeeze, np.expand_dims, np.atleast_1d, np.atleast_2d, np.atleast_3d, np.broadcast_to, np.broadcast_arrays,
    np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.unstack, np.diagonal, np.diag, np.flip, np.fliplr,
    np.flipud, np.rot90, np.real, np.imag, np.trim_zeros, np.linalg.matrix_transpose, np.linalg.diagonal,
    np.einsum, np.ix_, np.diff, np.linalg.matrix_power,
})  # fmt: skip
_CHAIN = 16  # no NumPy function makes a view by more steps than this


def share(view: Handle, base: Handle) -> None:
    """Notes that `view` would be a view of `base`."""
    if base.memory is None:
        base.memory = object()
    view.memory = base.memory


def view_of(base: Handle, node: Node) -> Handle:
    """An array of `node` that NumPy would make as a view of `base`."""
    view = array_of(node)
    share(view, base)
    return view


class _Alone:
    """A holder of a token that nobody shares, to see what the interpreter counts then."""

    __slots__ = ("memory",)

    def __init__(self):
        self.memory = object()


def _holders(handle: Handle | _Alone) -> int:
    return sys.getrefcount(handle.memory)


_ONE = _holders(_Alone())


def check_unshared(handle: Handle) -> None:
    """Refuses an in-place operation that other live arrays would see in NumPy."""
    if handle.memory is not None and _holders(handle) > _ONE:
        raise Limitation(
            "an in-place operation on a traced array that shares memory with another one (a view)",
            "Write it as a new array: y = y + 1 in place of y += 1, or take a copy() first.",
        )


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
