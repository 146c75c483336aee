"""Forward mode: tangents of outputs from tangents of inputs, as new nodes beside the old ones."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.body import up_to_date
from ..ir.graph import topological
from ..ir.node import Node, blamed_on
from .activity import is_differentiable
from .reverse import missing_rule


def pushforward(outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None]) -> list[Node | None]:
    """For each output its derivative along `tangents` of `inputs`; None where no derivative flows.

    The tangent of a tuple is a dict by part.
    """
    outputs = up_to_date(outputs)
    tangent: dict = {n: t for n, t in zip(inputs, tangents, strict=True) if t is not None}
    for node in topological(outputs):
        if node in tangent or not node.operands or not is_differentiable(node):
            continue
        incoming = [tangent.get(operand) for operand in node.operands]
        if all(t is None for t in incoming):
            continue
        rule = node.primitive.jvp
        if rule is None:
            raise missing_rule(node, "jvp")
        with blamed_on(node.where):
            outgoing = rule(incoming, node.operands, node, **node.params)
        if outgoing is not None:
            tangent[node] = outgoing
    return [tangent.get(node) for node in outputs]
