"""Traced values that Python itself asks for, as a truth or as an integer, where no source could be rewritten.

The actual arguments of the call that is traced answer. What was answered is noted: the program is right for calls with the
same answers, which it computes and compares; for others another is traced.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import JitgradError, Location, user_location
from ..ir import interpret
from ..ir.body import between, exchanged
from ..ir.graph import topological
from ..ir.node import INPUT, Node, call, constant
from .trace import Trace, current


@dataclass(frozen=True)
class Decision:
    """What `node` was at the traced call, and where that was asked for."""

    node: Node
    value: int
    where: Location | None


def decided(node: Node) -> int | None:
    """The value of a scalar (a bool, or an integer) at this call, from now on part of what the trace stands for; None where
    it is not known: inside of a loop's body, or in a trace without arguments."""
    trace = current()
    if trace is None:
        return None
    found = trace.decisions.get(node)
    if found is None:
        value = _value_of(node, trace)
        if value is None:
            return None
        found = trace.decisions[node] = Decision(node, int(value.reshape(())), user_location(2))
    return found.value


def _value_of(node: Node, trace: Trace) -> np.ndarray | None:
    """The node's value at this call."""
    values = trace.values
    for one in between([node], values):
        if one in values:
            continue
        if one.primitive is INPUT:
            actual = trace.stand_ins.get(one)
            captured = next((c.array for c in trace.captured if c.node is one), None)
            if actual is not None:
                values[one] = _value_of(actual, trace)
            else:
                values[one] = None if captured is None else np.asarray(captured, one.dtype)
            continue
        operands = [values[operand] for operand in one.operands]
        values[one] = None if any(operand is None for operand in operands) else _evaluated(one, operands)
    return values[node]


def _evaluated(node: Node, operands: list) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):
            return interpret.evaluate(node, operands)
    except JitgradError:  # an index out of range, say: on the way that is gone that will be an error anyway
        return None


def all_hold(trace: Trace) -> Node | None:
    """Whether all decisions of the trace hold, as a node on the inputs of its graph; None where there are none."""
    total: Node | None = None
    for decision in trace.decisions.values():
        node = _on_inputs(decision.node, trace)
        wanted = constant(decision.value, node.dtype)
        holds = call("equal", node if not node.shape else call("reshape", node, shape=()), wanted)
        total = holds if total is None else call("logical_and", total, holds)
    return total


def _on_inputs(node: Node, trace: Trace) -> Node:
    """The node with what the inputs of derivatives stand for in their place."""
    while True:
        inner = {one: trace.stand_ins[one] for one in topological([node]) if one in trace.stand_ins}
        if not inner:
            return node
        (node,) = exchanged([node], inner)
