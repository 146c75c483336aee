"""A graph: which nodes come in, which go out, and walks over what lies between. All walks are iterative."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from .node import INPUT, Node, apply, bits_of, blamed_on, scope
from .primitive import View


@dataclass(frozen=True, eq=False)
class Graph:
    """`outputs` as functions of `inputs`."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    @cached_property
    def nodes(self) -> list[Node]:
        """Every node that the outputs need, inputs included, operands before their users."""
        return topological(self.outputs)

    def with_inputs(self, inputs: tuple[Node, ...]) -> Graph:
        """The same outputs, as functions of `inputs`."""
        graph = Graph(inputs, self.outputs)
        graph.__dict__["nodes"] = self.nodes  # what lies under the outputs is the same: not walked again
        return graph

    def rebuild(self, rewrite: Callable[[Node], Node]) -> Graph:
        """The graph with each node, its operands already rewritten, replaced by `rewrite(node)`; what is new is blamed
        on the line of what it replaces."""
        done: dict[Node, Node] = {}
        with blamed_on(None):
            current = scope()
            for node in self.nodes:
                current.where = node.where
                done[node] = rewrite(with_operands(node, done))
        return Graph(self.inputs, tuple(done[node] for node in self.outputs))

    def users(self) -> dict[Node, list[Node]]:
        """For each node, the nodes that read it, once per operand place."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for operand in node.operands:
                users[operand].append(node)
        return users


def topological(roots: Iterable[Node]) -> list[Node]:
    """All nodes under `roots`, operands before their users, in a reproducible order."""
    done: dict[Node, None] = {}
    for root in roots:
        path = [] if root in done else [(root, iter(root.operands))]  # with the operands that are still to be looked at
        while path:
            node, operands = path[-1]
            for operand in operands:
                if operand not in done:
                    path.append((operand, iter(operand.operands)))
                    break
            else:
                done[node] = None
                path.pop()
    return list(done)


def scheduled(roots: Iterable[Node]) -> list[Node]:
    """`topological`, but so that whoever reads an array comes before the node that overwrites it, where that is possible:
    what is updated in place needs no copy then, and backwards the cotangent of the whole comes before those of reads."""
    order = topological(roots)
    position = {node: k for k, node in enumerate(order)}
    waits: dict[Node, set[Node]] = {}  # for a node that overwrites: the others that read what it overwrites
    readers: dict[Node, list[Node]] = {}
    through: dict[Node, set[Node]] = {}  # who reads a node, through views too
    for node in order:
        for operand in set(node.operands):
            readers.setdefault(operand, []).append(node)
            through.setdefault(_under_views(operand), set()).add(node)
    for node in order:
        if node.primitive.overwrites is not None:
            for place in node.primitive.overwrites(**node.params):
                if node.operands[place].aval.shape and not isinstance(node.operands[place].primitive.code, View):
                    waits.setdefault(node, set()).update(through[node.operands[place]])
    if not any(others - {node} for node, others in waits.items()):
        return order
    return _ordered(order, position, readers, waits)


def _under_views(node: Node) -> Node:
    while isinstance(node.primitive.code, View):
        node = node.operands[0]
    return node


def _ordered(order: list[Node], position: dict, readers: dict, waits: dict[Node, set[Node]]) -> list[Node]:
    """`order` changed such that nodes come after their operands and, unless that is a cycle, after what they wait for."""
    missing = {node: len(set(node.operands)) for node in order}
    soft = {node: {o for o in others if o is not node} for node, others in waits.items()}
    waiting: dict[Node, list[Node]] = {}
    for node, others in soft.items():
        for other in others:
            waiting.setdefault(other, []).append(node)
    ready: list[int] = []
    blocked: set[int] = set()  # nodes that only wait for readers

    def offer(node: Node) -> None:
        if missing[node] == 0:
            (blocked.add if soft.get(node) else lambda k: heapq.heappush(ready, k))(position[node])

    for node in order:
        offer(node)
    done: list[Node] = []
    while ready or blocked:
        if ready:
            node = order[heapq.heappop(ready)]
        else:  # a cycle: the first reader in the usual order must make do with a copy
            node = order[min(blocked)]
            blocked.discard(position[node])
        done.append(node)
        for user in readers.get(node, ()):
            missing[user] -= 1
            offer(user)
        for other in waiting.get(node, ()):
            soft[other].discard(node)
            if not soft[other] and position[other] in blocked:
                blocked.discard(position[other])
                heapq.heappush(ready, position[other])
    return done


def with_operands(node: Node, replaced: dict[Node, Node]) -> Node:
    """`node` on the operands' replacements; `node` itself where none was replaced."""
    operands = tuple(replaced.get(operand, operand) for operand in node.operands)
    if operands == node.operands:
        return node
    with blamed_on(node.where):
        return apply(node.primitive, *operands, **node.params)


def substitute(roots: Iterable[Node], replaced: dict[Node, Node]) -> list[Node]:
    """`roots` with leaves exchanged as `replaced` says."""
    roots = list(roots)
    done = dict(replaced)
    for node in topological(roots):
        if node not in done:
            done[node] = with_operands(node, done)
    return [done[root] for root in roots]


def depends_on(roots: Iterable[Node], leaves: Iterable[Node]) -> set[Node]:
    """The nodes under `roots` that depend on one of `leaves`, those leaves included."""
    found = set(leaves)
    for node in topological(roots):
        if not found.isdisjoint(node.operands):
            found.add(node)
    return found


def structure(graph: Graph, shapes: bool = True) -> tuple:
    """A hashable value, equal for two graphs exactly if they are the same but for node identity and source lines."""
    number = {node: index for index, node in enumerate(graph.nodes)}
    rows = tuple(
        (
            node.primitive.name,
            tuple(number[operand] for operand in node.operands),
            (bits_of(node.params["value"]),) if "value" in node.params else tuple(node.params.values()),
            node.aval if shapes else node.aval.dtype,
        )
        for node in graph.nodes
    )
    inputs = tuple(number.get(node, ("unused", node.aval)) for node in graph.inputs)
    return inputs, rows, tuple(number[node] for node in graph.outputs)


def is_input(node: Node) -> bool:
    return node.primitive is INPUT
