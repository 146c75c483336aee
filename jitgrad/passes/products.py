"""Matrix products with one row, one column or one term become multiplications and sums, which fuse with their surroundings."""

from __future__ import annotations

from ..ir.graph import Graph
from ..ir.node import Node, call
from ..ops.shape import broadcast, reshape, transpose
from .fuel import spend


def expand_products(graph: Graph) -> Graph:
    return graph.rebuild(_expanded)


def _expanded(node: Node) -> Node:
    if node.primitive.name != "matmul":
        return node
    a, b = node.operands
    *batch, rows, terms = a.shape
    columns = b.shape[-1]
    if rows != 1 and columns != 1 and terms != 1 or not spend():
        return node
    # c[.., i, j] = sum_k a[.., i, k] b[.., k, j], over the domain (.., i, j, k) without its extents of 1
    ndim = len(batch)
    domain = (*batch, rows, columns, terms)
    left = broadcast(a, domain, (*range(ndim), ndim, ndim + 2))
    swapped = transpose(b, (*range(ndim), ndim + 1, ndim))
    right = broadcast(swapped, domain, (*range(ndim), ndim + 1, ndim + 2))
    kept = tuple(extent for k, extent in enumerate(domain) if k < ndim or extent != 1)
    product = call("multiply", reshape(left, kept), reshape(right, kept))
    if terms != 1:
        product = call("reduce_sum", product, axes=(len(kept) - 1,))
    return reshape(product, node.shape)
