"""Norms, powers of matrices and products of many of them, as np.linalg has them."""

from __future__ import annotations

import numpy as np

from ..errors import Limitation, UsageValueError
from ..ir.node import Node, call
from ._build import (
    axis_of,
    cast,
    equal,
    filled,
    floating,
    implementation,
    keep,
    node_of,
    nonzero,
    note_reads,
    ordered_axes,
    plain_int,
    reshape,
    safe_sqrt,
    select,
    spread,
    total,
)
from .creation import eye
from .products import cross, dot, matmul
from .reductions import max_, min_

# --- norms. At 0, where a norm has no derivative, its gradient is 0: the smallest subgradient.


@implementation(np.linalg.norm)
def norm(x, ord=None, axis=None, keepdims=False):
    x = floating(node_of(x))
    note_reads(ord)
    if axis is None:
        if ord is None or (ord in ("f", "fro") and x.ndim == 2) or (ord == 2 and x.ndim == 1):
            return _euclidean(x, tuple(range(x.ndim)), keepdims)
        axes = tuple(range(x.ndim))
    else:
        axes = ordered_axes(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, axes, ord, keepdims)
    if len(axes) == 2:
        return _matrix_norm(x, axes, ord, keepdims)
    raise UsageValueError(
        "Improper number of dimensions to norm.", f"The axes are {axes} of shape {x.shape}."
    )


@implementation(np.linalg.vector_norm)
def vector_norm(x, /, *, axis=None, keepdims=False, ord=2):
    x = floating(node_of(x))
    note_reads(ord)
    axes = tuple(range(x.ndim)) if axis is None else ordered_axes(axis, x.ndim)
    return _vector_norm(x, tuple(sorted(axes)), ord, keepdims)


@implementation(np.linalg.matrix_norm)
def matrix_norm(x, /, *, keepdims=False, ord="fro"):
    x = floating(node_of(x))
    note_reads(ord)
    return _matrix_norm(x, (axis_of(-2, x.ndim), axis_of(-1, x.ndim)), ord, keepdims)


def _euclidean(x: Node, axes: tuple[int, ...], keepdims) -> Node:
    axes = tuple(sorted(axes))
    return keep(safe_sqrt(total(x * x, axes)), x.shape, axes, keepdims)


def _vector_norm(x: Node, axes: tuple[int, ...], ord, keepdims) -> Node:
    if ord is None or ord == 2:
        return _euclidean(x, axes, keepdims)
    if isinstance(ord, str):
        raise UsageValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == 0:
        return keep(total(cast(nonzero(x), x.dtype), axes), x.shape, axes, keepdims)
    size = call("absolute", x)
    if ord == np.inf:
        return max_(size, axes, keepdims=keepdims)
    if ord == -np.inf:
        return min_(size, axes, keepdims=keepdims)
    if ord == 1:
        return keep(total(size, axes), x.shape, axes, keepdims)
    return keep(_power_norm(size, axes, float(ord)), x.shape, axes, keepdims)


def _power_norm(size: Node, axes: tuple[int, ...], p: float) -> Node:
    """(sum |x|^p)^(1/p). Zeros are taken out of both powers, whose slopes may be infinite there."""
    powers = total(_power(size, p), axes)
    return _power(powers, 1 / p)


def _power(x: Node, exponent: float) -> Node:
    """x^exponent for x >= 0, with gradient 0 at x = 0."""
    zero = equal(x, 0)
    raised = call("power", select(zero, 1, x), filled(x.shape, exponent, x.dtype))
    return select(zero, 0 if exponent > 0 else np.inf, raised)


_BY_SUMS = {1: (max_, 0), -1: (min_, 0), np.inf: (max_, 1), -np.inf: (min_, 1)}


def _matrix_norm(x: Node, axes: tuple[int, ...], ord, keepdims) -> Node:
    if ord in (None, "fro", "f"):
        return _euclidean(x, axes, keepdims)
    if ord in (2, -2, "nuc"):
        raise Limitation(
            f"np.linalg.norm of a matrix with ord={ord!r} is not supported: it needs singular values",
            "ord=None, 'fro', 1, -1, inf and -inf are there.",
        )
    if ord not in _BY_SUMS:
        raise UsageValueError(f"Invalid norm order {ord!r} for matrices.")
    extremum, summed = _BY_SUMS[ord]
    along, other = axes[summed], axes[1 - summed]
    sums = keep(total(call("absolute", x), (along,)), x.shape, (along,), True)
    found = extremum(sums, other, keepdims=True)
    shape = found.shape if keepdims else tuple(e for k, e in enumerate(found.shape) if k not in axes)
    return reshape(found, shape)


# --- products of many matrices


@implementation(np.linalg.matrix_power)
def matrix_power(a, n):
    """By repeated squaring."""
    x, n = node_of(a), plain_int(n)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise UsageValueError(f"Last 2 dimensions of the array must be square, the shape is {x.shape}")
    if n < 0:
        raise Limitation(
            "np.linalg.matrix_power with a negative power is not supported", "Invert the result of n > 0."
        )
    if n == 0:
        return spread(eye(x.shape[-1], dtype=x.dtype), x.shape)
    result = None
    while n:
        if n & 1:
            result = x if result is None else matmul(result, x)
        n >>= 1
        x = matmul(x, x) if n else x
    return result


@implementation(np.linalg.multi_dot)
def multi_dot(arrays, *, out=None):
    """In the order that needs the fewest multiplications."""
    if out is not None:
        raise UsageValueError("out= cannot be used with traced values")
    nodes = [node_of(one) for one in arrays]
    if len(nodes) < 2:
        raise UsageValueError("Expecting at least two arrays.")
    row, column = nodes[0].ndim == 1, nodes[-1].ndim == 1
    if row:
        nodes[0] = reshape(nodes[0], (1, *nodes[0].shape))
    if column:
        nodes[-1] = reshape(nodes[-1], (*nodes[-1].shape, 1))
    if any(node.ndim != 2 for node in nodes):
        raise UsageValueError("np.linalg.multi_dot: arrays between the first and the last must be 2-d")
    product = _chain(
        nodes, _best_splits([node.shape[0] for node in nodes] + [nodes[-1].shape[1]]), 0, len(nodes) - 1
    )
    return reshape(product, product.shape[int(row) : 2 - int(column)])


def _best_splits(extents: list[int]) -> dict[tuple[int, int], int]:
    """Where to split each run of factors (Cormen et al., Introduction to Algorithms, ch. 15.2)."""
    n = len(extents) - 1
    cost, split = {(i, i): 0 for i in range(n)}, {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            choices = [
                (cost[i, k] + cost[k + 1, j] + extents[i] * extents[k + 1] * extents[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], split[i, j] = min(choices)
    return split


def _chain(nodes: list[Node], splits: dict, i: int, j: int) -> Node:
    if i == j:
        return nodes[i]
    k = splits[i, j]
    return dot(_chain(nodes, splits, i, k), _chain(nodes, splits, k + 1, j))


@implementation(np.linalg.cross)
def strict_cross(x1, x2, /, *, axis=-1):
    x, y = node_of(x1), node_of(x2)
    if x.shape[axis] != 3 or y.shape[axis] != 3:
        raise UsageValueError(
            f"np.linalg.cross needs 3-dimensional vectors, the shapes are {x.shape} and {y.shape}"
        )
    return cross(x, y, axis=axis)
