"""The calls that a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ir.node import Node
from .access import Access
from .kernel import Binding, Kernel


@dataclass(frozen=True)
class KernelStep:
    """One call of a kernel. `writes` are the nodes whose buffers it fills, in part or whole."""

    kernel: Kernel
    binding: Binding
    writes: tuple[Node, ...]

    @property
    def touches(self) -> tuple[Node, ...]:
        return self.binding.buffers

    def renamed(self, names: dict[Node, Node]) -> KernelStep:
        """The step with other buffers: `names[node]` in place of `node`."""
        if names.keys().isdisjoint(self.touches):
            return self
        binding = replace(self.binding, buffers=tuple(names.get(node, node) for node in self.touches))
        return KernelStep(self.kernel, binding, tuple(names.get(node, node) for node in self.writes))


@dataclass(frozen=True)
class RoutineStep:
    """One call of a library routine for `node`, or a part of it: operands and result where the accesses say."""

    routine: str
    node: Node
    operands: tuple[Access, ...]
    result: Access

    @property
    def accesses(self) -> tuple[Access, ...]:
        """The result's, then the operands'."""
        return (self.result, *self.operands)

    @property
    def writes(self) -> tuple[Node, ...]:
        return (self.result.base,)

    @property
    def touches(self) -> tuple[Node, ...]:
        return tuple(access.base for access in self.accesses)

    def renamed(self, names: dict[Node, Node]) -> RoutineStep:
        """The step with other buffers: `names[node]` in place of `node`."""
        if names.keys().isdisjoint(self.touches):
            return self
        result, *operands = (replace(access, base=names.get(access.base, access.base)) for access in self.accesses)
        return replace(self, operands=tuple(operands), result=result)
