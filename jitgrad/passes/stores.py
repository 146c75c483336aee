"""Sums with places, inside of loops, become stores: what is added to a part of an array touches that part only.

    x + place(v)    ->  put(x, x[part] + v)         (x + 0 = x but for the sign of zero)

In a loop's body the array mostly is a cotangent that nobody reads any more, so that the store is done in place.
"""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.node import Node
from ..ops.shape import strided_slice
from ..ops.stores import put
from .fuel import spend
from .simplify import rule


def store_places(graph: Graph) -> Graph:
    def rewrite(node: Node) -> Node:
        if node.primitive.name != "add" or node.dtype.kind not in "fc" or not node.shape:
            return node
        whole, part = node.operands
        if whole.primitive.name == "place" and part.primitive.name != "place":
            whole, part = part, whole
        if part.primitive.name != "place" or whole.primitive.name == "place" or not spend():
            return node
        (value,) = part.operands
        starts, steps = part.params["starts"], part.params["steps"]
        return put(whole, strided_slice(whole, starts, value.shape, steps) + value, starts, steps)

    return graph.rebuild(rewrite)


def _region(node: Node, value: Node) -> tuple:
    return node.params["starts"], value.shape, node.params["steps"]


@rule("put")
def store_over_store(node: Node) -> Node | None:
    """put(put(x, v), w) at one region is put(x, w)."""
    inner, value = node.operands
    if inner.primitive.name == "put" and _region(inner, inner.operands[1]) == _region(node, value):
        return put(inner.operands[0], value, node.params["starts"], node.params["steps"])
    return None


@rule("slice")
def read_what_was_stored(node: Node) -> Node | None:
    """What was put there is there."""
    (inner,) = node.operands
    if inner.primitive.name != "put":
        return None
    value = inner.operands[1]
    same = (node.params["starts"], node.shape, node.params["steps"]) == _region(inner, value)
    return value if same else None
