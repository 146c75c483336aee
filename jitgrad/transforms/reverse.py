"""Reverse mode: cotangents of inputs from cotangents of outputs, as new nodes beside the old ones."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Limitation
from ..ir.graph import topological
from ..ir.node import Node, blamed_on, scope


def is_differentiable(node: Node) -> bool:
    """Whether a cotangent can belong to `node`: real and complex floats only."""
    return node.aval.dtype.kind in "fc"


def active_nodes(order: Sequence[Node], inputs: Sequence[Node]) -> set[Node]:
    """The nodes of `order` through which a derivative of `inputs` flows."""
    active = set(inputs)
    for node in order:
        if not active.isdisjoint(node.operands) and is_differentiable(node):
            active.add(node)
    return active


def pullback(
    outputs: Sequence[Node], inputs: Sequence[Node], cotangents: Sequence[Node | None]
) -> list[Node | None]:
    """For each input the sum over outputs of cotangent times derivative; None where no derivative flows.

    `inputs` must be leaves (fresh inputs): a derivative flows only from them, which is what makes nested derivatives
    unconfusable.
    """
    order = topological(outputs)
    active = active_nodes(order, inputs)
    total: dict[Node, Node] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if cotangent is not None and output in active:
            _accumulate(total, output, cotangent)
    with blamed_on(None):
        blamed = scope()
        for node in reversed(order):
            cotangent = total.get(node)
            if cotangent is None or not node.operands:
                continue
            blamed.where = node.where
            for operand, share in zip(node.operands, operand_cotangents(node, cotangent), strict=True):
                if share is not None and operand in active:
                    _accumulate(total, operand, share)
    return [total.get(node) for node in inputs]


def _accumulate(total: dict[Node, Node], node: Node, share: Node) -> None:
    assert share.aval is node.aval or share.aval == node.aval, (node, share)
    present = total.get(node)
    total[node] = share if present is None else present + share


def operand_cotangents(node: Node, cotangent: Node) -> Sequence[Node | None]:
    """What the primitive's `vjp` gives for each operand."""
    rule = node.primitive.vjp
    if rule is None:
        raise missing_rule(node, "vjp")
    return rule(cotangent, node.operands, node, **node.params)


def missing_rule(node: Node, mode: str) -> Limitation:
    return Limitation(
        f"{node.primitive.name} has no derivative rule ({mode})",
        f"Add {mode}= to its record in jitgrad/ops, or wrap the value in stop_gradient.",
        node.where,
    )
