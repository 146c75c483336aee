"""Sums of scatter-additions are made in one array.

Every gather from an array sends back its cotangent as a scatter-addition into zeros, and reverse mode adds them up.
Adding one after another to what is there already saves the zeros, the arrays and the sums.

x + (0 + v at i) = (x + v at i): the terms of a sum change their order, that is all that changes.
"""

from __future__ import annotations

from ..ir.graph import Graph, with_operands
from ..ir.node import Node, blamed_on
from ..ops.indexing import scatter_add
from .fuel import spend
from .simplify import is_full_of


def chain_scatters(graph: Graph) -> Graph:
    users = graph.users()
    outputs = set(graph.outputs)

    def adds_to_nothing(node: Node) -> bool:
        """Whether `node` is a scatter-addition into zeros that only one sum reads."""
        alone = len(users[node]) == 1 and node not in outputs
        return alone and node.primitive.name == "scatter_add" and is_full_of(node.operands[0], 0)

    done: dict[Node, Node] = {}
    for node in graph.nodes:
        with blamed_on(node.where):
            done[node] = _chained(node, done, adds_to_nothing)
    return Graph(graph.inputs, tuple(done[node] for node in graph.outputs))


def _chained(node: Node, done: dict[Node, Node], adds_to_nothing) -> Node:
    if node.primitive.name == "add":
        for base, scatter in (node.operands, reversed(node.operands)):
            if base is not scatter and adds_to_nothing(scatter) and spend():
                return scatter_add(done[base], *(done[operand] for operand in scatter.operands[1:]))
    return with_operands(node, done)
