"""Reverse mode: cotangents of inputs from cotangents of outputs, as new nodes beside the old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import Limitation
from ..ir.body import up_to_date
from ..ir.graph import scheduled
from ..ir.node import Node, blamed_on, scope
from .activity import active_nodes


def pullback(
    outputs: Sequence[Node],
    inputs: Sequence[Node],
    cotangents: Sequence[Node | None],
    totals: Sequence[Node | None] | None = None,
) -> list[Node | None]:
    """For each input the sum over outputs of cotangent times derivative, added to its entry of `totals`, if there are any;
    None where no derivative flows.

    `inputs` must be leaves (fresh inputs): a derivative flows only from them, which is what makes nested derivatives
    unconfusable.
    """
    outputs = up_to_date(outputs)
    order = scheduled(outputs)
    active = active_nodes(order, inputs)
    total: dict = {node: t for node, t in zip(inputs, totals or (), strict=False) if t is not None}
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
            if (pull := node.primitive.pull) is not None:
                _pull(pull, total, node, cotangent, active)
                continue
            for operand, share in zip(node.operands, operand_cotangents(node, cotangent), strict=True):
                if share is not None and operand in active:
                    _accumulate(total, operand, share)
    return [total.get(node) for node in inputs]


def _pull(pull: Callable, total: dict, node: Node, cotangent, active: set[Node]) -> None:
    """Lets the node's own rule add to the totals of its operands; of an operand that comes twice, to the first."""
    given: list = []
    for place, operand in enumerate(node.operands):
        given.append(total.get(operand) if operand not in node.operands[:place] else None)
    found = pull(cotangent, given, [operand in active for operand in node.operands], node)
    for place, (operand, now) in enumerate(zip(node.operands, found, strict=True)):
        if now is None or operand not in active:
            continue
        if operand in node.operands[:place]:
            _accumulate(total, operand, now)
        else:
            total[operand] = now


def _accumulate(total: dict, node: Node, share: Node) -> None:
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
