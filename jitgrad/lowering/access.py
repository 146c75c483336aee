"""Where a node's elements lie: every view is an offset and strides into the memory of one base node."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.node import Node
from ..ir.primitive import View


@dataclass(frozen=True)
class Access:
    """Element [i, j, ...] of a node is element `offset + i*strides[0] + j*strides[1] + ...` of `base`'s buffer."""

    base: Node
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def step_into(self, view: Node) -> Access | None:
        """The access of `view`, a View of the node that this is the access of; None when no strides describe it."""
        found = view.primitive.code.strided(self.offset, self.shape, self.strides, **view.params)
        return None if found is None else Access(self.base, *found)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of a C-ordered array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


class Accesses:
    """Finds the access of any node that is in memory or a view of such; `layouts` gives inputs that are not C-ordered."""

    def __init__(self, layouts: dict[Node, tuple[int, ...]]):
        self._found: dict[Node, Access | None] = {
            node: Access(node, 0, node.shape, strides) for node, strides in layouts.items()
        }

    def of(self, node: Node) -> Access | None:
        """The access of `node`; None for a view that needs its operand copied first."""
        chain = []
        while node not in self._found and isinstance(node.primitive.code, View):
            chain.append(node)
            node = node.operands[0]
        access = self._found.get(node)
        if node not in self._found:
            access = self._found[node] = Access(node, 0, node.shape, contiguous_strides(node.shape))
        for view in reversed(chain):
            access = None if access is None else access.step_into(view)
            self._found[view] = access
        return access

    def strided(self, node: Node) -> Access:
        """The access of `node` in a legal graph, where every view has one."""
        access = self.of(node)
        assert access is not None, node
        return access


def view_base(node: Node) -> Node:
    """The node whose memory a chain of views reads; the node itself where it is no view."""
    while isinstance(node.primitive.code, View):
        node = node.operands[0]
    return node
