"""Which values a loop saves for its derivative, and which are computed again from those.

The reverse body reads values of the forward body. Values that depend only on the counter and on what is captured are to
be had for nothing. Of the others a cheapest set is saved from which the rest is computed again: a minimum cut between the
carries and the values that are read, where a value costs its bytes and what is dear to compute is not computed again.

Minimum cut: Dinic, "Algorithm for solution of a problem of maximum flow in a network with power estimation" (1970).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ..ir.aval import StackAval, TupleAval
from ..ir.body import between
from ..ir.node import Node
from ..ir.primitive import Gather, Index, Place, Reduce, Scalar, View

DEAR = 8  # the cost of a scalar operation, in additions, from which on its result is rather saved
_ENDLESS = 1 << 60


def read_by(roots: Sequence[Node], seeds: set[Node]) -> list[Node]:
    """What a reverse computation of `roots` reads: the nodes nearest to `roots` that do not depend on `seeds`."""
    order = between(roots, seeds)
    depends = set(seeds)
    for node in order:
        if not depends.isdisjoint(node.operands):
            depends.add(node)
    found: dict[Node, None] = dict.fromkeys(root for root in roots if root not in depends)
    for node in order:
        if node in depends and node not in seeds:
            found.update(dict.fromkeys(o for o in node.operands if o not in depends))
    return list(found)


def to_save(needed: Sequence[Node], sources: Sequence[Node], free: set[Node]) -> list[Node]:
    """The values to save, so that all `needed` can be computed from them and `free` inputs; among them may be some of
    `sources`, the inputs that are not free. Stacks are left out: they are passed on, not saved."""
    order = between(needed, {*sources, *free})
    costly = set(sources)
    for node in order:
        if not costly.isdisjoint(node.operands):
            costly.add(node)
    wanted = [node for node in needed if node in costly and not isinstance(node.aval, StackAval)]
    if not wanted:
        return []
    return _cheapest([node for node in order if node in costly], wanted, set(sources))


def _is_cheap(node: Node) -> bool:
    """Whether `node` may be computed again from its operands."""
    code = node.primitive.code
    if isinstance(code, Scalar):
        return code.cost < DEAR
    return isinstance(code, View | Gather | Index | Place | Reduce)


def _bytes(node: Node) -> int:
    if isinstance(node.aval, TupleAval | StackAval):
        return _ENDLESS
    return max(1, node.aval.size * node.aval.dtype.itemsize)


def _cheapest(nodes: list[Node], wanted: list[Node], sources: set[Node]) -> list[Node]:
    """The cut: each node is an edge from 2k to 2k+1, with the bytes that it costs."""
    number = {node: k for k, node in enumerate(nodes)}
    network = _Network(2 * len(nodes) + 2)
    start, end = 2 * len(nodes), 2 * len(nodes) + 1
    for node, k in number.items():
        network.add(2 * k, 2 * k + 1, _bytes(node))
        if node in sources or not _is_cheap(node):
            network.add(start, 2 * k, _ENDLESS)
        else:
            for operand in dict.fromkeys(node.operands):
                if operand in number:
                    network.add(2 * number[operand] + 1, 2 * k, _ENDLESS)
    for node in wanted:
        network.add(2 * number[node] + 1, end, _ENDLESS)
    network.fill(start, end)
    behind = network.reaching(end)
    return [node for node, k in number.items() if 2 * k not in behind and 2 * k + 1 in behind]


class _Network:
    """Edges with capacities; edge k ^ 1 is edge k backwards."""

    def __init__(self, count: int):
        self.edges: list[list[int]] = [[] for _ in range(count)]
        self.target: list[int] = []
        self.left: list[int] = []

    def add(self, source: int, target: int, capacity: int) -> None:
        for a, b, room in ((source, target, capacity), (target, source, 0)):
            self.edges[a].append(len(self.target))
            self.target.append(b)
            self.left.append(room)

    def fill(self, start: int, end: int) -> None:
        """The largest flow."""
        while (levels := self._levels(start))[end] >= 0:
            following = [0] * len(self.edges)
            while self._push(start, end, levels, following):
                pass

    def _levels(self, start: int) -> list[int]:
        levels = [-1] * len(self.edges)
        levels[start] = 0
        waiting = deque([start])
        while waiting:
            node = waiting.popleft()
            for edge in self.edges[node]:
                if self.left[edge] and levels[self.target[edge]] < 0:
                    levels[self.target[edge]] = levels[node] + 1
                    waiting.append(self.target[edge])
        return levels

    def _push(self, start: int, end: int, levels: list[int], following: list[int]) -> bool:
        """Sends what fits along one more path of the level graph, if there is one."""
        path: list[int] = []
        node = start
        while node != end:
            edges = self.edges[node]
            while following[node] < len(edges):
                edge = edges[following[node]]
                if self.left[edge] and levels[self.target[edge]] == levels[node] + 1:
                    break
                following[node] += 1
            else:
                if not path:
                    return False
                node = self.target[path.pop() ^ 1]
                following[node] += 1
                continue
            path.append(edge)
            node = self.target[edge]
        room = min(self.left[edge] for edge in path)
        for edge in path:
            self.left[edge] -= room
            self.left[edge ^ 1] += room
        return True

    def reaching(self, end: int) -> set[int]:
        """The places from which something could still flow to `end`."""
        found = {end}
        waiting = [end]
        while waiting:
            node = waiting.pop()
            for edge in self.edges[node]:
                source = self.target[edge]
                if self.left[edge ^ 1] and source not in found:
                    found.add(source)
                    waiting.append(source)
        return found
