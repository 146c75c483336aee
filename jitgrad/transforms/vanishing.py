"""Which cotangents and tangents may hold zeros that stand for "no derivative flows here" (see `ops.masking`)."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.node import CONSTANT, INPUT, Node, constant_value, scope
from ..ir.primitive import Scalar

# Which operands decide whether a result may vanish: of operations that keep zeros, the floats. Sums are a number of their
# own as soon as one term is; of the others one operand is enough (of two factors, either). Elementwise operations that are
# not here do not keep zeros.
_ALL = frozenset(("add", "subtract"))
_ANY = frozenset(
    ("multiply", "masked_product", "negative", "cast", "divide", "copy", "stop_gradient", "copysign")
)


def may_vanish(node: Node) -> bool:
    """Whether `node`, a cotangent or tangent, may hold zeros that stand for "no derivative flows here"."""
    facts = scope().facts
    stack = [node]
    while stack:
        current = stack[-1]
        if current not in facts:
            decided, missing = _decided(current, facts)
            if missing:
                stack += missing
                continue
            facts[current] = decided
        stack.pop()
    return facts[node]


def assume_may_vanish(node: Node) -> None:
    """Lets `may_vanish` answer yes for a node: an input from outside a loop's body, what a branch not taken gives."""
    scope().facts[node] = True


def _decided(node: Node, facts: dict[Node, bool]) -> tuple[bool, list[Node]]:
    """The answer, and the operands that need to be decided first."""
    primitive = node.primitive
    name = primitive.name
    if name not in _ANY and name not in _ALL:
        if primitive is INPUT or name == "place":
            return name == "place", []
        if primitive is CONSTANT:
            return not node.params["value"], []
        if name == "select" and any(_is_zero(side) for side in node.operands[1:]):
            return True, []
        if name != "select" and isinstance(primitive.code, Scalar):
            return False, []
    sources = _sources(node)
    missing = [operand for operand in sources if operand not in facts]
    if missing:
        return False, missing
    answers = [facts[operand] for operand in sources]
    return all(answers) if name in _ALL else True in answers, missing


def _is_zero(node: Node) -> bool:
    value = constant_value(node)
    return value is not None and value == 0


def _sources(node: Node) -> Sequence[Node]:
    """The operands that decide: floats; of a quotient, or a product masked by its first factor, the first."""
    name = node.primitive.name
    if name == "divide" or (name == "masked_product" and not node.params["both"]):
        return node.operands[:1]
    return [operand for operand in node.operands if operand.aval.dtype.kind in "fc"]
