"""Sums of products over labelled axes: what matrix products, tensordot and einsum are made of."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

from ..ir.node import Node, call
from ._build import BOOL, count_along, filled, reduce, reshape, spread, times, transpose

Labels = tuple[Hashable, ...]


def summed(x: Node, labels: Labels, kept: Sequence[Hashable]) -> tuple[Node, Labels]:
    """x summed over the axes whose labels are not in `kept`; on bool the sum is `or`."""
    axes = tuple(k for k, label in enumerate(labels) if label not in kept)
    rest = tuple(label for label in labels if label in kept)
    if x.dtype == BOOL and not count_along(x.shape, axes):
        return filled(tuple(extent for k, extent in enumerate(x.shape) if k not in axes), False, BOOL), rest
    return reduce("reduce_max" if x.dtype == BOOL else "reduce_sum", x, axes), rest


def ordered(x: Node, labels: Labels, wanted: Labels) -> Node:
    """x with its axes in the order `wanted`."""
    return transpose(x, tuple(labels.index(label) for label in wanted))


def laid_out(x: Node, labels: Labels, wanted: Labels) -> Node:
    """x with its axes in the order `wanted`, extents of 1 where it has no such axis."""
    x = ordered(x, labels, tuple(label for label in wanted if label in labels))
    extents = iter(x.shape)
    return reshape(x, tuple(next(extents) if label in labels else 1 for label in wanted))


def contract(x: Node, x_labels: Labels, y: Node, y_labels: Labels, wanted: Labels) -> Node:
    """sum over all labels not in `wanted` of x y, for operands of one dtype without repeated labels.

    Axes of one label are equally long, or of extent 1 in one operand. Floats with free axes on both sides, or
    on one side and no label common to all three, become a matmul; the rest multiply and sum.
    """
    x, x_labels = summed(x, x_labels, (*y_labels, *wanted))
    y, y_labels = summed(y, y_labels, (*x_labels, *wanted))
    x, y = _equal_extents(x, x_labels, y, y_labels)
    both = [label for label in x_labels if label in y_labels]
    batch = tuple(label for label in both if label in wanted)
    inner = tuple(label for label in both if label not in wanted)
    left = tuple(label for label in x_labels if label not in y_labels)
    right = tuple(label for label in y_labels if label not in x_labels)
    sides = bool(left) + bool(right)
    if x.dtype.kind == "f" and inner and (sides == 2 or (sides == 1 and not batch)):
        product = _matmul(x, x_labels, y, y_labels, batch, left, inner, right)
        return ordered(product, batch + left + right, wanted)
    labels = wanted + inner
    product = times(laid_out(x, x_labels, labels), laid_out(y, y_labels, labels))
    return summed(product, labels, wanted)[0]


def _equal_extents(x: Node, x_labels: Labels, y: Node, y_labels: Labels) -> tuple[Node, Node]:
    """Stretches axes of extent 1 to what the other operand has under the same label."""
    extent: dict[Hashable, int] = {}
    for node, labels in ((x, x_labels), (y, y_labels)):
        for label, length in zip(labels, node.shape, strict=True):
            if extent.get(label, 1) == 1:
                extent[label] = length
    x, y = (
        spread(node, tuple(extent[label] for label in labels))
        for node, labels in ((x, x_labels), (y, y_labels))
    )
    return x, y


def _matmul(x, x_labels, y, y_labels, batch: Labels, left: Labels, inner: Labels, right: Labels) -> Node:
    """[batch, left, inner] by [batch, inner, right], each group of axes joined into one."""
    x = ordered(x, x_labels, batch + left + inner)
    y = ordered(y, y_labels, batch + inner + right)
    b, m = x.shape[: len(batch)], x.shape[len(batch) : len(batch) + len(left)]
    k, n = x.shape[len(batch) + len(left) :], y.shape[len(batch) + len(inner) :]
    product = call("matmul", reshape(x, (*b, prod(m), prod(k))), reshape(y, (*b, prod(k), prod(n))))
    return reshape(product, b + m + n)
