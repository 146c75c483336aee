"""Through which nodes a derivative flows; of loops and branches, from which operand to which result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir.aval import Aval, StackAval, TupleAval
from ..ir.body import Body
from ..ir.node import Node

Flows = tuple[frozenset[int], ...]
"""For each result the places of the inputs that a derivative flows from."""


def is_differentiable(node: Node) -> bool:
    """Whether a cotangent can belong to `node`: real and complex floats, stacks of them, tuples that hold some."""
    return has_cotangent(node.aval)


def has_cotangent(aval: Aval) -> bool:
    """Whether a cotangent can belong to values of this aval."""
    if aval.dtype.kind in "fc":
        return True
    if isinstance(aval, StackAval):
        return has_cotangent(aval.element)
    return isinstance(aval, TupleAval) and any(map(has_cotangent, aval.parts))


def active_nodes(order: Sequence[Node], inputs: Iterable[Node]) -> set[Node]:
    """The nodes of `order` through which a derivative of `inputs` flows."""
    active = set(inputs)
    for node in order:
        if active.isdisjoint(node.operands) or not is_differentiable(node):
            continue
        if node.primitive.name == "get" and not _flows_out(node, active):
            continue
        active.add(node)
    return active


def _flows_out(node: Node, active: set[Node]) -> bool:
    """Whether a derivative flows into this part of a tuple."""
    whole = node.operands[0]
    return any(whole.operands[place] in active for place in flows(whole)[node.params["part"]])


def flows(whole: Node) -> Flows:
    """For each part of a tuple the places of the operands that a derivative flows from."""
    match whole.primitive.name:
        case "loop":
            body = whole.params["body"]
            if body.loop_flows is None:
                body.loop_flows = _of_loop(body_flows(body), whole.params["carries"])
            return body.loop_flows
        case "cond":
            sides = body_flows(whole.params["then"]), body_flows(whole.params["otherwise"])
            return tuple(frozenset(1 + k for k in a | b) for a, b in zip(*sides, strict=True))
    return (frozenset((0,)),) * len(whole.aval.parts)  # type: ignore[attr-defined]


def _of_loop(step: Flows, carries: int) -> Flows:
    """Body inputs are (i, carries..., captured...), a loop's operands (trip, init..., captured...): the same places."""
    reached = [frozenset({1 + k}).union(step[k]) for k in range(carries)]
    while True:
        grown = [now.union(*(reached[place - 1] for place in now if 1 <= place <= carries)) for now in reached]
        if grown == reached:
            return (*reached, frozenset())
        reached = grown


def body_flows(body: Body) -> Flows:
    """For each output of a body the inputs that a derivative flows from."""
    if body.flows is None:
        body.flows = _body_flows(body)
    return body.flows


def _body_flows(body: Body) -> Flows:
    none: frozenset[int] = frozenset()
    found = {node: frozenset({k}) if is_differentiable(node) else none for k, node in enumerate(body.graph.inputs)}
    for node in body.graph.nodes:
        if node in found:
            continue
        if not is_differentiable(node):
            found[node] = none
        elif node.primitive.name == "get":
            whole = node.operands[0]
            places = flows(whole)[node.params["part"]]
            found[node] = none.union(*(found[whole.operands[place]] for place in places))
        else:
            found[node] = none.union(*(found[operand] for operand in node.operands))
    return tuple(found[node] for node in body.graph.outputs)
