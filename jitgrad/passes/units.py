"""Arithmetic on arrays with extents of 1 is done without these axes.

A row (1, n), a column (n, 1) and a vector (n,) are one loop over n elements: only when they have one shape do their
operations meet in one kernel.
"""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.node import Node, apply, call
from ..ir.primitive import Reduce
from ..ops.shape import reshape
from .fuel import spend
from .simplify import is_arithmetic, simplify_node


def drop_units(graph: Graph) -> Graph:
    return graph.rebuild(_without_units)


def _without_units(node: Node) -> Node:
    """f(x, y) = reshape(f(reshape(x), reshape(y)));  sums over an axis of one element are no sums."""
    if is_arithmetic(node):
        return _arithmetic(node)
    if isinstance(node.primitive.code, Reduce) and 1 in node.operands[0].shape:
        return _fold(node)
    return simplify_node(node)


def _arithmetic(node: Node) -> Node:
    if 1 not in node.shape or not spend():
        return node
    kept = tuple(extent for extent in node.shape if extent != 1)
    operands = [_reshaped(operand, kept) for operand in node.operands]
    return _reshaped(simplify_node(apply(node.primitive, *operands, **node.params)), node.shape)


def _fold(node: Node) -> Node:
    (operand,) = node.operands
    axes = [axis for axis, extent in enumerate(operand.shape) if extent != 1]
    folded = tuple(k for k, axis in enumerate(axes) if axis in node.params["axes"])
    if not folded or not spend():
        return node
    smaller = _reshaped(operand, tuple(operand.shape[axis] for axis in axes))
    return _reshaped(call(node.primitive.name, smaller, axes=folded), node.shape)


def _reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    return simplify_node(reshape(node, shape))
